"""What a tile undergoes beside linear maps, normalisation and activation: sums, products, pooling, second derivatives.

Layout as in `gather`: element (pixel p, channel c) of lane l at [(p C + c) width + l]. No routine here
mixes lanes, except the parameter sums at the end of the file, which add lanes in a fixed order.
"""

from __future__ import annotations

import numpy as np

from .. import scalar
from .build import PART, inner, instruction, share, span, tile_width
from .elementary import vnormal, vsigmoid, vtanh
from .lanes import vcount, vfma, vlike, vload, vmax, vmin, vstore

SILU, GELU, SOFTPLUS = range(3)  # the order of ebm_ref.specs.ACTIVATIONS
silu_bend, gelu_bend = inner(scalar.silu_bend), inner(scalar.gelu_bend)
softplus_bend, tanh_bend = inner(scalar.softplus_bend), inner(scalar.tanh_bend)


@instruction
def bend(row, T, W, S, G, A):
    """e <- f''(y) of a smooth activation."""
    _, y, e, rows, kind, _, _, _, _, _, _, _ = row
    begin, end = span(A, rows, vcount(S))
    for i in range(begin, end, vcount(S)):
        x = vload(S, y + i)
        if kind == SILU:
            value = silu_bend(x, vsigmoid(x))
        elif kind == GELU:
            x = vmax(-50.0, vmin(50.0, x))  # the density is 0 beyond, and x^2 must not overflow
            value = gelu_bend(x, vnormal(x)[1])
        elif kind == SOFTPLUS:
            value = softplus_bend(vsigmoid(x))
        else:
            value = tanh_bend(vtanh(x))
        vstore(S, e + i, value)


# ------------------------------------------------------------------------------------ elementwise


@instruction
def add_rows(row, T, W, S, G, A):
    """dst += a."""
    _, dst, a, rows, _, _, _, _, _, _, _, _ = row
    begin, end = span(A, rows, vcount(S))
    for i in range(begin, end, vcount(S)):
        vstore(S, dst + i, vload(S, dst + i) + vload(S, a + i))


@instruction
def multiply_rows(row, T, W, S, G, A):
    """dst = a b, or dst += a b."""
    _, dst, a, b, rows, add, _, _, _, _, _, _ = row
    begin, end = span(A, rows, vcount(S))
    for i in range(begin, end, vcount(S)):
        v = vload(S, a + i) * vload(S, b + i)
        vstore(S, dst + i, v + vload(S, dst + i) if add else v)


@instruction
def pool(row, T, W, S, G, A):
    """dst[c] = sum_p src[p, c], over the number of pixels for the mean."""
    _, dst, src, pixels, C, mean, _, _, _, _, _, _ = row
    count = pixels if mean else 1
    size = C * tile_width(A)
    for i in range(0, size, vcount(S)):
        total = vload(S, src + i)
        for p in range(1, pixels):
            total = total + vload(S, src + p * size + i)
        vstore(S, dst + i, total / count)


@instruction
def pool_back(row, T, W, S, G, A):
    """dst[p, c] = src[c], over the number of pixels for the mean."""
    _, dst, src, pixels, C, mean, _, _, _, _, _, _ = row
    count = pixels if mean else 1
    size = C * tile_width(A)
    for i in range(0, size, vcount(S)):
        value = vload(S, src + i) / count
        for p in range(pixels):
            vstore(S, dst + p * size + i, value)


# ------------------------------------------------------- parameter sums: over pixels, then over lanes


@inner
def add_lanes(G, at, S, temp, total):
    """G[at] += the lanes of `total`, in order."""
    vstore(S, temp, total)
    value = S[temp]
    for l in range(1, vcount(S)):
        value += S[temp + l]
    G[at] += value


@instruction
def sum_rows(row, T, W, S, G, A):
    """G[at + c] += sum over pixels and lanes of a[p, c]; temp: a row for each part."""
    _, a, at, pixels, C, temp, _, _, _, _, _, _ = row
    width = tile_width(A)
    begin, end = share(A, C)
    own = temp + np.int64(A[PART]) * width
    for c in range(begin, end):
        total = vlike(vload(S, a), 0.0)
        for p in range(pixels):
            z = a + (p * C + c) * width
            for l in range(z, z + width, vcount(S)):
                total = total + vload(S, l)
        add_lanes(G, at + c, S, own, total)


@instruction
def dot_rows(row, T, W, S, G, A):
    """G[at + c] += sum over pixels and lanes of a[p, c] b[p, c]; temp: a row for each part."""
    _, a, b, at, pixels, C, temp, _, _, _, _, _ = row
    width = tile_width(A)
    begin, end = share(A, C)
    own = temp + np.int64(A[PART]) * width
    for c in range(begin, end):
        total = vlike(vload(S, a), 0.0)
        for p in range(pixels):
            z = (p * C + c) * width
            for l in range(z, z + width, vcount(S)):
                total = vfma(vload(S, a + l), vload(S, b + l), total)
        add_lanes(G, at + c, S, own, total)
