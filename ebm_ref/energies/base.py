"""The energy protocol, from one forward and one backward pass.

A subclass writes two passes over plain NumPy layers, for arrays and Jets alike:

    forward(theta, x) -> E (N,), tape          tape: the inputs of its layers, in the order of use
    backward(theta, tape, dy) -> dx, grads     dx_n = dy_n grad_x E(x_n),  grads = sum_n dy_n grad_theta E(x_n);
                                               empties the tape from its end

and this class reads off every level of the protocol (coefficients by jet.py, x(s) = x + s v):

    level 1   energy                E(x_n)
              grad_x                grad_x E(x_n)
              grad_theta            sum_n w_n grad_theta E(x_n)
    level 2   grad_theta_along      grad_theta sum_n v_n . grad_x E(x_n)         s^1 of grad_theta E(x(s))
              hvp                   H(x_n) v_n                                   s^1 of grad_x E(x(s))
    level 3   curvature             v_n' H(x_n) v_n                              2 s^2 of E(x(s))
              grad_theta_curvature  sum_n w_n grad_theta v_n' H(x_n) v_n         2 s^2 of grad_theta E(x(s))
              curvature_and_grad_theta  both at once: the way there of the second has the first

Source: Griewank & Walther 2008, Evaluating Derivatives, chapter 13; Pearlmutter 1994 for H v.
Level: provides 1, 2 and 3.
Twins, of levels 1 and 2: numba_cpu (MLPEnergy, ConvEnergy, DeepConvEnergy, ClassifierEnergy), numba_cuda and cupy_raw
(the first three).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, Params, Shapes, check_array, theta_check
from ..jet import jet_coefficient, jet_seed

Tape = list[Any]


class EnergyBase(ABC):
    """E(theta, x) with exact derivatives; x is (N, *shape), theta a dict of named arrays of x's dtype.

    Every method raises ShapeError, DTypeError or NonFiniteError on bad input; levels 2 and 3 raise
    SmoothnessError when the energy is only piecewise smooth.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def theta_shapes(self) -> Shapes:
        """Names and shapes of the parameters, in their flat order."""

    @abstractmethod
    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        """E(x_n), (N,), and the tape."""

    @abstractmethod
    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        """dx_n = dy_n grad_x E(x_n), like x, and sum_n dy_n grad_theta E(x_n)."""

    def require_smooth(self, what: str) -> None:  # noqa: B027 - smooth unless a network spec says otherwise
        """Raise `SmoothnessError` when the energy lacks the second derivatives that `what` needs."""

    # ------------------------------------------------------------------------------------ level 1

    def energy(self, theta: Params, x: Array) -> Array:
        """E(x_n). x: (N, *shape), returns (N,)."""
        self._check(theta, x)
        y: Array = self.forward(theta, x)[0]
        return y

    def grad_x(self, theta: Params, x: Array) -> Array:
        """grad_x E(x_n). x: (N, *shape), returns like x."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """E(x_n) and grad_x E(x_n) from one pass. x: (N, *shape), returns (N,) and like x."""
        self._check(theta, x)
        y, tape = self.forward(theta, x)
        dx, _ = self.backward(theta, tape, np.ones_like(y))
        return y, dx

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta E(x_n). x: (N, *shape), w: (N,), returns like theta."""
        self._check(theta, x, w=w)
        _, tape = self.forward(theta, x)
        _, grads = self.backward(theta, tape, w)
        return {name: grads[name] for name in self.theta_shapes()}

    # ------------------------------------------------------------------------------------ level 2

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n). x, v: (N, *shape), returns like theta."""
        self.require_smooth("grad_theta_along")
        self._check(theta, x, v=v)
        _, tape = self.forward(theta, jet_seed(x, v, 1))
        _, grads = self.backward(theta, tape, np.ones(x.shape[0], x.dtype))
        return {name: jet_coefficient(grads[name], 1) for name in self.theta_shapes()}

    def hvp(self, theta: Params, x: Array, v: Array) -> Array:
        """H(x_n) v_n, H = grad_x grad_x' E. x, v: (N, *shape), returns like x."""
        self.require_smooth("hvp")
        self._check(theta, x, v=v)
        _, tape = self.forward(theta, jet_seed(x, v, 1))
        dx, _ = self.backward(theta, tape, np.ones(x.shape[0], x.dtype))
        hv: Array = jet_coefficient(dx, 1)
        return hv

    # ------------------------------------------------------------------------------------ level 3

    def curvature(self, theta: Params, x: Array, v: Array) -> Array:
        """v_n' H(x_n) v_n. x, v: (N, *shape), returns (N,)."""
        self.require_smooth("curvature")
        self._check(theta, x, v=v)
        y, _ = self.forward(theta, jet_seed(x, v, 2))
        vhv: Array = 2 * jet_coefficient(y, 2)
        return vhv

    def grad_theta_curvature(self, theta: Params, x: Array, v: Array, w: Array) -> Params:
        """sum_n w_n grad_theta v_n' H(x_n) v_n. x, v: (N, *shape), w: (N,), returns like theta."""
        self.require_smooth("grad_theta_curvature")
        return self.curvature_and_grad_theta(theta, x, v, w)[1]

    def curvature_and_grad_theta(self, theta: Params, x: Array, v: Array, w: Array) -> tuple[Array, Params]:
        """v_n' H(x_n) v_n, (N,), and sum_n w_n grad_theta v_n' H(x_n) v_n, like theta, from one pass."""
        self.require_smooth("curvature_and_grad_theta")
        self._check(theta, x, v=v, w=w)
        y, tape = self.forward(theta, jet_seed(x, v, 2))
        _, grads = self.backward(theta, tape, w)
        vhv: Array = 2 * jet_coefficient(y, 2)
        return vhv, {name: 2 * jet_coefficient(grads[name], 2) for name in self.theta_shapes()}

    # -------------------------------------------------------------------------------------- checks

    def _check(self, theta: Params, x: Array, v: Array | None = None, w: Array | None = None) -> None:
        check_array("x", x, shape=(None, *self.shape), finite=True)
        if v is not None:
            check_array("v", v, shape=x.shape, finite=True)
        if w is not None:
            check_array("w", w, shape=(x.shape[0],), finite=True)
        dtype = theta_check(self, theta)
        for name, array in (("theta", dtype), ("v", getattr(v, "dtype", x.dtype)), ("w", getattr(w, "dtype", x.dtype))):
            if array != x.dtype:
                raise DTypeError(f"{name}: expected {x.dtype} like x, found {array}")
