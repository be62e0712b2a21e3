"""Twin of `coupling`'s cost: all squared distances of two batches.

What differs: a thread a pair. A sum is made of pieces of PIECE elements, which round less than one long sum.
Reads 2 B^2 D numbers, which the caches share: neighbouring threads read the same sample of x0. Deterministic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import ShapeError, check_array

from ..checks import check_like
from .build import body
from .device import current, launch
from .langevin import rows

PIECE = 64

# ---------------------------------------------------------------------------------- what a thread does


@body
def cost_pair(i, x0, x1, cost):
    """cost[a, b] = sum_d (x0[a, d] - x1[b, d])^2, thread (a, b)."""
    B, D = x0.shape
    a, b = i // B, i % B
    total = 0.0
    for start in range(0, D, PIECE):
        part = 0.0
        for d in range(start, min(D, start + PIECE)):
            v = x0[a, d] - x1[b, d]
            part += v * v
        total += part
    cost[a, b] = total


# --------------------------------------------------------------------------------------- public


def coupling_cost(x0: Any, x1: Any) -> Any:
    """C_ij = |x0_i - x1_j|^2. x0, x1: (B, *shape), B >= 1; returns (B, B). Raises ShapeError, DTypeError.

    Arrays on the host, in the typed build, must be finite; one on a card is not read back.
    """
    dev = current()
    x0, x1 = dev.array("x0", x0), dev.array("x1", x1)
    check_array("x0", x0, finite=isinstance(x0, np.ndarray))
    if x0.ndim < 2 or x0.shape[0] == 0:
        raise ShapeError(f"x0: expected (B, *shape) with B >= 1, found {tuple(x0.shape)}")
    check_array("x1", x1, finite=isinstance(x1, np.ndarray))
    check_like("x1", x1, x0, "x0")
    B = x0.shape[0]
    cost = dev.empty((B, B), x0.dtype)
    launch(cost_pair, x0.dtype, B * B, rows(x0), rows(x1), cost)
    return cost
