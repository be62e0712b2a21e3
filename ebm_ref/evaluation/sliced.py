"""Sliced Wasserstein distance: two sets of points, compared along lines.

    project             a = sort_n(x_n . d),  b = sort_m(y_m . d)  for a unit vector d
    W^2(a, b)           integral over q in (0, 1) of (F_a^-1(q) - F_b^-1(q))^2,  F_a^-1(q) = a_i for (i-1)/N < q <= i/N
                        = mean_i (a_i - b_i)^2 where N = M
    sliced_wasserstein  sqrt(mean over directions of W^2)

On a line the optimal coupling sorts, so each W is exact. It is a distance between empirical laws: two sets of one law
are at a distance of O(1/sqrt(N)), not at 0. So hold it against that of two sets of data of the same size.

Source: Rabin, Peyre, Delon & Bernot 2012, Wasserstein barycenter and its application to texture mixing; Bonneel, Rabin,
Peyre & Pfister 2015, Sliced and Radon Wasserstein barycenters of measures, section 3.
Level: none, it sees numbers only. Twins: none.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from ..contracts import Array, RangeError, ShapeError, check_array


def sliced_wasserstein(x: Array, y: Array, directions: Array) -> float:
    """sqrt(mean_p W^2(x d_p / |d_p|, y d_p / |d_p|)), W the exact 2-Wasserstein distance on a line; in float64.

    x: (N, D)   y: (M, D), N, M >= 1   directions: (P, D), P >= 1, none of them 0; their lengths do not count
    Raises ShapeError, NonFiniteError, RangeError.
    """
    check_array("x", x, ndim=2, finite=True)
    check_array("y", y, shape=(None, x.shape[1]), finite=True)
    check_array("directions", directions, shape=(None, x.shape[1]), finite=True)
    for name, rows in (("x", x), ("y", y), ("directions", directions)):
        if rows.size == 0:
            raise ShapeError(f"{name}: expected at least one row and one column, found {rows.shape}")
    d = directions.astype(np.float64)  # (P, D)
    d = d / np.maximum(np.abs(d).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)  # so that no square underflows
    lengths = np.sqrt((d * d).sum(axis=1))  # (P,)
    if not (lengths > 0).all():
        raise RangeError(f"directions: expected no zero vector, found one in row {int(np.argmin(lengths))}")
    d = d / lengths[:, None]
    a, b = (np.sort(rows.astype(np.float64) @ d.T, axis=0) for rows in (x, y))  # (N, P), (M, P)
    N, M = len(a), len(b)
    ends = np.union1d(np.arange(1, N + 1) * M, np.arange(1, M + 1) * N)  # (S,), of the steps of q, times N M
    widths = np.diff(ends, prepend=0) / (N * M)  # (S,)
    gap = a[(ends - 1) // M] - b[(ends - 1) // N]  # (S, P)
    return sqrt(float((widths[:, None] * gap**2).sum() / len(d)))
