"""The inner loops of `gather`: sums over channels of 8, 4 or 1 outputs of three registers, of two or of one.

All sums stay in registers: acc[i][j] is that of output j of register i. s_k, r_k, q_k: the registers of samples that
start at S[s + k step], S[r + k step], S[q + k step].
"""

from __future__ import annotations

from .build import inner
from .lanes import vfma, vlike, vload, vsplat


@inner
def dot8_three(acc, S, s, r, q, step, W, w, count):
    """acc[0][j] += sum_k W[w + 8 k + j] s_k, j = 0..7; acc[1], acc[2] the same of r_k, q_k."""
    (a0, a1, a2, a3, a4, a5, a6, a7), (b0, b1, b2, b3, b4, b5, b6, b7), (c0, c1, c2, c3, c4, c5, c6, c7) = acc
    for _ in range(count):
        x, y, z = vload(S, s), vload(S, r), vload(S, q)
        v = vsplat(W, w)
        a0, b0, c0 = vfma(v, x, a0), vfma(v, y, b0), vfma(v, z, c0)
        v = vsplat(W, w + 1)
        a1, b1, c1 = vfma(v, x, a1), vfma(v, y, b1), vfma(v, z, c1)
        v = vsplat(W, w + 2)
        a2, b2, c2 = vfma(v, x, a2), vfma(v, y, b2), vfma(v, z, c2)
        v = vsplat(W, w + 3)
        a3, b3, c3 = vfma(v, x, a3), vfma(v, y, b3), vfma(v, z, c3)
        v = vsplat(W, w + 4)
        a4, b4, c4 = vfma(v, x, a4), vfma(v, y, b4), vfma(v, z, c4)
        v = vsplat(W, w + 5)
        a5, b5, c5 = vfma(v, x, a5), vfma(v, y, b5), vfma(v, z, c5)
        v = vsplat(W, w + 6)
        a6, b6, c6 = vfma(v, x, a6), vfma(v, y, b6), vfma(v, z, c6)
        v = vsplat(W, w + 7)
        a7, b7, c7 = vfma(v, x, a7), vfma(v, y, b7), vfma(v, z, c7)
        s += step
        r += step
        q += step
        w += 8
    return (a0, a1, a2, a3, a4, a5, a6, a7), (b0, b1, b2, b3, b4, b5, b6, b7), (c0, c1, c2, c3, c4, c5, c6, c7)


@inner
def dot8_two(acc, S, s, r, step, W, w, w_step, w_next, count):
    """`dot8_three` of two registers, with the weights at W[w + k w_step + j w_next]."""
    (a0, a1, a2, a3, a4, a5, a6, a7), (b0, b1, b2, b3, b4, b5, b6, b7) = acc
    for _ in range(count):
        x, y = vload(S, s), vload(S, r)
        v = vsplat(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vsplat(W, w + w_next)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        v = vsplat(W, w + 2 * w_next)
        a2, b2 = vfma(v, x, a2), vfma(v, y, b2)
        v = vsplat(W, w + 3 * w_next)
        a3, b3 = vfma(v, x, a3), vfma(v, y, b3)
        v = vsplat(W, w + 4 * w_next)
        a4, b4 = vfma(v, x, a4), vfma(v, y, b4)
        v = vsplat(W, w + 5 * w_next)
        a5, b5 = vfma(v, x, a5), vfma(v, y, b5)
        v = vsplat(W, w + 6 * w_next)
        a6, b6 = vfma(v, x, a6), vfma(v, y, b6)
        v = vsplat(W, w + 7 * w_next)
        a7, b7 = vfma(v, x, a7), vfma(v, y, b7)
        s += step
        r += step
        w += w_step
    return (a0, a1, a2, a3, a4, a5, a6, a7), (b0, b1, b2, b3, b4, b5, b6, b7)


@inner
def dot8_one(acc, S, s, step, W, w, count):
    """`dot8_three` of one register."""
    a0, a1, a2, a3, a4, a5, a6, a7 = acc[0]
    for _ in range(count):
        x = vload(S, s)
        a0, a1 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, w + 1), x, a1)
        a2, a3 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, w + 3), x, a3)
        a4, a5 = vfma(vsplat(W, w + 4), x, a4), vfma(vsplat(W, w + 5), x, a5)
        a6, a7 = vfma(vsplat(W, w + 6), x, a6), vfma(vsplat(W, w + 7), x, a7)
        s += step
        w += 8
    return ((a0, a1, a2, a3, a4, a5, a6, a7),)


@inner
def dot4_three(acc, S, s, r, q, step, W, w, count):
    """`dot8_three` for four outputs."""
    (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3) = acc
    for _ in range(count):
        x, y, z = vload(S, s), vload(S, r), vload(S, q)
        v = vsplat(W, w)
        a0, b0, c0 = vfma(v, x, a0), vfma(v, y, b0), vfma(v, z, c0)
        v = vsplat(W, w + 1)
        a1, b1, c1 = vfma(v, x, a1), vfma(v, y, b1), vfma(v, z, c1)
        v = vsplat(W, w + 2)
        a2, b2, c2 = vfma(v, x, a2), vfma(v, y, b2), vfma(v, z, c2)
        v = vsplat(W, w + 3)
        a3, b3, c3 = vfma(v, x, a3), vfma(v, y, b3), vfma(v, z, c3)
        s += step
        r += step
        q += step
        w += 4
    return (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3)


@inner
def dot4_two(acc, S, s, r, step, W, w, w_step, w_next, count):
    """`dot8_two` for four outputs."""
    (a0, a1, a2, a3), (b0, b1, b2, b3) = acc
    for _ in range(count):
        x, y = vload(S, s), vload(S, r)
        v = vsplat(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vsplat(W, w + w_next)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        v = vsplat(W, w + 2 * w_next)
        a2, b2 = vfma(v, x, a2), vfma(v, y, b2)
        v = vsplat(W, w + 3 * w_next)
        a3, b3 = vfma(v, x, a3), vfma(v, y, b3)
        s += step
        r += step
        w += w_step
    return (a0, a1, a2, a3), (b0, b1, b2, b3)


@inner
def dot4_one(acc, S, s, step, W, w, count):
    """`dot4_three` of one register."""
    a0, a1, a2, a3 = acc[0]
    for _ in range(count):
        x = vload(S, s)
        a0, a1 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, w + 1), x, a1)
        a2, a3 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, w + 3), x, a3)
        s += step
        w += 4
    return ((a0, a1, a2, a3),)


@inner
def dot44_one(acc, S, s, step, W, w, v, count):
    """Two `dot4_one`, with the weights at w and at v."""
    a0, a1, a2, a3, b0, b1, b2, b3 = acc
    for _ in range(count):
        x = vload(S, s)
        a0, a1 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, w + 1), x, a1)
        a2, a3 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, w + 3), x, a3)
        b0, b1 = vfma(vsplat(W, v), x, b0), vfma(vsplat(W, v + 1), x, b1)
        b2, b3 = vfma(vsplat(W, v + 2), x, b2), vfma(vsplat(W, v + 3), x, b3)
        s += step
        w += 4
        v += 4
    return a0, a1, a2, a3, b0, b1, b2, b3


@inner
def dot1_three(acc, S, s, r, q, step, W, w, count):
    """`dot8_three` for one output; even and odd terms are summed apart to keep the multipliers busy."""
    a, b, c = acc
    d = vlike(a, 0.0)
    e, f = d, d
    for _ in range(count // 2):
        v = vsplat(W, w)
        a, b, c = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b), vfma(v, vload(S, q), c)
        v = vsplat(W, w + 1)
        d, e, f = vfma(v, vload(S, s + step), d), vfma(v, vload(S, r + step), e), vfma(v, vload(S, q + step), f)
        s += 2 * step
        r += 2 * step
        q += 2 * step
        w += 2
    if count % 2:
        v = vsplat(W, w)
        a, b, c = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b), vfma(v, vload(S, q), c)
    return a + d, b + e, c + f


@inner
def dot1_two(acc, S, s, r, step, W, w, w_step, w_next, count):
    """`dot1_three` of two registers, with the weights at W[w + k w_step]."""
    a, b = acc
    d = vlike(a, 0.0)
    e = d
    for _ in range(count // 2):
        v = vsplat(W, w)
        a, b = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b)
        v = vsplat(W, w + w_step)
        d, e = vfma(v, vload(S, s + step), d), vfma(v, vload(S, r + step), e)
        s += 2 * step
        r += 2 * step
        w += 2 * w_step
    if count % 2:
        v = vsplat(W, w)
        a, b = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b)
    return a + d, b + e


@inner
def dot1_one(acc, S, s, step, W, w, count):
    """`dot1_three` of one register."""
    a = acc[0]
    d = vlike(a, 0.0)
    for _ in range(count // 2):
        v = vsplat(W, w)
        a = vfma(v, vload(S, s), a)
        v = vsplat(W, w + 1)
        d = vfma(v, vload(S, s + step), d)
        s += 2 * step
        w += 2
    if count % 2:
        v = vsplat(W, w)
        a = vfma(v, vload(S, s), a)
    return (a + d,)
