"""buffer: the three starts, the law of a draw, and the law of each policy."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from ebm_ref.contracts import Buffer, DTypeError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.noise import noise_bits, noise_index, noise_normal, noise_uniform
from ebm_ref.samplers import buffer_draw, buffer_push, buffer_start


def numbered(*ids, shape=(1,), dtype=np.float64):
    """Samples that carry their number in every element."""
    return np.broadcast_to(np.array(ids, dtype).reshape(-1, *(1,) * len(shape)), (len(ids), *shape)).copy()


def bits_of(n, step=0):
    return noise_bits(17, Stream.BUFFER_INDEX, step, np.arange(n), 1)[:, 0]


# ------------------------------------------------------------------------------------------ starts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_buffer_start__uniform_fills_the_box(dtype):
    buffer = buffer_start(2000, (3, 2), seed=4, box=(-1.0, 3.0), dtype=dtype)
    flat = np.sort(buffer.slots.ravel())
    assert buffer.slots.shape == (2000, 3, 2) and buffer.slots.dtype == dtype
    assert buffer.filled == 2000 and buffer.ptr == 0 and buffer.policy == "in_place"
    gap = np.abs((flat + 1) / 4 - (np.arange(flat.size) + 0.5) / flat.size).max()
    assert gap < 1.95 / sqrt(flat.size)  # Kolmogorov, probability 0.001
    assert (
        buffer.slots == -1 + 4 * noise_uniform(4, Stream.SAMPLE_START, 0, np.arange(2000), 6, dtype).reshape(-1, 3, 2)
    ).all()


def test_buffer_start__data_noise_is_data_plus_noise():
    data = numbered(0, 10, 20, shape=(4,))
    buffer = buffer_start(3000, (4,), start="data_noise", seed=5, box=None, data=data, sigma=0.5, dtype=np.float64)
    which = np.round(buffer.slots.mean(axis=1) / 10).astype(int)
    noise = buffer.slots - 10 * which[:, None]
    counts = np.bincount(which, minlength=3)
    assert ((counts - 1000) ** 2 / 1000).sum() < 13.82  # 2 degrees of freedom, probability 0.001
    assert abs(noise.mean()) < 4 * 0.5 / sqrt(noise.size)
    assert abs(noise.var() - 0.25) < 4 * 0.25 * sqrt(2 / noise.size)
    assert np.allclose(noise, 0.5 * noise_normal(5, Stream.SAMPLE_START, 1, np.arange(3000), 4), rtol=0, atol=1e-13)
    boxed = buffer_start(50, (4,), start="data_noise", seed=5, box=(0.0, 12.0), data=data, sigma=0.5, dtype=np.float64)
    assert (boxed.slots == np.clip(boxed.slots, 0, 12)).all()
    assert buffer.filled == 3000


def test_buffer_start__samples_count_as_pushed():
    buffer = buffer_start(5, (1,), start="samples", seed=0, samples=numbered(1, 2, 3, dtype=np.float32), policy="fifo")
    assert (buffer.filled, buffer.ptr, buffer.policy) == (3, 3, "fifo")
    assert buffer.slots[:3, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"M": 0}, RangeError, "M"),
        ({"start": "zeros"}, RangeError, "start"),
        ({"policy": "lifo"}, RangeError, "policy"),
        ({"box": None}, RangeError, "box"),
        ({"box": (1.0, -1.0)}, RangeError, "box"),
        ({"start": "data_noise"}, DTypeError, "data"),
        ({"start": "data_noise", "data": np.zeros((0, 1), np.float32)}, ShapeError, "data"),
        ({"start": "data_noise", "data": np.full((2, 1), np.nan, np.float32)}, NonFiniteError, "data"),
        ({"start": "data_noise", "data": np.zeros((2, 1))}, DTypeError, "data"),
        ({"start": "data_noise", "data": np.zeros((2, 1), np.float32), "sigma": -1.0}, RangeError, "sigma"),
        ({"start": "samples", "samples": np.zeros((9, 1), np.float32)}, ShapeError, "samples"),
        ({"start": "samples", "samples": np.zeros((3, 2), np.float32)}, ShapeError, "samples"),
    ],
)
def test_buffer_start__refuses_wrong_arguments(change, error, name):
    args = {"M": 8, "shape": (1,), "seed": 0}
    with pytest.raises(error, match=name):
        buffer_start(**(args | change))


# -------------------------------------------------------------------------------------------- draw


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2, 1)])
def test_buffer_draw__is_the_equation(shape):
    slots, fresh = numbered(*range(7), shape=shape), numbered(*range(100, 140), shape=shape)
    bits, u = bits_of(40), noise_uniform(2, Stream.BUFFER_MASK, 0, np.arange(40), 1)[:, 0]
    x0, idx, restart = buffer_draw(slots, 5, bits, u, fresh, 0.4)
    for n in range(40):
        assert idx[n] == (int(bits[n]) * 5) >> 32
        assert restart[n] == (u[n] < 0.4)
        assert (x0[n] == (fresh[n] if restart[n] else slots[idx[n]])).all()
    assert idx.dtype == np.int64 and restart.dtype == bool and 0 < restart.sum() < 40


@pytest.mark.parametrize("filled", [1, 3, 24, 64])
def test_buffer_draw__is_uniform_over_filled_slots(filled):
    """Chi-square over the slots; slots that were never filled hold NaN and are never drawn."""
    N = 6400
    slots = np.full((64, 1), np.nan)
    slots[:filled] = np.arange(filled)[:, None]
    x0, idx, _ = buffer_draw(slots, filled, bits_of(N, step=filled), np.ones(N), np.zeros((N, 1)), 0.0)
    assert (x0[:, 0] == idx).all() and not np.isnan(x0).any()
    counts = np.bincount(idx, minlength=filled)
    assert counts.size == filled
    if filled > 1:
        dof = filled - 1
        limit = dof * (1 - 2 / (9 * dof) + 3.09 * sqrt(2 / (9 * dof))) ** 3  # Wilson & Hilferty, probability 0.001
        assert ((counts - N / filled) ** 2 / (N / filled)).sum() < limit


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.5, 1.0])
def test_buffer_draw__restarts_a_binomial_fraction(rho):
    N = 20_000
    u = noise_uniform(3, Stream.BUFFER_MASK, 1, np.arange(N), 1)[:, 0]
    bits = bits_of(N)
    _, idx, restart = buffer_draw(np.zeros((4, 1)), 4, bits, u, np.ones((N, 1)), rho)
    assert abs(restart.sum() - N * rho) <= 4 * sqrt(N * rho * (1 - rho))
    if 0 < rho < 1:  # which slot says nothing about whether to restart
        table = np.array([np.bincount(idx[restart == flag], minlength=4) for flag in (False, True)])
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / N
        assert ((table - expected) ** 2 / expected).sum() < 16.27  # 3 degrees of freedom, probability 0.001


def test_buffer_draw__of_nothing_restarts_everyone():
    fresh = numbered(1, 2, 3)
    x0, idx, restart = buffer_draw(np.full((4, 1), np.nan), 0, bits_of(3), np.ones(3), fresh, 0.0)
    assert (x0 == fresh).all() and not np.shares_memory(x0, fresh)
    assert idx.tolist() == [0, 0, 0] and restart.all()


def test_buffer_draw__restart_is_strict_at_rho():
    u = np.array([0.05, np.nextafter(0.05, 0), np.nextafter(0.05, 1)])
    _, _, restart = buffer_draw(np.zeros((1, 1)), 1, bits_of(3), u, np.ones((3, 1)), 0.05)
    assert restart.tolist() == [False, True, False]


def test_buffer_draw__leaves_its_arguments_alone():
    slots, fresh, bits, u = numbered(1, 2), numbered(3, 4), bits_of(2), np.array([0.1, 0.9])
    before = [a.copy() for a in (slots, fresh, bits, u)]
    x0, _, _ = buffer_draw(slots, 2, bits, u, fresh, 0.5)
    x0[:] = -1
    assert all((a == b).all() for a, b in zip((slots, fresh, bits, u), before, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"filled": 5}, RangeError, "filled"),
        ({"bits": np.zeros(2, np.int64)}, DTypeError, "bits"),
        ({"bits": np.zeros((2, 1), np.uint32)}, ShapeError, "bits"),
        ({"u": np.zeros(3)}, ShapeError, "u"),
        ({"u": np.zeros(2, np.float32)}, DTypeError, "u"),
        ({"fresh": np.zeros((2, 2))}, ShapeError, "fresh"),
        ({"fresh": np.zeros((2, 1), np.float32)}, DTypeError, "fresh"),
        ({"rho": 1.5}, RangeError, "rho"),
        ({"rho": np.nan}, RangeError, "rho"),
    ],
)
def test_buffer_draw__refuses_wrong_arguments(change, error, name):
    args = {"slots": np.zeros((4, 1)), "filled": 4, "bits": bits_of(2), "u": np.zeros(2), "fresh": np.zeros((2, 1))}
    with pytest.raises(error, match=name):
        buffer_draw(**(args | {"rho": 0.5} | change))


# -------------------------------------------------------------------------------------------- push


@pytest.mark.parametrize("policy", Buffer.POLICIES)
def test_buffer_push__keeps_the_last_of_equal_places(policy):
    slots = numbered(0, 0, 0)
    bits = np.full(5, 2**31, np.uint32)  # j = floor((c + 1) / 2)
    if policy == "in_place":
        buffer_push(slots, 3, 0, numbered(1, 2, 3, 4, 5), policy, idx=np.array([1, 0, 1, 1, 0]))
        assert slots[:, 0].tolist() == [5, 4, 0]
    elif policy == "fifo":
        buffer_push(slots, 3, 1, numbered(1, 2, 3, 4, 5), policy)
        assert slots[:, 0].tolist() == [3, 4, 5]
    else:
        buffer_push(slots, 3, 3, numbered(1, 2, 3, 4, 5), policy, bits=bits)
        assert slots[:, 0].tolist() == [0, 0, 2]  # counts 3 to 7: places 2, 2, 3, 3, 4


def test_buffer_push__fifo_keeps_the_newest_in_order():
    slots, filled, ptr = np.zeros((5, 1)), 0, 0
    pushed = 0
    for size in (2, 2, 1, 0, 3, 7, 4):
        filled, ptr = buffer_push(slots, filled, ptr, numbered(*range(pushed, pushed + size)), "fifo")
        pushed += size
        assert ptr == pushed and filled == min(5, pushed)
        kept = [slots[i % 5, 0] for i in range(ptr - filled, ptr)]
        assert kept == list(range(pushed - filled, pushed))


def test_buffer_push__fifo_in_parts_is_fifo_at_once():
    x = numbered(*range(11))
    whole, parts = np.zeros((4, 1)), np.zeros((4, 1))
    end = buffer_push(whole, 0, 0, x, "fifo")
    filled, ptr = buffer_push(parts, 0, 0, x[:5], "fifo")
    assert buffer_push(parts, filled, ptr, x[5:], "fifo") == end
    assert (whole == parts).all()


def test_buffer_push__reservoir_retains_every_sample_alike():
    """After 40 pushes into 8 slots each sample is present with probability 8/40: chi-square over the samples."""
    trials, M, total = 3000, 8, 40
    words = noise_bits(8, Stream.BUFFER_RESERVOIR, 0, np.arange(trials), total)  # (trials, total)
    present, places = np.zeros(total), np.zeros((total, M))
    for trial in range(trials):
        slots, filled, ptr = np.full((M, 1), -1.0), 0, 0
        for part in (slice(0, 5), slice(5, 25), slice(25, total)):
            x = numbered(*range(total)[part])
            filled, ptr = buffer_push(slots, filled, ptr, x, "reservoir", bits=words[trial, part])
        assert (filled, ptr) == (M, total)
        kept = slots[:, 0].astype(int)
        present[kept] += 1
        places[kept, np.arange(M)] += 1
    expected = trials * M / total
    variance = expected * (1 - M / total)  # a sample is kept or not; M are kept in all, so total - 1 degrees of freedom
    chi2 = ((present - expected) ** 2 / variance).sum() * (total - 1) / total
    assert chi2 < 72.05  # 39 degrees of freedom, probability 0.001
    assert (places[M:] > 0).all()  # late samples reach every slot


def test_buffer_push__reservoir_is_exact_for_long_runs():
    slots, count, bits = np.zeros((4, 1)), 2**40, np.array([0, 2**32 - 1, 1, 0], np.uint32)
    assert buffer_push(slots, 4, count, numbered(1, 2, 3, 4), "reservoir", bits=bits) == (4, count + 4)
    assert slots[:, 0].tolist() == [4, 0, 0, 0]  # 2^32 - 1 gives j = 2^40 and more, 1 gives j = 256


def test_buffer_push__in_place_returns_chains_to_their_slots():
    slots = numbered(*range(6))
    bits, u = bits_of(3), np.ones(3)
    x0, idx, _ = buffer_draw(slots, 6, bits, u, np.zeros((3, 1)), 0.0)
    assert buffer_push(slots, 6, 9, x0 + 100, "in_place", idx=idx) == (6, 12)
    for i in range(6):
        assert slots[i, 0] == (i + 100 if i in idx else i)
    assert (idx == noise_index(bits, 6)).all()


def test_buffer_push__stores_a_copy():
    slots, x = np.zeros((2, 1)), numbered(1, 2)
    buffer_push(slots, 2, 0, x, "fifo")
    x[:] = 9
    assert slots[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"policy": "lifo"}, RangeError, "policy"),
        ({"x": np.zeros((2, 2))}, ShapeError, "x"),
        ({"x": np.zeros((2, 1), np.float32)}, DTypeError, "x"),
        ({"filled": 5}, RangeError, "filled"),
        ({"ptr": -1}, RangeError, "ptr"),
        ({"filled": 2, "ptr": 3}, RangeError, "ptr"),
        ({"policy": "in_place"}, DTypeError, "idx"),
        ({"policy": "in_place", "idx": np.zeros(3, int)}, ShapeError, "idx"),
        ({"policy": "in_place", "idx": np.array([0, 4])}, RangeError, "idx"),
        ({"policy": "in_place", "idx": np.array([0, -1])}, RangeError, "idx"),
        ({"policy": "reservoir"}, DTypeError, "bits"),
        ({"policy": "reservoir", "bits": bits_of(3)}, ShapeError, "bits"),
    ],
)
def test_buffer_push__refuses_wrong_arguments(change, error, name):
    slots = numbered(0, 1, 2, 3)
    args = {"slots": slots, "filled": 4, "ptr": 4, "x": np.ones((2, 1)), "policy": "fifo"}
    with pytest.raises(error, match=name):
        buffer_push(**(args | change))
    assert slots[:, 0].tolist() == [0, 1, 2, 3]


def test_buffer__refuses_a_state_that_cannot_be():
    for change, error in (({"filled": 5}, RangeError), ({"ptr": -1}, RangeError), ({"policy": "x"}, RangeError)):
        with pytest.raises(error):
            Buffer(**({"slots": np.zeros((4, 1)), "filled": 4} | change))
    with pytest.raises(ShapeError):
        Buffer(np.zeros(4), 0)
