"""Every linear map of a network, forward and backward, as one register-blocked loop.

A tile holds `width` samples per element, in one register or two (`across` has what is different for a single one):
element (pixel p, channel c) of lane l is at [(p C + c) width + l]. A linear map gives each output pixel a list of pairs
(input pixel, tap):

    y[p, o] = b[o] + sum over pairs (q, t) of p, sum_c W[t, c, o] x[q, c]

so padding is skipped instead of multiplied by zero, and any kernel, stride, padding, channel count,
transposed convolution (the same pairs seen from the input) and dense layer (one pixel, one tap) is a
table. Two registers whose sums run over the same taps share the weights, a unit: the two registers of one
pixel, or of two pixels; a pixel without a partner is a unit of one. Blocks of 8, 4 or 1 outputs of a unit stay
in registers over all pairs and channels: 8 weights and 2 loads for 16 multiply-adds. Weights are packed so
that each block reads them in order. A sum runs over taps, then channels, in whatever unit it is.

With 16 registers a block is of 4, and a unit of one takes two blocks at a time (84 GFLOP/s, not 56, on a Zen 3 core).

The gradient of W is the same loop with samples and channels exchanged: for each tap, 8 input channels (4 with 16
registers) x two registers of output channels stay in registers while pixels and samples are summed, in a fixed order.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from .build import VECTOR_BYTES, inner, instruction, share, tile_width
from .dots import (
    dot1,
    dot1_one,
    dot4,
    dot4_one,
    dot8,
    dot8_one,
    dot44_one,
    finish1,
    finish4,
    finish8,
    load4,
    load8,
    start1,
    start4,
    start8,
    store4,
    store8,
)
from .lanes import vcount, vload, vstore
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


def pack_weights(w: np.ndarray, blocks: list[int], W: np.ndarray, at: int, transposed: bool) -> None:
    """W[at:] = w (taps, C, O), or its (taps, O, C) transpose, block after block: [block][tap][in][out].

    blocks: outputs of each, 0 where there are no more.
    """
    w = w.transpose(0, 2, 1) if transposed else w
    taps, C, O = w.shape
    if sum(blocks) > O:
        w = np.concatenate([w, np.zeros((taps, C, sum(blocks) - O), w.dtype)], axis=2)
    o = 0
    for block, alike in groupby(blocks):
        count = len(list(alike))
        packed = w[:, :, o : o + count * block].reshape(taps, C, count, block).transpose(2, 0, 1, 3)
        W[at : at + packed.size].reshape(packed.shape)[:] = packed
        at, o = at + packed.size, o + count * block


# ------------------------------------------------------------------------------------------- the instruction


@instruction
def gather(row, T, W, S, G, A):
    """dst[p, o] = W[bias + o] + sum over pairs of p, sum_c W[t, c, o] src[q, c], plus or times what is there.

    T[tab + u] .. T[tab + u + 1]: where unit u lies in T: two registers of dst, the second -1 where there is none, then
    (register of src, that of the second, t) of each tap. bias < 0: none. Reads, but does not keep, 3 rows past dst and
    3 numbers past the bias.
    """
    _, dst, src, wts, bias, tab, units, taps, C, O, how, _ = row
    width, lanes = tile_width(A), vcount(S)
    begin, end = share(A, units)
    for u in range(begin, end):
        first, last = T[tab + u] + 2, T[tab + u + 1]
        at, to = dst + T[first - 2] * lanes, dst + T[first - 1] * lanes
        two = T[first - 1] >= 0
        w, o, b, b_step = wts, 0, bias, 1 if bias >= 0 else 0
        while BLOCK == 8 and O - o >= 8:
            if two:
                acc = start8(S, at, width, W, b, how) + start8(S, to, width, W, b, how)
                for t in range(first, last, 3):
                    s, r = src + T[t] * lanes, src + T[t + 1] * lanes
                    acc = dot8(acc, S, s, r, width, W, w + T[t + 2] * C * 8, 8, 1, C)
                finish8(S, at, width, acc[:8], how)
                finish8(S, to, width, acc[8:], how)
            else:
                one = start8(S, at, width, W, b, how)
                for t in range(first, last, 3):
                    one = dot8_one(one, S, src + T[t] * lanes, width, W, w + T[t + 2] * C * 8, C)
                finish8(S, at, width, one, how)
            w, o, b, at, to = w + taps * C * 8, o + 8, b + 8 * b_step, at + 8 * width, to + 8 * width
        while BLOCK == 4 and not two and O - o >= 8:
            one = start8(S, at, width, W, b, how)
            for t in range(first, last, 3):
                here = w + T[t + 2] * C * 4
                one = dot44_one(one, S, src + T[t] * lanes, width, W, here, here + taps * C * 4, C)
            finish8(S, at, width, one, how)
            w, o, b, at = w + 2 * taps * C * 4, o + 8, b + 8 * b_step, at + 8 * width
        while O - o >= 2:
            four = start4(S, at, width, W, b, how)
            if two:
                both = four + start4(S, to, width, W, b, how)
                for t in range(first, last, 3):
                    s, r = src + T[t] * lanes, src + T[t + 1] * lanes
                    both = dot4(both, S, s, r, width, W, w + T[t + 2] * C * 4, 4, 1, C)
                four = both[:4]
                finish4(S, to, width, both[4:], O - o, how)
            else:
                for t in range(first, last, 3):
                    four = dot4_one(four, S, src + T[t] * lanes, width, W, w + T[t + 2] * C * 4, C)
            finish4(S, at, width, four, O - o, how)
            w, o, b, at, to = w + taps * C * 4, o + 4, b + 4 * b_step, at + 4 * width, to + 4 * width
        if O - o == 1:
            a = start1(S, at, W, b, how)
            if two:
                pair = (a, start1(S, to, W, b, how))
                for t in range(first, last, 3):
                    s, r = src + T[t] * lanes, src + T[t + 1] * lanes
                    pair = dot1(pair, S, s, r, width, W, w + T[t + 2] * C, C)
                a = pair[0]
                finish1(S, to, pair[1], how)
            else:
                for t in range(first, last, 3):
                    a = dot1_one(a, S, src + T[t] * lanes, width, W, w + T[t + 2] * C, C)
            finish1(S, at, a, how)


# ------------------------------------------------------------------------------------ gradient of the weights


@inner
def turn(S, dst, src, width, pixels, C, padded, block):
    """dst[c // block, p, lane, c % block] = src[p, c, lane], zeros from channel C to `padded`."""
    for p in range(pixels):
        for c in range(padded):
            out = dst + (c // block * pixels + p) * width * block + c % block
            for l in range(width):
                S[out + l * block] = S[src + (p * C + c) * width + l] if c < C else 0


@instruction
def weight_grad(row, T, W, S, G, A):
    """G[at + (t C' + c) O' + o] += sum over pairs (q, p) of tap t, over lanes, x[q, c, lane] dy[p, o, lane].

    dy is first turned, its channels padded to O', in blocks of two registers, so that the two blocks of a sum are in
    the first-level cache. C' is C up to a block of 8, where rows beyond C are not kept; fewer than 8 go one by one.
    """
    _, x, dy, at, tab, taps, C, O, pixels_out, dyt, _, _ = row
    width, lanes = tile_width(A), vcount(S)
    wide, size_in = 2 * lanes, turned(C)
    size_out = (O + wide - 1) // wide * wide
    turn(S, dyt, dy, width, pixels_out, O, size_out, wide)
    begin, end = share(A, taps)
    for t in range(begin, end):
        first, last = T[tab + t], T[tab + t + 1]
        for o in range(0, size_out, wide):
            dy_o = dyt + o * pixels_out * width
            for c in range(0, size_in, BLOCK if C >= 8 else 1):
                z = at + (t * size_in + c) * size_out + o
                if C < 8:
                    pair = (vload(G, z), vload(G, z + lanes))
                    for k in range(first, last, 2):
                        s, w = dy_o + T[k + 1] * width * wide, x + (T[k] * C + c) * width
                        pair = dot1(pair, S, s, s + lanes, wide, S, w, width)
                    vstore(G, z, pair[0])
                    vstore(G, z + lanes, pair[1])
                elif BLOCK == 8:
                    acc = load8(G, z, z + lanes, size_out)
                    for k in range(first, last, 2):
                        s, w = dy_o + T[k + 1] * width * wide, x + (T[k] * C + c) * width
                        acc = dot8(acc, S, s, s + lanes, wide, S, w, 1, width, width)
                    store8(G, z, z + lanes, size_out, acc)
                else:
                    both = load4(G, z, size_out) + load4(G, z + lanes, size_out)
                    for k in range(first, last, 2):
                        s, w = dy_o + T[k + 1] * width * wide, x + (T[k] * C + c) * width
                        both = dot4(both, S, s, s + lanes, wide, S, w, 1, width, width)
                    store4(G, z, size_out, both[:4], 4)
                    store4(G, z + lanes, size_out, both[4:], 4)
