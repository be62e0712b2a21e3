"""Twin of `coupling`'s cost: all squared distances of two batches.

What differs: see coupling.cu. The pairing of least cost is found on the host: `coupling_assign` is of the oracle, of
numba_cpu, or SciPy's. Deterministic: no result depends on the tile. Not yet measured on a GPU.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import ShapeError, check_array

from ..checks import check_like
from .device import blocks, current, launch
from .limits import NUMBERS, SAMPLES, check_fits
from .source import kernel

FILE = "coupling.cu"
TILES = {"wide": 64, "slim": 16}  # samples of a tile's side
THREADS = 256
MAX_Y = 65535


def coupling_cost(x0: Any, x1: Any) -> Any:
    """C_ij = |x0_i - x1_j|^2. x0, x1: (B, *shape) on the device, B >= 1, finite, one dtype; returns (B, B).

    Raises ShapeError, DTypeError, NonFiniteError, RangeError.
    """
    dev = current()
    for name, x in (("x0", x0), ("x1", x1)):
        check_fits(name, x, samples=SAMPLES, numbers=NUMBERS)
    x0, x1 = dev.array("x0", x0), dev.array("x1", x1)
    check_array("x0", x0, finite=True)
    if x0.ndim < 2 or x0.shape[0] == 0:
        raise ShapeError(f"x0: expected (B, *shape) with B >= 1, found {tuple(x0.shape)}")
    check_array("x1", x1, finite=True)
    check_like("x1", x1, x0, "x0")
    cost = dev.empty((x0.shape[0], x0.shape[0]), x0.dtype)
    cost_apply(x0, x1, cost)
    return cost


def cost_apply(x0: Any, x1: Any, cost: Any) -> None:
    """cost = |x0_i - x1_j|^2. x0, x1: (B, *shape); cost: (B, B), written."""
    B, D = x0.shape[0], prod(x0.shape[1:])
    name = "wide" if blocks(B, TILES["wide"]) ** 2 >= current().processors else "slim"  # the sums are the same
    side = blocks(B, TILES[name])
    args = (x0, x1, cost, np.int64(B), np.int64(D))
    launch(kernel(FILE, f"coupling_cost_{name}", x0.dtype), (side, min(side, MAX_Y)), THREADS, args)
