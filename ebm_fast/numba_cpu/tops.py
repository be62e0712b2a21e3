"""What stands on the last linear layer F of a network: the energy itself, a marginal, one class, or the logits.

    Scalar     E = F, one output                       dF = dE
    Marginal   E = -logsumexp_c F_c                    dF = -dE softmax F
    Chosen     E = -F_y, y one-hot in an extra input   dF = -dE onehot(y)
    Logits     nothing: F is what is wanted            dF is an extra input

`energy` emits E from F and `cotangent` the cotangent of F; F's rows are then no longer needed. An extra input is
number 1, or 2 where a tangent is number 1. Without a top (None) a network ends before its last layer, in its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from . import machine as m
from . import softmax
from .links import Value
from .program import Program


class Top(Protocol):
    """`outputs` of the last layer, E from them, and their cotangent. weighted: dE = w_n, else 1."""

    @property
    def outputs(self) -> int: ...

    def energy(self, P: Program, F: Value) -> Value: ...

    def cotangent(self, P: Program, F: Value, weighted: bool) -> Value: ...


@dataclass(frozen=True)
class Scalar:
    """E = F."""

    outputs: int = 1

    def energy(self, P: Program, F: Value) -> Value:
        return F

    def cotangent(self, P: Program, F: Value, weighted: bool) -> Value:
        dE = P.value(1, 1)
        P.seed(dE, weighted)
        return dE


@dataclass(frozen=True)
class Marginal:
    """E = -logsumexp_c F_c; F becomes softmax F, then dF."""

    outputs: int

    def energy(self, P: Program, F: Value) -> Value:
        E = P.value(1, 1)
        P.emit(softmax.softmax_rows, F.at, E.at, F.C)
        if P.tangent:
            P.emit(softmax.softmax_rows1, F.at, F.at1, E.at1, F.C)
        return E

    def cotangent(self, P: Program, F: Value, weighted: bool) -> Value:
        dE = P.value(1, 1)
        P.seed(dE, weighted)  # without a tangent
        P.emit(softmax.negate_rows, F.at, F.at, dE.at, F.C)
        if P.tangent:
            P.emit(softmax.negate_rows, F.at1, F.at1, dE.at, F.C)
        return F


@dataclass(frozen=True)
class Chosen:
    """E = -F_y."""

    outputs: int

    def energy(self, P: Program, F: Value) -> Value:
        E, hot = P.value(1, 1), self.hot(P, F)
        P.emit(softmax.choose_rows, F.at, hot, E.at, F.C)
        if P.tangent:
            P.emit(softmax.choose_rows, F.at1, hot, E.at1, F.C)
        return E

    def cotangent(self, P: Program, F: Value, weighted: bool) -> Value:
        dE = P.value(1, 1)
        P.seed(dE, weighted)
        P.emit(softmax.negate_rows, F.at, self.hot(P, F), dE.at, F.C)
        if P.tangent:
            P.emit(m.FILL, F.at1, F.C, 0)
        return F

    def hot(self, P: Program, F: Value) -> int:
        """Rows that hold onehot(y)."""
        hot = P.rows(F.C)
        P.emit(m.LOAD, hot, 2 if P.tangent else 1, F.C)
        return hot


@dataclass(frozen=True)
class Logits:
    """F itself, which the program stores; no tangents."""

    outputs: int

    def energy(self, P: Program, F: Value) -> Value:
        return F

    def cotangent(self, P: Program, F: Value, weighted: bool) -> Value:
        P.emit(m.LOAD, F.at, 1, F.C)
        return F
