"""Energies of a classifier: its logits are the negative energies of pairs (x, y).

    logits     F(x) in R^C, one output a class on the trunk of a neural energy
    joint      p(x, y) = e^{F_y(x)} / Z,   E(x, y) = -F_y(x)
    marginal   p(x) = sum_y p(x, y),       E(x) = -logsumexp_y F_y(x)
    posterior  p(y | x) = softmax_y F(x) = P, and log p(x, y) = log p(x) + log p(y | x)
    forward    E(x) = -logsumexp F(x)           given(y): E(x) = -F_y(x), the energy of p(x | y) for a fixed y
    backward   dF = -dy P                       given(y): dF = -dy onehot(y)

A constant added to all logits changes E by itself and P not at all: a classifier leaves it free, and that freedom is
the energy. With C = 1, E = -F: the trunk's own energy with its last layer negated.

Source: Grathwohl et al. 2020, Your classifier is secretly an energy based model and you should treat it like one,
arXiv:1912.03263, eqs. 5-7.
Level: provides 1, 2 and 3 (2 and 3 for smooth activations).
Twins: numba_cpu, without level 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, Params, ShapeError, check_array, check_count, check_labels
from ..layers import logsumexp_backward, logsumexp_forward
from ..specs import ClassifierSpec
from .base import EnergyBase, Tape
from .network import Grads, NetworkEnergy


@dataclass(frozen=True)
class ClassifierEnergy(ClassifierSpec, EnergyBase):  # type: ignore[override]
    """E(x) = -logsumexp_y F_y(x). trunk: a MLPEnergy, ConvEnergy or DeepConvEnergy   classes: C >= 1."""

    trunk: NetworkEnergy  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.trunk, NetworkEnergy):
            raise DTypeError(f"trunk: expected a neural energy, found {type(self.trunk).__name__}")

    def given(self, y: int | Array) -> ClassEnergy:
        """The energy E(x) = -F_y(x) of p(x | y): an integer for all samples, or (N,) integers for N of them.

        Raises DTypeError, ShapeError, RangeError.
        """
        return ClassEnergy(self, y)

    def logits(self, theta: Params, x: Array) -> Array:
        """F(x_n). x: (N, *shape), returns (N, C). Raises ShapeError, DTypeError, NonFiniteError."""
        self._check(theta, x)
        F: Array = self.trunk.outputs_forward(theta, x)[0]
        return F

    def features(self, theta: Params, x: Array) -> Array:
        """What the last linear layer sees. x: (N, *shape), returns (N, F). Raises as `logits`."""
        self._check(theta, x)
        h: Array = self.trunk.features_forward(theta, [], x)
        return h

    def logits_backward(self, theta: Params, x: Array, dy: Array) -> tuple[Array, Params]:
        """grad_x and grad_theta of sum_{n,c} dy[n,c] F_c(x_n), dy constant.

        x: (N, *shape)   dy: (N, C)   returns like x, like theta. Raises as `logits`.
        """
        self._check(theta, x)
        check_array("dy", dy, shape=(x.shape[0], self.classes), finite=True)
        if dy.dtype != x.dtype:
            raise DTypeError(f"dy: expected {x.dtype} like x, found {dy.dtype}")
        _, tape = self.trunk.outputs_forward(theta, x)
        dx, grads = self.trunk.outputs_backward(theta, tape, dy)
        return dx, {name: grads[name] for name in self.theta_shapes()}

    def logits_grad_x(self, theta: Params, x: Array, dy: Array) -> Array:
        """sum_c dy[n,c] grad_x F_c(x_n), like x. Arguments and errors as `logits_backward`."""
        return self.logits_backward(theta, x, dy)[0]

    def logits_grad_theta(self, theta: Params, x: Array, dy: Array) -> Params:
        """sum_{n,c} dy[n,c] grad_theta F_c(x_n), like theta. Arguments and errors as `logits_backward`."""
        return self.logits_backward(theta, x, dy)[1]

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        F, tape = self.trunk.outputs_forward(theta, x)  # (N, C)
        tape.append(F)
        return -logsumexp_forward(F), tape  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, Grads]:
        dF = logsumexp_backward(tape.pop(), -dy)  # (N, C)
        return self.trunk.outputs_backward(theta, tape, dF)


@dataclass(frozen=True, eq=False)
class ClassEnergy(EnergyBase):
    """E(x_n) = -F_{y_n}(x_n). y: an integer, or (N,) integers, which fix the batch to N samples."""

    classifier: ClassifierEnergy
    y: int | Array

    def __post_init__(self) -> None:
        if isinstance(self.y, np.ndarray):
            check_labels("y", self.y, self.classifier.classes)
        else:
            check_count("y", self.y, low=0, high=self.classifier.classes - 1)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.classifier.shape

    def require_smooth(self, what: str) -> None:
        self.classifier.require_smooth(what)

    def theta_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.classifier.theta_shapes()

    def of_rows(self, rows: Array) -> ClassEnergy:
        """The same energy of the samples `rows` of a batch."""
        return ClassEnergy(self.classifier, self.y[rows]) if isinstance(self.y, np.ndarray) else self

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        F, tape = self.classifier.trunk.outputs_forward(theta, x)  # (N, C)
        onehot = self._onehot(F)  # (N, C)
        tape.append(onehot)
        return -np.sum(onehot * F, axis=1), tape  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, Grads]:
        dF = tape.pop() * -dy[:, None]  # (N, C)
        return self.classifier.trunk.outputs_backward(theta, tape, dF)

    def _check(self, theta: Params, x: Array, v: Array | None = None, w: Array | None = None) -> None:
        super()._check(theta, x, v, w)
        if isinstance(self.y, np.ndarray) and self.y.shape[0] != x.shape[0]:
            raise ShapeError(f"x: expected {self.y.shape[0]} samples, one a label, found {x.shape[0]}")

    def _onehot(self, F: Any) -> Array:
        """[y_n = c], (N, C), in F's dtype."""
        chosen = np.equal.outer(np.broadcast_to(self.y, F.shape[:1]), np.arange(F.shape[1]))
        onehot: Array = chosen.astype(F.dtype)
        return onehot
