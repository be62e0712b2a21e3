"""What every network of this backend has in common: the protocol's methods, each one program.

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and emits its layers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, Params, check_array, flat_size

from ..checks import check_like, check_same_dtype, check_samples, check_theta, flat
from . import machine as m
from .program import Program


@lru_cache(maxsize=256)
def program(network: Any, dtype: np.dtype, purpose: str) -> Program:
    """The program of one method: "energy", "grad_x", "params"; with a tangent "hvp", "along"; "chain" does no I/O."""
    tangent = purpose in ("hvp", "along")
    P = Program(dtype, tangent, params=purpose in ("params", "along"))
    D = flat_size(network.shape)
    pixels = D // network.shape[-1] if len(network.shape) == 3 else 1
    x = P.value(pixels, D // pixels)
    if purpose != "chain":
        P.emit(m.LOAD, x.at, 0, D)
        if tangent:
            P.emit(m.LOAD, x.at1, 1, D)
    backward = None if purpose == "energy" else ("params" if P.params else "x")
    E, dx = network.emit(P, x, backward)
    if purpose in ("energy", "grad_x"):
        P.emit(m.STORE, E.at, 0, 1)
    if purpose in ("grad_x", "hvp"):
        P.emit(m.STORE, dx.at1 if tangent else dx.at, 1, D)
    P.ports = (x.at, dx.at, E.at)
    P.freeze()
    return P


class Network:
    """Level 1 and 2 of the energy protocol for a spec that can `emit` its layers."""

    def _check(self, theta: Params, x: Array) -> None:
        check_samples("x", x, self.shape)
        check_theta(theta, self.theta_shapes(), x.dtype)

    def _run(self, purpose: str, theta: Params, x: Array, v: Array | None = None, w: Array | None = None) -> Any:
        """(E (N,), second output (N, D), parameter gradients) of one program."""
        X = flat(x, self.shape)
        V = X if v is None else flat(v, self.shape)
        weights = np.ones(len(X), x.dtype) if w is None else np.ascontiguousarray(w)
        E, out = np.empty((len(X), 1), x.dtype), np.empty_like(X)
        grads = program(self, x.dtype, purpose).run(theta, X, V, weights, E, out)
        return E[:, 0], out.reshape(x.shape), grads

    def energy(self, theta: Params, x: Array) -> Array:
        """E(x). x: (N, *shape); returns (N,). Raises ShapeError, DTypeError."""
        self._check(theta, x)
        return self._run("energy", theta, x)[0]

    def grad_x(self, theta: Params, x: Array) -> Array:
        """grad_x E(x). x: (N, *shape); returns like x. Raises ShapeError, DTypeError."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """E(x), grad_x E(x). x: (N, *shape); returns (N,), like x. Raises ShapeError, DTypeError."""
        self._check(theta, x)
        return self._run("grad_x", theta, x)[:2]

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta E(x_n). x: (N, *shape), w: (N,); returns like theta. Raises ShapeError, DTypeError."""
        self._check(theta, x)
        check_array("w", w, shape=(x.shape[0],))
        check_same_dtype("w", w, x)
        return self._run("params", theta, x, w=w)[2]

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n). x, v: (N, *shape); returns like theta.

        Raises ShapeError, DTypeError, SmoothnessError.
        """
        self.require_smooth("grad_theta_along")
        self._check(theta, x)
        check_like("v", v, x)
        return self._run("along", theta, x, v=v)[2]

    def hvp(self, theta: Params, x: Array, v: Array) -> Array:
        """H(x_n) v_n, H the Hessian of E in x. x, v: (N, *shape); returns like x.

        Raises ShapeError, DTypeError, SmoothnessError.
        """
        self.require_smooth("hvp")
        self._check(theta, x)
        check_like("v", v, x)
        return self._run("hvp", theta, x, v=v)[1]
