"""What every network of this backend has in common: the protocol's methods, each one program.

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and emits its layers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, ChainInfo, Params, check_array, flat_size

from ..checks import check_like, check_same_dtype, check_samples, check_theta, flat
from . import chain
from . import machine as m
from .links import Value
from .program import Program
from .registers import HALF, lane_count

LONE = 5  # products a lone one is worth: see few_partners
ALONE = 2  # samples at most that make a tile each: three take less time in half a register
MANY = 32  # tiles of three registers from which on there are enough for all threads
ONE_SAMPLE = ("chain", "energy", "grad_x", "field", "vjp", "outputs", "x")  # purposes


@lru_cache(maxsize=256)
def program(network: Any, dtype: np.dtype, purpose: str, width: int) -> Program:
    """The program of one method: "energy", "grad_x", "params"; with a tangent "hvp", "along"."""
    tangent = purpose in ("hvp", "along")
    P = Program(dtype, tangent, params=purpose in ("params", "along"), width=width)
    D = flat_size(network.shape)
    x = network.input(P)
    P.emit(m.LOAD, x.at, 0, D)
    if tangent:
        P.emit(m.LOAD, x.at1, 1, D)
    backward = None if purpose == "energy" else ("params" if P.params else "x")
    E, dx = network.emit(P, x, backward)
    P.emit(m.WRITE, E.at, 0, 0)
    if purpose in ("grad_x", "hvp"):
        P.emit(m.STORE, dx.at1 if tangent else dx.at, D)
    P.freeze()
    return P


@lru_cache(maxsize=256)
def chain_program(network: Any, dtype: np.dtype, noise_first: bool, width: int) -> Program:
    """K Langevin steps of a tile: records 0 energy and 1 |g| of each step, 2 whether the chain is alive."""
    P = Program(dtype, width=width)
    D = flat_size(network.shape)
    state, x = P.rows(D), network.input(P)
    bad, alive, norm, p = P.rows(1), P.rows(1), P.rows(1), P.pack("", 6)
    P.emit(m.LOAD, state, 0, D)
    P.emit(m.FILL, alive, 1, 1)
    P.section()
    P.emit(m.FILL, bad, 1, 0)
    xi = P.noise(D)
    P.emit(m.COPY, x.at, state, D)
    if noise_first:
        P.emit(chain.jitter_tile, state, xi, xi, D, p, bad, alive)
        P.emit(chain.keep_tile, x.at, xi, D, alive, bad)
    E, dx = network.emit(P, x, "x")
    P.emit(chain.move_tile, x.at, dx.at, -1 if noise_first else xi, x.at, D, p, bad, norm, E.at)
    P.emit(chain.keep_tile, state, x.at, D, alive, bad)
    P.emit(m.WRITE, E.at, 0, 1)
    P.emit(m.WRITE, norm, 1, 1)
    P.section()
    P.emit(m.WRITE, alive, 2, 0)
    P.emit(m.STORE, state, D)
    P.freeze()
    return P


@lru_cache(maxsize=256)
def few_partners(network: Any, dtype: np.dtype) -> bool:
    """Whether the samples of a tile rather than its pixels should share the weights.

    So it is where a fifth of the products are of pixels without a partner.
    """
    P = Program(dtype, width=lane_count(dtype))
    network.sketch(P)
    return LONE * P.lone > P.products


class Network:
    """Level 1 and 2 of the energy protocol for a spec that can `emit` its layers."""

    def planned(self) -> Any:
        """What the programs are made for and kept by: this network, unless it holds data."""
        return self

    def sketch(self, P: Program) -> None:
        """Emit all layers there and back."""
        self.emit(P, self.input(P), "x")

    def tile_width(self, x: Array, purpose: str = "chain") -> int:
        """Samples of a tile, of which results do not depend: one register of images, whose pixels share the weights;

        three registers of vectors, and of images so small that many pixels have no partner, or two where such tiles
        would be few; half a register where all samples fit, and one sample where they are ALONE or fewer, but for
        tangents and the gradient of parameters.
        """
        lanes, half = lane_count(x.dtype), lane_count(x.dtype, HALF)
        if len(x) <= ALONE and purpose in ONE_SAMPLE:
            return 1
        if 1 < half and len(x) <= half:
            return half
        if len(x) <= lanes or (self.image and not few_partners(self.planned(), x.dtype)):
            return lanes
        return (3 if len(x) >= MANY * 3 * lanes else 2) * lanes

    def extra(self, x: Array) -> tuple[Array, ...]:
        """Inputs (N, .) beyond x and v, for the samples x; raises where they do not fit."""
        return ()

    def folded(self, theta: Params) -> Params:
        """theta as the programs take it."""
        return theta

    def unfolded(self, grads: Params) -> Params:
        """The gradient of theta from that of folded(theta)."""
        return grads

    def input(self, P: Program) -> Value:
        """Rows for the input: an image (pixels, C), or one pixel with D channels."""
        D = flat_size(self.shape)
        C = self.shape[-1] if self.image else D
        return P.value(D // C, C)

    def check_theta(self, theta: Params, x: Array) -> None:
        """Raise unless theta holds this network's parameters, in x's precision."""
        check_theta(theta, self.theta_shapes(), x.dtype)

    def _check(self, theta: Params, x: Array) -> None:
        check_samples("x", x, self.shape)
        check_array("x", x, finite=True)
        self.check_theta(theta, x)

    def _run(self, purpose: str, theta: Params, x: Array, v: Array | None = None, w: Array | None = None) -> Any:
        """E (N,), second output (N, D), parameter gradients of one program."""
        network = self.planned()
        P = program(network, x.dtype, purpose, network.tile_width(x, purpose))
        X = flat(x, self.shape)
        inputs = (X, *(() if v is None else (flat(v, self.shape),)), *self.extra(x))
        records = np.ones((2, 1, len(X)), x.dtype)
        if w is not None:
            records[1, 0] = w
        out, theta = np.empty_like(X), self.folded(theta)
        strands = P.run(P.weights(theta), inputs, out, records)
        return records[0, 0], out.reshape(x.shape), self.unfolded(P.unpack(strands, theta)) if P.params else None

    def run_chain(
        self, theta: Params, x0: Array, K: int, p: Array, noise_first: bool, address: tuple[Any, ...], chains: Array
    ) -> tuple[Array, ChainInfo]:
        """K Langevin steps of checked arguments, all in one program (`langevin_run` calls this)."""
        self.check_theta(theta, x0)
        network = self.planned()
        P = chain_program(network, x0.dtype, noise_first, network.tile_width(x0))
        X = flat(x0, self.shape)
        out = np.empty_like(X)
        records = np.empty((3, max(K, 1), len(X)), x0.dtype)
        P.run(P.weights({**self.folded(theta), "": p}), (X, *self.extra(x0)), out, records, K, address, chains)
        energies, norms, alive = records
        return out.reshape(x0.shape), ChainInfo(energies[:K], norms[:K], alive[0] > 0)

    def energy(self, theta: Params, x: Array) -> Array:
        """E(x). x: (N, *shape); returns (N,). Raises ShapeError, DTypeError, NonFiniteError."""
        self._check(theta, x)
        return self._run("energy", theta, x)[0]

    def grad_x(self, theta: Params, x: Array) -> Array:
        """grad_x E(x). x: (N, *shape); returns like x. Raises ShapeError, DTypeError, NonFiniteError."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """E(x), grad_x E(x). x: (N, *shape); returns (N,), like x. Raises ShapeError, DTypeError, NonFiniteError."""
        self._check(theta, x)
        return self._run("grad_x", theta, x)[:2]

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta E(x_n). x: (N, *shape), w: (N,); returns like theta.

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        self._check(theta, x)
        check_array("w", w, shape=(x.shape[0],), finite=True)
        check_same_dtype("w", w, x)
        return self._run("params", theta, x, w=w)[2]

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n). x, v: (N, *shape); returns like theta.

        Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("grad_theta_along")
        self._check(theta, x)
        check_like("v", v, x)
        check_array("v", v, finite=True)
        return self._run("along", theta, x, v=v)[2]

    def hvp(self, theta: Params, x: Array, v: Array) -> Array:
        """H(x_n) v_n, H the Hessian of E in x. x, v: (N, *shape); returns like x.

        Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("hvp")
        self._check(theta, x)
        check_like("v", v, x)
        check_array("v", v, finite=True)
        return self._run("hvp", theta, x, v=v)[1]
