"""Activations of a tile with their slopes, alone or right after the normalisation.

Layout as in `gather`. NAME_both: f(x) and f'(x) of a register; that of relu and leaky_relu at 0 is the left one.
"""

from __future__ import annotations

from .. import scalar
from .build import inner, instruction, share, span, tile_width
from .elementary import vnormal, vsigmoid, vsoftplus, vtanh
from .lanes import vcount, vfma, vlike, vload, vsplat, vstore, vwhere
from .normalise import STEP, after

silu, silu_slope = inner(scalar.silu), inner(scalar.silu_slope)
gelu, gelu_slope = inner(scalar.gelu), inner(scalar.gelu_slope)
tanh_slope = inner(scalar.tanh_slope)


@inner
def silu_both(x):
    s = vsigmoid(x)
    return silu(x, s), silu_slope(x, s)


@inner
def gelu_both(x):
    c, p = vnormal(x)
    return gelu(x, c), gelu_slope(x, c, p)


@inner
def softplus_both(x):
    return vsoftplus(x), vsigmoid(x)


@inner
def tanh_both(x):
    t = vtanh(x)
    return t, tanh_slope(t)


@inner
def relu_both(x):
    slope = vwhere(x, vlike(x, 1.0), vlike(x, 0.0))
    return x * slope, slope


@inner
def leaky_relu_both(x):
    slope = vwhere(x, vlike(x, 1.0), vlike(x, scalar.LEAK))
    return x * slope, slope


@inner
def activate(both, row, S, A):
    """y <- f(y), d <- f'(y)."""
    _, y, d, rows, _, _, _, _, _, _, _, _ = row
    begin, end = span(A, rows, vcount(S))
    for i in range(begin, end, vcount(S)):
        value, slope = both(vload(S, y + i))
        vstore(S, y + i, value)
        vstore(S, d + i, slope)


@inner
def normalise_activate(both, row, W, S, A):
    """z <- (z - mean) rate; y <- f(gamma z + beta), d <- f' there: `normalise` and `activate` in one pass."""
    _, z, y, d, mean, rate, gamma, beta, pixels, C, groups, _ = row
    width = tile_width(A)
    begin, end = share(A, pixels)
    for start in range(begin, end, STEP):
        rows = start * C * width
        at, by, sizes = (z + rows, y + rows, d + rows), (mean, rate, gamma, beta), (C * width, width, C // groups)
        if start + STEP <= end:
            piece(both, W, S, at, by, sizes, STEP)
        else:
            piece(both, W, S, at, by, sizes, end - start)


@inner
def piece(both, W, S, at, by, sizes, count):
    """`normalise_activate` of `count` pixels."""
    z, y, d = at
    mean, rate, gamma, beta = by
    size, width, members = sizes
    place = (0, 0, 0, 0)
    for i in range(0, size, vcount(S)):
        c, l, _, group = place
        centre, scale = vload(S, mean + group + l), vload(S, rate + group + l)
        a, b = vsplat(W, gamma + c), vsplat(W, beta + c)
        for k in range(count):
            u = k * size + i
            v = (vload(S, z + u) - centre) * scale
            value, slope = both(vfma(v, a, b))
            vstore(S, z + u, v)
            vstore(S, y + u, value)
            vstore(S, d + u, slope)
        place = after(place, vcount(S), width, members)


@instruction
def silu_rows(row, T, W, S, G, A):
    activate(silu_both, row, S, A)


@instruction
def gelu_rows(row, T, W, S, G, A):
    activate(gelu_both, row, S, A)


@instruction
def softplus_rows(row, T, W, S, G, A):
    activate(softplus_both, row, S, A)


@instruction
def tanh_rows(row, T, W, S, G, A):
    activate(tanh_both, row, S, A)


@instruction
def relu_rows(row, T, W, S, G, A):
    activate(relu_both, row, S, A)


@instruction
def leaky_relu_rows(row, T, W, S, G, A):
    activate(leaky_relu_both, row, S, A)


@instruction
def normalise_silu(row, T, W, S, G, A):
    normalise_activate(silu_both, row, W, S, A)


@instruction
def normalise_gelu(row, T, W, S, G, A):
    normalise_activate(gelu_both, row, W, S, A)


@instruction
def normalise_softplus(row, T, W, S, G, A):
    normalise_activate(softplus_both, row, W, S, A)


@instruction
def normalise_tanh(row, T, W, S, G, A):
    normalise_activate(tanh_both, row, W, S, A)


@instruction
def normalise_relu(row, T, W, S, G, A):
    normalise_activate(relu_both, row, W, S, A)


@instruction
def normalise_leaky_relu(row, T, W, S, G, A):
    normalise_activate(leaky_relu_both, row, W, S, A)


ACTIVATE = {
    "silu": silu_rows,
    "gelu": gelu_rows,
    "softplus": softplus_rows,
    "tanh": tanh_rows,
    "relu": relu_rows,
    "leaky_relu": leaky_relu_rows,
}
NORMALISE = {
    "silu": normalise_silu,
    "gelu": normalise_gelu,
    "softplus": normalise_softplus,
    "tanh": normalise_tanh,
    "relu": normalise_relu,
    "leaky_relu": normalise_leaky_relu,
}
