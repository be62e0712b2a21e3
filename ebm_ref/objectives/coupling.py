"""Couplings: which noise goes with which datum, by the least sum of squared distances in the batch.

    coupling_cost         C_ij = |x0_i - x1_j|^2                                              (B, B)
    coupling_sort         the least sum_i C_{i, idx_i} in one dimension: the k-th smallest goes with the k-th smallest
    coupling_exact        the same for any C, over all B! permutations: an oracle, B <= 7
    coupling_assign       the same in O(B^3), by shortest augmenting paths
    coupling_permutation  idx = assign(C), for a solver of yours, and a check that it is a permutation

idx is a permutation: x0_i goes with x1_{idx_i}, each datum once. A plan from which pairs are drawn with replacement
repeats some data and loses others. A pairing of batches is not the optimal transport of their laws: the mean of its
pairs is biased towards the independent coupling, and with D >> log B it hardly differs from it.

Source: Tong et al. 2024, arXiv:2302.00482, and Pooladian et al. 2023, arXiv:2304.14772 (couplings of minibatches);
Kuhn 1955 (assignment); Jonker & Volgenant 1987, and Crouse 2016, On implementing 2D rectangular assignment algorithms
(augmenting paths).
Level: none. Twins: coupling_cost: numba_cpu, numba_cuda, cupy_raw; coupling_assign: numba_cpu. Cost and sort work on
any array that answers NumPy's calls, solvers see what they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, RangeError, ShapeError, check_array, flat_size

Assign = Callable[[Array], Any]


def coupling_cost(x0: Array, x1: Array) -> Array:
    """C_ij = |x0_i - x1_j|^2. x0, x1: (B, *shape), one dtype, returns (B, B). Raises ShapeError, DTypeError.

    By differences: |a|^2 + |b|^2 - 2 a.b would lose the small distances, which are the ones that decide.
    """
    check_pair(x0, x1)
    a, b = (x.reshape((x.shape[0], flat_size(x.shape[1:]))) for x in (x0, x1))  # (B, D)
    cost: Array = np.stack([np.sum((b - a[i]) ** 2, axis=1) for i in range(a.shape[0])])  # (B, B)
    return cost


def coupling_sort(x0: Array, x1: Array) -> Array:
    """idx with x1[idx] in the order of x0: the k-th smallest with the k-th smallest.

    x0, x1: (B, *shape) of one element a sample, one dtype   returns (B,) integers. Raises ShapeError, DTypeError.
    """
    check_pair(x0, x1)
    if flat_size(x0.shape[1:]) != 1:
        raise ShapeError(f"x0: expected one element a sample, found shape {tuple(x0.shape)}; sorting is for D = 1")
    order0, order1 = (np.argsort(x.reshape((x.shape[0],)), kind="stable") for x in (x0, x1))  # (B,)
    idx: Array = order1[np.argsort(order0, kind="stable")]  # (B,)
    return idx


def coupling_exact(cost: Array) -> Array:
    """The permutation idx of least sum_i C_{i, idx_i}, the first in lexical order; all B! are tried.

    cost: (B, B), B <= 7   returns (B,) integers. Raises ShapeError, DTypeError, NonFiniteError, RangeError (B > 7).
    """
    B = _check_cost(cost)
    if B > 7:
        raise RangeError(f"cost: expected B <= 7, found {B}: B! permutations are too many; use coupling_assign")
    rows = np.arange(B)
    tried = np.array(list(permutations(range(B))), np.int64)  # (B!, B)
    best: Array = tried[np.argmin(cost.astype(np.float64)[rows, tried].sum(axis=1))]  # (B,)
    return best


def coupling_assign(cost: Array) -> Array:
    """The permutation idx of least sum_i C_{i, idx_i}, by at most B shortest augmenting paths.

    Prices u_i, v_j keep C_ij - u_i - v_j >= 0, and = 0 on the pairs. Row i enters: Dijkstra's algorithm over the
    columns, in lengths C_ij - u_i - v_j, finds the nearest free one; prices move by how much nearer the scanned ones
    were; and the pairs along the path are exchanged. Rows whose cheapest column is free pair first, without a path.

    cost: (B, B)   returns (B,) integers. Raises ShapeError, DTypeError, NonFiniteError.
    """
    B = _check_cost(cost)
    C = cost.astype(np.float64)
    v = C.min(axis=0)  # the highest prices with u = 0, then
    u = (C - v).min(axis=1)  # the highest with v: every row has a column at price, and pairs with it where it is free
    row_of, col_of = np.full(B, -1), np.full(B, -1)  # the pairs, from either side
    for row, column in enumerate(np.argmin(C - v, axis=1)):
        if row_of[column] < 0:
            row_of[column], col_of[row] = row, column
    for start in np.flatnonzero(col_of < 0):
        dist, before = np.full(B, np.inf), np.full(B, -1)  # to each column, and the row from which
        scanned, i, length = np.zeros(B, bool), start, 0.0
        while True:
            through = length + C[i] - u[i] - v  # (B,)
            nearer = ~scanned & (through < dist)
            dist[nearer], before[nearer] = through[nearer], i
            j = int(np.argmin(np.where(scanned, np.inf, dist)))
            length = dist[j]
            if row_of[j] < 0:
                break
            scanned[j], i = True, row_of[j]
        u[start] += length
        u[row_of[scanned]] += length - dist[scanned]
        v[scanned] -= length - dist[scanned]
        while True:  # back along the path
            i = before[j]
            row_of[j] = i
            j, col_of[i] = col_of[i], j
            if i == start:
                break
    return col_of.astype(np.int64)


def coupling_permutation(assign: Assign, x0: Array, x1: Array) -> Array:
    """idx = assign(C), C the cost of x0 and x1, where it is a permutation of 0..B-1.

    assign: C (B, B) -> idx (B,) integers, or the pair (rows, idx) with rows = 0..B-1 in any order: `coupling_assign`,
    `coupling_exact`, scipy.optimize.linear_sum_assignment   x0, x1: (B, *shape), one dtype
    returns (B,) integers like x1. Raises ShapeError, DTypeError, and RangeError unless every datum occurs once; an
    answer on a device is not read back.
    """
    if not callable(assign):
        raise DTypeError(f"assign: expected a function of the cost, found {type(assign).__name__}")
    found = assign(coupling_cost(x0, x1))
    rows, idx = found if isinstance(found, tuple) and len(found) == 2 else (None, found)
    B = x0.shape[0]
    for part in (idx,) if rows is None else (rows, idx):
        kind = getattr(getattr(part, "dtype", None), "kind", "")
        if kind not in ("i", "u"):
            raise DTypeError(f"assign: expected an array of integers, found {getattr(part, 'dtype', type(part))}")
        if tuple(part.shape) != (B,):
            raise ShapeError(f"assign: expected shape ({B},), found {tuple(part.shape)}")
        if isinstance(part, np.ndarray) and not np.array_equal(np.sort(part), np.arange(B)):
            raise RangeError(f"assign: expected a permutation of 0 to {B - 1}, found {len(np.unique(part))} distinct")
    idx = idx if rows is None else idx[np.argsort(rows)]
    return np.asarray(idx, like=x1)


def check_pair(x0: Array, x1: Array) -> None:
    """Raise unless x0 and x1 are (B, *shape), B >= 1, of one dtype; an array on a device is not read back."""
    check_array("x0", x0, finite=isinstance(x0, np.ndarray))
    if x0.ndim < 2 or x0.shape[0] == 0:
        raise ShapeError(f"x0: expected (B, *shape) with B >= 1, found {tuple(x0.shape)}")
    check_array("x1", x1, finite=isinstance(x1, np.ndarray))
    if x1.shape != x0.shape:
        raise ShapeError(f"x1: expected x0's shape {tuple(x0.shape)}, found {tuple(x1.shape)}")
    if x1.dtype != x0.dtype:
        raise DTypeError(f"x1: expected x0's {x0.dtype}, found {x1.dtype}")


def _check_cost(cost: Array) -> int:
    """B; raises unless `cost` is a finite (B, B) NumPy array, B >= 1."""
    if not isinstance(cost, np.ndarray):
        raise DTypeError(f"cost: expected a NumPy array, found {type(cost).__name__}")
    check_array("cost", cost, ndim=2, finite=True)
    if cost.shape[0] != cost.shape[1] or cost.shape[0] == 0:
        raise ShapeError(f"cost: expected (B, B) with B >= 1, found {cost.shape}")
    return int(cost.shape[0])
