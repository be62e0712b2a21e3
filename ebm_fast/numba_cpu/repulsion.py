"""Twin of `repulsion`: copies that push each other apart, energy and gradient.

What differs: one pass over a group for its mean and one for all else, sums in float64. Bytes moved: x twice (the second
time from the cache, where a group fits), the gradient once. Groups are shared between threads; deterministic.
"""

from __future__ import annotations

import numpy as np

from ebm_ref.contracts import ShapeError, check_array, check_number

from .build import kernel
from .threads import parallel

SMALL = 1 << 14  # numbers below which one thread is faster than two


@kernel
def repulsion_groups(x, strength, W, out, start, stride):
    """W[n] = -strength sum_c |x_nc - m_n|^2, out = -2 strength (x - m), of the groups start, start + stride, ..."""
    N, C, D = x.shape
    mean, square = np.empty(D), np.empty(D)
    for n in range(start, N, stride):
        mean[:], square[:] = 0.0, 0.0
        for c in range(C):
            for d in range(D):
                mean[d] += x[n, c, d]
        for d in range(D):
            mean[d] /= C
        for c in range(C):
            for d in range(D):
                v = x[n, c, d] - mean[d]
                square[d] += v * v
                out[n, c, d] = -2.0 * strength * v
        total = 0.0
        for d in range(D):
            total += square[d]
        W[n] = -strength * total


def repulsion(x: np.ndarray, tau: float, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """W = -(tau / sigma^2) sum_{i<j} |x_i - x_j|^2 and its gradient -(2 tau C / sigma^2) (x_i - m), of each group.

    x: (N, C, *shape), N groups of C >= 1 copies   tau >= 0   sigma > 0   returns W (N,) and the gradient, like x.
    Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ShapeError(f"x: expected (N, C, *shape) with C >= 1, found {tuple(x.shape)}")
    check_number("tau", tau, low=0.0)
    check_number("sigma", sigma, low=0.0, open_low=True)
    N, C = x.shape[:2]
    rows = np.ascontiguousarray(x).reshape(N, C, int(np.prod(x.shape[2:])))
    W, out, strength = np.empty(N, x.dtype), np.empty_like(rows), float(tau) * C / float(sigma) ** 2
    parallel(lambda part, parts: repulsion_groups(rows, strength, W, out, part, parts), min(N, 1 + x.size // SMALL))
    return W, out.reshape(x.shape)
