"""Weighted sum of energies: a product of experts.

    forward:   E(x) = sum_i weights_i E_i(x),   exp(-E) = prod_i exp(-E_i)^weights_i
    backward:  dx = sum_i dx_i, each E_i's backward fed weights_i dy

Source: Hinton 2002, Training Products of Experts by Minimizing Contrastive Divergence, eq. 1.
Level: provides 1, 2 and 3, where every term does.
Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import DTypeError, Params, ShapeError, Shapes, check_number
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class SumEnergy(EnergyBase):
    """E(x) = sum_i weights_i E_i(x). theta: each term's names behind "0.", "1.", ...

    terms: energies of one sample shape   weights: one finite number each. Raises ShapeError, DTypeError, RangeError.
    """

    terms: tuple[EnergyBase, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.terms) == 0 or len(self.terms) != len(self.weights):
            raise ShapeError(f"weights: expected one for each of >= 1 terms, found {len(self.weights)}")
        for i, (term, weight) in enumerate(zip(self.terms, self.weights, strict=True)):
            if not isinstance(term, EnergyBase):
                raise DTypeError(f"terms[{i}]: expected an energy, found {type(term).__name__}")
            if term.shape != self.shape:
                raise ShapeError(f"terms[{i}]: expected sample shape {self.shape}, found {term.shape}")
            check_number(f"weights[{i}]", weight, low=float("-inf"))

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.terms[0].shape

    def require_smooth(self, what: str) -> None:
        for term in self.terms:
            term.require_smooth(what)

    def theta_shapes(self) -> Shapes:
        return {f"{i}.{name}": size for i, term in enumerate(self.terms) for name, size in term.theta_shapes().items()}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        y: Any = 0.0
        tape: Tape = []
        for i, (term, weight) in enumerate(zip(self.terms, self.weights, strict=True)):
            y_i, tape_i = term.forward(self._part(theta, i), x)  # (N,)
            y = y + float(weight) * y_i
            tape.append(tape_i)
        return y, tape  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        dx: Any = 0.0
        grads: dict[str, Any] = {}
        for i in reversed(range(len(self.terms))):
            dx_i, grads_i = self.terms[i].backward(self._part(theta, i), tape.pop(), float(self.weights[i]) * dy)
            dx = dx + dx_i  # (N, *shape)
            grads |= {f"{i}.{name}": g for name, g in grads_i.items()}
        return dx, grads  # (N, *shape)

    def _part(self, theta: Params, i: int) -> Params:
        """The parameters of term i under their own names."""
        return {name: theta[f"{i}.{name}"] for name in self.terms[i].theta_shapes()}
