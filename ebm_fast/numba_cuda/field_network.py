"""What every field of this backend has in common: the protocol's methods, each by the passes of `network`.

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and writes two passes:
    forward(P, x) -> f          x: jets (N, H, W, C, J); f: jets of the samples (N, ..., J)
    backward(P, dy) -> dx       in the reverse order, dy like f; P takes the inputs of the layers from its tape

Jets [x, v] and the cotangent [h, g] give all in one sweep: coefficient 1 of f is J v, and that of a parameter's
gradient is grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ], for the factor of s in (h + s g) . f(x + s v).
"""

from __future__ import annotations

from typing import Any

from ebm_ref.contracts import Params, check_array

from ..checks import check_same_dtype
from .device import current, launch
from .layers import jet_tangent, jet_value
from .network import Layered, Pass, pair


class FieldNetwork(Layered):
    """The field protocol for a spec with a forward and a backward pass."""

    def _cotangent(self, name: str, g: Any, x: Any) -> Any:
        g = current().array(name, g)
        check_array(name, g, shape=(x.shape[0], *self.out_shape), finite=True)
        check_same_dtype(name, g, x)
        return g

    def values(self, theta: Params, x: Any) -> Any:
        """f(x_n), (N, *out_shape), of checked arrays of the device."""
        return self.forward(Pass(theta, 1, params=False), self._jets(x)).reshape(x.shape[0], *self.out_shape)

    def field(self, theta: Params, x: Any) -> Any:
        """f(x_n). x: (N, *shape); returns (N, *out_shape). Raises ShapeError, DTypeError, NonFiniteError."""
        return self.values(*self._given(theta, x))

    def field_jvp(self, theta: Params, x: Any, v: Any) -> tuple[Any, Any]:
        """f(x_n), J(x_n) v_n. x, v: (N, *shape); returns two (N, *out_shape).

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        theta, x = self._given(theta, x)
        F = self.forward(Pass(theta, 2, params=False), self._jets(x, self._direction(x, v)))
        size, shape = F.size // 2, (x.shape[0], *self.out_shape)
        f, along = current().empty(shape, x.dtype), current().empty(shape, x.dtype)
        launch(jet_value, x.dtype, size, F.reshape(size, 2), f.reshape(size))
        launch(jet_tangent, x.dtype, size, F.reshape(size, 2), along.reshape(size))
        return f, along

    def field_vjp(self, theta: Params, x: Any, g: Any) -> Any:
        """J(x_n)' g_n. x: (N, *shape), g: (N, *out_shape); returns like x. Raises as `field_jvp`."""
        theta, x = self._given(theta, x)
        g, P = self._cotangent("g", g, x), Pass(theta, 1, params=False)
        F = self.forward(P, self._jets(x))
        return self.backward(P, g.reshape(F.shape)).reshape(x.shape)

    def field_grad_theta(self, theta: Params, x: Any, g: Any) -> Params:
        """grad_theta sum_n g_n . f(x_n). x: (N, *shape), g: (N, *out_shape); returns like theta.

        Raises as `field_jvp`.
        """
        theta, x = self._given(theta, x)
        g, P = self._cotangent("g", g, x), Pass(theta, 1, params=True)
        F = self.forward(P, self._jets(x))
        self.backward(P, g.reshape(F.shape))
        return {name: P.grads[name] for name in self.theta_shapes()}

    def field_grad_theta_along(self, theta: Params, x: Any, g: Any, h: Any, v: Any) -> Params:
        """grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]. x, v: (N, *shape), g, h: (N, *out_shape).

        Returns like theta. Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("field_grad_theta_along")
        theta, x = self._given(theta, x)
        g, h, P = self._cotangent("g", g, x), self._cotangent("h", h, x), Pass(theta, 2, params=True)
        F = self.forward(P, self._jets(x, self._direction(x, v)))
        self.backward(P, pair(h, g).reshape(F.shape))
        return {name: P.grads[name] for name in self.theta_shapes()}
