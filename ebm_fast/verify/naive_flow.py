"""Distances of two batches, and copies that push each other apart, as scalar loops: part of the backend "naive"."""

from __future__ import annotations

import numpy as np

from ebm_ref.contracts import Array


def coupling_cost(x0: Array, x1: Array) -> Array:
    """C[i,j] = sum over places of (x0[i] - x1[j])^2."""
    out = np.empty((len(x0), len(x0)), x0.dtype)
    rows = [[[float(value) for value in sample.ravel()] for sample in x] for x in (x0, x1)]
    for i, a in enumerate(rows[0]):
        for j, b in enumerate(rows[1]):
            out[i, j] = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return out


def repulsion(x: Array, tau: float, sigma: float) -> tuple[Array, Array]:
    """W = -(tau / sigma^2) sum over pairs i < j of |x_i - x_j|^2; each pair adds -(2 tau / sigma^2)(x_i - x_j) to i."""
    N, C = x.shape[:2]
    W, gradient, rate = np.empty(N, x.dtype), np.empty(x.shape, x.dtype), tau / sigma**2
    for n in range(N):
        total = 0.0
        places = [*np.ndindex(*x.shape[2:])]
        for place in places:
            values = [float(x[(n, i, *place)]) for i in range(C)]
            for i in range(C):
                gradient[(n, i, *place)] = -2 * rate * sum(values[i] - value for value in values)
                total += sum((values[i] - values[j]) ** 2 for j in range(i))
        W[n] = -rate * total
    return W, gradient
