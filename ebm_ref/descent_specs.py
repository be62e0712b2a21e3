"""Frozen specs of the rules of descent on x, checked once, with no arithmetic: descent.py has the equations.

Reference and twins may both import this file.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contracts import RangeError, check_number


@dataclass(frozen=True)
class GradientDescent:
    """x' = x - eta g(x)."""

    eta: float

    def __post_init__(self) -> None:
        check_number("eta", self.eta, low=0.0)


@dataclass(frozen=True)
class NesterovDescent:
    """y = x + mu v,  x' = y - eta g(y),  v' = x' - x. mu: [0, 1)."""

    eta: float
    mu: float = 0.9

    def __post_init__(self) -> None:
        check_number("eta", self.eta, low=0.0)
        _check_decay("mu", self.mu)


@dataclass(frozen=True)
class LookAheadDescent:
    """y = x + mu v,  x' = x - eta g(y),  v' = x' - x. mu: [0, 1)."""

    eta: float
    mu: float = 0.3

    def __post_init__(self) -> None:
        check_number("eta", self.eta, low=0.0)
        _check_decay("mu", self.mu)


@dataclass(frozen=True)
class AdamDescent:
    """x' = x - eta (m' / (1 - beta1^t)) / (sqrt(v' / (1 - beta2^t)) + eps)."""

    eta: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_number("eta", self.eta, low=0.0)
        _check_decay("beta1", self.beta1)
        _check_decay("beta2", self.beta2)
        check_number("eps", self.eps, low=0.0, open_low=True)


Descent = GradientDescent | NesterovDescent | LookAheadDescent | AdamDescent
MOMENTUM = (NesterovDescent, LookAheadDescent)


def _check_decay(name: str, value: float) -> None:
    check_number(name, value, low=0.0)
    if value >= 1:
        raise RangeError(f"{name}: expected a number in [0, 1), found {value}")
