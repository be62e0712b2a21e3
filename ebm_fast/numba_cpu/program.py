"""Writes the programs of `machine`: where every array of a network lies, and in which order it is computed.

A `Program` is built once per energy, precision and purpose, and then only read. Layers are emitted
forwards; the caller emits them again backwards, last to first. With `tangent`, every value has a second
plane: the coefficient of s when the input is x + s v (the rules are those of `tile`); with `params`, the
gradient of the parameters is summed. A gradient overwrites what it no longer needs: dh goes where h was
(unless h is the input), dz where f' was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np

from ebm_ref.contracts import Params
from ebm_ref.specs import ACTIVATIONS

from . import across, chain, gather, normalise, tile
from . import machine as m
from .build import IDS
from .gather import block_sizes, pack_weights
from .links import Linear, Links, Norm, Packing, Unit, Value, turned_channels, units_of
from .normalise import EPS_AT
from .registers import HALF, ONE, WHOLE, HalfArray, lane_count
from .threads import CACHE_LINE, TEAM, aligned, parallel, scratch, team

STRANDS = 16  # partial sums of the parameter gradient; each takes every 16th tile
NO_RECORDS = {np.dtype(kind): np.empty((0, 0, 0), kind) for kind in (np.float32, np.float64)}
NO_CHAINS = np.empty(0, np.uint64)
EPS = 1e-5
CHUNK = 1 << 13  # bytes
STEP_WORK, RUN_WORK = 2e6, 2e7  # multiply-adds of a step and of a run that are worth a team of threads on a tile
SLACK = 8  # rows that `gather` and `weight_grad` may read past an array; registers of them where rows are numbers
BEYOND = 4  # registers that `gather_across` may read past the last bias


@dataclass
class Program:
    """Instructions, tables and layouts under construction; `freeze` makes the arrays a kernel reads."""

    dtype: Any
    tangent: bool = False
    params: bool = False
    width: int = 0  # samples of a tile: two registers of them unless it is given, or one, or half of one, or one sample
    code: list[tuple[Any, ...]] = field(default_factory=list)
    turns: list[tuple[int, int, int]] = field(default_factory=list)
    products: int = 0  # multiply-adds of a sample that several threads can share
    lone: int = 0  # of those, the ones in which a pixel shares its weights with no other
    ends: list[int] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)
    table_size: int = 0
    scratch_size: int = 0
    packed: list[tuple[str, int, Packing | None]] = field(default_factory=list)
    packed_size: int = 1  # eps
    grads: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    grads_size: int = 0
    turn_dy: int = 0  # rows that turning needs
    turned: list[int] = field(default_factory=list)  # instructions that await the address of the turned array
    temp: int = 0

    def __post_init__(self) -> None:
        self.width = self.width or 2 * lane_count(self.dtype)
        self.alone = self.width == 1  # rows then follow each other, each array from one register to the next
        self.part = ONE if self.alone else (HALF if self.width < lane_count(self.dtype) else WHOLE)
        self.lanes = lane_count(self.dtype, self.part)
        self.temp = self.rows(TEAM)

    @property
    def block(self) -> int:
        """Outputs that `weight_grad` sums at once: two registers."""
        return 2 * self.lanes

    # ------------------------------------------------------------------------------ layout

    def rows(self, count: int) -> int:
        """Address of `count` new rows of scratch."""
        at = self.scratch_size
        self.scratch_size += self.whole(count * self.width)
        return at

    def whole(self, size: int) -> int:
        """`size` numbers up to the end of a register; half a register where tiles are that wide."""
        lanes = lane_count(self.dtype) if self.alone else self.lanes
        return -(-size // lanes) * lanes

    def value(self, pixels: int, C: int) -> Value:
        """A new array (pixels, C), with its tangent if the program carries tangents."""
        at = self.rows(pixels * C)
        return Value(at, self.rows(pixels * C) if self.tangent else -1, pixels, C)

    def emit(self, what: Any, *operands: int, turn: tuple[int, int] | None = None, wait: bool = True) -> None:
        """Append one instruction.

        Of several threads on a tile all do it, each its share, where `what` can be shared; else one: of `turn` = (i, n)
        the first has the first i. They wait for each other before it, unless what it needs was made by that one.
        """
        self.code.append((what, *operands))
        self.turns.append((*(turn or (m.SHARED if what in m.SHARES else (0, 1))), int(wait)))

    def section(self) -> None:
        """End the part that runs once; then the part that is repeated; the rest runs once again."""
        self.ends.append(len(self.code))

    def table(self, groups: list[list[int]]) -> tuple[int, int]:
        """Append where each group starts and ends, then the groups; return the address and how many they are."""
        at = self.table_size
        starts = at + len(groups) + 1 + np.cumsum([0, *map(len, groups)])
        self.tables.append(np.concatenate([starts, *groups]).astype(np.int64))
        self.table_size += self.tables[-1].size
        return at, len(groups)

    def units(self, units: list[Unit]) -> tuple[int, int]:
        """Append the units of a map: dst, dst, then its pairs; return as `table`."""
        return self.table([[unit.at, unit.to, *(i for pair in unit.pairs for i in pair)] for unit in units])

    def pack(self, name: str, size: int, packing: Packing | None = None) -> int:
        """Room for parameter `name` in W, as it is or packed for `gather`; return the address."""
        at = self.packed_size
        self.packed.append((name, at, packing))
        self.packed_size += size
        return at

    def grad(self, name: str, padded: tuple[int, ...], kept: tuple[int, ...]) -> int:
        """Room for the gradient of `name` in G, of which the corner `kept` is the result; return the address."""
        if not self.params:
            return -1
        at = self.grads_size
        self.grads[name] = (at, padded, kept)
        self.grads_size += -(-int(np.prod(padded)) // self.block) * self.block
        return at

    def vector(self, name: str, size: int) -> tuple[int, int]:
        """Addresses of a parameter vector and of its gradient."""
        return self.pack(name, size), self.grad(name, (size,), (size,))

    # ---------------------------------------------------------------------------- linear maps

    def linear(self, w: str, b: str, links: Links, C: int, O: int) -> Linear:
        """Declare y[p, o] = b[o] + sum over links of p, sum_c w[t, c, o] x[q, c]."""
        shape = (links.taps, C, O)
        by_tap = [links.pairs[links.pairs[:, 1] == t][:, (0, 2)].ravel().tolist() for t in range(links.taps)]
        tables, weights, lone = [], [], []
        for key, size_in, size_out in ((2, C, O), (0, O, C)):
            units = units_of(links, key, self.width // self.lanes, size_in, size_out)
            tables.append(self.units(units))
            lone.append(sum(len(unit.pairs) for unit in units if unit.to < 0))
            blocks = across.across_sizes(size_out, self.dtype) if self.goes_across(size_out) else block_sizes(size_out)
            packing = Packing(shape, key == 0, blocks)
            weights.append(self.pack(w, links.taps * size_in * sum(blocks), packing))
        bias, bias_grad = self.vector(b, O)
        padded = (links.taps, turned_channels(C), -(-O // self.block) * self.block)
        return Linear(
            links,
            C,
            O,
            (*tables, self.table(by_tap)),
            tuple(weights),
            bias,
            (self.grad(w, padded, shape), bias_grad),
            tuple(lone),
        )

    def goes_across(self, O: int) -> bool:
        """Whether the outputs of a map, not samples, lie in the lanes."""
        return self.alone and across.fits(O)

    def gather(self, map: Linear, back: bool, dst: Value, src: Value, bias: int, add: bool) -> None:
        """dst = what the map makes of src, or dst += that, there or back; of tangents without the bias."""
        wts, taps = map.weights[back], map.links.taps
        C, O = (map.O, map.C) if back else (map.C, map.O)
        what = across.gather_across if self.goes_across(O) else gather.gather
        self.count(map, back)
        self.emit(what, dst.at, src.at, wts, bias, *map.tables[back], taps, C, O, int(add))
        if self.tangent:
            self.emit(what, dst.at1, src.at1, wts, -1, *map.tables[back], taps, C, O, int(add))

    def count(self, map: Linear, back: bool) -> None:
        """Add the products of a map whose pixels threads can share."""
        if map.links.pixels_out > 1:
            self.products += len(map.links.pairs) * map.C * map.O
            self.lone += map.lone[back] * map.C * map.O

    def apply(self, map: Linear, x: Value, y: Value | None = None) -> Value:
        """y = map(x), or y += map(x)."""
        add = y is not None
        out = y if y is not None else self.value(map.links.pixels_out, map.O)
        self.gather(map, False, out, x, map.bias, add)
        return out

    def apply_back(self, map: Linear, dy: Value, dx: Value, add: bool = False) -> None:
        """dx = map'(dy), or dx += map'(dy)."""
        self.gather(map, True, dx, dy, -1, add)

    def apply_params(self, map: Linear, x: Value, dy: Value) -> None:
        """Add the gradients of the map's weights and bias (their tangents, if the program has tangents)."""
        if not self.params:
            return
        self.turn_dy = max(self.turn_dy, map.links.pixels_out * (-(-map.O // self.block) * self.block))
        planes = [(x.at1, dy.at), (x.at, dy.at1)] if self.tangent else [(x.at, dy.at)]
        sizes = (*map.tables[2], map.C, map.O, map.links.pixels_out)
        for a, b in planes:
            self.turned.append(len(self.code))
            self.emit(gather.weight_grad, a, b, map.grads[0], *sizes, 0)
        self.emit(tile.sum_rows, dy.at1 if self.tangent else dy.at, map.grads[1], dy.pixels, dy.C, self.temp)

    # ------------------------------------------------------------- normalisation and activation

    def chunks(self, value: Value) -> list[tuple[int, int, int]]:
        """(pixels, offset, rows) of pieces of an array: whole registers, one for each thread, in the first cache."""
        fit = CHUNK // (value.C * self.width * np.dtype(self.dtype).itemsize)
        least = self.whole(1) // gcd(self.whole(1), value.C * self.width)
        size = max(1, min(fit, -(-value.pixels // TEAM)) // least) * least
        starts = range(0, value.pixels, size)
        return [(n, p * value.C * self.width, n * value.C) for p in starts for n in (min(size, value.pixels - p),)]

    def norm(self, name: str, z: Value, groups: int, kind: str | None = None) -> Norm:
        """y = gamma xhat + beta, z becomes xhat; with an activation f = `kind` y becomes h = f(y)."""
        (gamma, gamma_grad), (beta, beta_grad) = (self.vector(f"{name}.{part}", z.C) for part in ("gamma", "beta"))
        y, rate, mean, shift = self.value(z.pixels, z.C), self.value(1, groups), self.rows(groups), self.rows(groups)
        sums, squares = self.rows(normalise.PIECES * groups), self.rows(normalise.PIECES * groups)
        sizes, count = (z.C, groups), z.pixels * z.C // groups
        self.emit(normalise.mean_rows, z.at, sums, z.pixels, *sizes)
        self.emit(normalise.total_rows, sums, mean, groups, count)
        self.emit(normalise.rate_rows, z.at, mean, sums, squares, z.pixels, *sizes)
        self.emit(normalise.total_rows, sums, shift, groups, count)
        self.emit(normalise.total_rows, squares, rate.at, groups, count, wait=False)
        self.emit(normalise.rate_total, mean, rate.at, shift, groups, wait=False)
        fused = kind is not None and not self.tangent
        slope = self.value(z.pixels, z.C) if fused else None
        chunks = self.chunks(z)
        for i, (pixels, at, rows) in enumerate(chunks):
            turn = (i, len(chunks))
            planes = (z.at + at, y.at + at, mean, rate.at, gamma, beta)
            self.emit(normalise.normalise, *planes, pixels, *sizes, turn=turn, wait=i == 0)
            if slope is not None:
                self.emit(tile.ACTIVATE[kind], y.at + at, slope.at + at, rows, turn=turn, wait=False)
        if self.tangent:
            self.emit(normalise.normalise1, z.at, rate.at, z.at1, y.at1, rate.at1, gamma, z.pixels, *sizes)
            slope = None if kind is None else self.activate(y, kind)
        return Norm(z, y, rate, groups, gamma, (gamma_grad, beta_grad), slope)

    def norm_back(self, norm: Norm, dy: Value, dh: Value | None = None) -> None:
        """dy becomes dz; the gradients of gamma and beta are summed. With dh, dy is first made from norm's slope."""
        z, rate, sizes = norm.z, norm.rate, (norm.z.C, norm.groups)
        if dh is not None and (self.params or self.tangent):
            self.activate_back(dy, dh)
        if self.params:
            last = (z.pixels, z.C, self.temp)
            self.emit(tile.dot_rows, dy.at, z.at1 if self.tangent else z.at, norm.grads[0], *last)
            if self.tangent:
                self.emit(tile.dot_rows, dy.at1, z.at, norm.grads[0], *last)
            self.emit(tile.sum_rows, dy.at1 if self.tangent else dy.at, norm.grads[1], *last)
        if self.tangent:
            planes = (dy.at, dy.at1, z.at, z.at1, rate.at, rate.at1)
            self.emit(normalise.normalise_back1, *planes, norm.gamma, z.pixels, *sizes)
            return
        first, m1, m2 = (self.rows(norm.groups) for _ in range(3))
        sums, more = (self.rows(normalise.PIECES * norm.groups) for _ in range(2))
        count = z.pixels * z.C // norm.groups
        other = -1 if dh is None or self.params else dh.at
        self.emit(normalise.back_start, dy.at, first, norm.gamma, *sizes, other)
        self.emit(normalise.back_rows, dy.at, z.at, first, sums, more, norm.gamma, z.pixels, *sizes, other)
        self.emit(normalise.total_rows, sums, m1, norm.groups, count)
        self.emit(normalise.total_rows, more, m2, norm.groups, count, wait=False)
        self.emit(normalise.normalise_back, dy.at, z.at, first, m1, m2, rate.at, z.pixels, *sizes)

    def activate(self, y: Value, kind: str) -> Value:
        """y becomes h = f(y); returns the slope f'(y), with f''(y) y1 in its second plane."""
        slope = self.value(y.pixels, y.C)
        if self.tangent:
            self.emit(tile.bend, y.at, slope.at1, y.rows, ACTIVATIONS.index(kind))
            self.emit(tile.multiply_rows, slope.at1, slope.at1, y.at1, y.rows, 0)
        self.emit(tile.ACTIVATE[kind], y.at, slope.at, y.rows)
        if self.tangent:
            self.emit(tile.multiply_rows, y.at1, slope.at, y.at1, y.rows, 0)
        return slope

    def activate_back(self, slope: Value, dh: Value) -> Value:
        """slope becomes dy = dh f'(y); its tangent dh1 f' + dh f'' y1."""
        if self.tangent:
            self.emit(tile.multiply_rows, slope.at1, slope.at1, dh.at, dh.rows, 0)
            self.emit(tile.multiply_rows, slope.at1, slope.at, dh.at1, dh.rows, 1)
        self.emit(tile.multiply_rows, slope.at, slope.at, dh.at, dh.rows, 0)
        return slope

    def both(self, op: Any, dst: Value, src: Value, *sizes: int) -> None:
        """One instruction on the value, and the same on its tangent."""
        self.emit(op, dst.at, src.at, *sizes)
        if self.tangent:
            self.emit(op, dst.at1, src.at1, *sizes)

    def seed(self, dy: Value, weighted: bool) -> None:
        """dE = w_n (record 1) or 1, without a tangent."""
        self.emit(*((m.READ, dy.at, 1, 0) if weighted else (m.FILL, dy.at, 1, 1)))
        if self.tangent:
            self.emit(m.FILL, dy.at1, 1, 0)

    def noise(self, D: int) -> int:
        """The D normals of each chain of the tile in this step; return the address of their rows."""
        lanes = lane_count(self.dtype)
        what, whole = (across.noise_across, 4 * lanes) if self.alone else (chain.noise_tile, 4)
        xi, raw = self.rows(-(-D // whole) * whole), self.rows(4 * TEAM * -(-lanes // self.width))
        self.emit(what, xi, D, raw)
        return xi

    # --------------------------------------------------------------------------- finish, run

    def freeze(self) -> None:
        """Place what could only be placed last; the program is then only read."""
        dy = self.rows(self.turn_dy)
        for i in self.turned:
            self.code[i] = (*self.code[i][:-1], dy)
        self.rows(SLACK * (2 * lane_count(self.dtype) if self.alone else 1))
        self.P = m.table_of(self.code, self.turns, self.dtype, self.part)
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
            parallel(task, strands * members)
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
