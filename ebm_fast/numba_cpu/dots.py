"""The inner loops of `gather`: 8, 4 or 1 sums over channels, of two registers of samples or of one, all in registers.

    dot N       acc[j] += sum_k W[w + k w_step + j w_next] s_k, and acc[N + j] the same of r_k
    dot N one   acc[j] += sum_k W[w + k N + j] s_k
    startN, finishN   what acc is at first, and what becomes of it: how is SET, PLUS or TIMES what is there
    loadN, storeN     tuples of registers

s_k, r_k: the registers that start at S[s + k step], S[r + k step].
"""

from __future__ import annotations

from .build import inner
from .lanes import vfma, vlike, vload, vsplat, vstore

SET, PLUS, TIMES = range(3)


@inner
def dot8(acc, S, s, r, step, W, w, w_step, w_next, count):
    """acc[j] += sum_k W[w + k w_step + j w_next] s_k, j = 0..7, and acc[8 + j] the same of r_k."""
    a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7 = acc
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
    return a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7


@inner
def dot8_one(acc, S, s, step, W, w, count):
    """`dot8` of one register."""
    a0, a1, a2, a3, a4, a5, a6, a7 = acc
    for _ in range(count):
        x = vload(S, s)
        a0, a1 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, w + 1), x, a1)
        a2, a3 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, w + 3), x, a3)
        a4, a5 = vfma(vsplat(W, w + 4), x, a4), vfma(vsplat(W, w + 5), x, a5)
        a6, a7 = vfma(vsplat(W, w + 6), x, a6), vfma(vsplat(W, w + 7), x, a7)
        s += step
        w += 8
    return a0, a1, a2, a3, a4, a5, a6, a7


@inner
def dot4(acc, S, s, r, step, W, w, w_step, w_next, count):
    """`dot8` for four outputs."""
    a0, a1, a2, a3, b0, b1, b2, b3 = acc
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
    return a0, a1, a2, a3, b0, b1, b2, b3


@inner
def dot4_one(acc, S, s, step, W, w, count):
    """`dot4` of one register."""
    a0, a1, a2, a3 = acc
    for _ in range(count):
        x = vload(S, s)
        a0, a1 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, w + 1), x, a1)
        a2, a3 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, w + 3), x, a3)
        s += step
        w += 4
    return a0, a1, a2, a3


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
def dot1(acc, S, s, r, step, W, w, count):
    """`dot8` for one output; even and odd terms are summed apart to keep the multipliers busy."""
    a, b = acc
    c, d = vlike(a, 0.0), vlike(a, 0.0)
    for _ in range(count // 2):
        v = vsplat(W, w)
        a, b = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b)
        v = vsplat(W, w + 1)
        c, d = vfma(v, vload(S, s + step), c), vfma(v, vload(S, r + step), d)
        s += 2 * step
        r += 2 * step
        w += 2
    if count % 2:
        v = vsplat(W, w)
        a, b = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b)
    return a + c, b + d


@inner
def dot1_one(acc, S, s, step, W, w, count):
    """`dot1` of one register."""
    other = vlike(acc, 0.0)
    for _ in range(count // 2):
        acc = vfma(vsplat(W, w), vload(S, s), acc)
        other = vfma(vsplat(W, w + 1), vload(S, s + step), other)
        s += 2 * step
        w += 2
    if count % 2:
        acc = vfma(vsplat(W, w), vload(S, s), acc)
    return acc + other


@inner
def load4(S, at, step):
    """A register from each of S[at + j step], j = 0..3."""
    return vload(S, at), vload(S, at + step), vload(S, at + 2 * step), vload(S, at + 3 * step)


@inner
def load8(S, at, to, step):
    """A register from each of S[at + j step], j = 0..7, then from each of S[to + j step]."""
    return load4(S, at, step) + load4(S, at + 4 * step, step) + load4(S, to, step) + load4(S, to + 4 * step, step)


@inner
def start1(S, at, W, bias, how):
    """(the register at S[at] if how is PLUS else 0) + W[bias]; bias < 0: none."""
    there = vload(S, at)
    if bias < 0:
        return there if how == PLUS else vlike(there, 0.0)
    return vsplat(W, bias) + there if how == PLUS else vsplat(W, bias)


@inner
def start4(S, at, step, W, bias, how):
    """`start1` of S[at + j step] and W[bias + j], j = 0..3."""
    if bias < 0:
        none = vlike(vload(S, at), 0.0)
        return load4(S, at, step) if how == PLUS else (none, none, none, none)
    a, b, c, d = vsplat(W, bias), vsplat(W, bias + 1), vsplat(W, bias + 2), vsplat(W, bias + 3)
    if how != PLUS:
        return a, b, c, d
    x, y, z, w = load4(S, at, step)
    return a + x, b + y, c + z, d + w


@inner
def start8(S, at, step, W, bias, how):
    """`start1` of S[at + j step] and W[bias + j], j = 0..7."""
    more = bias + 4 if bias >= 0 else bias
    return start4(S, at, step, W, bias, how) + start4(S, at + 4 * step, step, W, more, how)


@inner
def finish1(S, at, value, how):
    """S[at : a register] = value, times what is there if how is TIMES."""
    vstore(S, at, value * vload(S, at) if how == TIMES else value)


@inner
def finish4(S, at, step, acc, keep, how):
    """`finish1` of S[at + j step] and acc[j], j below 4 and `keep`; keep >= 2."""
    if how == TIMES:
        a, b, c, d = load4(S, at, step)
        acc = acc[0] * a, acc[1] * b, acc[2] * c, acc[3] * d
    store4(S, at, step, acc, keep)


@inner
def finish8(S, at, step, acc, how):
    """`finish1` of S[at + j step] and acc[j], j = 0..7."""
    finish4(S, at, step, acc[:4], 4, how)
    finish4(S, at + 4 * step, step, acc[4:], 4, how)


@inner
def store4(S, at, step, acc, keep):
    """S[at + j step : a register] = acc[j], j below 4 and `keep`; keep >= 2."""
    vstore(S, at, acc[0])
    vstore(S, at + step, acc[1])
    if keep > 2:
        vstore(S, at + 2 * step, acc[2])
    if keep > 3:
        vstore(S, at + 3 * step, acc[3])


@inner
def store8(S, at, to, step, acc):
    """What `load8` loads."""
    store4(S, at, step, acc[:4], 4)
    store4(S, at + 4 * step, step, acc[4:8], 4)
    store4(S, to, step, acc[8:12], 4)
    store4(S, to + 4 * step, step, acc[12:], 4)
