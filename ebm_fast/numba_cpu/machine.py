"""A small machine: a network is a program of a few instructions that act on one tile.

A program is an int64 table, one instruction a row; its operands are offsets in the thread's scratch S,
in the packed parameters W, in the gradient G and in the tables T. So a new network, shape or precision
needs no new compilation, and one call without the interpreter lock runs whole tiles.

The number of tiles that one strand of gradients sums, and the order in which strands are added, depend
on N only: results are equal to the bit for any number of threads.
"""

from __future__ import annotations

import numpy as np

from .build import helper, kernel
from .chain import jitter_tile, keep_tile, load_tile, move_tile, noise_tile, store_tile, zero_rows
from .gather import gather, turn, weight_grad
from .tile import (
    EPS,
    activate,
    add_rows,
    bend,
    dot_rows,
    multiply_rows,
    normalise,
    normalise1,
    normalise_back,
    normalise_back1,
    pool,
    pool_back,
    sum_rows,
)

(
    LOAD,  # dst, input 0 or 1, D
    STORE,  # src, output 0 or 1, D
    SEED,  # dst: one row of the weights w
    FILL,  # dst, rows, integer
    GATHER,  # dst, src, wts, bias, tab, pixels, taps, C, O, add
    NORM,  # z, y, r, gamma, beta, pixels, C, groups
    NORM1,  # z, r, z1, y1, r1, gamma, pixels, C, groups
    NORM_BACK,  # dy, z, r, gamma, pixels, C, groups
    NORM_BACK1,  # dy, dy1, z, z1, r, r1, gamma, pixels, C, groups
    ACT,  # y, d, rows, kind
    BEND,  # y, e, rows, kind
    ADD,  # dst, a, rows
    MULTIPLY,  # dst, a, b, rows, add
    POOL,  # dst, src, pixels, C, mean
    POOL_BACK,  # dst, src, pixels, C, mean
    WEIGHT_GRAD,  # x, dy, G, tab, taps, C, O, pixels of x, pixels of dy, x turned, dy turned
    SUM,  # a, G, pixels, C, temp
    DOT,  # a, b, G, pixels, C, temp
) = range(18)
COLUMNS = 12


@helper
def run_program(P, T, W, S, width, in0, in1, w, out0, out1, G, n0):
    """Run program P on the tile of samples n0 .. n0 + width - 1."""
    for i in range(P.shape[0]):
        op, a, b, c, d, e, f, g, h, j, k, m = P[i]
        if op == GATHER:
            gather(S, a, b, W, c, d, T, e, f, g, h, j, k != 0)
        elif op == NORM:
            normalise(S, a, b, c, W, d, e, f, g, h, EPS)
        elif op == ACT:
            activate(S, a, b, c * width, d)
        elif op == MULTIPLY:
            multiply_rows(S, a, b, c, d * width, e != 0)
        elif op == NORM_BACK:
            normalise_back(S, a, b, c, W, d, e, f, g)
        elif op == LOAD:
            load_tile(in0 if b == 0 else in1, n0, c, width, S, a)
        elif op == STORE:
            store_tile(S, a, n0, c, width, out0 if b == 0 else out1)
        elif op == SEED:
            for l in range(width):
                S[a + l] = w[n0 + l] if n0 + l < w.shape[0] else 0
        elif op == FILL:
            S[a : a + b * width] = c
        elif op == ADD:
            add_rows(S, a, b, c * width)
        elif op == POOL:
            pool(S, a, b, c, d, 1.0 / c if e else 1.0)
        elif op == POOL_BACK:
            pool_back(S, a, b, c, d, 1.0 / c if e else 1.0)
        elif op == WEIGHT_GRAD:
            size_in, size_out = (f + 7) // 8 * 8, (g + width - 1) // width * width
            turn(S, k, a, h, f, size_in)
            turn(S, m, b, j, g, size_out)
            weight_grad(S, k, m, G, c, T, d, e, size_in, size_out)
        elif op == SUM:
            sum_rows(S, a, G, b, c, d, e)
        elif op == DOT:
            dot_rows(S, a, b, G, c, d, e, f)
        elif op == NORM1:
            normalise1(S, a, b, c, d, e, W, f, g, h, j)
        elif op == NORM_BACK1:
            normalise_back1(S, a, b, c, d, e, f, W, g, h, j, k)
        elif op == BEND:
            bend(S, a, b, c * width, d)


@kernel
def run_tiles(P, T, W, S, width, in0, in1, w, out0, out1, G, first, step):
    """Run P on the tiles first, first + step, ... of all samples."""
    for n0 in range(first * width, in0.shape[0], step * width):
        run_program(P, T, W, S, width, in0, in1, w, out0, out1, G, n0)


@kernel
def chain_tiles(P, T, W, S, width, x, xs, gs, es, rest, D, p, k0, k1, stream, step, K, noise_first, chains, y, energies, norms, alive, first, stride):
    """K Langevin steps of the tiles first, first + stride, ...; P reads rows xs and leaves rows gs and row es.

    rows from `rest`: the state, then the noise.
    """
    xi = rest + D * width
    rows = 4 * ((D + 3) // 4) * width
    words = np.empty((4, width), np.uint64)
    blocks = np.empty(width, np.uint64)
    raw = np.empty(4 * width, x.dtype)
    bad = np.empty(width, x.dtype)
    norm = np.empty(width, x.dtype)
    live = np.empty(width, x.dtype)
    for n0 in range(first * width, x.shape[0], stride * width):
        ids = chains[n0 : n0 + width]
        keep = min(width, x.shape[0] - n0)
        live[:] = 1
        load_tile(x, n0, D, width, S, rest)
        for k in range(K):
            bad[:] = 0
            noise_tile(k0, k1, stream, step + np.uint64(k), ids, D, width, words, blocks, raw, S, xi)
            if noise_first:
                jitter_tile(S, rest, xi, xs, D, width, p, bad)
                zero_rows(S, xi, rows)
            else:
                S[xs : xs + D * width] = S[rest : rest + D * width]
            run_program(P, T, W, S, width, x, x, norm, x, x, W, n0)
            move_tile(S, xs, gs, xi, xs, D, width, p, bad, norm)
            keep_tile(S, rest, xs, D, width, live, bad)
            for l in range(keep):
                energies[k, n0 + l] = S[es + l]
                norms[k, n0 + l] = norm[l]
        store_tile(S, rest, n0, D, width, y)
        for l in range(keep):
            alive[n0 + l] = live[l] > 0
