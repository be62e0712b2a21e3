"""The replay buffer in CUDA C++, on the CPU: what the kit's cases do not reach. The kit holds it to the oracle."""

import re

import numpy as np
import pytest
from cupy_host import DTYPES, host, moved, normals

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import on
from ebm_fast.cupy_raw.source import sources
from ebm_fast.verify.host_build import host_device
from ebm_ref.contracts import DTypeError, RangeError, ShapeError

POLICIES = ("in_place", "fifo", "reservoir")
TIES = [0.0, -0.0, 5e-324, 0.05, np.nextafter(0.05, 0), np.nextafter(0.05, 1), 0.5, 1 - 2**-53, 1.0, 2.0]
TIES += [-5e-324, -1.0, -np.inf, np.inf, np.nan, -np.nan, float(np.float32(0.05))]


def words(seed, N):
    return np.random.default_rng(seed).integers(0, 2**32, N, np.uint32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rho", [0.0, -0.0, 5e-324, 0.05, 0.5, 1.0, np.float32(0.05)])
def test_buffer_draw__compares_as_float64_does(rho, dtype):
    """u < rho is decided on the bits of u and rho, so that a float build needs no double arithmetic."""
    u = np.array(TIES)
    slots, fresh, bits = normals(1, (3, 2), dtype), normals(2, (len(u), 2), dtype), words(3, len(u))
    with host():
        x0, idx, restart = cupy_raw.buffer_draw(slots, 3, bits, u, fresh, rho)
    assert restart.dtype == np.bool_ and restart.tolist() == [float(value) < float(rho) for value in u]
    assert np.array_equal(x0, np.where(restart[:, None], fresh, slots[idx]))


def push_case(policy, N, M, shape, dtype, seed, filled=None, ptr=None):
    filled = M if filled is None else filled
    options = {}
    if policy == "in_place":
        options["idx"] = np.random.default_rng(seed).integers(0, filled, N)
    if policy == "reservoir":
        options["bits"] = words(seed, N)
    ptr = filled if ptr is None else ptr
    return normals(seed, (M, *shape), dtype), filled, ptr, normals(seed + 1, (N, *shape), dtype), policy, options


def both(slots, filled, ptr, x, policy, options):
    """The buffer after a push here and by the oracle."""
    mine, want = slots.copy(), slots.copy()
    with host():
        state = cupy_raw.buffer_push(mine, filled, ptr, x, policy, **options)
    assert state == ebm_ref.buffer_push(want, filled, ptr, x, policy, **options)
    assert all(type(number) is int for number in state)
    assert np.array_equal(mine, want)
    return mine


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("N", "M"), [(0, 4), (1, 1), (1000, 7), (7, 1000), (300, 300), (1025, 64)])
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 5), (8, 8, 3), (1030,)])
def test_buffer_push__is_the_oracles_for_every_size(policy, N, M, shape):
    both(*push_case(policy, N, M, shape, np.float32, 5))


@pytest.mark.parametrize("policy", ["fifo", "reservoir"])
@pytest.mark.parametrize("filled", [0, 1, 63])
def test_buffer_push__fills_and_then_replaces(policy, filled):
    both(*push_case(policy, 100, 64, (3,), np.float64, 6, filled=filled))


@pytest.mark.parametrize("ptr", [2**31 - 3, 2**32 - 3, 2**32 + 5, 2**40 + 1, 2**62 + 12345])
@pytest.mark.parametrize("policy", ["fifo", "reservoir"])
def test_buffer_push__counts_beyond_every_word(policy, ptr):
    """Small words, so that some of the reservoir's samples are kept although 2^32 came before; and words whose product
    with the count, cut to 64 bits, would name a slot."""
    case = push_case(policy, 200, 50, (2,), np.float32, 7, ptr=ptr)
    if policy == "reservoir":
        most = max(1, 100 * 2**32 // ptr)
        case[-1]["bits"] = np.random.default_rng(8).integers(0, most + 1, 200).astype(np.uint32)
        wraps = [2**64 // (ptr + n + 1) + 1 for n in range(0, 200, 2)]
        case[-1]["bits"][::2] = np.minimum(wraps, 2**32 - 1)
    after = both(*case)
    assert not np.array_equal(after, case[0])


def test_buffer_push__refuses_more_than_it_can_count():
    case = push_case("reservoir", 2, 4, (3,), np.float32, 9, ptr=2**63)
    with host(), pytest.raises(RangeError, match="ptr"):
        cupy_raw.buffer_push(*case[:-1], **case[-1])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.uint64])
def test_buffer_push__takes_places_of_any_integer_type(dtype):
    case = push_case("in_place", 40, 9, (3,), np.float32, 10)
    case[-1]["idx"] = case[-1]["idx"].astype(dtype)
    both(*case)


@pytest.mark.parametrize("place", [-1, 5, 9, 2**32 - 1, 2**32, 2**40, -(2**63), 2**63 - 1])
def test_buffer_push__writes_nothing_when_it_refuses_a_place(place):
    slots, filled, ptr, x, policy, options = push_case("in_place", 6, 9, (3,), np.float32, 11, filled=5)
    options["idx"][3] = place
    before = slots.copy()
    with host(), pytest.raises(RangeError, match="idx: expected places in .0, 5.") as found:
        cupy_raw.buffer_push(slots, filled, ptr, x, policy, **options)
    assert np.array_equal(slots, before) and str(place) in str(found.value)
    with pytest.raises(RangeError):
        ebm_ref.buffer_push(slots, filled, ptr, x, policy, **options)


@pytest.mark.parametrize("gaps", [lambda a: a[:, ::2], lambda a: a[::2], lambda a: a[::-1], lambda a: a.T])
def test_buffer_push__refuses_slots_with_gaps(gaps):
    """A copy without gaps would be written to, and the slots not."""
    slots = gaps(normals(12, (8, 6), np.float32))
    before, x = slots.copy(), normals(13, (2, slots.shape[1]), np.float32)
    with host(), pytest.raises(ShapeError, match="slots: expected a C contiguous array"):
        cupy_raw.buffer_push(slots, len(slots), len(slots), x, "fifo")
    assert np.array_equal(slots, before)


def test_buffer_push__refuses_slots_that_are_no_array():
    with host(), pytest.raises(DTypeError):
        cupy_raw.buffer_push([[1.0]], 1, 1, np.ones((1, 1)), "fifo")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [4, 12, 1028])
def test_buffer__is_the_same_in_memory_that_is_not_aligned(D, dtype):
    slots, fresh = normals(14, (9, D), dtype), normals(15, (20, D), dtype)
    bits, u = words(16, 20), words(17, 20) / 2**32
    with host():
        want, idx, _ = cupy_raw.buffer_draw(slots, 9, bits, u, fresh, 0.4)
        for by in ((1, 0), (0, 1), (2, 3)):
            apart, anew = moved(slots, by[0]), moved(fresh, by[1])
            assert np.array_equal(cupy_raw.buffer_draw(apart, 9, bits, u, anew, 0.4)[0], want)
            after = slots.copy()
            cupy_raw.buffer_push(apart, 9, 9, anew, "in_place", idx=idx)
            ebm_ref.buffer_push(after, 9, 9, fresh, "in_place", idx=idx)
            assert np.array_equal(apart, after)


@pytest.mark.parametrize("D", [2, 1024])
def test_buffer__reaches_more_samples_than_a_grid_has_rows(D, monkeypatch):
    monkeypatch.setattr("ebm_fast.cupy_raw.noise.GRID", (2**31 - 1, 3, 3))
    N = 7 * (256 // min(256, -(-D // 4))) + 1
    both(*push_case("in_place", N, 50, (D,), np.float32, 18))
    slots, fresh, bits = normals(19, (5, D), np.float32), normals(20, (N, D), np.float32), words(21, N)
    with host():
        found = cupy_raw.buffer_draw(slots, 5, bits, words(22, N) / 2**32, fresh, 0.5)
    for mine, want in zip(found, ebm_ref.buffer_draw(slots, 5, bits, words(22, N) / 2**32, fresh, 0.5), strict=True):
        assert np.array_equal(mine, want)


def test_buffer_draw__decides_for_samples_without_elements():
    bits, u = words(23, 6), words(24, 6) / 2**32
    with host():
        x0, idx, restart = cupy_raw.buffer_draw(np.empty((4, 0)), 4, bits, u, np.empty((6, 0)), 0.5)
    assert x0.shape == (6, 0) and np.array_equal(idx, ebm_ref.noise_index(bits, 4)) and np.array_equal(restart, u < 0.5)


def test_buffer__reaches_elements_beyond_2_to_the_31(tmp_path):
    """Rows at both ends of 8.6 GB of slots that take no room on the disk but for the rows written."""
    D = 1024
    M = 2**31 // D + 3
    slots = np.memmap(tmp_path / "slots", np.float32, "w+", shape=(M, D))
    x, places = normals(25, (4, D), np.float32), np.array([0, M - 1, 2**21 - 1, M - 2])
    with on(host_device("fast")):  # the race build keeps books on every byte
        assert cupy_raw.buffer_push(slots, M, M, x, "in_place", idx=places) == (M, M + 4)
        bits = (places * 2**32 // M + 1).astype(np.uint32)
        x0, idx, _ = cupy_raw.buffer_draw(slots, M, bits, np.ones(4), x, 0.0)
    assert np.array_equal(idx, places) and np.array_equal(x0, x) and np.array_equal(slots[places], x)


@pytest.mark.parametrize("file", ["noise.cu", "langevin.cu", "buffer.cu"])
def test_cupy_raw__hands_kernels_sizes_of_64_bits(file):
    """What no test can hold in memory here: with an int N or D, n * D would wrap at 2^31."""
    code = re.sub(r"//.*", "", sources()[file])
    sizes = re.findall(r"\b(int|u32|i64|u64) (?:N|D|M|size|filled|first|count|bound)\b[,)]", code)
    assert len(sizes) >= 5 and set(sizes) <= {"i64", "u64"}
