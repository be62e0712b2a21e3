"""How the tests launch the kernels of planted_cuda: arguments, sizes and, for those that are right, the answer."""

from pathlib import Path

import numpy as np

from ebm_fast.cupy_raw.device import launch, on
from ebm_fast.cupy_raw.source import Kernel, build_defines
from ebm_fast.verify.host_build import host_device

FOLDER = Path(__file__).parent / "planted_cuda"
SOURCES = {path.name: path.read_text() for path in FOLDER.iterdir()}
f32, i32, u32 = np.float32, np.int32, np.uint32


def kernel(file, name, dtype="float32"):
    return Kernel(file + ".cu", name, build_defines(dtype, 0))


def device(build="fast", order="forward"):
    return host_device(build, order, sources=SOURCES)


def numbers(*shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def run(dev, file, name, grid, block, *args, out, dtype="float32", shared=0):
    """`out` filled by the kernel: its first argument; arrays among the others are put on the device."""
    with on(dev):
        y = dev.put(out) if isinstance(out, np.ndarray) else dev.empty(out, dtype)
        rest = [dev.put(x) if isinstance(x, np.ndarray) else x for x in args]
        launch(kernel(file, name, dtype), grid, block, [y, *rest], shared)
        return dev.get(y)


def norm(dev, dtype="float32", N=5, L=333, block=96):
    x = numbers(N, L, dtype=dtype)
    eps = x.dtype.type(1e-5)
    y = run(dev, "good_norm", "good_norm", N, block, x, i32(L), eps, out=(N, L), dtype=dtype)
    x = x.astype(np.float64)
    return y, (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)


def conv(dev, dtype="float32", H=13, W=15, C=5, O=37):
    P, Q = (H - 3) // 2 + 1, (W - 3) // 2 + 1
    x, w = numbers(H, W, C, dtype=dtype), numbers(9 * C, O, dtype=dtype)
    grid = (-(-P * Q // 32), -(-O // 32))
    sizes = map(i32, (W, C, O, P, Q))
    y = run(dev, "good_conv", "good_conv", grid, (16, 16), x, w, *sizes, out=(P * Q, O), dtype=dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), (0, 1))[::2, ::2]
    return y, np.einsum("pqcrs,rsco->pqo", windows, w.reshape(3, 3, C, O)).reshape(P * Q, O)


def matmul(dev, kind, K=64):
    A, B = numbers(16, K), numbers(K, 8)
    return run(dev, "good_matmul", f"good_matmul_{kind}", 1, 32, A, B, i32(K), out=(16, 8)), A.astype(float) @ B


def blocks(dev, name):
    """One of the kernels of good_blocks.cu: what it gave, and what it should."""
    if name == "good_atomic":
        x = np.arange(150, dtype=u32)
        return run(dev, "good_blocks", name, 3, 64, x, i32(150), out=np.zeros(1, u32)), np.array([x.sum()])
    if name == "good_phases":
        x = numbers(100)
        rest = (np.zeros(100, f32), i32(100), i32(5), np.zeros(1, u32))
        return run(dev, "good_blocks", name, 4, 32, *rest, out=x), np.roll(x, -5)
    if name == "good_cluster":
        x = np.arange(256, dtype=f32)
        return run(dev, "good_blocks", name, 4, 64, x, out=(2,)), x.reshape(2, 128).sum(1)
    if name == "good_pipeline":
        x = numbers(5, 32, 4)
        return run(dev, "good_blocks", name, 1, 32, x, i32(5), out=x.shape, shared=1024), 2 * x
    x = numbers(200)
    return run(dev, "good_blocks", name, 1, 64, x, i32(200), out=x.shape), 3 * x


def together(dev):
    return run(dev, "good_warp", "good_together", 1, 64, out=np.zeros((10, 64), i32))


def barriers(dev, threads, K=300):
    x = numbers(threads)
    return run(dev, "good_warp", "good_barriers", 1, threads, x, i32(K), out=(threads,)), np.roll(x, -K)


def syncwarp(dev):
    x = numbers(64)
    return run(dev, "good_warp", "good_syncwarp", 1, 64, x, out=(3, 64)), x


def langevin(dev, dtype="float32", N=3, D=101):
    """One step, its noise at (seed 5 + 7 * 2^32, stream 7, step 2); chains 9, 4, 4."""
    x, g = numbers(N, D, dtype=dtype), numbers(D, N, dtype=dtype).T.copy()
    real = x.dtype.type
    rest = (i32(N), i32(D), real(0.01), real(0.1), u32(5), u32(7), u32(2), u32(7))
    chains = np.array([9, 4, 4], u32)
    grid = (-(-D // 128), N)
    return run(dev, "good_langevin", "good_langevin", grid, 32, x, g, chains, *rest, out=x.shape, dtype=dtype), x, g


def planted(dev, name):
    """A wrong kernel, launched as if it were right; returns its output."""
    x, ids = numbers(64), np.arange(64, dtype=i32)
    if name in ("read_past", "write_past"):
        return run(dev, "planted_memory", name, 1, 64, x, i32(64), out=(64,))
    if name == "write_before":
        return run(dev, "planted_memory", name, 1, 64, x, out=(64,))
    if name == "load_misaligned":
        return run(dev, "planted_memory", name, 1, 8, x, out=(64,))
    if name in ("copy_early", "copy_one_stage_early"):
        return run(dev, "planted_memory", name, 1, 32, numbers(256), out=(128,))
    if name == "shift_too_far":
        return run(dev, "planted_memory", name, 1, 64, ids, out=np.zeros(64, i32))
    if name == "global_unwritten":
        return run(dev, "planted_memory", name, 1, 32, out=(2,))
    if name == "no_barrier_before_next_tile":
        return run(dev, "planted_races", name, 1, 64, numbers(256), i32(4), out=(64,))
    if name == "blocks_read_and_write":
        return run(dev, "planted_races", name, 2, 32, out=np.zeros(2, f32))
    if name == "atomic_and_plain":
        return run(dev, "planted_races", name, 2, 32, np.zeros(2, u32), out=np.zeros(1, u32))
    if name in ("no_syncwarp", "shuffle_for_a_barrier"):
        return run(dev, "planted_races", name, 1, 32, x, out=(32,))
    if name.startswith(("two_barriers", "mask_", "not_in", "deadlock")):
        return run(dev, "planted_sync", name, 1, 64 if name.startswith("two") else 32, out=(64,))
    if name == "spin":
        dev.seconds = 0.3
        return run(dev, "planted_sync", name, 1, 1, out=np.zeros(2, i32))
    file = "planted_memory" if name.startswith("shared_") else "planted_races"
    return run(dev, file, name, 2 if name.startswith(("blocks", "no_cluster")) else 1, 64, x, out=(64,))
