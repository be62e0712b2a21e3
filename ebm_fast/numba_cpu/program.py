"""Writes the programs of `machine`: where every array of a network lies, and in which order it is computed.

A `Program` is built once per energy, precision and purpose, and then only read. Layers are emitted
forwards; the caller emits them again backwards, last to first. With `tangent`, every value has a second
plane: the coefficient of s when the input is x + s v (the rules are those of `tile`); with `params`, the
gradient of the parameters is summed. A gradient overwrites what it no longer needs: dh goes where h was
(unless h is the input), dz where f' was.
"""

from __future__ import annotations

from typing import Any

from ebm_ref.specs import ACTIVATIONS

from . import across, activate, chain, gather, normalise, normalise1, tile
from . import machine as m
from .gather import block_sizes
from .links import Linear, Links, Norm, Packing, Value, turned_channels, units_of
from .registers import lane_count
from .runner import Runner
from .sums import PLUS, SET, TIMES


class Program(Runner):
    """The layers of a network, emitted one by one."""

    # ---------------------------------------------------------------------------- linear maps

    def linear(self, w: str, b: str, links: Links, C: int, O: int) -> Linear:
        """Declare y[p, o] = b[o] + sum over links of p, sum_c w[t, c, o] x[q, c]."""
        shape = (links.taps, C, O)
        by_tap = [links.pairs[links.pairs[:, 1] == t][:, (0, 2)].ravel().tolist() for t in range(links.taps)]
        tables, weights, lone = [], [], []
        for key, size_in, size_out in ((2, C, O), (0, O, C)):
            units = units_of(links, key, self.width // self.lanes, size_in, size_out, 2 if self.alone else 3)
            tables.append(self.units(units))
            lone.append(sum(len(unit.sources) for unit in units if len(unit.places) == 1))
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

    def gather(self, map: Linear, back: bool, dst: Value, src: Value, bias: int, how: int) -> None:
        """dst = what the map makes of src, or dst += or *= that, there or back; of tangents without the bias."""
        wts, taps = map.weights[back], map.links.taps
        C, O = (map.O, map.C) if back else (map.C, map.O)
        what = across.gather_across if self.goes_across(O) else gather.gather
        self.count(map, back)
        self.emit(what, dst.at, src.at, wts, bias, *map.tables[back], taps, C, O, how)
        if self.tangent:
            self.emit(what, dst.at1, src.at1, wts, -1, *map.tables[back], taps, C, O, how)

    def count(self, map: Linear, back: bool) -> None:
        """Add the products of a map whose pixels threads can share."""
        if map.links.pixels_out > 1:
            self.products += len(map.links.pairs) * map.C * map.O
            self.lone += map.lone[back] * map.C * map.O

    def apply(self, map: Linear, x: Value, y: Value | None = None) -> Value:
        """y = map(x), or y += map(x)."""
        add = y is not None
        out = y if y is not None else self.value(map.links.pixels_out, map.O)
        self.gather(map, False, out, x, map.bias, PLUS if add else SET)
        return out

    def apply_back(self, map: Linear, dy: Value, dx: Value, add: bool = False) -> None:
        """dx = map'(dy), or dx += map'(dy)."""
        self.gather(map, True, dx, dy, -1, PLUS if add else SET)

    def apply_back_under(self, map: Linear, dy: Value, slope: Value, h: Value) -> Value:
        """slope becomes f' map'(dy), the cotangent of what became h = f(.); h is lost."""
        if self.tangent or self.alone:
            self.apply_back(map, dy, h)
            return self.activate_back(slope, h)
        self.gather(map, True, slope, dy, -1, TIMES)
        return slope

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
        planes, tail = (mean, rate.at, gamma, beta), (z.pixels, *sizes)
        if kind is not None and not self.tangent and not self.alone:
            slope = self.value(z.pixels, z.C)
            self.emit(activate.NORMALISE[kind], z.at, y.at, slope.at, *planes, *tail)
            return Norm(z, y, rate, groups, gamma, (gamma_grad, beta_grad), slope)
        self.emit(normalise.normalise, z.at, y.at, *planes, *tail)
        if self.tangent:
            self.emit(normalise1.normalise1, z.at, rate.at, z.at1, y.at1, rate.at1, gamma, z.pixels, *sizes)
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
            self.emit(normalise1.normalise_back1, *planes, norm.gamma, z.pixels, *sizes)
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
        self.emit(activate.ACTIVATE[kind], y.at, slope.at, y.rows)
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
        xi = self.rows(-(-D // whole) * whole)
        self.emit(what, xi, D)
        return xi
