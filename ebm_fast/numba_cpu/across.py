"""Linear maps of a tile of one sample: outputs lie in the lanes, weights are read as registers, inputs broadcast.

A tile of one sample would use one lane of each register of `gather`. Here element (pixel p, channel c) is at p C + c,
so the outputs of a pixel lie side by side: a register holds as many of them as it has lanes. Units are of two pixels at
most; the order of every sum is that of `gather`, so the results are equal to the bit.

Four registers of outputs of two pixels stay in registers over all pairs and channels: 4 loads and 2 broadcasts for 8
multiply-adds. All weights of a map are read again for each two pixels, from the second-level cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .build import IDS, inner, instruction, share
from .gather import block_sizes
from .lanes import vcount, vcounting, vfma, vlike, vload, vsplat, vstore4, vstore_first, vword
from .noise import four_normals
from .registers import lane_count


def fits(O: int) -> bool:
    """Whether all O outputs are summed in order: a single last one is summed by `gather` in even and odd terms."""
    return block_sizes(O)[-1] != 1


def across_sizes(O: int, dtype: Any) -> list[int]:
    """Outputs of each block, not all of them used in the last: four registers, or two."""
    lanes = lane_count(dtype)
    sizes = [4 * lanes] * (O // (4 * lanes))
    rest = O % (4 * lanes)
    return sizes + ([4 * lanes if rest > 2 * lanes else 2 * lanes] if rest else [])


@instruction
def gather_across(row, T, W, S, G, A):
    """`gather` of a tile of one sample; the operands are the same, but a register of T is one number, without TIMES."""
    _, dst, src, wts, bias, tab, units, taps, C, O, add, _ = row
    lanes = vcount(S)
    begin, end = share(A, units)
    for u in range(begin, end):
        first, last = T[tab + u], T[tab + u + 1]
        lone = T[first + 1] < 0  # then both halves of what follows are that pixel
        at = dst + T[first]
        to = at if lone else dst + T[first + 1]
        w, o = wts, 0
        while O - o > 2 * lanes:
            size = 4 * lanes * C
            acc = start4(S, at + o, W, bias, o, add) + start4(S, to + o, W, bias, o, add)
            for t in range(first + 3, last, 4):
                s, r = src + T[t], src + T[t if lone else t + 1]
                acc = across4(acc, S, s, r, W, w + T[t + 3] * size, C)
            finish4(S, at + o, acc[:4], O - o)
            finish4(S, to + o, acc[4:], O - o)
            w, o = w + taps * size, o + 4 * lanes
        if O > o:
            size = 2 * lanes * C
            two = start2(S, at + o, W, bias, o, add) + start2(S, to + o, W, bias, o, add)
            for t in range(first + 3, last, 4):
                s, r = src + T[t], src + T[t if lone else t + 1]
                two = across2(two, S, s, r, W, w + T[t + 3] * size, C)
            finish2(S, at + o, two[:2], O - o)
            finish2(S, to + o, two[2:], O - o)


@inner
def start1(S, at, W, bias, o, add):
    """(what is there if add else 0) + W[bias + o], as `gather` starts a sum."""
    there = vload(S, at)
    if bias < 0:
        return there if add != 0 else vlike(there, 0.0)
    return vload(W, bias + o) + there if add != 0 else vload(W, bias + o)


@inner
def start2(S, at, W, bias, o, add):
    """Two registers of it."""
    lanes = vcount(S)
    return start1(S, at, W, bias, o, add), start1(S, at + lanes, W, bias, o + lanes, add)


@inner
def start4(S, at, W, bias, o, add):
    """Four registers of it."""
    half = 2 * vcount(S)
    return start2(S, at, W, bias, o, add) + start2(S, at + half, W, bias, o + half, add)


@inner
def finish2(S, at, values, count):
    """The first `count` numbers of two registers."""
    vstore_first(S, at, values[0], count)
    vstore_first(S, at + vcount(S), values[1], count - vcount(S))


@inner
def finish4(S, at, values, count):
    """The first `count` numbers of four registers."""
    half = 2 * vcount(S)
    finish2(S, at, values[:2], count)
    finish2(S, at + half, values[2:], count - half)


@inner
def across2(acc, S, s, r, W, w, count):
    """acc[j] += sum_k S[s + k] w_kj, acc[2 + j] += sum_k S[r + k] w_kj, w_kj the register at W[w + (2 k + j) lanes]."""
    a0, a1, b0, b1 = acc
    lanes = vcount(S)
    for k in range(count):
        x, y = vsplat(S, s + k), vsplat(S, r + k)
        v = vload(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vload(W, w + lanes)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        w += 2 * lanes
    return a0, a1, b0, b1


@inner
def across4(acc, S, s, r, W, w, count):
    """`across2` with four registers."""
    a0, a1, a2, a3, b0, b1, b2, b3 = acc
    lanes = vcount(S)
    for k in range(count):
        x, y = vsplat(S, s + k), vsplat(S, r + k)
        v = vload(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vload(W, w + lanes)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        v = vload(W, w + 2 * lanes)
        a2, b2 = vfma(v, x, a2), vfma(v, y, b2)
        v = vload(W, w + 3 * lanes)
        a3, b3 = vfma(v, x, a3), vfma(v, y, b3)
        w += 4 * lanes
    return a0, a1, a2, a3, b0, b1, b2, b3


@instruction
def noise_across(row, T, W, S, G, A):
    """`chain.noise_tile` of a tile of one sample: the blocks of its normals lie in the lanes."""
    _, at, D, _, _, _, _, _, _, _, _, _ = row
    lanes = vcount(S)
    begin, end = share(A, ((D + 3) // 4 + lanes - 1) // lanes)
    for block in range(begin * lanes, end * lanes, lanes):
        a, b, c, d = four_normals(S, vcounting(S, np.uint64(block)), vword(S, A[IDS]), A[3], A[2], A[0], A[1])
        vstore4(S, at + 4 * block, a, b, c, d)
