"""An explicit energy on top of a field: its gradient is conservative where the field need not be.

    forward:   dot          E(x) = x . f(x)           grad_x E = f + J' x
               norm         E(x) = +f.f / 2           grad_x E = J' f       bounded below: E >= 0
               norm_below   E(x) = -f.f / 2           grad_x E = -J' f      bounded above, as published
    backward:  dot          dx = dy f + J' (dy x)
               norm         dx = J' (dy f);  norm_below: of -dy

J = df/dx. A descent on norm_below runs off where f grows without bound; norm is the confining one.

A norm head has a dead start: where out.w and out.b are all 0, f and J are 0 at every x, and grad_x E = J' f is of
second order in them, so that the gradient in theta of any loss of grad_x E is exactly 0; `check_live` refuses it. A dot
head is linear in the last layer and starts from there.

Source: Wang & Du 2025, Equilibrium Matching, arXiv:2510.02300, section 3 (dot product and squared L2 norm; the sign
of norm_below is the paper's).
Level: provides 1, 2 and 3 (2 and 3 for smooth fields). Twins: numba_cpu, numba_cuda,
cupy_raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Array, DTypeError, Params, flat_size
from ..field_specs import FieldEnergySpec
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class FieldEnergy(FieldEnergySpec, EnergyBase):  # type: ignore[override]  # shape is the field's
    """E(x) = x . f(x), +f.f / 2 or -f.f / 2; fields as in FieldEnergySpec, the field with `forward` and `backward`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (hasattr(self.field, "forward") and hasattr(self.field, "backward")):
            raise DTypeError(f"field: expected one with forward and backward, found {type(self.field).__name__}")

    def of_rows(self, rows: Array) -> FieldEnergy:
        """The same energy of the samples `rows` of a batch, where the field is held at something for each."""
        return FieldEnergy(self.field.of_rows(rows), self.head) if hasattr(self.field, "of_rows") else self

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        f, tape = self.field.forward(theta, x)  # (N, *out_shape)
        tape.append((x, f))
        if self.head == "dot":
            return _dot(x, f), tape  # (N,)
        return self._scale() * _dot(f, f), tape  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        x, f = tape.pop()
        dy = dy.reshape((dy.shape[0],) + (1,) * (len(f.shape) - 1))  # (N, 1, ...)
        if self.head == "dot":
            dx, grads = self.field.backward(theta, tape, dy * x)  # (N, *shape)
            return dy * f + dx, grads
        dx, grads = self.field.backward(theta, tape, 2 * self._scale() * dy * f)
        return dx, grads  # (N, *shape)

    def _scale(self) -> float:
        return 0.5 if self.head == "norm" else -0.5


def _dot(a: Any, b: Any) -> Any:
    """a_n . b_n, (N,)."""
    N = a.shape[0]
    return (a * b).reshape((N, flat_size(a.shape[1:]))).sum(axis=1)
