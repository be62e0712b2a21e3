"""Every linear map of a network, forward and backward, as one register-blocked loop.

A tile holds `width` = 2 registers of samples per element: element (pixel p, channel c) of lane l is at
[(p C + c) width + l]. A linear map gives each output pixel a list of pairs (input pixel, tap):

    y[p, o] = b[o] + sum over pairs (q, t) of p, sum_c W[t, c, o] x[q, c]

so padding is skipped instead of multiplied by zero, and any kernel, stride, padding, channel count,
transposed convolution (the same pairs seen from the input) and dense layer (one pixel, one tap) is a
table. Blocks of 8, 4 or 1 outputs x 2 registers stay in registers over all pairs and channels: 8 weights
and 2 loads for 16 multiply-adds. Weights are packed so that each block reads them in order.

The gradient of W is the same loop with samples and channels exchanged: for each tap, 8 input channels x
`width` output channels stay in registers while pixels and samples are summed, in a fixed order.
"""

from __future__ import annotations

from .build import inner, instruction, kernel
from .lanes import vcount, vfma, vlike, vload, vsplat, vstore


def block_sizes(O: int) -> list[int]:
    """Outputs of each block: 8s, then 4 (perhaps not all used) or 1."""
    sizes = [8] * (O // 8)
    rest = O % 8
    while rest > 0:
        sizes.append(1 if rest == 1 else 4)
        rest -= sizes[-1]
    return sizes


def packed_size(taps: int, C: int, O: int) -> int:
    """Elements of the packed weights of (taps, C, O)."""
    return taps * C * sum(block_sizes(O))


@kernel
def pack_weights(w, W, at, transposed):
    """W[at:] = w (taps, C, O), or its (taps, O, C) transpose, block after block: [block][tap][in][out]."""
    taps, size_in, size_out = w.shape
    if transposed:
        size_in, size_out = size_out, size_in
    o = 0
    while o < size_out:
        rest = size_out - o
        block = 8 if rest >= 8 else (1 if rest == 1 else 4)
        for t in range(taps):
            for c in range(size_in):
                for j in range(block):
                    k = o + j
                    if k < size_out:
                        W[at] = w[t, k, c] if transposed else w[t, c, k]
                    else:
                        W[at] = 0
                    at += 1
        o += block


@inner
def dot8(acc, S, s, s_step, W, w, w_step, count):
    """acc[j, half] += sum_k W[w + k w_step + j] S[s + k s_step : two registers], j = 0..7."""
    a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7 = acc
    half = vcount(S)
    for _ in range(count):
        x, y = vload(S, s), vload(S, s + half)
        v = vsplat(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vsplat(W, w + 1)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        v = vsplat(W, w + 2)
        a2, b2 = vfma(v, x, a2), vfma(v, y, b2)
        v = vsplat(W, w + 3)
        a3, b3 = vfma(v, x, a3), vfma(v, y, b3)
        v = vsplat(W, w + 4)
        a4, b4 = vfma(v, x, a4), vfma(v, y, b4)
        v = vsplat(W, w + 5)
        a5, b5 = vfma(v, x, a5), vfma(v, y, b5)
        v = vsplat(W, w + 6)
        a6, b6 = vfma(v, x, a6), vfma(v, y, b6)
        v = vsplat(W, w + 7)
        a7, b7 = vfma(v, x, a7), vfma(v, y, b7)
        s += s_step
        w += w_step
    return a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7


@inner
def dot4(acc, S, s, s_step, W, w, w_step, count):
    """`dot8` for four outputs."""
    a0, a1, a2, a3, b0, b1, b2, b3 = acc
    half = vcount(S)
    for _ in range(count):
        x, y = vload(S, s), vload(S, s + half)
        v = vsplat(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vsplat(W, w + 1)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        v = vsplat(W, w + 2)
        a2, b2 = vfma(v, x, a2), vfma(v, y, b2)
        v = vsplat(W, w + 3)
        a3, b3 = vfma(v, x, a3), vfma(v, y, b3)
        s += s_step
        w += w_step
    return a0, a1, a2, a3, b0, b1, b2, b3


@inner
def dot1(acc, S, s, s_step, W, w, count):
    """`dot8` for one output; even and odd terms are summed apart to keep the multipliers busy."""
    a, b = acc
    half = vcount(S)
    c, d = vlike(a, 0.0), vlike(a, 0.0)
    for _ in range(count // 2):
        v = vsplat(W, w)
        a, b = vfma(v, vload(S, s), a), vfma(v, vload(S, s + half), b)
        v = vsplat(W, w + 1)
        c, d = vfma(v, vload(S, s + s_step), c), vfma(v, vload(S, s + s_step + half), d)
        s += 2 * s_step
        w += 2
    if count % 2:
        v = vsplat(W, w)
        a, b = vfma(v, vload(S, s), a), vfma(v, vload(S, s + half), b)
    return a + c, b + d


@inner
def start_rows(S, at, W, bias, O, add):
    """Two registers at each S[at + o width] = (what is there if add else 0) + W[bias + o]; bias < 0: none."""
    half = vcount(S)
    for o in range(O):
        z = at + 2 * o * half
        value = vsplat(W, bias + o) if bias >= 0 else vlike(vload(S, z), 0.0)
        vstore(S, z, value + vload(S, z) if add else value)
        vstore(S, z + half, value + vload(S, z + half) if add else value)


@instruction
def gather(row, T, W, S, G, A):
    """dst[p, o] = (dst[p, o] if add else 0) + W[bias + o] + sum over pairs of p, sum_c W[t, c, o] src[q, c].

    T[tab + p] .. T[tab + p + 1]: where the pairs of pixel p lie in T, (q, t) each. bias < 0: none.
    Reads, but does not keep, up to 3 rows past dst.
    """
    _, dst, src, wts, bias, tab, pixels, taps, C, O, add, _ = row
    width = 2 * vcount(S)
    for p in range(pixels):
        first, last = T[tab + p], T[tab + p + 1]
        w, o, at = wts, 0, dst + p * O * width
        if bias >= 0 or not add:
            start_rows(S, at, W, bias, O, add != 0)
        while O - o >= 8:
            acc = load8(S, at, width)
            for t in range(first, last, 2):
                acc = dot8(acc, S, src + T[t] * C * width, width, W, w + T[t + 1] * C * 8, 8, C)
            store8(S, at, width, acc)
            w, o, at = w + taps * C * 8, o + 8, at + 8 * width
        while O - o >= 2:
            four = load4(S, at, width)
            for t in range(first, last, 2):
                four = dot4(four, S, src + T[t] * C * width, width, W, w + T[t + 1] * C * 4, 4, C)
            store4(S, at, width, four, O - o)
            w, o, at = w + taps * C * 4, o + 4, at + 4 * width
        if O - o == 1:
            pair = (vload(S, at), vload(S, at + width // 2))
            for t in range(first, last, 2):
                pair = dot1(pair, S, src + T[t] * C * width, width, W, w + T[t + 1] * C, C)
            vstore(S, at, pair[0])
            vstore(S, at + width // 2, pair[1])


@inner
def load8(S, at, step):
    """Two registers from each of S[at + j step], j = 0..7: first halves, then second halves."""
    z = at + vcount(S)
    return (
        vload(S, at),
        vload(S, at + step),
        vload(S, at + 2 * step),
        vload(S, at + 3 * step),
        vload(S, at + 4 * step),
        vload(S, at + 5 * step),
        vload(S, at + 6 * step),
        vload(S, at + 7 * step),
        vload(S, z),
        vload(S, z + step),
        vload(S, z + 2 * step),
        vload(S, z + 3 * step),
        vload(S, z + 4 * step),
        vload(S, z + 5 * step),
        vload(S, z + 6 * step),
        vload(S, z + 7 * step),
    )


@inner
def load4(S, at, step):
    """`load8` for four outputs."""
    z = at + vcount(S)
    return (
        vload(S, at),
        vload(S, at + step),
        vload(S, at + 2 * step),
        vload(S, at + 3 * step),
        vload(S, z),
        vload(S, z + step),
        vload(S, z + 2 * step),
        vload(S, z + 3 * step),
    )


@inner
def store8(S, at, step, acc):
    """S[at + j step : two registers] = acc[j]."""
    half = vcount(S)
    vstore(S, at, acc[0])
    vstore(S, at + half, acc[8])
    vstore(S, at + step, acc[1])
    vstore(S, at + step + half, acc[9])
    vstore(S, at + 2 * step, acc[2])
    vstore(S, at + 2 * step + half, acc[10])
    vstore(S, at + 3 * step, acc[3])
    vstore(S, at + 3 * step + half, acc[11])
    vstore(S, at + 4 * step, acc[4])
    vstore(S, at + 4 * step + half, acc[12])
    vstore(S, at + 5 * step, acc[5])
    vstore(S, at + 5 * step + half, acc[13])
    vstore(S, at + 6 * step, acc[6])
    vstore(S, at + 6 * step + half, acc[14])
    vstore(S, at + 7 * step, acc[7])
    vstore(S, at + 7 * step + half, acc[15])


@inner
def store4(S, at, step, acc, keep):
    """`store8` for the first `keep` of four outputs."""
    half = vcount(S)
    vstore(S, at, acc[0])
    vstore(S, at + half, acc[4])
    vstore(S, at + step, acc[1])
    vstore(S, at + step + half, acc[5])
    if keep > 2:
        vstore(S, at + 2 * step, acc[2])
        vstore(S, at + 2 * step + half, acc[6])
    if keep > 3:
        vstore(S, at + 3 * step, acc[3])
        vstore(S, at + 3 * step + half, acc[7])


@inner
def turn(S, dst, src, pixels, C, padded):
    """dst[p, lane, c] = src[p, c, lane], zeros from channel C to `padded`."""
    width = 2 * vcount(S)
    for p in range(pixels):
        for l in range(width):
            out = dst + (p * width + l) * padded
            for c in range(C):
                S[out + c] = S[src + (p * C + c) * width + l]
            for c in range(C, padded):
                S[out + c] = 0


@instruction
def weight_grad(row, T, W, S, G, A):
    """G[at + (t C' + c) O' + o] += sum over pairs (q, p) of tap t, over lanes, x[q, c, lane] dy[p, o, lane].

    x and dy are first turned, with channels padded to C' (a multiple of 8) and O' (of the tile's width).
    """
    _, x, dy, at, tab, taps, C, O, pixels_in, pixels_out, xt, dyt = row
    width = 2 * vcount(S)
    size_in, size_out = (C + 7) // 8 * 8, (O + width - 1) // width * width
    turn(S, xt, x, pixels_in, C, size_in)
    turn(S, dyt, dy, pixels_out, O, size_out)
    for t in range(taps):
        first, last = T[tab + t], T[tab + t + 1]
        for c in range(0, size_in, 8):
            for o in range(0, size_out, width):
                z = at + (t * size_in + c) * size_out + o
                acc = load8(G, z, size_out)
                for k in range(first, last, 2):
                    s, w = dyt + T[k + 1] * width * size_out + o, xt + T[k] * width * size_in + c
                    acc = dot8(acc, S, s, size_out, S, w, size_in, width)
                store8(G, z, size_out, acc)
