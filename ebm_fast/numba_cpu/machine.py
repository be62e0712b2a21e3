"""A small machine: whatever happens to a tile of samples is a program of a few instructions.

A program is an int64 table, one instruction a row: what to do, then up to 11 operands, which are offsets
in the thread's scratch S, in the packed parameters W, in the gradients G and in the tables T, and sizes. So
a new network, shape or precision needs no new compilation, and one call without the interpreter lock runs
whole tiles. Instructions are called by address; the six below move data between a tile and the arrays
of all samples, and belong to the machine itself.

Tiles do not depend on each other, and a program does not see which thread runs it: results are equal to
the bit for any number of threads. A few samples are one tile: then several threads share it, by pixels, so that most of
what a thread reads it has written itself (by channels, everything would cross from core to core: a fifth slower).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba.core import types

from . import across, activate, chain, descent_tile, field_head, gather, normalise, normalise1, softmax, tile
from .build import (
    COLUMNS,
    IDS,
    JIT,
    NO_NEW_ARRAYS,
    PART,
    address,
    call_address,
    inner,
    instruction_signature,
    kernel,
    meet,
    row_of,
    tile_width,
)
from .compiler import no_collector
from .helper import helper
from .lanes import vcount, vload, vstore
from .registers import HALF, ONE, WHOLE, OneArray, lanes_type

LOAD, STORE, READ, WRITE, FILL, COPY = -1, -2, -3, -4, -5, -6
# LOAD: dst, input 0..2, D     STORE: src, D     READ, WRITE: row, record r, whether it has one row a repetition
# FILL: dst, rows, integer     COPY: dst, src, rows
INSTRUCTIONS = (
    gather.gather,
    gather.weight_grad,
    across.gather_across,
    normalise.mean_rows,
    normalise.total_rows,
    normalise.rate_rows,
    normalise.rate_total,
    normalise.normalise,
    normalise1.normalise1,
    normalise.back_start,
    normalise.back_rows,
    normalise.normalise_back,
    normalise1.normalise_back1,
    *activate.ACTIVATE.values(),
    *activate.NORMALISE.values(),
    tile.bend,
    tile.add_rows,
    tile.multiply_rows,
    tile.pool,
    tile.pool_back,
    tile.sum_rows,
    tile.dot_rows,
    softmax.softmax_rows,
    softmax.softmax_rows1,
    softmax.choose_rows,
    softmax.negate_rows,
    field_head.row_dots,
    field_head.row_scales,
    chain.noise_tile,
    across.noise_across,
    chain.jitter_tile,
    chain.move_tile,
    chain.keep_tile,
    descent_tile.descent_place,
    descent_tile.descent_move,
)


SHARES = {
    gather.gather,
    gather.weight_grad,
    across.gather_across,
    across.noise_across,
    normalise.mean_rows,
    normalise.rate_rows,
    normalise.normalise,
    normalise.back_rows,
    normalise.normalise_back,
    *activate.ACTIVATE.values(),
    *activate.NORMALISE.values(),
    tile.bend,
    tile.add_rows,
    tile.multiply_rows,
    tile.sum_rows,
    tile.dot_rows,
    field_head.row_scales,
    chain.noise_tile,
}
BY_ROWS = {  # whole registers of rows that lie one after the other, whose samples they are
    across.gather_across,
    across.noise_across,
    *activate.ACTIVATE.values(),
    tile.bend,
    tile.add_rows,
    tile.multiply_rows,
    tile.pool,
    normalise.total_rows,
    normalise.rate_total,
}


def table_of(code: list[tuple[Any, ...]], waits: list[bool], dtype: Any, part: str) -> np.ndarray:
    """The program as int64 rows: addresses of instructions, operands; then whether all do it, and whether all wait.

    part: of a register, for the samples of a tile; of one sample, what goes by rows takes whole registers of rows.
    """
    used = dict.fromkeys(what for what, *_ in code if not isinstance(what, int))
    parts = {what: WHOLE if part == ONE and what in BY_ROWS else part for what in used}
    with no_collector(), helper(INSTRUCTIONS, parts, dtype):
        places = {what: place(what, dtype, parts[what]) for what in used}
    rows = [(what if isinstance(what, int) else places[what], *operands) for what, *operands in code]
    how = [(int(what in SHARES), int(wait)) for (what, *_), wait in zip(code, waits, strict=True)]
    padded = [row + (0,) * (COLUMNS - len(row)) + last for row, last in zip(rows, how, strict=True)]
    return np.array(padded, np.int64).reshape(-1, COLUMNS + 2)


def place(what: Any, dtype: Any, part: str) -> int:
    """What `call` takes for an instruction."""
    if JIT:
        return address(what, lanes_type(dtype, part))
    return INSTRUCTIONS.index(what) + (len(INSTRUCTIONS) if part == ONE else 0)


if JIT:
    call = call_address
else:

    def row_of(P, i):
        return tuple(P[i, :COLUMNS].tolist())

    def meet(arrived, count):
        pass

    def call(place, row, T, W, S, G, A):
        one, number = divmod(place, len(INSTRUCTIONS))
        arrays = (a.view(OneArray) for a in (W, S, G)) if one else (W, S, G)
        INSTRUCTIONS[number](row, T, *arrays, A)


@partial(kernel, **NO_NEW_ARRAYS)
def run_tiles(
    P, ends, K, T, W, S, G, A, address, chains, in0, in1, in2, out, records, start, stride, part, parts, arrived
):
    """Run P on the tiles start, start + stride, ...: rows up to ends[0], K times up to ends[1], then the rest.

    A: room for what instructions are told of a tile, this thread's; address: key words, stream, step of the first
    repetition; chains: ids, whole tiles of them (or none). Several threads, part of parts, may run the same tile: they
    share S and G, each does its share of an instruction or the first does it, and they meet where one needs what
    another wrote; arrived: [0].
    """
    N, width, meetings = in0.shape[0], tile_width(A), 0
    for n0 in range(start * width, N, stride * width):
        keep = min(width, N - n0)
        for j in range(4):
            A[j] = address[j]
        if chains.shape[0] > 0:
            for l in range(width):
                A[IDS + l] = chains[n0 + l]
        i, k = 0, 0
        while True:
            if i == ends[1] and k + 1 < K:  # next repetition
                i, k = ends[0], k + 1
                A[3] += np.uint64(1)
            if i == ends[0] and K == 0:  # no repetition
                i = ends[1]
            if i == P.shape[0]:
                break
            row, shared = row_of(P, i), P[i, COLUMNS] != 0
            if parts > 1:
                if P[i, COLUMNS + 1] != 0:
                    meetings += parts
                    meet(arrived, meetings)
                if part > 0 and not shared:
                    i += 1
                    continue
            A[PART] = np.uint64(part if shared else 0)
            A[PART + 1] = np.uint64(parts if shared else 1)
            what, at, a, b = row[0], row[1], row[2], row[3]
            if what >= 0:
                call(what, row, T, W, S, G, A)
            elif what == LOAD:
                load(in0 if a == 0 else (in1 if a == 1 else in2), n0, width, b, S, at)
            elif what == STORE:
                for l in range(keep):
                    for d in range(a):
                        out[n0 + l, d] = S[at + d * width + l]
            elif what == READ:
                for l in range(width):
                    S[at + l] = records[a, k * b, n0 + l] if l < keep else 0
            elif what == WRITE:
                for l in range(keep):
                    records[a, k * b, n0 + l] = S[at + l]
            elif what == FILL:
                for l in range(a * width):
                    S[at + l] = b
            elif what == COPY:
                for l in range(0, b * width, vcount(S)):
                    vstore(S, at + l, vload(S, a + l))
            i += 1


def runner_types(dtype: Any, part: str) -> tuple[Any, ...]:
    """The types of run_tiles' arguments as `Program.run` passes them."""
    _, index, number, _, _, words = instruction_signature(lanes_type(dtype, HALF if part == HALF else WHOLE)).args
    rows, planes = (types.Array(number.dtype, ndim, "C") for ndim in (2, 3))
    sizes = (types.int64,) * 4
    code = (types.Array(types.int64, 2, "C"), index, types.int64, index)
    return (*code, number, number, number, words, words, words, rows, rows, rows, rows, planes, *sizes, index)


@inner
def load(x, n0, width, D, S, at):
    """S[at + d width + l] = x[n0 + l, d]; lanes beyond the last sample hold 0."""
    for l in range(width):
        for d in range(D):
            S[at + d * width + l] = x[n0 + l, d] if n0 + l < x.shape[0] else 0
