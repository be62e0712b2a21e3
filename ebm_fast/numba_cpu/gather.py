"""Every linear map of a network, forward and backward, as one register-blocked loop.

A tile holds `width` samples per element, in one register or two: element (pixel p, channel c) of lane l is at
[(p C + c) width + l]. A linear map gives each output pixel a list of pairs (input pixel, tap):

    y[p, o] = b[o] + sum over pairs (q, t) of p, sum_c W[t, c, o] x[q, c]

so padding is skipped instead of multiplied by zero, and any kernel, stride, padding, channel count,
transposed convolution (the same pairs seen from the input) and dense layer (one pixel, one tap) is a
table. Two registers whose sums run over the same taps share the weights, a unit: the two registers of one
pixel, or of two pixels; a pixel without a partner is a unit of one. Blocks of 8, 4 or 1 outputs of a unit stay
in registers over all pairs and channels: 8 weights and 2 loads for 16 multiply-adds. Weights are packed so
that each block reads them in order. A sum runs over taps, then channels, in whatever unit it is.

The gradient of W is the same loop with samples and channels exchanged: for each tap, 8 input channels x
two registers of output channels stay in registers while pixels and samples are summed, in a fixed order.
"""

from __future__ import annotations

from .build import VECTOR_BYTES, inner, instruction, kernel, share, tile_width
from .lanes import vcount, vfma, vlike, vload, vsplat, vstore
from .links import turned_channels

BLOCK = 8 if VECTOR_BYTES == 64 else 4  # outputs: 16 of the 32 registers of AVX-512 hold sums, or 8 of the 16 of others

turned = inner(turned_channels)


def block_sizes(O: int) -> list[int]:
    """Outputs of each block: 8s, then 4 (perhaps not all used) or 1."""
    sizes = [BLOCK] * (O // BLOCK)
    rest = O % BLOCK
    while rest > 0:
        sizes.append(1 if rest == 1 else 4)
        rest -= sizes[-1]
    return sizes


def packed_size(taps: int, C: int, O: int) -> int:
    """Elements of the packed weights of (taps, C, O)."""
    return taps * C * sum(block_sizes(O))


@kernel
def pack_weights(w, sums, W, at, transposed):
    """W[at:] = w (taps, C, O), or its (taps, O, C) transpose, block after block: [block][tap][in][out].

    sums (n, 2): further taps, the sums of two.
    """
    taps, size_in, size_out = w.shape
    if transposed:
        size_in, size_out = size_out, size_in
    o = 0
    while o < size_out:
        rest = size_out - o
        block = BLOCK if rest >= BLOCK else (1 if rest == 1 else 4)
        for t in range(taps + sums.shape[0]):
            one, two = (t, -1) if t < taps else (sums[t - taps, 0], sums[t - taps, 1])
            for c in range(size_in):
                for j in range(block):
                    k = o + j
                    value = W.dtype.type(0)
                    if k < size_out:
                        value = w[one, k, c] if transposed else w[one, c, k]
                        if two >= 0:
                            value += w[two, k, c] if transposed else w[two, c, k]
                    W[at] = value
                    at += 1
        o += block


# ------------------------------------------------------------- sums over channels, of two registers or of one


@inner
def dot8(acc, S, s, r, step, W, w, w_step, count):
    """acc[j] += sum_k W[w + k w_step + j] S[s + k step : a register], j = 0..7; acc[8 + j] the same of r for s."""
    a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7 = acc
    for _ in range(count):
        x, y = vload(S, s), vload(S, r)
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
def split8(acc, S, s, r, o, step, W, w, v, count):
    """acc[j] += sum_k W[w + 8 k + j] (s_k - o_k), acc[8 + j] += sum_k W[v + 8 k + j] (r_k - o_k), s_k at s + k step."""
    a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7 = acc
    for _ in range(count):
        both = vload(S, o)
        x, y = vload(S, s) - both, vload(S, r) - both
        a0, b0 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, v), y, b0)
        a1, b1 = vfma(vsplat(W, w + 1), x, a1), vfma(vsplat(W, v + 1), y, b1)
        a2, b2 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, v + 2), y, b2)
        a3, b3 = vfma(vsplat(W, w + 3), x, a3), vfma(vsplat(W, v + 3), y, b3)
        a4, b4 = vfma(vsplat(W, w + 4), x, a4), vfma(vsplat(W, v + 4), y, b4)
        a5, b5 = vfma(vsplat(W, w + 5), x, a5), vfma(vsplat(W, v + 5), y, b5)
        a6, b6 = vfma(vsplat(W, w + 6), x, a6), vfma(vsplat(W, v + 6), y, b6)
        a7, b7 = vfma(vsplat(W, w + 7), x, a7), vfma(vsplat(W, v + 7), y, b7)
        s += step
        r += step
        o += step
        w += 8
        v += 8
    return a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7


@inner
def split4(acc, S, s, r, o, step, W, w, v, count):
    """`split8` for four outputs."""
    a0, a1, a2, a3, b0, b1, b2, b3 = acc
    for _ in range(count):
        both = vload(S, o)
        x, y = vload(S, s) - both, vload(S, r) - both
        a0, b0 = vfma(vsplat(W, w), x, a0), vfma(vsplat(W, v), y, b0)
        a1, b1 = vfma(vsplat(W, w + 1), x, a1), vfma(vsplat(W, v + 1), y, b1)
        a2, b2 = vfma(vsplat(W, w + 2), x, a2), vfma(vsplat(W, v + 2), y, b2)
        a3, b3 = vfma(vsplat(W, w + 3), x, a3), vfma(vsplat(W, v + 3), y, b3)
        s += step
        r += step
        o += step
        w += 4
        v += 4
    return a0, a1, a2, a3, b0, b1, b2, b3


@inner
def dot4(acc, S, s, r, step, W, w, count):
    """`dot8` for four outputs."""
    a0, a1, a2, a3, b0, b1, b2, b3 = acc
    for _ in range(count):
        x, y = vload(S, s), vload(S, r)
        v = vsplat(W, w)
        a0, b0 = vfma(v, x, a0), vfma(v, y, b0)
        v = vsplat(W, w + 1)
        a1, b1 = vfma(v, x, a1), vfma(v, y, b1)
        v = vsplat(W, w + 2)
        a2, b2 = vfma(v, x, a2), vfma(v, y, b2)
        v = vsplat(W, w + 3)
        a3, b3 = vfma(v, x, a3), vfma(v, y, b3)
        s += step
        r += step
        w += 4
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


# ------------------------------------------------------------------------------------------- the instruction


@instruction
def gather(row, T, W, S, G, A):
    """dst[p, o] = (dst[p, o] if add else 0) + W[bias + o] + sum over pairs of p, sum_c W[t, c, o] src[q, c].

    T[tab + u] .. T[tab + u + 1]: where unit u lies in T: two registers of dst, the second -1 where there is none, then
    (register of src, that of the second, t) of each tap. bias < 0: none. Reads, but does not keep, 3 rows past dst.
    """
    _, dst, src, wts, bias, tab, units, taps, C, O, add, _ = row
    width, lanes = tile_width(A), vcount(S)
    begin, end = share(A, units)
    for u in range(begin, end):
        first, last = T[tab + u] + 3, T[tab + u + 1]
        at, to = dst + T[first - 3] * lanes, dst + T[first - 2] * lanes
        two, shared = T[first - 2] >= 0, last
        last = T[first - 1]
        if bias >= 0 or not add:
            start_rows(S, at, width, W, bias, O, add != 0)
            if two:
                start_rows(S, to, width, W, bias, O, add != 0)
        w, o = wts, 0
        while BLOCK == 8 and O - o >= 8:
            if two:
                acc = load8(S, at, to, width)
                for t in range(first, last, 3):
                    s, r = src + T[t] * lanes, src + T[t + 1] * lanes
                    acc = dot8(acc, S, s, r, width, W, w + T[t + 2] * C * 8, 8, C)
                for t in range(last, shared, 6):
                    s, r, o2 = src + T[t] * lanes, src + T[t + 1] * lanes, src + T[t + 2] * lanes
                    acc = split8(acc, S, s, r, o2, width, W, w + T[t + 3] * C * 8, w + T[t + 4] * C * 8, C)
                if shared > last:
                    zero = vlike(acc[0], 0.0)
                    one = (zero, zero, zero, zero, zero, zero, zero, zero)
                    for t in range(last, shared, 6):
                        one = dot8_one(one, S, src + T[t + 2] * lanes, width, W, w + T[t + 5] * C * 8, C)
                    acc = (
                        add4(acc[:4], one[:4])
                        + add4(acc[4:8], one[4:])
                        + add4(acc[8:12], one[:4])
                        + add4(acc[12:], one[4:])
                    )
                store8(S, at, to, width, acc)
            else:
                (a0, a1, a2, a3), (a4, a5, a6, a7) = load4(S, at, width), load4(S, at + 4 * width, width)
                one = (a0, a1, a2, a3, a4, a5, a6, a7)
                for t in range(first, last, 3):
                    one = dot8_one(one, S, src + T[t] * lanes, width, W, w + T[t + 2] * C * 8, C)
                store4(S, at, width, one[:4], 4)
                store4(S, at + 4 * width, width, one[4:], 4)
            w, o, at, to = w + taps * C * 8, o + 8, at + 8 * width, to + 8 * width
        while O - o >= 2:
            four = load4(S, at, width)
            if two:
                both = four + load4(S, to, width)
                for t in range(first, last, 3):
                    s, r = src + T[t] * lanes, src + T[t + 1] * lanes
                    both = dot4(both, S, s, r, width, W, w + T[t + 2] * C * 4, C)
                if BLOCK == 4:  # else only blocks of 8 share
                    for t in range(last, shared, 6):
                        s, r, o2 = src + T[t] * lanes, src + T[t + 1] * lanes, src + T[t + 2] * lanes
                        both = split4(both, S, s, r, o2, width, W, w + T[t + 3] * C * 4, w + T[t + 4] * C * 4, C)
                    if shared > last:
                        zero = vlike(both[0], 0.0)
                        sum = (zero, zero, zero, zero)
                        for t in range(last, shared, 6):
                            sum = dot4_one(sum, S, src + T[t + 2] * lanes, width, W, w + T[t + 5] * C * 4, C)
                        both = add4(both[:4], sum) + add4(both[4:], sum)
                four = both[:4]
                store4(S, to, width, both[4:], O - o)
            else:
                for t in range(first, last, 3):
                    four = dot4_one(four, S, src + T[t] * lanes, width, W, w + T[t + 2] * C * 4, C)
            store4(S, at, width, four, O - o)
            w, o, at, to = w + taps * C * 4, o + 4, at + 4 * width, to + 4 * width
        if O - o == 1:
            if two:
                pair = (vload(S, at), vload(S, to))
                for t in range(first, last, 3):
                    s, r = src + T[t] * lanes, src + T[t + 1] * lanes
                    pair = dot1(pair, S, s, r, width, W, w + T[t + 2] * C, C)
                vstore(S, at, pair[0])
                vstore(S, to, pair[1])
            else:
                a = vload(S, at)
                for t in range(first, last, 3):
                    a = dot1_one(a, S, src + T[t] * lanes, width, W, w + T[t + 2] * C, C)
                vstore(S, at, a)


@inner
def start_rows(S, at, width, W, bias, O, add):
    """The register at each S[at + o width] = (what is there if add else 0) + W[bias + o]; bias < 0: none."""
    for o in range(O):
        z = at + o * width
        value = vsplat(W, bias + o) if bias >= 0 else vlike(vload(S, z), 0.0)
        vstore(S, z, value + vload(S, z) if add else value)


@inner
def add4(a, b):
    """Element by element."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@inner
def load4(S, at, step):
    """A register from each of S[at + j step], j = 0..3."""
    return vload(S, at), vload(S, at + step), vload(S, at + 2 * step), vload(S, at + 3 * step)


@inner
def load8(S, at, to, step):
    """A register from each of S[at + j step], j = 0..7, then from each of S[to + j step]."""
    return load4(S, at, step) + load4(S, at + 4 * step, step) + load4(S, to, step) + load4(S, to + 4 * step, step)


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


# ------------------------------------------------------------------------------------ gradient of the weights


@inner
def turn(S, dst, src, width, pixels, C, padded):
    """dst[p, lane, c] = src[p, c, lane], zeros from channel C to `padded`."""
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

    dy is first turned, its channels padded to O' (a multiple of two registers); so is x, to C' (a multiple of 8),
    unless it has fewer than 8: those are taken one by one, as they lie.
    """
    _, x, dy, at, tab, taps, C, O, pixels_in, pixels_out, xt, dyt = row
    width, lanes = tile_width(A), vcount(S)
    size_in, size_out = turned(C), (O + 2 * lanes - 1) // (2 * lanes) * 2 * lanes
    if C >= 8:
        turn(S, xt, x, width, pixels_in, C, size_in)
    turn(S, dyt, dy, width, pixels_out, O, size_out)
    begin, end = share(A, taps)
    for t in range(begin, end):
        first, last = T[tab + t], T[tab + t + 1]
        for c in range(0, size_in, 8 if C >= 8 else 1):
            for o in range(0, size_out, 2 * lanes):
                z = at + (t * size_in + c) * size_out + o
                if C < 8:
                    pair = (vload(G, z), vload(G, z + lanes))
                    for k in range(first, last, 2):
                        s, w = dyt + T[k + 1] * width * size_out + o, x + (T[k] * C + c) * width
                        pair = dot1(pair, S, s, s + lanes, size_out, S, w, width)
                    vstore(G, z, pair[0])
                    vstore(G, z + lanes, pair[1])
                    continue
                acc = load8(G, z, z + lanes, size_out)
                for k in range(first, last, 2):
                    s, w = dyt + T[k + 1] * width * size_out + o, xt + T[k] * width * size_in + c
                    acc = dot8(acc, S, s, s + lanes, size_out, S, w, size_in, width)
                store8(G, z, z + lanes, size_out, acc)
