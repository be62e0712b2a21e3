"""Twin of `coupling`'s cost and assignment: all squared distances of two batches, and the pairing of least cost.

cost    What differs: samples of x1 lie in vector lanes, and 4 samples of x0 meet two registers of them at once: 8 sums
        in registers, 16 subtractions and multiply-adds for 2 loads and 4 broadcasts. A sum is made of pieces of
        PIECE elements, short enough to stay in the first-level cache and to round little.
        2 B^2 D operations; bytes: x1 once, x0 once for each tile. Deterministic for any number of threads.
assign  What differs: compiled loops. B^3 steps at most, in float64, on one thread.
"""

from __future__ import annotations

import numpy as np

from ebm_ref.contracts import DTypeError, ShapeError, check_array

from ..checks import check_like, flat
from .build import inner, kernel
from .lanes import vcount, vfma, vlike, vload, vsplat, vstore
from .registers import lane_count
from .threads import parallel, scratch

ROWS, PIECE = 4, 64


@inner
def squares(S, x, a, b, c, e, tile, width, count):
    """Sums over d < count of (x[i + d] - tile[d])^2, i = a, b, c, e: of the tile's first register, then of its next."""
    lanes = vcount(S)
    a0 = vlike(vload(S, tile), 0.0)
    a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
    for d in range(count):
        p, q = vload(S, tile + d * width), vload(S, tile + d * width + lanes)
        s = vsplat(x, a + d)
        u, v = s - p, s - q
        a0, b0 = vfma(u, u, a0), vfma(v, v, b0)
        s = vsplat(x, b + d)
        u, v = s - p, s - q
        a1, b1 = vfma(u, u, a1), vfma(v, v, b1)
        s = vsplat(x, c + d)
        u, v = s - p, s - q
        a2, b2 = vfma(u, u, a2), vfma(v, v, b2)
        s = vsplat(x, e + d)
        u, v = s - p, s - q
        a3, b3 = vfma(u, u, a3), vfma(v, v, b3)
    return a0, a1, a2, a3, b0, b1, b2, b3


@inner
def add_to(S, at, v):
    vstore(S, at, vload(S, at) + v)


@kernel
def cost_tiles(x0, x1, D, out, S, start, stride):
    """out[i, j] = |x0_i - x1_j|^2 for the tiles start, start + stride, ... of columns. x0: flat; S: (D + ROWS) rows."""
    B, lanes = x1.shape[0], vcount(S)
    width, sums = 2 * lanes, D * 2 * lanes
    for j0 in range(start * width, B, stride * width):
        for l in range(width):
            for d in range(D):
                S[d * width + l] = x1[j0 + l, d] if j0 + l < B else 0
        for i0 in range(0, B, ROWS):
            a, b, c, e = i0, min(i0 + 1, B - 1), min(i0 + 2, B - 1), min(i0 + 3, B - 1)
            for k in range(ROWS * width):
                S[sums + k] = 0
            for d in range(0, D, PIECE):
                at = (a * D + d, b * D + d, c * D + d, e * D + d)
                a0, a1, a2, a3, b0, b1, b2, b3 = squares(
                    S, x0, at[0], at[1], at[2], at[3], d * width, width, min(PIECE, D - d)
                )
                add_to(S, sums, a0)
                add_to(S, sums + lanes, b0)
                add_to(S, sums + width, a1)
                add_to(S, sums + width + lanes, b1)
                add_to(S, sums + 2 * width, a2)
                add_to(S, sums + 2 * width + lanes, b2)
                add_to(S, sums + 3 * width, a3)
                add_to(S, sums + 3 * width + lanes, b3)
            for i in range(i0, min(i0 + ROWS, B)):
                for l in range(min(width, B - j0)):
                    out[i, j0 + l] = S[sums + (i - i0) * width + l]


def coupling_cost(x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    """C_ij = |x0_i - x1_j|^2. x0, x1: (B, *shape), B >= 1, finite; returns (B, B).

    Raises ShapeError, DTypeError, NonFiniteError.
    """
    check_array("x0", x0, finite=True)
    if x0.ndim < 2 or x0.shape[0] == 0:
        raise ShapeError(f"x0: expected (B, *shape) with B >= 1, found {x0.shape}")
    check_array("x1", x1, finite=True)
    check_like("x1", x1, x0, "x0")
    a, b = (flat(x, x.shape[1:]) for x in (x0, x1))
    (B, D), width = a.shape, 2 * lane_count(x0.dtype)
    out = np.empty((B, B), x0.dtype)

    def task(part: int, parts: int) -> None:
        cost_tiles(a.ravel(), b, D, out, scratch((D + ROWS) * width, x0.dtype), part, parts)

    parallel(task, -(-B // width))
    return out


@kernel
def assign_rows(C, row_of, col_of):
    """Pairs in reduced costs C_ij - u_i - v_j >= 0, 0 on the pairs.

    First v_j = min_i C_ij and u_i = min_j (C_ij - v_j), and row i takes its column where that is free; every other row
    enters by a shortest augmenting path.
    """
    B = C.shape[0]
    u, v, dist = np.full(B, np.inf), np.full(B, np.inf), np.empty(B)
    before, scanned = np.empty(B, np.int64), np.empty(B, np.bool_)
    for i in range(B):
        for c in range(B):
            v[c] = min(v[c], C[i, c])
    for i in range(B):
        j = 0
        for c in range(B):
            if C[i, c] - v[c] < u[i]:
                u[i], j = C[i, c] - v[c], c
        if row_of[j] < 0:
            row_of[j], col_of[i] = i, j
    for start in range(B):
        if col_of[start] >= 0:
            continue
        dist[:], scanned[:] = np.inf, False
        i, length = start, 0.0
        while True:
            nearest, j = np.inf, -1
            for c in range(B):
                if not scanned[c]:
                    through = length + C[i, c] - u[i] - v[c]
                    if through < dist[c]:
                        dist[c], before[c] = through, i
                    if j < 0 or dist[c] < nearest:
                        nearest, j = dist[c], c
            length = nearest
            if row_of[j] < 0:
                break
            scanned[j], i = True, row_of[j]
        u[start] += length
        for c in range(B):
            if scanned[c]:
                u[row_of[c]] += length - dist[c]
                v[c] -= length - dist[c]
        while True:  # the pairs along the path are exchanged
            i = before[j]
            row_of[j] = i
            j, col_of[i] = col_of[i], j
            if i == start:
                break


def coupling_assign(cost: np.ndarray) -> np.ndarray:
    """The permutation idx of least sum_i C_{i, idx_i}, by shortest augmenting paths. cost: (B, B), finite; (B,).

    Raises ShapeError, DTypeError, NonFiniteError. Jonker & Volgenant 1987; Crouse 2016 (augmenting paths).
    """
    if not isinstance(cost, np.ndarray):
        raise DTypeError(f"cost: expected a NumPy array, found {type(cost).__name__}")
    check_array("cost", cost, ndim=2, finite=True)
    if cost.shape[0] != cost.shape[1] or cost.shape[0] == 0:
        raise ShapeError(f"cost: expected (B, B) with B >= 1, found {cost.shape}")
    row_of, col_of = np.full(len(cost), -1), np.full(len(cost), -1)
    assign_rows(np.ascontiguousarray(cost, np.float64), row_of, col_of)
    return col_of
