"""The inner loops of `gather`: sums over channels of the outputs of three registers, of two or of one.

All sums stay in registers: acc[i][j] is that of output j of register i. s_k, r_k, q_k: the registers of samples that
start at S[s + k step], S[r + k step], S[q + k step].
"""

from __future__ import annotations

from .build import inner
from .lanes import vfma, vlike, vload, vouter, vsplat


@inner
def dot_three(acc, S, s, r, q, step, W, w, w_step, w_next, count):
    """acc[0][j] += sum_k W[w + k w_step + j w_next] s_k; acc[1], acc[2] the same of r_k, q_k."""
    for _ in range(count):
        acc = vouter(acc, (vload(S, s), vload(S, r), vload(S, q)), W, w, w_next)
        s, r, q, w = s + step, r + step, q + step, w + w_step
    return acc


@inner
def dot_two(acc, S, s, r, step, W, w, w_step, w_next, count):
    """`dot_three` of two registers."""
    for _ in range(count):
        acc = vouter(acc, (vload(S, s), vload(S, r)), W, w, w_next)
        s, r, w = s + step, r + step, w + w_step
    return acc


@inner
def dot_one(acc, S, s, step, W, w, w_step, w_next, count):
    """`dot_three` of one register."""
    for _ in range(count):
        acc = vouter(acc, (vload(S, s),), W, w, w_next)
        s, w = s + step, w + w_step
    return acc


@inner
def dot_one_twice(acc, more, S, s, step, W, w, v, w_step, count):
    """Two `dot_one` of the same register, with the weights at w and at v."""
    for _ in range(count):
        x = (vload(S, s),)
        acc, more = vouter(acc, x, W, w, 1), vouter(more, x, W, v, 1)
        s, w, v = s + step, w + w_step, v + w_step
    return acc, more


@inner
def dot1_three(acc, S, s, r, q, step, W, w, w_step, w_next, count):
    """`dot_three` for one output; even and odd terms are summed apart to keep the multipliers busy."""
    a, b, c = acc
    d = vlike(a, 0.0)
    e, f = d, d
    for _ in range(count // 2):
        v = vsplat(W, w)
        a, b, c = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b), vfma(v, vload(S, q), c)
        v = vsplat(W, w + w_step)
        d, e, f = vfma(v, vload(S, s + step), d), vfma(v, vload(S, r + step), e), vfma(v, vload(S, q + step), f)
        s += 2 * step
        r += 2 * step
        q += 2 * step
        w += 2 * w_step
    if count % 2:
        v = vsplat(W, w)
        a, b, c = vfma(v, vload(S, s), a), vfma(v, vload(S, r), b), vfma(v, vload(S, q), c)
    return a + d, b + e, c + f


@inner
def dot1_two(acc, S, s, r, step, W, w, w_step, w_next, count):
    """`dot1_three` of two registers."""
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
def dot1_one(acc, S, s, step, W, w, w_step, w_next, count):
    """`dot1_three` of one register."""
    a = acc[0]
    d = vlike(a, 0.0)
    for _ in range(count // 2):
        v = vsplat(W, w)
        a = vfma(v, vload(S, s), a)
        v = vsplat(W, w + w_step)
        d = vfma(v, vload(S, s + step), d)
        s += 2 * step
        w += 2 * w_step
    if count % 2:
        v = vsplat(W, w)
        a = vfma(v, vload(S, s), a)
    return (a + d,)
