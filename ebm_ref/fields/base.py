"""The field protocol, from one forward and one backward pass.

A field is f: R^D -> R^D', as a flow's velocity or the gradient that descent follows. A subclass writes two passes over
plain NumPy layers, for arrays and Jets alike:

    forward(theta, x) -> f (N, *out_shape), tape   tape: the inputs of its layers, in the order of use
    backward(theta, tape, dy) -> dx, grads         dx_n = J(x_n)' dy_n, J = df/dx; empties the tape from its end
                                                   grads = grad_theta sum_n dy_n . f(x_n)

and this class reads off the protocol, with x(s) = x + s v and coefficients by jet.py:

    field                    f(x_n)
    field_jvp                f(x_n), J(x_n) v_n                                      s^0 and s^1 of f(x(s))
    field_vjp                J(x_n)' g_n
    field_grad_theta         grad_theta sum_n g_n . f(x_n)
    field_grad_theta_along   grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]

The last is one sweep. With the cotangent y(s) = h + s g held fixed in theta,

    sum_n y_n(s) . f(x_n(s)) = sum_n h_n . f(x_n) + s sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ] + O(s^2),

so its gradient in theta, which backward gives for Jets as it does for arrays, has the wanted one at s^1.

Source: Griewank & Walther 2008, Evaluating Derivatives, chapter 13; Pearlmutter 1994 for products with derivatives.
Level: field_grad_theta_along needs a smooth field, the rest does not.
Twins: none of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..contracts import Array, DTypeError, Params, Shapes, check_array, theta_check
from ..jet import jet_coefficient, jet_seed

Tape = list[Any]


class FieldBase(ABC):
    """f(theta, x) with exact derivatives; x is (N, *shape), f is (N, *out_shape), theta a dict of arrays of x's dtype.

    Every method raises ShapeError, DTypeError or NonFiniteError on bad input; field_grad_theta_along raises
    SmoothnessError when the field is only piecewise smooth.
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one f(x)."""

    @abstractmethod
    def theta_shapes(self) -> Shapes:
        """Names and shapes of the parameters, in their flat order."""

    @abstractmethod
    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        """f(x_n), (N, *out_shape), and the tape."""

    @abstractmethod
    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        """dx_n = J(x_n)' dy_n, like x, and grad_theta sum_n dy_n . f(x_n). dy: (N, *out_shape)."""

    def require_smooth(self, what: str) -> None:  # noqa: B027 - smooth unless a network spec says otherwise
        """Raise `SmoothnessError` when the field lacks the second derivatives that `what` needs."""

    def field(self, theta: Params, x: Array) -> Array:
        """f(x_n). x: (N, *shape), returns (N, *out_shape)."""
        self._check(theta, x)
        y: Array = self.forward(theta, x)[0]
        return y

    def field_jvp(self, theta: Params, x: Array, v: Array) -> tuple[Array, Array]:
        """f(x_n) and J(x_n) v_n from one pass. x, v: (N, *shape), returns two (N, *out_shape)."""
        self._check(theta, x, v=v)
        y, _ = self.forward(theta, jet_seed(x, v, 1))
        return jet_coefficient(y, 0), jet_coefficient(y, 1)

    def field_vjp(self, theta: Params, x: Array, g: Array) -> Array:
        """J(x_n)' g_n. x: (N, *shape), g: (N, *out_shape), returns like x."""
        self._check(theta, x, g=g)
        _, tape = self.forward(theta, x)
        dx: Array = self.backward(theta, tape, g)[0]
        return dx

    def field_grad_theta(self, theta: Params, x: Array, g: Array) -> Params:
        """grad_theta sum_n g_n . f(x_n). x: (N, *shape), g: (N, *out_shape), returns like theta."""
        self._check(theta, x, g=g)
        _, tape = self.forward(theta, x)
        _, grads = self.backward(theta, tape, g)
        return {name: grads[name] for name in self.theta_shapes()}

    def field_grad_theta_along(self, theta: Params, x: Array, g: Array, h: Array, v: Array) -> Params:
        """grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]. x, v: (N, *shape), g, h: (N, *out_shape)."""
        self.require_smooth("field_grad_theta_along")
        self._check(theta, x, g=g, h=h, v=v)
        _, tape = self.forward(theta, jet_seed(x, v, 1))
        _, grads = self.backward(theta, tape, jet_seed(h, g, 1))
        return {name: jet_coefficient(grads[name], 1) for name in self.theta_shapes()}

    def _check(self, theta: Params, x: Array, **others: Array) -> None:
        """g, h: like f; v: like x."""
        check_array("x", x, shape=(None, *self.shape), finite=True)
        for name, other in others.items():
            shape = x.shape if name == "v" else (x.shape[0], *self.out_shape)
            check_array(name, other, shape=shape, finite=True)
        dtypes = {"theta": theta_check(self, theta)} if self.theta_shapes() else {}
        for name, dtype in (dtypes | {name: other.dtype for name, other in others.items()}).items():
            if dtype != x.dtype:
                raise DTypeError(f"{name}: expected {x.dtype} like x, found {dtype}")
