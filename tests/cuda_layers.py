"""Problems for the CUDA backend's layers: arrays of jets, sizes that reach every kernel, where an array lies."""

import os

import numpy as np

from ebm_fast.cupy_raw import conv2d
from ebm_fast.cupy_raw.device import launch, on
from ebm_fast.cupy_raw.source import Kernel, build_defines
from ebm_fast.verify.host_build import host_device
from ebm_ref.jet import jet_coefficient, jet_order, jet_seed

BUILD = os.environ.get("EBM_HOST_BUILD", "fast")
DTYPES = (np.float32, np.float64)
BUDGET = {np.float32: 2e-5, np.float64: 2e-14}  # of the largest number that a sum of these tests holds
# N, H, W, C, R, S, O, stride, padding: every tile of every kernel, forwards and back
CONVS = {
    "one number": (1, 1, 1, 1, 1, 1, 1, 1, "SAME"),
    "grey image, wide": (3, 7, 5, 1, 3, 3, 40, 1, "SAME"),
    "colour image, slim": (2, 9, 8, 3, 3, 3, 12, 2, "SAME"),
    "wide both ways": (2, 6, 6, 20, 3, 3, 70, 2, "SAME"),
    "middle both ways": (2, 7, 6, 20, 3, 3, 28, 1, "VALID"),
    "narrow out": (3, 5, 6, 37, 3, 2, 1, 1, "VALID"),
    "narrow both ways": (9, 6, 5, 2, 2, 3, 4, 3, "SAME"),
    "dense": (19, 1, 1, 50, 1, 1, 33, 1, "SAME"),
    "dense head": (17, 1, 1, 300, 1, 1, 1, 1, "SAME"),
    "kernel larger than the image": (2, 2, 3, 5, 5, 7, 6, 2, "SAME"),
    "stride longer than the kernel": (2, 9, 10, 3, 2, 1, 17, 4, "VALID"),
    "stride longer than the image": (2, 4, 3, 6, 3, 3, 5, 2**40, "SAME"),
}
# N, L, C, G: teams of 1, 2, 32 lanes with gaps, 32 lanes several times over, and a block; the rest side by side
NORMS = {
    "groups of one number": (5, 1, 6, 6),
    "groups of two": (3, 2, 4, 4),
    "layer": (7, 1, 50, 1),
    "uneven channels": (2, 11, 15, 3),
    "image": (3, 49, 16, 4),
    "large": (2, 700, 6, 2),
    "narrow": (2, 5, 24, 12),
    "narrow and large": (2, 81, 16, 16),
    "pairs, large": (2, 150, 16, 8),
    "image, large": (3, 130, 16, 4),
}


def jets(rng, shape, dtype, order):
    """An array of jets, and what the oracle calls it."""
    parts = [rng.standard_normal(shape).astype(dtype) for _ in range(order + 1)]
    series = jet_seed(*parts, 1) if order else parts[0]
    return np.ascontiguousarray(np.stack(parts, axis=-1)), series


def wide(series):
    """The oracle's argument in float64."""
    if jet_order(series) == 0:
        return series.astype(np.float64)
    return jet_seed(*(c.astype(np.float64) for c in series.coefficients), 1)


def empty(shape, dtype):
    return np.full(shape, np.nan, dtype)


def close(found, series, dtype, terms=1.0):
    """Every coefficient of `found` is that of the oracle's `series`."""
    for k in range(jet_order(series) + 1):
        want = jet_coefficient(series, k)
        error = np.abs(found[..., k].reshape(want.shape) - want).max(initial=0.0)
        assert error <= BUDGET[dtype] * max(terms, np.abs(want).max(initial=0.0)), f"coefficient {k}"


def conv_problem(case, dtype, order, seed=0):
    N, H, W, C, R, S, O, stride, padding = CONVS[case]
    rng = np.random.default_rng(seed)
    geo = conv2d.geometry(H, W, C, R, S, O, stride, padding)
    x, x_series = jets(rng, (N, H, W, C), dtype, order)
    dy, dy_series = jets(rng, (N, geo.P, geo.Q, O), dtype, order)
    w = rng.standard_normal((R, S, C, O)).astype(dtype)
    b = rng.standard_normal(O).astype(dtype)
    return geo, N, x, x_series, dy, dy_series, w, b, (stride, padding)


def probe(source, dtype, order, args, threads=256):
    with on(host_device(BUILD, sources={"probe.cu": source})):
        launch(Kernel("probe.cu", "probe", build_defines(np.dtype(dtype).name, order)), 1, threads, args)


def off_by_one(x):
    """The same numbers, at an address that is no multiple of 16."""
    room = np.empty(x.size + 8, x.dtype)
    start = (-room.ctypes.data // x.itemsize) % (16 // x.itemsize) + 1
    moved = room[start : start + x.size].reshape(x.shape)
    moved[...] = x
    assert moved.ctypes.data % 16
    return moved


def aligned(x):
    room = np.empty(x.size + 8, x.dtype)
    start = (-room.ctypes.data // x.itemsize) % (16 // x.itemsize)
    moved = room[start : start + x.size].reshape(x.shape)
    moved[...] = x
    assert moved.ctypes.data % 16 == 0
    return moved
