"""What every network of this backend has in common: its layers forwards and backwards, and the protocol's methods.

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and writes two passes:
    forward(P, x) -> E          x: jets (N, H, W, C, J); E: (N, 1, 1, 1, J)
    backward(P, dE) -> dx       in the reverse order; P takes the inputs of the layers from its tape

Fed jets [x, v] and the cotangent [1, 0], coefficient 1 of dx is H v and that of a parameter's gradient is
grad_theta (v . grad_x E): level 2 by the passes of level 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ebm_ref.contracts import Params, check_array, flat_size
from ebm_ref.specs import ACTIVATIONS

from ..checks import check_like, check_same_dtype, check_samples, check_theta
from .conv2d import conv2d_apply, conv2d_apply_dx, conv2d_apply_params
from .device import current, launch
from .group_norm import norm_apply, norm_apply_back
from .layers import (
    activation_dx,
    activation_y,
    add_to,
    jet_ones,
    jet_pair,
    jet_tangent,
    pool_dx,
    pool_y,
    upsample_dx,
    upsample_y,
)

EPS = 1e-5  # of every norm inside a network


class Pass:
    """One run through the layers of a network: forwards it fills the tape, backwards it empties it.

    Values are jets (N, H, W, C, J). `grads` gets the parameters' gradients where `params` says that they are wanted.
    """

    def __init__(self, theta: Params, J: int, params: bool) -> None:
        self.theta, self.order, self.params = theta, J - 1, params
        self.tape: list[Any] = []
        self.grads: Params = {}

    def filters(self, name: str) -> Any:
        """`name`.w as (R, S, C, O): a dense layer (C, O) is a 1x1 convolution."""
        w = self.theta[f"{name}.w"]
        return w if w.ndim == 4 else w.reshape(1, 1, *w.shape)

    def conv(self, name: str, x: Any, stride: int = 1, padding: str = "SAME") -> Any:
        self.tape.append(x)
        return conv2d_apply(x, self.filters(name), self.theta[f"{name}.b"], stride, padding)

    def conv_back(self, name: str, dy: Any, stride: int = 1, padding: str = "SAME", first: bool = False) -> Any:
        """dx; none for the first layer of a pass whose parameters alone are wanted."""
        x, w = self.tape.pop(), self.filters(name)
        if self.params:
            dw, self.grads[f"{name}.b"] = conv2d_apply_params(x, w, dy, stride, padding)
            self.grads[f"{name}.w"] = dw.reshape(self.theta[f"{name}.w"].shape)
        return None if first and self.params else conv2d_apply_dx(x, w, dy, stride, padding)

    def norm(self, name: str, x: Any, groups: int) -> Any:
        self.tape.append(x)
        N, H, W, C, J = x.shape
        y = norm_apply(x.reshape(N, H * W, C, J), self.theta[f"{name}.gamma"], self.theta[f"{name}.beta"], groups, EPS)
        return y.reshape(x.shape)

    def norm_back(self, name: str, dy: Any, groups: int) -> Any:
        x = self.tape.pop()
        N, H, W, C, J = x.shape
        flat = (N, H * W, C, J)
        gamma = self.theta[f"{name}.gamma"]
        dx, sums = norm_apply_back(x.reshape(flat), gamma, dy.reshape(flat), groups, EPS, self.params)
        if self.params:
            self.grads[f"{name}.gamma"], self.grads[f"{name}.beta"] = sums[0], sums[1]
        return dx.reshape(x.shape)

    def act(self, kind: str, x: Any) -> Any:
        self.tape.append(x)
        y, J = current().empty(x.shape, x.dtype), x.shape[-1]
        T = x.size // J
        launch(activation_y, x.dtype, T, ACTIVATIONS.index(kind), x.reshape(T, J), y.reshape(T, J), order=self.order)
        return y

    def act_back(self, kind: str, dy: Any) -> Any:
        x = self.tape.pop()
        dx, J = current().empty(x.shape, x.dtype), x.shape[-1]
        T = x.size // J
        jets = (x.reshape(T, J), dy.reshape(T, J), dx.reshape(T, J))
        launch(activation_dx, x.dtype, T, ACTIVATIONS.index(kind), *jets, order=self.order)
        return dx

    def pool(self, kind: str, x: Any) -> Any:
        """(N, H, W, C, J) -> (N, 1, 1, C, J)."""
        self.tape.append(x)
        N, H, W, C, J = x.shape
        y = current().empty((N, 1, 1, C, J), x.dtype)
        count = float(H * W) if kind == "mean" else 1.0
        launch(pool_y, x.dtype, N * C * J, x.reshape(N, H * W, C * J), count, y.reshape(N, C * J))
        return y

    def pool_back(self, kind: str, dy: Any) -> Any:
        x = self.tape.pop()
        N, H, W, C, J = x.shape
        dx = current().empty(x.shape, x.dtype)
        count = float(H * W) if kind == "mean" else 1.0
        launch(pool_dx, x.dtype, x.size, dy.reshape(N, C * J), count, dx.reshape(N, H * W, C * J))
        return dx

    def upsample(self, x: Any) -> Any:
        """(N, H, W, C, J) -> (N, 2H, 2W, C, J)."""
        N, H, W, C, J = x.shape
        y = current().empty((N, 2 * H, 2 * W, C, J), x.dtype)
        launch(upsample_y, x.dtype, y.size, x.reshape(N, H, W, C * J), y.reshape(N, 2 * H, 2 * W, C * J))
        return y

    def upsample_back(self, dy: Any) -> Any:
        N, P, Q, C, J = dy.shape
        dx = current().empty((N, P // 2, Q // 2, C, J), dy.dtype)
        launch(upsample_dx, dy.dtype, dx.size, dy.reshape(N, P, Q, C * J), dx.reshape(N, P // 2, Q // 2, C * J))
        return dx

    def add(self, x: Any, y: Any) -> Any:
        """y + x, written into y."""
        launch(add_to, y.dtype, y.size, x.reshape(x.size), y.reshape(y.size))
        return y


class Layered(ABC):
    """What energies and fields share: a forward and a backward pass, and what they are handed."""

    @abstractmethod
    def input_shape(self) -> tuple[int, int, int]:
        """H, W, C of the input."""

    @abstractmethod
    def forward(self, P: Pass, x: Any) -> Any:
        """E or f of x, both as jets."""

    @abstractmethod
    def backward(self, P: Pass, dy: Any) -> Any:
        """dx from a cotangent of E or f, both as jets; P takes the parameters' gradients."""

    def adopt_theta(self, theta: Params, x: Any) -> Params:
        """theta's arrays as arrays of the device; raises unless they are this network's, in x's precision."""
        if isinstance(theta, dict):
            theta = {name: current().array(f"theta[{name!r}]", a) for name, a in theta.items()}
        check_theta(theta, self.theta_shapes(), x.dtype)
        return theta

    def _given(self, theta: Params, x: Any) -> tuple[Params, Any]:
        x = current().array("x", x)
        check_samples("x", x, self.shape)
        check_array("x", x, finite=True)
        return self.adopt_theta(theta, x), x

    def _direction(self, x: Any, v: Any) -> Any:
        v = current().array("v", v)
        check_like("v", v, x)
        check_array("v", v, finite=True)
        return v

    def _jets(self, x: Any, v: Any = None) -> Any:
        """x, or [x, v], as (N, H, W, C, J)."""
        shape = (x.shape[0], *self.input_shape())
        return x.reshape(*shape, 1) if v is None else pair(x, v).reshape(*shape, 2)


class Network(Layered):
    """Level 1 and 2 of the energy protocol for a spec with a forward and a backward pass."""

    def _cotangent(self, E: Any) -> Any:
        dE, J = current().empty(E.shape, E.dtype), E.shape[-1]
        launch(jet_ones, E.dtype, E.shape[0], dE.reshape(E.shape[0], J), order=J - 1)
        return dE

    def forces(self, theta: Params, x: Any) -> tuple[Any, Any]:
        """E (N,) and grad_x E of checked arrays of the device."""
        P = Pass(theta, 1, params=False)
        E = self.forward(P, self._jets(x))
        return E.reshape(x.shape[0]), self.backward(P, self._cotangent(E)).reshape(x.shape)

    def energy(self, theta: Params, x: Any) -> Any:
        """E(x). x: (N, *shape); returns (N,). Raises ShapeError, DTypeError, NonFiniteError."""
        theta, x = self._given(theta, x)
        return self.forward(Pass(theta, 1, params=False), self._jets(x)).reshape(x.shape[0])

    def grad_x(self, theta: Params, x: Any) -> Any:
        """grad_x E(x). x: (N, *shape); returns like x. Raises ShapeError, DTypeError, NonFiniteError."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Any) -> tuple[Any, Any]:
        """E(x), grad_x E(x). x: (N, *shape); returns (N,), like x. Raises ShapeError, DTypeError, NonFiniteError."""
        return self.forces(*self._given(theta, x))

    def grad_theta(self, theta: Params, x: Any, w: Any) -> Params:
        """sum_n w_n grad_theta E(x_n). x: (N, *shape), w: (N,); returns like theta.

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        theta, x = self._given(theta, x)
        w = current().array("w", w)
        check_array("w", w, shape=(x.shape[0],), finite=True)
        check_same_dtype("w", w, x)
        P = Pass(theta, 1, params=True)
        E = self.forward(P, self._jets(x))
        self.backward(P, w.reshape(E.shape))
        return {name: P.grads[name] for name in self.theta_shapes()}

    def grad_theta_along(self, theta: Params, x: Any, v: Any) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n). x, v: (N, *shape); returns like theta.

        Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("grad_theta_along")
        theta, x = self._given(theta, x)
        P = Pass(theta, 2, params=True)
        E = self.forward(P, self._jets(x, self._direction(x, v)))
        self.backward(P, self._cotangent(E))
        return {name: P.grads[name] for name in self.theta_shapes()}

    def hvp(self, theta: Params, x: Any, v: Any) -> Any:
        """H(x_n) v_n, H the Hessian of E in x. x, v: (N, *shape); returns like x.

        Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("hvp")
        theta, x = self._given(theta, x)
        P = Pass(theta, 2, params=False)
        E = self.forward(P, self._jets(x, self._direction(x, v)))
        dx, hv = self.backward(P, self._cotangent(E)), current().empty(x.shape, x.dtype)
        launch(jet_tangent, x.dtype, x.size, dx.reshape(x.size, 2), hv.reshape(x.size))
        return hv


def pair(x: Any, v: Any) -> Any:
    """x + s v as jets (size, 2)."""
    jets = current().empty((x.size, 2), x.dtype)
    launch(jet_pair, x.dtype, x.size, x.reshape(x.size), v.reshape(x.size), jets)
    return jets


def one_pixel(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(1, 1, D): a sample without pixels."""
    return 1, 1, flat_size(shape)
