"""Runs a finished program: its arrays, the weights packed, tiles cut between threads, the gradients added."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Params

from . import machine as m
from .build import IDS
from .gather import pack_weights
from .layout import Layout
from .normalise import EPS_AT
from .registers import HALF, HalfArray, lane_count
from .threads import CACHE_LINE, aligned, parallel, scratch, team

STRANDS = 16  # partial sums of the parameter gradient; each takes every 16th tile
NO_RECORDS = {np.dtype(kind): np.empty((0, 0, 0), kind) for kind in (np.float32, np.float64)}
NO_CHAINS = np.empty(0, np.uint64)
EPS = 1e-5
STEP_WORK, RUN_WORK = 2e6, 2e7  # multiply-adds of a step and of a run that are worth a team of threads on a tile
GONE = 1 << 62  # more than all that threads on a tile ever wait for: they wait no longer
SLACK = 8  # rows that `gather` and `weight_grad` may read past an array; registers of them where rows are numbers
BEYOND = 4  # registers that `gather_across` may read past the last bias


class Runner(Layout):
    """`freeze` makes the arrays that a kernel reads, `run` runs them."""

    def freeze(self) -> None:
        """Place what could only be placed last; the program is then only read."""
        dy = self.rows(self.turn_dy)
        for i in self.turned:
            self.code[i] = (*self.code[i][:-1], dy)
        self.rows(SLACK * (2 * lane_count(self.dtype) if self.alone else 1))
        self.P = m.table_of(self.code, self.waits, self.dtype, self.part)
        self.ends = [*self.ends, len(self.code), len(self.code)][:2]
        self.T = np.concatenate([*self.tables, np.zeros(1, np.int64)])

    def weights(self, theta: Params, eps: float = EPS) -> np.ndarray:
        """W: eps of the normalisations, then the parameters, packed."""
        W = aligned(self.packed_size + BEYOND * lane_count(self.dtype), self.dtype)
        W[EPS_AT] = eps
        for name, at, packing in self.packed:
            if packing is None:
                W[at : at + theta[name].size] = theta[name]
            else:
                w = np.ascontiguousarray(theta[name]).reshape(packing.shape)
                pack_weights(w, packing.blocks, W, at, packing.transposed)
        return W.view(HalfArray) if self.part == HALF else W

    def run(
        self,
        W: np.ndarray,
        inputs: tuple[np.ndarray, ...],
        out: np.ndarray,
        records: np.ndarray,
        K: int = 0,
        address: tuple[Any, ...] = (0, 0, 0, 0),
        chains: np.ndarray = NO_CHAINS,
        threads: int = 1 << 30,
    ) -> list[np.ndarray]:
        """Run all tiles of up to three inputs (N, D) into out (N, D) and records (R, K, N); return G's strands.

        Which tiles a strand of G sums depends on N only, and strands are added in order.
        """
        in0, in1, in2 = (*inputs, inputs[0], inputs[0])[:3]
        tiles = -(-len(in0) // self.width)
        strands = min(STRANDS, tiles) if self.params else min(tiles, threads)
        kind = HalfArray if self.part == HALF else np.ndarray
        G = [aligned(self.grads_size, self.dtype).view(kind) for _ in range(strands if self.params else 0)]
        words, ends = np.array(address, np.uint64), np.array(self.ends)
        if len(chains):
            chains = np.concatenate([chains, np.zeros(-len(chains) % self.width, np.uint64)])  # whole tiles
        work = self.products * self.width
        with team(strands if work >= STEP_WORK and work * max(K, 1) >= RUN_WORK else 0) as members:
            size = -(-self.scratch_size // self.block) * self.block
            common = scratch(strands * size, self.dtype) if members > 1 else None
            arrived = np.zeros((max(strands, 1), CACHE_LINE // 8), np.int64)

            def task(part: int, parts: int) -> None:
                crew, crews = part // members, parts // members
                A = np.zeros(IDS + self.width, np.uint64)
                if common is None:
                    S = scratch(size, self.dtype).view(kind)
                else:
                    S = common[crew * size : (crew + 1) * size].view(kind)
                for i in range(crew, strands, crews) if self.params else (crew,):
                    if self.params and members == 1:
                        G[i][:] = 0
                    grads, stride = (G[i], strands) if self.params else (W, crews)
                    data = (words, chains, in0, in1, in2, out, records)
                    member = (part % members, members, arrived[crew])
                    m.run_tiles(self.P, ends, K, self.T, W, S, grads, A, *data, i, stride, *member)

            for strand in G if members > 1 else ():
                strand[:] = 0
            parallel(task, strands * members, lambda: arrived.fill(GONE))
        return G

    def unpack(self, strands: list[np.ndarray], theta: Params) -> Params:
        """The gradients of theta: the sum of the strands, first to last, without padding."""
        total = np.zeros(self.grads_size, self.dtype)
        for strand in strands:
            total += strand
        grads = {}
        for name, value in theta.items():
            at, padded, kept = self.grads[name]
            whole = total[at : at + int(np.prod(padded))].reshape(padded)
            grads[name] = whole[tuple(slice(0, size) for size in kept)].reshape(value.shape).copy()
        return grads
