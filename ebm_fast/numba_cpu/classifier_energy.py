"""Twin of `classifier_energy`: logits, features, marginal and class energies and their gradients, levels 1 and 2.

What differs: the trunk's program ends in `softmax` instructions (`tops`), so a tile of samples goes through all
layers, the logsumexp and back in one compiled call, and a chain on E(x) or on E(x, y) runs all its K steps in one.
Labels ride along as one-hot rows of a second input. `logits_backward` is two programs, one for x and one for theta.
Deterministic for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, DTypeError, Params, ShapeError, check_array, check_count, check_labels, flat_size
from ebm_ref.specs import ClassifierSpec

from ..checks import check_same_dtype, flat
from . import machine as m
from .links import Value
from .network import Network
from .program import Program
from .runner import NO_RECORDS
from .tops import Chosen, Logits, Marginal, Top


@dataclass(frozen=True)
class Topped(ClassifierSpec, Network):
    """A trunk of this backend under a top that is not its own."""

    @property
    def image(self) -> bool:  # type: ignore[override]
        return self.trunk.image

    def top(self) -> Top | None:
        """What stands on the logits, or None: there are none."""
        return Marginal(self.classes)

    def emit(self, P: Program, x: Value, backward: str | None) -> tuple[Value, Value]:
        """Emit E (and, backwards, what `backward` names) from the input rows x; return (E, dx)."""
        return self.trunk.emit(P, x, backward, self.top())


@dataclass(frozen=True)
class ChosenNet(Topped):
    """The programs of E(x, y), whatever y is."""

    def top(self) -> Top:
        return Chosen(self.classes)


@dataclass(frozen=True)
class LogitsNet(Topped):
    """The programs of the logits."""

    def top(self) -> Top:
        return Logits(self.classes)


@dataclass(frozen=True)
class FeaturesNet(Topped):
    """The program of the features."""

    def top(self) -> None:
        return None


@lru_cache(maxsize=64)
def outputs_program(network: LogitsNet | FeaturesNet, dtype: np.dtype, purpose: str, width: int) -> Program:
    """The program of the "outputs", or of the gradient in "x" or "params" of the logits against an extra input."""
    P = Program(dtype, params=purpose == "params", width=width)
    D = flat_size(network.shape)
    x = network.input(P)
    P.emit(m.LOAD, x.at, 0, D)
    F, dx = network.emit(P, x, None if purpose == "outputs" else purpose)
    if purpose == "outputs":
        P.emit(m.STORE, F.at, F.C)
    if purpose == "x":
        P.emit(m.STORE, dx.at, D)
    P.freeze()
    return P


@dataclass(frozen=True)
class ClassifierEnergy(Topped):
    """E(x) = -logsumexp_y F_y(x). trunk: this backend's MLPEnergy, ConvEnergy or DeepConvEnergy   classes: C >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.trunk, Network):
            raise DTypeError(f"trunk: expected an energy of numba_cpu, found {type(self.trunk).__module__}'s")

    def given(self, y: int | Array) -> ClassEnergy:
        """The energy E(x) = -F_y(x) of p(x | y): an integer for all samples, or (N,) integers for N of them.

        Raises DTypeError, ShapeError, RangeError.
        """
        return ClassEnergy(self, y)

    def logits(self, theta: Params, x: Array) -> Array:
        """F(x_n). x: (N, *shape); returns (N, C). Raises ShapeError, DTypeError, NonFiniteError."""
        return self._outputs(LogitsNet(self.trunk, self.classes), theta, x, self.classes)

    def features(self, theta: Params, x: Array) -> Array:
        """What the last linear layer sees. x: (N, *shape); returns (N, F). Raises as `logits`."""
        return self._outputs(FeaturesNet(self.trunk, self.classes), theta, x, self.theta_shapes()["out.w"][0])

    def logits_backward(self, theta: Params, x: Array, dy: Array) -> tuple[Array, Params]:
        """grad_x and grad_theta of sum_{n,c} dy[n,c] F_c(x_n). x: (N, *shape), dy: (N, C); like x, like theta.

        Raises ShapeError, DTypeError, NonFiniteError.
        """
        return self.logits_grad_x(theta, x, dy), self.logits_grad_theta(theta, x, dy)

    def logits_grad_x(self, theta: Params, x: Array, dy: Array) -> Array:
        """sum_c dy[n,c] grad_x F_c(x_n), like x. Arguments and errors as `logits_backward`."""
        P, inputs = self._linear(theta, x, dy, "x")
        dx = np.empty_like(inputs[0])
        P.run(P.weights(theta), inputs, dx, NO_RECORDS[x.dtype])
        return dx.reshape(x.shape)

    def logits_grad_theta(self, theta: Params, x: Array, dy: Array) -> Params:
        """sum_{n,c} dy[n,c] grad_theta F_c(x_n), like theta. Arguments and errors as `logits_backward`."""
        P, inputs = self._linear(theta, x, dy, "params")
        strands = P.run(P.weights(theta), inputs, inputs[0], NO_RECORDS[x.dtype])  # it stores nothing
        return P.unpack(strands, theta)

    def _outputs(self, network: LogitsNet | FeaturesNet, theta: Params, x: Array, size: int) -> Array:
        self._check(theta, x)
        P = outputs_program(network, x.dtype, "outputs", self.tile_width(x, "outputs"))
        out = np.empty((x.shape[0], size), x.dtype)
        P.run(P.weights(theta), (flat(x, self.shape),), out, NO_RECORDS[x.dtype])
        return out

    def _linear(self, theta: Params, x: Array, dy: Array, purpose: str) -> tuple[Program, tuple[Array, Array]]:
        self._check(theta, x)
        check_array("dy", dy, shape=(x.shape[0], self.classes), finite=True)
        check_same_dtype("dy", dy, x)
        program = outputs_program(LogitsNet(self.trunk, self.classes), x.dtype, purpose, self.tile_width(x, purpose))
        return program, (flat(x, self.shape), np.ascontiguousarray(dy))


@dataclass(frozen=True, eq=False)
class ClassEnergy(Network):
    """E(x_n) = -F_{y_n}(x_n). y: an integer, or (N,) integers, which fix the batch to N samples."""

    classifier: ClassifierEnergy
    y: int | Array

    def __post_init__(self) -> None:
        if isinstance(self.y, np.ndarray):
            check_labels("y", self.y, self.classifier.classes)
        else:
            check_count("y", self.y, low=0, high=self.classifier.classes - 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.classifier.shape

    def require_smooth(self, what: str) -> None:
        """Raise `SmoothnessError` when `what` needs second derivatives that the trunk lacks."""
        self.classifier.require_smooth(what)

    def theta_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.classifier.theta_shapes()

    def planned(self) -> Any:
        return ChosenNet(self.classifier.trunk, self.classifier.classes)

    def extra(self, x: Array) -> tuple[Array, ...]:
        N = x.shape[0]
        if isinstance(self.y, np.ndarray) and self.y.shape[0] != N:
            raise ShapeError(f"x: expected {self.y.shape[0]} samples, one a label, found {N}")
        hot = np.equal.outer(np.broadcast_to(self.y, (N,)), np.arange(self.classifier.classes))
        return (hot.astype(x.dtype),)
