"""Twin of `repulsion`: copies that push each other apart, energy and gradient.

What differs: see repulsion.cu. Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import ShapeError, check_array, check_number

from .device import blocks, current, launch
from .limits import NUMBERS, SAMPLES, check_fits
from .source import kernel

FILE = "repulsion.cu"
THREADS = 256  # of a block
MAX_BLOCKS = 2**20  # loops stride over what is beyond


def repulsion(x: Any, tau: float, sigma: float) -> tuple[Any, Any]:
    """W = -(tau / sigma^2) sum_{i<j} |x_i - x_j|^2 and its gradient -(2 tau C / sigma^2) (x_i - m), of each group.

    x: (N, C, *shape) on the device, N groups of C >= 1 copies   tau >= 0   sigma > 0   returns W (N,) and the
    gradient, like x. Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    check_fits("x", x, samples=SAMPLES, numbers=NUMBERS)
    x = dev.array("x", x)
    check_array("x", x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ShapeError(f"x: expected (N, C, *shape) with C >= 1, found {tuple(x.shape)}")
    check_number("tau", tau, low=0.0)
    check_number("sigma", sigma, low=0.0, open_low=True)
    (N, C), D = x.shape[:2], prod(x.shape[2:])
    strength, real = float(tau) * C / float(sigma) ** 2, np.dtype(x.dtype).type
    with np.errstate(over="ignore"):
        force, strength = real(-2 * strength), real(strength)
    W, push, squares = dev.empty((N,), x.dtype), dev.empty(x.shape, x.dtype), dev.empty((N, D), x.dtype)
    sizes = np.int64(N), np.int64(C), np.int64(D)
    grid = min(blocks(N * D, THREADS), MAX_BLOCKS)
    launch(kernel(FILE, "repulsion_push", x.dtype), grid, THREADS, (x, push, squares, *sizes, force))
    lanes = team(D)
    grid = min(blocks(N * lanes, THREADS), MAX_BLOCKS)
    args = (squares, W, sizes[0], sizes[2], strength, np.int32(lanes))
    launch(kernel(FILE, "repulsion_energy", x.dtype), grid, THREADS, args)
    return W, push


def team(D: int) -> int:
    """Lanes that add up D numbers together: a power of two, at most a warp."""
    return min(32, 1 << max(D - 1, 0).bit_length())
