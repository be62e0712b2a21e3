"""How the sums of `gather` and of `weight_grad` begin and end: a register for each of 8, 4 or 1 outputs.

startN, finishN   what a sum is at first, and what becomes of it: how is SET, PLUS or TIMES what is there
loadN, storeN     tuples of registers
"""

from __future__ import annotations

from .build import inner
from .lanes import vlike, vload, vsplat, vstore

SET, PLUS, TIMES = range(3)


@inner
def load4(S, at, step):
    """A register from each of S[at + j step], j = 0..3."""
    return vload(S, at), vload(S, at + step), vload(S, at + 2 * step), vload(S, at + 3 * step)


@inner
def load8(S, at, step):
    """A register from each of S[at + j step], j = 0..7."""
    return load4(S, at, step) + load4(S, at + 4 * step, step)


@inner
def start1(S, at, step, W, bias, how):
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
def finish1(S, at, step, acc, keep, how):
    """S[at : a register] = acc, times what is there if how is TIMES."""
    vstore(S, at, acc * vload(S, at) if how == TIMES else acc)


@inner
def finish4(S, at, step, acc, keep, how):
    """`finish1` of S[at + j step] and acc[j], j below 4 and `keep`; keep >= 2."""
    if how == TIMES:
        a, b, c, d = load4(S, at, step)
        acc = acc[0] * a, acc[1] * b, acc[2] * c, acc[3] * d
    store4(S, at, step, acc, keep)


@inner
def finish8(S, at, step, acc, keep, how):
    """`finish1` of S[at + j step] and acc[j], j = 0..7; keep >= 8."""
    finish4(S, at, step, acc[:4], keep, how)
    finish4(S, at + 4 * step, step, acc[4:], keep, how)


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
def store8(S, at, step, acc):
    """What `load8` loads."""
    store4(S, at, step, acc[:4], 4)
    store4(S, at + 4 * step, step, acc[4:], 4)
