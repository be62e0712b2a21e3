"""What the logits of a tile undergo: -logsumexp and softmax, the choice of one class, and their derivatives.

Layout as in `tile`: class c of lane l at [c width + l]. No routine mixes lanes. The largest logit is taken out before
any exponential, so that none overflows and their sum is at least 1. A NaN stays NaN.
"""

from __future__ import annotations

from .build import instruction, tile_width
from .elementary import vexp, vlog
from .lanes import vcount, vfma, vload, vmax, vstore


@instruction
def softmax_rows(row, T, W, S, G, A):
    """e = -logsumexp_c F_c;  F <- P = softmax F."""
    _, F, e, C, _, _, _, _, _, _, _, _ = row
    width = tile_width(A)
    for i in range(0, width, vcount(S)):
        top = vload(S, F + i)
        for c in range(1, C):
            top = vmax(top, vload(S, F + c * width + i))
        total = vexp(vload(S, F + i) - top)
        for c in range(1, C):
            total = total + vexp(vload(S, F + c * width + i) - top)
        lse = vfma(total, 0.0, top + vlog(total))  # the float32 logarithm loses a NaN
        vstore(S, e + i, -lse)
        for c in range(C):
            at = F + c * width + i
            vstore(S, at, vexp(vload(S, at) - top) / total)


@instruction
def softmax_rows1(row, T, W, S, G, A):
    """e1 = -sum_c P_c F1_c;  F1 <- P1 = P (F1 + e1)."""
    _, P, F1, e1, C, _, _, _, _, _, _, _ = row
    width = tile_width(A)
    for i in range(0, width, vcount(S)):
        total = vload(S, P + i) * vload(S, F1 + i)
        for c in range(1, C):
            total = vfma(vload(S, P + c * width + i), vload(S, F1 + c * width + i), total)
        vstore(S, e1 + i, -total)
        for c in range(C):
            at = c * width + i
            vstore(S, F1 + at, vload(S, P + at) * (vload(S, F1 + at) - total))


@instruction
def choose_rows(row, T, W, S, G, A):
    """e = -sum_c hot_c F_c."""
    _, F, hot, e, C, _, _, _, _, _, _, _ = row
    width = tile_width(A)
    for i in range(0, width, vcount(S)):
        total = vload(S, hot + i) * vload(S, F + i)
        for c in range(1, C):
            total = vfma(vload(S, hot + c * width + i), vload(S, F + c * width + i), total)
        vstore(S, e + i, -total)


@instruction
def negate_rows(row, T, W, S, G, A):
    """dst_c = -de a_c."""
    _, dst, a, de, C, _, _, _, _, _, _, _ = row
    width = tile_width(A)
    for i in range(0, width, vcount(S)):
        d = vload(S, de + i)
        for c in range(C):
            vstore(S, dst + c * width + i, -(d * vload(S, a + c * width + i)))
