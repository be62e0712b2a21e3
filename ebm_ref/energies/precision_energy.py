"""An energy whose network runs in short numbers, while all that is around it stays wide.

    energy      E^(x) = wide(forward(round theta, round x)), every operation on the way rounded
    grad_x      wide(backward(...)): of the forward pass's own tape, in the backward pass's format
    grad_theta  likewise

What comes in and goes out is float32 or float64: a chain's state, its noise and its differences of energy are never
short. With |E^ - E| <= d everywhere the law of exp(-E^) has TV <= tanh(d / 2) and KL <= d^2 / 2 from that of exp(-E),
which Metropolis chains on E^ sample; with |g^ - g| <= d and E m-strongly convex a chain that shares its noise stays
within d / m of the one of g, at any length.

A short energy is coarse where it is large: in bf16 two energies near 1000 differ by 0 or by 4 at least. Gradients alone
drive Langevin chains and descent, and they do not see that; rejection, weights and scores do. With forward "int8" and
a wider backward pass the activations are of one function and the weights of another: grad_x is then the gradient of
no function, and has a curl. int8 has one scale an array, so a sample's energy depends on the batch around it.

Source: Micikevicius et al. 2018, arXiv:1710.03740; Zhang et al. 2022, arXiv:2206.09909 (short gradients in SGLD);
Jacob et al. 2018, arXiv:1712.05877 (int8).
Level: provides 1. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, Params, Shapes, check_array, theta_check
from ..precision import PrecisionPolicy
from ..rounded import Rounded, rounded_array


@dataclass(frozen=True)
class PrecisionEnergy:
    """E^(x): `trunk`, run in the formats of `policy`; theta and x are wide and are rounded on the way in.

    trunk: an energy of ebm_ref (forward and backward)   policy: PrecisionPolicy
    Raises DTypeError; methods also ShapeError, NonFiniteError: input, or an overflow, which names its operation.
    """

    trunk: Any
    policy: PrecisionPolicy = PrecisionPolicy()

    def __post_init__(self) -> None:
        if not all(hasattr(self.trunk, name) for name in ("forward", "backward", "theta_shapes")):
            kind = type(self.trunk).__name__
            raise DTypeError(f"trunk: expected an energy with a forward and a backward pass, found {kind}")
        if not isinstance(self.policy, PrecisionPolicy):
            raise DTypeError(f"policy: expected a PrecisionPolicy, found {type(self.policy).__name__}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The energy's."""
        shape: tuple[int, ...] = self.trunk.shape
        return shape

    def theta_shapes(self) -> Shapes:
        """The energy's."""
        shapes: Shapes = self.trunk.theta_shapes()
        return shapes

    def energy(self, theta: Params, x: Array) -> Array:
        """E^(x_n). x: (N, *shape), returns (N,) of x's dtype."""
        self._check(theta, x)
        return _wide(self._forward(theta, x)[0], x)

    def grad_x(self, theta: Params, x: Array) -> Array:
        """The backward pass's answer, like x: the gradient of E^ up to rounding, if the passes have one format."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """E^(x_n), (N,), and grad_x, like x, from one pass."""
        self._check(theta, x)
        y, tape = self._forward(theta, x)
        dx, _ = self._backward(theta, tape, np.ones(x.shape[0], x.dtype))
        return _wide(y, x), _wide(dx, x)

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta E(x_n), as the backward pass has it. x: (N, *shape), w: (N,), returns like theta."""
        self._check(theta, x, w)
        _, grads = self._backward(theta, self._forward(theta, x)[1], w)
        return {name: _wide(grads[name], x) for name in self.theta_shapes()}

    def _round(self, name: str, x: Array, form: str) -> Rounded:
        return rounded_array(x.astype(self.policy.accumulate), form, self.policy.overflow, name)

    def _round_theta(self, theta: Params, form: str) -> dict[str, Any]:
        return {name: self._round(f"theta[{name!r}]", value, form) for name, value in theta.items()}

    def _forward(self, theta: Params, x: Array) -> tuple[Any, list[Any]]:
        form = self.policy.forward
        y, tape = self.trunk.forward(self._round_theta(theta, form), self._round("x", x, form))
        return y, tape

    def _backward(self, theta: Params, tape: list[Any], dy: Array) -> tuple[Any, dict[str, Any]]:
        form = self.policy.backward_form
        tape = [self._again(value, form) for value in tape]
        dx, grads = self.trunk.backward(self._round_theta(theta, form), tape, self._round("w", dy, form))
        return dx, grads

    def _again(self, value: Any, form: str) -> Any:
        """An entry of the tape, in the backward pass's format."""
        if isinstance(value, (tuple, list)):
            return type(value)(self._again(part, form) for part in value)
        return self._round("tape", value.values, form) if isinstance(value, Rounded) else value

    def _check(self, theta: Params, x: Array, w: Array | None = None) -> None:
        check_array("x", x, shape=(None, *self.shape), finite=True)
        if w is not None:
            check_array("w", w, shape=(x.shape[0],), finite=True)
        for name, dtype in (("theta", theta_check(self, theta)), ("w", x.dtype if w is None else w.dtype)):
            if dtype != x.dtype:
                raise DTypeError(f"{name}: expected {x.dtype} like x, found {dtype}")


def _wide(y: Rounded, x: Array) -> Array:
    wide: Array = y.values.astype(x.dtype)
    return wide
