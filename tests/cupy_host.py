"""The CUDA backend's functions run by its host build: fixtures for tests that call launchers of their own."""

import os

import numpy as np

from ebm_fast.cupy_raw.device import on
from ebm_fast.verify.host_build import host_device

DTYPES = (np.float32, np.float64)


def moved(x, by=1):
    """The values of `x` in memory that starts `by` elements after a multiple of 16 bytes."""
    room = np.empty(x.size + 16, x.dtype)
    start = -(room.ctypes.data // x.itemsize) % (16 // x.itemsize) + by
    view = room[start : start + x.size].reshape(x.shape)
    view[...] = x
    assert view.flags.c_contiguous and (view.ctypes.data - by * x.itemsize) % 16 == 0
    return view


def host(order="rotate", seed=0):
    """`with host(): ...` runs the backend's functions on the CPU; EBM_HOST_BUILD names the build."""
    return on(host_device(os.environ.get("EBM_HOST_BUILD", "fast"), order, seed))


def normals(seed, shape, dtype, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(dtype)
