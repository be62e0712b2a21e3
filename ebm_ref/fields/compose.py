"""Weighted sums of fields: what descends them descends the sum of what they descend.

    WeightedFields   f(x) = sum_i weights_i f_i(x)              and so J v, J' g, and the gradients in theta
    SumField         each f_i with a theta of its own

Where f_i = grad_x E_i it is the gradient of SumEnergy's E, a product of the models exp(-E_i)^weights_i; for fields that
are no gradients it is the same recipe, with no such law. The terms may come from any backend.

Source: Wang & Du 2025, arXiv:2510.02300 (composition); Hinton 2002, Training Products of Experts, eq. 1.
Level: every method that all terms have. Twins: none.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from ..contracts import Array, DTypeError, Params, ShapeError, Shapes, check_number, theta_check
from .base import FieldBase, Tape


class WeightedFields(FieldBase):
    """f(x) = sum_i weights_i f_i(x); every method is there where all terms have it, and raises what they raise."""

    @abstractmethod
    def parts(self) -> list[tuple[Any, float]]:
        """The f_i and their weights, at least one."""

    @abstractmethod
    def part_theta(self, theta: Params, i: int) -> Params:
        """The parameters of f_i under its own names."""

    @abstractmethod
    def merged(self, grads: list[dict[str, Any]]) -> dict[str, Any]:
        """The gradients of all f_i under the names of the whole."""

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of x."""
        shape: tuple[int, ...] = self.parts()[0][0].shape
        return shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one f(x)."""
        shape: tuple[int, ...] = self.parts()[0][0].out_shape
        return shape

    def require_smooth(self, what: str) -> None:
        """Raise `SmoothnessError` where a term does."""
        for part, _ in self.parts():
            if hasattr(part, "require_smooth"):
                part.require_smooth(what)

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        y: Any = 0.0
        tape: Tape = []
        for i, (part, weight) in enumerate(self.parts()):
            y_i, tape_i = part.forward(self.part_theta(theta, i), x)  # (N, *out_shape)
            y = y + weight * y_i
            tape.append(tape_i)
        return y, tape

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        dx: Any = 0.0
        grads: list[dict[str, Any]] = []
        for i, (part, weight) in reversed(list(enumerate(self.parts()))):
            dx_i, grads_i = part.backward(self.part_theta(theta, i), tape.pop(), weight * dy)
            dx = dx + dx_i  # (N, *shape)
            grads.insert(0, grads_i)
        return dx, self.merged(grads)

    def field(self, theta: Params, x: Array) -> Array:
        """sum_i weights_i f_i(x_n), (N, *out_shape)."""
        y: Array = self._sum([part.field(own, x) for part, own in self._own(theta)])
        return y

    def field_jvp(self, theta: Params, x: Array, v: Array) -> tuple[Array, Array]:
        """f(x_n) and J(x_n) v_n."""
        pairs = [part.field_jvp(own, x, v) for part, own in self._own(theta)]
        return self._sum([y for y, _ in pairs]), self._sum([y_dot for _, y_dot in pairs])

    def field_vjp(self, theta: Params, x: Array, g: Array) -> Array:
        """J(x_n)' g_n, like x."""
        dx: Array = self._sum([part.field_vjp(own, x, g) for part, own in self._own(theta)])
        return dx

    def field_grad_theta(self, theta: Params, x: Array, g: Array) -> Params:
        """grad_theta sum_n g_n . f(x_n)."""
        terms = zip(self._own(theta), self._weights(), strict=True)
        return self.merged([part.field_grad_theta(own, x, weight * g) for (part, own), weight in terms])

    def field_grad_theta_along(self, theta: Params, x: Array, g: Array, h: Array, v: Array) -> Params:
        """grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]."""
        terms = zip(self._own(theta), self._weights(), strict=True)
        grads = [part.field_grad_theta_along(own, x, weight * g, weight * h, v) for (part, own), weight in terms]
        return self.merged(grads)

    def _own(self, theta: Params) -> list[tuple[Any, Params]]:
        """Each term with its parameters. Raises ShapeError, DTypeError unless theta is the whole's."""
        theta_check(self, theta)
        return [(part, self.part_theta(theta, i)) for i, (part, _) in enumerate(self.parts())]

    def _weights(self) -> list[float]:
        return [weight for _, weight in self.parts()]

    def _sum(self, values: list[Any]) -> Any:
        total: Any = 0.0
        for value, weight in zip(values, self._weights(), strict=True):
            total = total + weight * value
        return total


@dataclass(frozen=True, eq=False)
class SumField(WeightedFields):
    """f(x) = sum_i weights_i f_i(x). theta: each term's names behind "0.", "1.", ...; equal networks may share arrays.

    terms: fields of one sample shape and one out_shape   weights: one finite number each
    Raises ShapeError, DTypeError, RangeError.
    """

    terms: tuple[Any, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.terms) == 0 or len(self.terms) != len(self.weights):
            raise ShapeError(f"weights: expected one for each of >= 1 terms, found {len(self.weights)}")
        for i, (term, weight) in enumerate(zip(self.terms, self.weights, strict=True)):
            if not (hasattr(term, "out_shape") and hasattr(term, "field")):
                raise DTypeError(f"terms[{i}]: expected a field, found {type(term).__name__}")
            if (term.shape, term.out_shape) != (self.terms[0].shape, self.terms[0].out_shape):
                raise ShapeError(
                    f"terms[{i}]: expected {self.terms[0].shape} -> {self.terms[0].out_shape}, "
                    f"found {term.shape} -> {term.out_shape}"
                )
            check_number(f"weights[{i}]", weight, low=float("-inf"))

    def theta_shapes(self) -> Shapes:
        """Every term's, behind its number."""
        return {f"{i}.{name}": size for i, term in enumerate(self.terms) for name, size in term.theta_shapes().items()}

    def of_rows(self, rows: Array) -> SumField:
        """The same field of the samples `rows` of a batch."""
        terms = tuple(term.of_rows(rows) if hasattr(term, "of_rows") else term for term in self.terms)
        return SumField(terms, self.weights)

    def parts(self) -> list[tuple[Any, float]]:
        """The terms and their weights."""
        return [(term, float(weight)) for term, weight in zip(self.terms, self.weights, strict=True)]

    def part_theta(self, theta: Params, i: int) -> Params:
        """The names behind "i."."""
        return {name: theta[f"{i}.{name}"] for name in self.terms[i].theta_shapes()}

    def merged(self, grads: list[dict[str, Any]]) -> dict[str, Any]:
        """Each term's, behind its number."""
        return {f"{i}.{name}": g for i, grads_i in enumerate(grads) for name, g in grads_i.items()}
