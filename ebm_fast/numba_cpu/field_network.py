"""What every field of this backend has in common: the protocol's methods, each one program.

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and writes two methods:
`emit` emits f from the input rows, `emit_back` what a cotangent of f gives. A field program is then

    field       f
    jvp         f, J v                                    a tangent forwards: f and its tangent are stored together
    vjp         J' g                                      the cotangent g is input 1
    params      grad_theta sum g . f                      the same
    along       grad_theta sum [ g . f + h . (J v) ]      x + s v forwards, h + s g backwards: the factor of s

The last in one sweep, layer by layer the rules of `tile`, `gather` and `normalise` for two planes. g and h are one
input: an array's tangent lies behind it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, Params, check_array, flat_size

from ..checks import check_like, check_same_dtype, flat
from . import machine as m
from . import tile
from .activate import ACTIVATE
from .links import Value
from .network import Network
from .program import Program
from .runner import NO_RECORDS

BACKWARD = {"field": None, "jvp": None, "vjp": "x", "params": "params", "along": "params"}


@lru_cache(maxsize=256)
def field_program(network: Any, dtype: np.dtype, purpose: str, width: int) -> Program:
    """The program of one method, by the names above."""
    backward = BACKWARD[purpose]
    P = Program(dtype, tangent=purpose in ("jvp", "along"), params=backward == "params", width=width)
    x = network.input(P)
    P.emit(m.LOAD, x.at, 0, x.rows)
    if P.tangent:
        P.emit(m.LOAD, x.at1, 1, x.rows)
    F, tape = network.emit(P, x, backward is not None)
    if backward is None:
        P.emit(m.STORE, F.at, planes(P, F))
    else:
        P.emit(m.LOAD, F.at, 2 if P.tangent else 1, planes(P, F))
        dx = network.emit_back(P, x, tape, F, backward)
        if backward == "x":
            P.emit(m.STORE, dx.at, dx.rows)
    P.freeze()
    return P


def planes(P: Program, F: Value) -> int:
    """Rows of an array and of its tangent, which lies behind it."""
    if not P.tangent:
        return F.rows
    assert F.at1 == F.at + F.rows * P.width
    return 2 * F.rows


def activate(P: Program, y: Value, kind: str, backward: bool) -> Value:
    """`Program.activate`; a tangent that is not followed by a backward pass needs no second derivative."""
    if backward or not P.tangent:
        return P.activate(y, kind)
    slope = Value(P.rows(y.rows), -1, y.pixels, y.C)
    P.emit(ACTIVATE[kind], y.at, slope.at, y.rows)
    P.emit(tile.multiply_rows, y.at1, slope.at, y.at1, y.rows, 0)
    return slope


class FieldNetwork:
    """The field protocol for a spec that can `emit` and `emit_back` its layers."""

    tile_width, input, planned = Network.tile_width, Network.input, Network.planned
    folded, unfolded, check_theta, _check = Network.folded, Network.unfolded, Network.check_theta, Network._check

    def sketch(self, P: Program) -> None:
        """Emit all layers there and back."""
        x = self.input(P)
        F, tape = self.emit(P, x, True)
        self.emit_back(P, x, tape, F, "x")

    def _run(self, purpose: str, theta: Params, x: Array, *inputs: Array, out: int = 0) -> tuple[Array, Params | None]:
        """The stored output (N, out) and the parameter gradients of one program."""
        P = field_program(self, x.dtype, purpose, self.tile_width(x, purpose))
        theta = self.folded(theta)
        stored = np.empty((x.shape[0], out), x.dtype)
        strands = P.run(P.weights(theta), (flat(x, self.shape), *inputs), stored, NO_RECORDS[x.dtype])
        return stored, self.unfolded(P.unpack(strands, theta)) if P.params else None

    def _cotangent(self, name: str, g: Array, x: Array) -> Array:
        """g as (N, D'), checked."""
        check_array(name, g, shape=(x.shape[0], *self.out_shape), finite=True)
        check_same_dtype(name, g, x)
        return flat(g, self.out_shape)

    def _direction(self, v: Array, x: Array) -> Array:
        """v as (N, D), checked."""
        check_like("v", v, x)
        check_array("v", v, finite=True)
        return flat(v, self.shape)

    def field(self, theta: Params, x: Array) -> Array:
        """f(x_n). x: (N, *shape); returns (N, *out_shape). Raises ShapeError, DTypeError, NonFiniteError."""
        self._check(theta, x)
        out, _ = self._run("field", theta, x, out=flat_size(self.out_shape))
        return out.reshape(-1, *self.out_shape)

    def field_jvp(self, theta: Params, x: Array, v: Array) -> tuple[Array, Array]:
        """f(x_n), J(x_n) v_n. x, v: (N, *shape); returns two (N, *out_shape).

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        self._check(theta, x)
        both, _ = self._run("jvp", theta, x, self._direction(v, x), out=2 * flat_size(self.out_shape))
        f, along = both.reshape(-1, 2, *self.out_shape).swapaxes(0, 1)
        return np.ascontiguousarray(f), np.ascontiguousarray(along)

    def field_vjp(self, theta: Params, x: Array, g: Array) -> Array:
        """J(x_n)' g_n. x: (N, *shape), g: (N, *out_shape); returns like x. Raises as `field_jvp`."""
        self._check(theta, x)
        out, _ = self._run("vjp", theta, x, self._cotangent("g", g, x), out=flat_size(self.shape))
        return out.reshape(x.shape)

    def field_grad_theta(self, theta: Params, x: Array, g: Array) -> Params:
        """grad_theta sum_n g_n . f(x_n). x: (N, *shape), g: (N, *out_shape); returns like theta.

        Raises as `field_jvp`.
        """
        self._check(theta, x)
        return self._run("params", theta, x, self._cotangent("g", g, x))[1]

    def field_grad_theta_along(self, theta: Params, x: Array, g: Array, h: Array, v: Array) -> Params:
        """grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]. x, v: (N, *shape), g, h: (N, *out_shape).

        Returns like theta. Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("field_grad_theta_along")
        self._check(theta, x)
        both = [self._cotangent(name, a, x) for name, a in (("h", h), ("g", g))]
        return self._run("along", theta, x, self._direction(v, x), np.concatenate(both, axis=1))[1]
