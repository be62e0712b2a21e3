"""Every linear map of a network, forward and backward, as one register-blocked loop.

A tile holds `width` samples per element, in one to three registers (`across` has what is different for a single one):
element (pixel p, channel c) of lane l is at [(p C + c) width + l]. A linear map gives each output pixel a list of pairs
(input pixel, tap):

    y[p, o] = b[o] + sum over pairs (q, t) of p, sum_c W[t, c, o] x[q, c]

so padding is skipped instead of multiplied by zero, and any kernel, stride, padding, channel count,
transposed convolution (the same pairs seen from the input) and dense layer (one pixel, one tap) is a
table. Up to three registers whose sums run over the same taps share the weights, a unit: the registers of one pixel, or
one register each of several. Blocks of 8, 4 or 1 outputs of a unit stay in registers over all pairs and channels: 8
weights and 3 loads for 24 multiply-adds. (With two registers, 16 sums, the multipliers of a wide core run at 86 % of
their peak, with three, 24 sums, at 96 %.) Weights are packed so that each block reads them in order. A sum runs over
taps, then channels, in whatever unit it is.

With 16 registers a block is of 4, and a unit of one takes two blocks at a time (84 GFLOP/s, not 56, on a Zen 3 core).

The gradient of W is the same loop with samples and channels exchanged: for each tap, 8 input channels (4 with 16
registers) x two registers of output channels stay in registers while pixels and samples are summed, in a fixed order.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from .build import VECTOR_BYTES, inner, instruction, share, tile_width
from .dots import dot1_one, dot1_three, dot1_two, dot_one, dot_one_twice, dot_three, dot_two
from .lanes import vcount, vload, vstore
from .links import turned_channels
from .sums import finish1, finish4, finish8, load4, load8, start1, start4, start8, store4, store8

BLOCK = 8 if VECTOR_BYTES == 64 else 4  # outputs: 24 of 32 registers (AVX-512) hold sums, or 12 of 16

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


def unit_of_three(size, start, dot, finish):
    """`size` outputs of a unit of three registers: w, b, dst are at the first of them."""

    @inner
    def sums(S, W, T, unit, last, dst, src, w, b, width, C, keep, how):
        lanes = vcount(S)
        one, two, three = dst + T[unit] * lanes, dst + T[unit + 1] * lanes, dst + T[unit + 2] * lanes
        acc = (
            start(S, one, width, W, b, how),
            start(S, two, width, W, b, how),
            start(S, three, width, W, b, how),
        )
        for t in range(unit + 3, last, 4):
            s, r, q = src + T[t] * lanes, src + T[t + 1] * lanes, src + T[t + 2] * lanes
            acc = dot(acc, S, s, r, q, width, W, w + T[t + 3] * C * size, size, 1, C)
        finish(S, one, width, acc[0], keep, how)
        finish(S, two, width, acc[1], keep, how)
        finish(S, three, width, acc[2], keep, how)

    return sums


def unit_of_two(size, start, dot, finish):
    """The same of two registers."""

    @inner
    def sums(S, W, T, unit, last, dst, src, w, b, width, C, keep, how):
        lanes = vcount(S)
        one, two = dst + T[unit] * lanes, dst + T[unit + 1] * lanes
        acc = start(S, one, width, W, b, how), start(S, two, width, W, b, how)
        for t in range(unit + 3, last, 4):
            s, r = src + T[t] * lanes, src + T[t + 1] * lanes
            acc = dot(acc, S, s, r, width, W, w + T[t + 3] * C * size, size, 1, C)
        finish(S, one, width, acc[0], keep, how)
        finish(S, two, width, acc[1], keep, how)

    return sums


def unit_of_one(size, start, dot, finish):
    """The same of one register."""

    @inner
    def sums(S, W, T, unit, last, dst, src, w, b, width, C, keep, how):
        lanes = vcount(S)
        one = dst + T[unit] * lanes
        acc = (start(S, one, width, W, b, how),)
        for t in range(unit + 3, last, 4):
            acc = dot(acc, S, src + T[t] * lanes, width, W, w + T[t + 3] * C * size, size, 1, C)
        finish(S, one, width, acc[0], keep, how)

    return sums


three8 = unit_of_three(8, start8, dot_three, finish8)
three4 = unit_of_three(4, start4, dot_three, finish4)
three1 = unit_of_three(1, start1, dot1_three, finish1)
two8 = unit_of_two(8, start8, dot_two, finish8)
two4 = unit_of_two(4, start4, dot_two, finish4)
two1 = unit_of_two(1, start1, dot1_two, finish1)
one8 = unit_of_one(8, start8, dot_one, finish8)
one4 = unit_of_one(4, start4, dot_one, finish4)
one1 = unit_of_one(1, start1, dot1_one, finish1)


@instruction
def gather(row, T, W, S, G, A):
    """dst[p, o] = W[bias + o] + sum over pairs of p, sum_c W[t, c, o] src[q, c], plus or times what is there.

    T[tab + u] .. T[tab + u + 1]: where unit u lies in T: three registers of dst, -1 where there is none, then (register
    of src for each, t) of each tap. bias < 0: none. Reads, but does not keep, 3 rows past dst and 3 numbers past the
    bias.
    """
    _, dst, src, wts, bias, tab, units, taps, C, O, how, _ = row
    width, b_step = tile_width(A), 1 if bias >= 0 else 0
    begin, end = share(A, units)
    for u in range(begin, end):
        unit, last = T[tab + u], T[tab + u + 1]
        two, three = T[unit + 1] >= 0, T[unit + 2] >= 0
        w, b, to, rest = wts, bias, dst, O
        while BLOCK == 8 and rest >= 8:
            if three:
                three8(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            elif two:
                two8(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            else:
                one8(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            w, b, to, rest = w + taps * C * 8, b + 8 * b_step, to + 8 * width, rest - 8
        while BLOCK == 4 and not two and rest >= 8:
            one44(S, W, T, unit, last, to, src, w, b, width, C, taps, how)
            w, b, to, rest = w + taps * C * 8, b + 8 * b_step, to + 8 * width, rest - 8
        while rest >= 2:
            if three:
                three4(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            elif two:
                two4(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            else:
                one4(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            w, b, to, rest = w + taps * C * 4, b + 4 * b_step, to + 4 * width, rest - 4
        if rest == 1:
            if three:
                three1(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            elif two:
                two1(S, W, T, unit, last, to, src, w, b, width, C, rest, how)
            else:
                one1(S, W, T, unit, last, to, src, w, b, width, C, rest, how)


@inner
def one44(S, W, T, unit, last, dst, src, w, b, width, C, taps, how):
    """Two blocks of four outputs of a unit of one register."""
    lanes = vcount(S)
    one = dst + T[unit] * lanes
    more, step = b + 4 if b >= 0 else b, 4 * width
    acc, rest = (start4(S, one, width, W, b, how),), (start4(S, one + step, width, W, more, how),)
    for t in range(unit + 3, last, 4):
        here = w + T[t + 3] * C * 4
        acc, rest = dot_one_twice(acc, rest, S, src + T[t] * lanes, width, W, here, here + taps * C * 4, 4, C)
    finish4(S, one, width, acc[0], 4, how)
    finish4(S, one + step, width, rest[0], 4, how)


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
                        pair = dot1_two(pair, S, s, s + lanes, wide, S, w, 1, 1, width)
                    vstore(G, z, pair[0])
                    vstore(G, z + lanes, pair[1])
                elif BLOCK == 8:
                    acc = load8(G, z, size_out), load8(G, z + lanes, size_out)
                    for k in range(first, last, 2):
                        s, w = dy_o + T[k + 1] * width * wide, x + (T[k] * C + c) * width
                        acc = dot_two(acc, S, s, s + lanes, wide, S, w, 1, width, width)
                    store8(G, z, size_out, acc[0])
                    store8(G, z + lanes, size_out, acc[1])
                else:
                    both = load4(G, z, size_out), load4(G, z + lanes, size_out)
                    for k in range(first, last, 2):
                        s, w = dy_o + T[k + 1] * width * wide, x + (T[k] * C + c) * width
                        both = dot_two(both, S, s, s + lanes, wide, S, w, 1, width, width)
                    store4(G, z, size_out, both[0], 4)
                    store4(G, z + lanes, size_out, both[1], 4)
