"""Improved precision and recall: are samples near the data, and is the data near the samples?

    B(A)       union over a in A of the closed balls around a whose radius reaches a's k-th nearest other point
    precision  share of the fake points inside B(real)
    recall     share of the real points inside B(fake)

Two halves of one data set score close to, not exactly, 1: balls of k = 5 neighbours miss a few points.

Source: Kynkaanniemi, Karras, Laine, Lehtinen, Aila 2019, eqs. 1-2.
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, ShapeError, check_array, check_count


def precision_recall(real: Array, fake: Array, k: int = 5) -> tuple[float, float]:
    """(share of `fake` inside B(real), share of `real` inside B(fake)).

    real: (N, D) data points, or features of them
    fake: (M, D) samples, in the same space
    Raises ShapeError unless both hold more than k points of one size D; NonFiniteError on NaN or infinity.
    """
    check_count("k", k, low=1)
    check_array("real", real, ndim=2, finite=True)
    check_array("fake", fake, shape=(None, real.shape[1]), finite=True)
    for name, points in (("real", real), ("fake", fake)):
        if len(points) <= k:
            raise ShapeError(f"{name}: expected more than k = {k} points, found {len(points)}")
    cross = squared_distances(real, fake)  # (N, M)
    inside_real = cross <= ball_radii(real, k)[:, None]
    inside_fake = cross <= ball_radii(fake, k)[None, :]
    precision, recall = inside_real.any(axis=0).mean(), inside_fake.any(axis=1).mean()
    return float(precision), float(recall)


def ball_radii(points: Array, k: int) -> Array:
    """Squared distance of each point to its k-th nearest other point, (N,)."""
    squared = squared_distances(points, points)  # (N, N)
    np.fill_diagonal(squared, np.inf)
    return np.partition(squared, k - 1, axis=1)[:, k - 1]  # (N,)


def squared_distances(a: Array, b: Array) -> Array:
    """|a_i - b_j|^2 from the differences themselves, so that equal points are at distance exactly 0; (N, M)."""
    squared = np.zeros((len(a), len(b)), dtype=np.float64)
    for d in range(a.shape[1]):  # one axis at a time: (N, M) memory instead of (N, M, D)
        squared += np.subtract.outer(a[:, d].astype(np.float64), b[:, d].astype(np.float64)) ** 2
    return squared
