"""What every field of this backend has in common: the field protocol, from one forward and one backward pass.

    y_0 = x,  y_{i+1} = block_i(y_i),  f = out(y_L);   back from a cotangent of f, last to first (blocks.py)

On numbers the passes give f, J' g and grad_theta sum g . f. On jets (x, v) of order 1 the coefficients of f are f and
J v; with the cotangent (h, g), which is h + s g, the last coefficient of the parameters' gradients is
grad_theta sum [ g . f + h . (J v) ], in the one sweep.

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and lists its blocks and `out`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from ebm_ref.contracts import Params, check_array

from ..checks import check_same_dtype
from .blocks import Batch, Conv, Pass, Stack
from .device import current
from .field import jet_parts
from .layers import jet_seed
from .limits import INT, PIXELS, check_fits
from .network import Layered


@dataclass(frozen=True)
class FieldSpace:
    """The arrays of one pass of N samples in jets of one order: allocated once, written over by every pass."""

    batch: Batch
    stack: Stack
    f: Any  # (N, *out_shape) jets

    def run(self, theta: Params, x: Any, f: Any, g: Any = None, dx: Any = None, grads: Params | None = None) -> None:
        """f (N, *out_shape) of x (N, *shape); with a cotangent g like f, dx = J' g and grads; all of them jets."""
        p = Pass(self.batch, theta, grads)
        self.stack.forward(p, x, f)
        if g is not None:
            self.stack.backward(p, x, g, dx)


class FieldNetwork(Layered):
    """The field protocol for a spec that lists its blocks."""

    out_shape: tuple[int, ...]
    last: Callable[[], Conv]  # the layer that is called out

    def field_space(self, N: int, dtype: Any, order: int = 0) -> FieldSpace:
        """Every array that a pass of N samples needs, on the current device."""
        batch = Batch(N, dtype, order)
        return FieldSpace(batch, self.stack(batch), batch.empty(*self.out_shape))

    def stack(self, batch: Batch) -> Stack:
        """The layers, with arrays for that batch."""
        return Stack(self.layers(batch), self.last())

    def launch_field(self, theta: Params, x: Any, f: Any, space: FieldSpace) -> None:
        """f(x) into the given array of the device: launches and nothing else.

        Trusts its arguments: `adopt_theta`'s parameters, x (N, *shape) and f (N, *out_shape) contiguous, and a space
        of N samples of order 0. It neither allocates nor waits, so a graph may record it.
        """
        space.run(theta, x, f)

    def field(self, theta: Params, x: Any) -> Any:
        """f(x_n). x: (N, *shape); returns (N, *out_shape). Raises ShapeError, DTypeError, NonFiniteError."""
        theta, x = self._adopt(theta, x)
        space = self.field_space(len(x), x.dtype)
        space.run(theta, x, space.f)
        return space.f

    def field_jvp(self, theta: Params, x: Any, v: Any) -> tuple[Any, Any]:
        """f(x_n), J(x_n) v_n. x, v: (N, *shape); returns two (N, *out_shape).

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        theta, x = self._adopt(theta, x)
        v = self._direction(v, x)
        space = self.field_space(len(x), x.dtype, 1)
        space.run(theta, self._jets(x, v), space.f)
        f, along = (current().empty((len(x), *self.out_shape), x.dtype) for _ in range(2))
        jet_parts(f.size, space.f, f, along, x.dtype, 1)
        return f, along

    def field_vjp(self, theta: Params, x: Any, g: Any) -> Any:
        """J(x_n)' g_n. x: (N, *shape), g: (N, *out_shape); returns like x. Raises as `field_jvp`."""
        theta, x = self._adopt(theta, x)
        g = self._cotangent("g", g, x)
        space, dx = self.field_space(len(x), x.dtype), current().empty(x.shape, x.dtype)
        space.run(theta, x, space.f, g, dx)
        return dx

    def field_grad_theta(self, theta: Params, x: Any, g: Any) -> Params:
        """grad_theta sum_n g_n . f(x_n). x: (N, *shape), g: (N, *out_shape); returns like theta.

        Raises as `field_jvp`.
        """
        theta, x = self._adopt(theta, x)
        g = self._cotangent("g", g, x)
        space, grads = self.field_space(len(x), x.dtype), self._like_theta(x.dtype)
        space.run(theta, x, space.f, g, grads=grads)
        return grads

    def field_grad_theta_along(self, theta: Params, x: Any, g: Any, h: Any, v: Any) -> Params:
        """grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]. x, v: (N, *shape), g, h: (N, *out_shape).

        Returns like theta. Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("field_grad_theta_along")
        theta, x = self._adopt(theta, x)
        g, h = self._cotangent("g", g, x), self._cotangent("h", h, x)
        v = self._direction(v, x)
        space, grads = self.field_space(len(x), x.dtype, 1), self._like_theta(x.dtype)
        space.run(theta, self._jets(x, v), space.f, self._jets(h, g), grads=grads)
        return grads

    # ------------------------------------------------------------------------------------------ arguments

    def _cotangent(self, name: str, g: Any, x: Any) -> Any:
        """g on the device, checked: like f(x)."""
        check_fits(name, g, samples=INT, pixels=PIXELS)
        g = current().array(name, g)
        check_array(name, g, shape=(len(x), *self.out_shape), finite=True)
        check_same_dtype(name, g, x)
        return g

    def _jets(self, a: Any, b: Any) -> Any:
        """(a, b) as jets of order 1. a, b: (N, *)."""
        y = Batch(len(a), a.dtype, 1).empty(prod(a.shape[1:]))
        jet_seed(a.size, a, b, y, a.dtype, 1)
        return y
