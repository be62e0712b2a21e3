"""Repulsion: copies that are drawn together and push each other apart.

    repulsion           W(x_1 .. x_C) = -(tau / sigma^2) sum_{i<j} |x_i - x_j|^2 = -(tau C / sigma^2) sum_i |x_i - m|^2
                        grad_{x_i} W = -(2 tau C / sigma^2) (x_i - m),   m the mean of the copies
    InteractionEnergy   U(x_1 .. x_C) = sum_i V(x_i) + W: one sample of U is C samples of V

The gradients of W add to 0 and W does not change when all copies move together. W is unbounded below: exp(-U / tau)
exists only where V confines more than W spreads. In one step dt of descent W alone makes every distance from the mean
grow by 1 + 2 tau C dt / sigma^2; `check_step` refuses a step at which they would double, and a step is small only when
that product is far below 1. On V = k |x|^2 / 2 the distances die out iff 2 tau C / sigma^2 < k.

`heated` is U at another temperature: `heated_run` keeps W as strong as its noise, so that it vanishes while noise is
carried to data, and acts near data only.

Source: Balcerak et al. 2025, Energy Matching, arXiv:2504.10612, algorithm 3 (interaction energy).
Level: provides 1, 2 and 3, where V does. Twins of repulsion: numba_cpu, numba_cuda,
cupy_raw; of the energy none, a fast backend's energy is the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    check_array,
    check_count,
    check_number,
    flat_size,
)
from ..trunk import OnTrunk


def repulsion(x: Array, tau: float, sigma: float) -> tuple[Array, Array]:
    """W = -(tau / sigma^2) sum_{i<j} |x_i - x_j|^2 and its gradient -(2 tau C / sigma^2) (x_i - m), of each group.

    x: (N, C, *shape), N groups of C >= 1 copies   tau >= 0   sigma > 0   returns W (N,) and the gradient, like x.
    Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ShapeError(f"x: expected (N, C, *shape) with C >= 1, found {tuple(x.shape)}")
    check_number("tau", tau, low=0.0)
    check_number("sigma", sigma, low=0.0, open_low=True)
    strength = float(tau) * x.shape[1] / float(sigma) ** 2
    d = x - np.mean(x, axis=1, keepdims=True)  # (N, C, *shape)
    W: Array = -strength * np.sum((d * d).reshape((x.shape[0], flat_size(x.shape[1:]))), axis=1)  # (N,)
    return W, -2 * strength * d


@dataclass(frozen=True)
class InteractionEnergy(OnTrunk):
    """U(x_1 .. x_C) = sum_i V(x_i) - (tau / sigma^2) sum_{i<j} |x_i - x_j|^2; x: (N, C, *shape), theta is the trunk's.

    trunk: V, an energy of any backend   copies: C >= 1   sigma > 0   tau >= 0
    Raises DTypeError, RangeError; the methods what the trunk raises.
    """

    trunk: Any
    copies: int
    sigma: float
    tau: float

    def __post_init__(self) -> None:
        if not (hasattr(self.trunk, "shape") and hasattr(self.trunk, "grad_x")):
            raise DTypeError(f"trunk: expected an energy, found {type(self.trunk).__name__}")
        check_count("copies", self.copies, low=1)
        check_number("sigma", self.sigma, low=0.0, open_low=True)
        check_number("tau", self.tau, low=0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *shape)."""
        return (self.copies, *self.trunk.shape)

    def heated(self, tau: float) -> InteractionEnergy:
        """U at the temperature tau >= 0. Raises RangeError, DTypeError."""
        return replace(self, tau=tau)

    def check_step(self, dt: float, tau: float) -> None:
        """Raise RangeError unless 2 tau C dt / sigma^2 < 1, where a step would not double the distances."""
        growth = 2 * float(tau) * self.copies * float(dt) / float(self.sigma) ** 2
        if growth >= 1:
            raise RangeError(f"dt: expected 2 tau C dt / sigma^2 < 1 (far below it to be accurate), found {growth:g}")

    def energy(self, theta: Params, x: Array) -> Array:
        """U(x_n), (N,)."""
        W, _ = self._repulsion("x", x)
        return self._add(self.trunk.energy(theta, self._apart(x))) + W

    def grad_x(self, theta: Params, x: Array) -> Array:
        """grad_x U(x_n), like x."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """Both, from one pass of the trunk."""
        W, push = self._repulsion("x", x)
        V, g = self.trunk.energy_and_grad_x(theta, self._apart(x))
        return self._add(V) + W, g.reshape(x.shape) + push

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta U(x_n): of the trunk alone."""
        self._repulsion("x", x)
        grads: Params = self.trunk.grad_theta(theta, self._apart(x), self._each(w, x))
        return grads

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x U(x_n): of the trunk alone."""
        self._repulsion("x", x)
        check_array("v", v, shape=x.shape)
        grads: Params = self.trunk.grad_theta_along(theta, self._apart(x), self._apart(v))
        return grads

    def hvp(self, theta: Params, x: Array, v: Array) -> Array:
        """H v, like x: of the trunk, and -(2 tau C / sigma^2) (v_i - mean v)."""
        self._repulsion("x", x)
        check_array("v", v, shape=x.shape)
        _, push = self._repulsion("v", v)  # W is quadratic
        hv: Array = self.trunk.hvp(theta, self._apart(x), self._apart(v)).reshape(x.shape) + push
        return hv

    def curvature(self, theta: Params, x: Array, v: Array) -> Array:
        """v' H v, (N,)."""
        self._repulsion("x", x)
        check_array("v", v, shape=x.shape)
        W, _ = self._repulsion("v", v)
        vhv: Array = self._add(self.trunk.curvature(theta, self._apart(x), self._apart(v))) + 2 * W
        return vhv

    def grad_theta_curvature(self, theta: Params, x: Array, v: Array, w: Array) -> Params:
        """sum_n w_n grad_theta v_n' H(x_n) v_n: of the trunk alone."""
        self._repulsion("x", x)
        check_array("v", v, shape=x.shape)
        grads: Params = self.trunk.grad_theta_curvature(theta, self._apart(x), self._apart(v), self._each(w, x))
        return grads

    def _repulsion(self, name: str, x: Array) -> tuple[Array, Array]:
        check_array(name, x, shape=(None, *self.shape), finite=isinstance(x, np.ndarray))
        return repulsion(x, self.tau, self.sigma)

    def _apart(self, x: Array) -> Array:
        """(N, C, *shape) -> (N C, *shape)."""
        apart: Array = x.reshape((x.shape[0] * self.copies, *self.trunk.shape))
        return apart

    def _add(self, y: Array) -> Array:
        """(N C,) -> the sum over copies, (N,)."""
        total: Array = np.sum(y.reshape((y.shape[0] // self.copies, self.copies)), axis=1)
        return total

    def _each(self, w: Array, x: Array) -> Array:
        """(N,) -> (N C,), the weight of a group for each copy."""
        check_array("w", w, shape=(x.shape[0],))
        return np.repeat(w, self.copies)
