"""The host build sees planted bugs, in each build that should and in every order of threads; no false alarm."""

import re
from pathlib import Path

import cuda_launches
import numpy as np
import pytest
from cuda_launches import device, numbers, planted

import ebm_ref
from ebm_fast.verify.host_build import LaunchError, host_device, run_in_asan
from ebm_ref.contracts import BackendError

ORDERS = ("forward", "reverse", "random")
every_order = pytest.mark.parametrize("order", ORDERS)
every_real = pytest.mark.parametrize("dtype", ["float32", "float64"])
checking = pytest.mark.parametrize("build", ["fast", "race"])

# name -> what each build reports, as a regular expression; None: it does not see it, "wrong": a NaN or a wrong answer
PLANTED = {
    "read_past": ("wrong", r"out of bounds: read .* planted_memory.cu:7: 4 bytes past the end of argument 1 \(x\)"),
    "write_past": ("a write after the end of its array", r"out of bounds: write .*past the end of argument 0 \(y\)"),
    "shared_write_past": (
        "a write outside shared memory: s",
        "out of bounds: write .*cu:19.* past the end of shared s",
    ),
    "shared_write_before": ("a write outside shared memory: s .* 1 bytes before it", "4 bytes before shared s"),
    "write_before": (
        "a write before its array of 256 bytes",
        r"out of bounds: write .*4 bytes before argument 0 \(y\)",
    ),
    "shared_unwritten": ("wrong", "read of unwritten shared s .*planted_memory.cu:29"),
    "global_unwritten": ("wrong", r"read of unwritten argument 0 \(y\) of 8 bytes at byte 0, at planted_memory.cu:64"),
    "load_misaligned": ("cu:34: .*not a multiple of 16", "cu:34: .*not a multiple of 16"),
    "copy_early": ("wrong", "cu:43, while the cp.async from planted_memory.cu:41 is under way"),
    "copy_one_stage_early": ("wrong", "while the cp.async from planted_memory.cu:51 is under way"),
    "no_barrier_before_use": ("wrong", "read of unwritten shared s"),
    "no_barrier_before_next_tile": ("wrong", "race: .*planted_races.cu:1[68].*no barrier since its .*cu:1[68]"),
    "unsynchronised_sum": (None, "race: .*shared s of 4 bytes .*planted_races.cu:28"),
    "blocks_write_one_word": (None, r"race: write of argument 0 \(y\).*since its write by thread \(0, 0, 0\) of block"),
    "blocks_read_and_write": (None, r"race: .*argument 0 \(y\).*planted_races.cu:4[01].*planted_races.cu:4[01]"),
    "no_syncwarp": ("wrong", "read of unwritten shared s|race"),
    "shuffle_for_a_barrier": (None, "race: .*shared s"),
    "atomic_and_plain": (None, r"race: .*argument 0 \(y\).*planted_races.cu:6[12].*planted_races.cu:6[12]"),
    "no_cluster_barrier_at_end": (None, "cluster barrier"),
    "two_barriers": (r"divergent barriers: .*planted_sync.cu:[68]",) * 2,
    "two_barriers_on_one_line": ("divergent barriers: .*planted_sync.cu:14",) * 2,
    "two_barriers_in_one_function": (None, None),  # the known miss: one barrier, called from two places
    "mask_of_exited_lanes": ("left",) * 2,
    "mask_of_leaving_lanes": ("left",) * 2,
    "not_in_own_mask": ("lane 0 is not in its own mask 0xfffffffe",) * 2,
    "deadlock": (r"deadlock: .*__syncthreads at planted_sync.cu:48 \(16 of 32.*__shfl_xor_sync .*cu:49",) * 2,
    "spin": ("still running after 0.3 seconds",) * 2,
}
RIGHT = {  # what the kernel would give without its bug; the others are only reported
    "read_past": lambda: np.append(numbers(64)[1:], 0),
    "global_unwritten": lambda: np.zeros(2),
    "shared_unwritten": lambda: numbers(64),
    "copy_early": lambda: numbers(256)[:128],
    "copy_one_stage_early": lambda: numbers(256)[:128],
    "no_barrier_before_use": lambda: numbers(64)[::-1],
    "no_barrier_before_next_tile": lambda: numbers(256).reshape(4, 64)[:, ::-1].sum(0),
    "no_syncwarp": lambda: numbers(64)[:32][::-1],
}


@every_order
@checking
@pytest.mark.parametrize("name", PLANTED)
def test_planted__bug_is_seen(name, build, order):
    expected = PLANTED[name][build == "race"]
    if expected in (None, "wrong"):
        y = planted(device(build, order), name)
        assert expected is None or not np.allclose(y, RIGHT[name](), rtol=1e-5, atol=1e-6)
    else:
        with pytest.raises(LaunchError, match=expected) as caught:
            planted(device(build, order), name)
        assert str(caught.value).startswith(name)


@checking
def test_planted__missing_cluster_barrier(build):
    for order in ("forward", "reverse"):
        with pytest.raises(LaunchError, match="before that block has begun: a cluster barrier is missing"):
            planted(device(build, order), "no_cluster_barrier")
    if build == "race":
        with pytest.raises(LaunchError, match="race: read of shared s .* of the cluster|before that block has begun"):
            planted(device(build, "random"), "no_cluster_barrier")


@every_order
@checking
@every_real
def test_planted__controls_with_tiles_pass(dtype, build, order):
    budget = 1e-6 if dtype == "float32" else 2e-15
    for control in (cuda_launches.norm, cuda_launches.conv):
        found, right = control(device(build, order), dtype)
        assert abs(found - right).max() <= budget * abs(right).max()


@every_order
@checking
@every_real
def test_planted__control_langevin_is_the_oracle(dtype, build, order):
    found, x, g = cuda_launches.langevin(device(build, order), dtype)
    xi = ebm_ref.noise.noise_normal(5 + (7 << 32), 7, 2, np.array([9, 4, 4]), x.shape[1])
    right = ebm_ref.samplers.langevin.langevin_step(x.astype(np.float64), g.astype(np.float64), xi, 0.01, 0.1)
    assert abs(found - right).max() <= (5e-7 if dtype == "float32" else 2e-15)


@every_order
@checking
@pytest.mark.parametrize("name", ["good_atomic", "good_phases", "good_cluster", "good_pipeline", "good_vector"])
def test_planted__controls_of_blocks_that_meet_pass(name, build, order):
    found, right = cuda_launches.blocks(device(build, order), name)
    np.testing.assert_array_equal(found, right)


@every_order
@checking
def test_planted__controls_of_a_warp_pass(build, order):
    t = np.arange(64)
    lane, v, warp = t % 32, 3 * t + 1, t - t % 32
    ballot = sum(1 << l for l in range(0, 32, 3))
    right = [
        3 * (warp + 5) + 1,
        v - 9 * (lane >= 3),
        v + 9 * (lane % 8 < 5),
        3 * (t ^ 4) + 1,
        0 * t + ballot,
        (t >= 32) + 2 * (t < 32),
        0 * t + 13,
        0 * t + 2,
        0 * t + 1,
        0 * t + 1,
    ]
    np.testing.assert_array_equal(cuda_launches.together(device(build, order)), right)
    found, x = cuda_launches.syncwarp(device(build, order))
    flipped = x.reshape(4, 16)[:, ::-1].ravel()
    np.testing.assert_array_equal(found, [flipped + np.float32(i) for i in range(3)])


@every_order
@checking
@pytest.mark.parametrize("threads", [1, 2, 3, 33])
def test_planted__control_of_barriers_passes(threads, build, order):
    found, right = cuda_launches.barriers(device(build, order), threads)
    np.testing.assert_array_equal(found, right)


def test_planted__blocks_run_in_the_order_that_was_asked_for():
    assert planted(device("fast", "forward"), "blocks_read_and_write").tolist() == [1, 0]
    assert planted(device("fast", "reverse"), "blocks_read_and_write").tolist() == [1, 1]


@every_order
@checking
@pytest.mark.parametrize(("kind", "low", "high"), [("tf32", 1e-4, 7e-4), ("bf16", 1e-3, 5e-3)])
def test_planted__control_mma_has_the_error_of_its_operands(kind, low, high, build, order):
    found, right = cuda_launches.matmul(device(build, order), kind)
    assert low < np.linalg.norm(found - right) / np.linalg.norm(right) < high


ASAN = """
import sys
sys.path.insert(0, {folder!r})
import cuda_launches as c
device = c.device("asan", {order!r})
{code}
print("the end")
"""


def in_asan(code, order="forward"):
    return run_in_asan(["-c", ASAN.format(folder=str(Path(__file__).parent), code=code, order=order)], timeout=240)


@pytest.mark.parametrize(
    ("name", "order", "says"),
    [
        ("read_past", "forward", "heap-buffer-overflow.*read_past.*planted_memory.cu:7"),
        ("write_past", "reverse", "heap-buffer-overflow.*write_past.*planted_memory.cu:13"),
        ("shared_write_past", "random", "planted_memory.cu:19:.*index 64 out of bounds.*shared_write_past"),
        ("shift_too_far", "forward", "planted_memory.cu:60:.*runtime error: shift exponent"),
    ],
)
def test_planted__bug_is_seen_by_asan(name, order, says):
    done = in_asan(f"c.planted(device, {name!r})", order)
    assert done.returncode == 99 and "the end" not in done.stdout
    assert re.search(says, done.stderr, re.S), done.stderr[:3000]


def test_planted__controls_pass_asan():
    code = "\n".join(
        [
            "for x, y in (c.norm(device), c.conv(device), c.matmul(device, 'tf32')):",
            "    assert abs(x - y).max() < 1e-2",
            "for name in ('good_atomic', 'good_phases', 'good_cluster', 'good_pipeline', 'good_vector'):",
            "    assert (c.blocks(device, name)[0] == c.blocks(device, name)[1]).all(), name",
            "c.langevin(device)",
        ]
    )
    done = in_asan(code, "random")
    assert (done.returncode, done.stdout.split()) == (0, ["the", "end"]), done.stderr[:3000]


def test_asan__needs_a_process_of_its_own():
    with pytest.raises(BackendError, match="run_in_asan"):
        host_device("asan")
