"""What every network of this backend has in common: one forward and one backward pass over launches.

    y_0 = x,  y_{i+1} = block_i(y_i),  E = out(y_L);   back from dE = 1 or w, last to first (blocks.py)

On numbers the passes give E, grad_x E and sum_n w_n grad_theta E(x_n). On jets (x, v) of order 1 the last coefficient
of dx is H v, and that of the parameters' gradients is grad_theta sum_n v_n . grad_x E(x_n).

A subclass inherits a spec (its fields, defaults and parameter names) and this class, and lists its blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from ebm_ref.contracts import DTypeError, Params, Shapes, check_array

from ..checks import check_like, check_same_dtype, check_samples, check_theta
from .blocks import Batch, Block, Conv, Pass, Stack, dense
from .device import current
from .layers import jet_last, jet_seed
from .limits import INT, PIXELS, check_fits


@dataclass(frozen=True)
class Workspace:
    """The arrays of one pass of N samples in jets of one order: allocated once, written over by every pass."""

    batch: Batch
    stack: Stack
    one: Any  # the cotangent of E: (N,) jets of the constant 1
    x: Any  # (N, D) jets of the input; None for order 0, where the input itself serves
    E: Any  # (N,) jets

    def run(self, theta: Params, x: Any, E: Any, dx: Any = None, w: Any = None, grads: Params | None = None) -> None:
        """E (N,), dx like x (None: not wanted) and the parameters' gradients, of x (N, *shape), all of them jets."""
        p = Pass(self.batch, theta, grads)
        self.stack.forward(p, x, E)
        if dx is not None or grads is not None:
            self.stack.backward(p, x, self.one if w is None else w, dx)


class Layered:
    """The arguments of a spec that lists its blocks: parameters, samples and directions, on the device and checked."""

    shape: tuple[int, ...]
    theta_shapes: Callable[[], Shapes]
    require_smooth: Callable[[str], None]
    layers: Callable[[Batch], list[Block]]  # the blocks between x and the last layer, which is called out

    def adopt_theta(self, theta: Params, dtype: Any) -> Params:
        """theta as arrays of the device. Raises unless it holds this network's parameters, in `dtype`, and they fit."""
        if not isinstance(theta, dict):
            raise DTypeError(f"theta: expected a dict of arrays, found {type(theta).__name__}")
        dev = current()
        for name, a in theta.items():
            check_fits(f"theta[{name!r}]", a, numbers=INT)
        mine = {name: dev.array(f"theta[{name!r}]", a) for name, a in theta.items()}
        check_theta(mine, self.theta_shapes(), dtype)
        return mine

    def _adopt(self, theta: Params, x: Any) -> tuple[Params, Any]:
        """theta and x on the device, checked."""
        check_fits("x", x, samples=INT, pixels=PIXELS)
        x = current().array("x", x)
        check_samples("x", x, self.shape)
        check_array("x", x, finite=True)
        return self.adopt_theta(theta, x.dtype), x

    def _direction(self, v: Any, x: Any) -> Any:
        """v on the device, checked: like x."""
        check_fits("v", v, samples=INT, pixels=PIXELS)
        v = current().array("v", v)
        check_like("v", v, x)
        check_array("v", v, finite=True)
        return v

    def _like_theta(self, dtype: Any) -> Params:
        return {name: current().empty(shape, dtype) for name, shape in self.theta_shapes().items()}


class Network(Layered):
    """Levels 1 and 2 of the energy protocol for a spec that lists its blocks."""

    def workspace(self, N: int, dtype: Any, order: int = 0) -> Workspace:
        """Every array that a pass of N samples needs, on the current device."""
        batch, D = Batch(N, dtype, order), prod(self.shape)
        out = Conv("out", dense(self.theta_shapes()["out.w"][0], 1))
        x = batch.empty(D) if order else None
        space = Workspace(batch, Stack(self.layers(batch), out), batch.empty(), x, batch.empty())
        jet_seed(N, None, None, space.one, dtype, order)
        return space

    def launch_energy_and_grad_x(self, theta: Params, x: Any, E: Any, g: Any, workspace: Workspace) -> None:
        """E (N,) and grad_x E, like x, into the given arrays of the device: launches and nothing else.

        Trusts its arguments: `adopt_theta`'s parameters, x (N, *shape) contiguous, and a workspace of N samples of
        order 0. It neither allocates nor waits, so a graph may record it.
        """
        workspace.run(theta, x, E, g)

    def energy(self, theta: Params, x: Any) -> Any:
        """E(x). x: (N, *shape); returns (N,). Raises ShapeError, DTypeError, NonFiniteError."""
        theta, x = self._adopt(theta, x)
        space = self.workspace(len(x), x.dtype)
        space.run(theta, x, space.E)
        return space.E

    def grad_x(self, theta: Params, x: Any) -> Any:
        """grad_x E(x). x: (N, *shape); returns like x. Raises ShapeError, DTypeError, NonFiniteError."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Any) -> tuple[Any, Any]:
        """E(x), grad_x E(x). x: (N, *shape); returns (N,), like x. Raises ShapeError, DTypeError, NonFiniteError."""
        theta, x = self._adopt(theta, x)
        space, g = self.workspace(len(x), x.dtype), current().empty(x.shape, x.dtype)
        self.launch_energy_and_grad_x(theta, x, space.E, g, space)
        return space.E, g

    def grad_theta(self, theta: Params, x: Any, w: Any) -> Params:
        """sum_n w_n grad_theta E(x_n). x: (N, *shape), w: (N,); returns like theta.

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        theta, x = self._adopt(theta, x)
        check_fits("w", w, samples=INT)
        w = current().array("w", w)
        check_array("w", w, shape=(len(x),), finite=True)
        check_same_dtype("w", w, x)
        space, grads = self.workspace(len(x), x.dtype), self._like_theta(x.dtype)
        space.run(theta, x, space.E, w=w, grads=grads)
        return grads

    def grad_theta_along(self, theta: Params, x: Any, v: Any) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n). x, v: (N, *shape); returns like theta.

        Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("grad_theta_along")
        theta, space = self._seeded(theta, x, v)
        grads = self._like_theta(space.batch.dtype)
        space.run(theta, space.x, space.E, grads=grads)
        return grads

    def hvp(self, theta: Params, x: Any, v: Any) -> Any:
        """H(x_n) v_n, H the Hessian of E in x. x, v: (N, *shape); returns like x.

        Raises ShapeError, DTypeError, NonFiniteError, SmoothnessError.
        """
        self.require_smooth("hvp")
        theta, space = self._seeded(theta, x, v)
        batch = space.batch
        space.run(theta, space.x, space.E, space.x)  # dx over x: no parameter gradient reads x
        hv = current().empty((batch.N, *self.shape), batch.dtype)
        jet_last(hv.size, space.x, hv, batch.dtype, batch.order)
        return hv

    def _seeded(self, theta: Params, x: Any, v: Any) -> tuple[Params, Workspace]:
        """theta on the device, and a workspace of order 1 with x along v in it."""
        theta, x = self._adopt(theta, x)
        v = self._direction(v, x)
        space = self.workspace(len(x), x.dtype, 1)
        jet_seed(x.size, x, v, space.x, x.dtype, 1)
        return theta, space
