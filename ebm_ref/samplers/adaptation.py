"""Step-size adaptation: during burn-in only, then frozen.

    adaptation_rate  a = mean_n min(1, exp(l_n)), l the log acceptance ratio: less noisy than the 0/1 outcomes
    adaptation_step  state -> state after one more step of the chains
        RobbinsMonro     log eps' = log eps + gamma_n (a - target),   gamma_n = c / (n + n0)^kappa
        Multiplicative   rate' = decay rate + (1 - decay) a;   eps' = eps up if rate' > target, else eps down; clamped
        Band             every `every` steps, by the mean a of those steps: eps' = eps up above `high_rate`,
                         eps / down below `low_rate`
    energy_target    eta' = eta exp(kappa sign(gap)), clamped: SGLD's eta, from gap = mean E(x_neg) - mean E(x_pos)

A kernel that still learns from its own past is not a Markov kernel, and its law is not exp(-E). So a run with
a rule (`mala_adapt`, `hmc_adapt`) is burn-in and returns an explicit state, and a run for draws (`mala_run`,
`hmc_run`) takes one number, knows no rule, and uses that number at every step:

    x, state, _ = mala_adapt(backend, energy, theta, x0, 500, RobbinsMonro(MALA_TARGET), adaptation_start(0.1), seed)
    x, info = mala_run(backend, energy, theta, x, 5000, state.eps_step, seed, step=500)

n counts from 1 and `eps_step` is whatever size the sampler has: eps_step of MALA, h of HMC. The numbers live on
the host: burn-in reads one mean back from a device at each step, a frozen run reads none.

Source: Robbins & Monro 1951; Andrieu & Thoms 2008, A tutorial on adaptive MCMC; Roberts & Rosenthal 1998
(0.574); Beskos et al. 2013 (0.651; Stan uses 0.8); Song et al. 2019, arXiv:1905.07088, released code (Multiplicative);
Zhang, Tan & Ou 2023, arXiv:2304.10707, released code (Band, there one for each noise level). energy_target is this
project's own.
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, RangeError, ShapeError, check_array, check_count, check_number

MALA_TARGET = 0.574
HMC_TARGET = 0.651


@dataclass(frozen=True)
class RobbinsMonro:
    """log eps' = log eps + c / (n + n0)^kappa (a - target), with kappa in (1/2, 1]: the steps sum to infinity, their
    squares do not, so eps converges."""

    target: float
    c: float = 2.0
    n0: float = 10.0
    kappa: float = 0.75

    def __post_init__(self) -> None:
        _check_rate("target", self.target)
        check_number("c", self.c, low=0.0, open_low=True)
        check_number("n0", self.n0, low=0.0)
        check_number("kappa", self.kappa, low=0.5, high=1.0, open_low=True)


@dataclass(frozen=True)
class Multiplicative:
    """rate' = decay rate + (1 - decay) a;  eps' = clip(eps up or eps down, low, high) as rate' > target or not.

    It settles to a zigzag of the size of `up`, not to a number.
    """

    target: float = 0.65
    decay: float = 0.9
    up: float = 1.02
    down: float = 0.98
    low: float = 1e-4
    high: float = 0.5

    def __post_init__(self) -> None:
        _check_rate("target", self.target)
        check_number("decay", self.decay, low=0.0, high=1.0)
        if self.decay == 1:
            raise RangeError("decay: expected a number in [0, 1), found 1")
        check_number("up", self.up, low=1.0)
        check_number("down", self.down, low=0.0, high=1.0, open_low=True)
        _check_range(self.low, self.high)


@dataclass(frozen=True)
class Band:
    """After every `every` steps, by their mean a: eps' = eps up above high_rate, eps / down below low_rate."""

    every: int = 100
    low_rate: float = 0.6
    high_rate: float = 0.8
    up: float = 1.1
    down: float = 1.2

    def __post_init__(self) -> None:
        check_count("every", self.every, low=1)
        _check_rate("low_rate", self.low_rate)
        check_number("high_rate", self.high_rate, low=self.low_rate, high=1.0)
        check_number("up", self.up, low=1.0)
        check_number("down", self.down, low=1.0)


Rule = RobbinsMonro | Multiplicative | Band


@dataclass(frozen=True)
class AdaptationState:
    """All that a rule carries: the step size, the number of steps seen, and the rate (its meaning is the rule's)."""

    eps_step: float
    n: int = 0
    rate: float = 0.0

    def __post_init__(self) -> None:
        check_number("eps_step", self.eps_step, low=0.0, open_low=True)
        check_count("n", self.n, low=0)
        check_number("rate", self.rate, low=0.0, high=1.0)


def adaptation_start(eps_step: float, rate: float = 0.0) -> AdaptationState:
    """The state before the first step. rate: where Multiplicative's average starts. Raises DTypeError, RangeError."""
    check_number("eps_step", eps_step, low=0.0, open_low=True)
    return AdaptationState(float(eps_step), 0, rate)


def adaptation_rate(log_ratio: Array) -> Any:
    """a = mean_n min(1, exp(l_n)).

    log_ratio: (N,), -inf where a proposal was not finite   returns (). Chains that cannot move at all (a start of
    infinite energy) count as rejections. Raises ShapeError, DTypeError.
    """
    check_array("log_ratio", log_ratio, ndim=1)
    if log_ratio.shape[0] == 0:
        raise ShapeError("log_ratio: expected at least one chain, found none")
    rate: Any = np.mean(np.exp(np.minimum(log_ratio, 0.0)))
    return rate


def adaptation_step(rule: Rule, state: AdaptationState, rate: float) -> AdaptationState:
    """The state after one more step of the chains, of which a share `rate` was accepted.

    Raises DTypeError, RangeError; a step size that leaves (0, inf) is a RangeError, not a silent clamp.
    """
    check_number("rate", rate, low=0.0, high=1.0)
    eps, n, rate = state.eps_step, state.n + 1, float(rate)
    if isinstance(rule, RobbinsMonro):
        gamma = rule.c / (n + rule.n0) ** rule.kappa
        return AdaptationState(exp(log(eps) + gamma * (rate - rule.target)), n, rate)
    if isinstance(rule, Multiplicative):
        average = rule.decay * state.rate + (1 - rule.decay) * rate
        eps = eps * (rule.up if average > rule.target else rule.down)
        return AdaptationState(min(max(eps, rule.low), rule.high), n, average)
    if isinstance(rule, Band):
        seen = (n - 1) % rule.every  # steps of this window before this one
        mean = (state.rate * seen + rate) / (seen + 1)
        if seen + 1 == rule.every:
            eps = eps * rule.up if mean > rule.high_rate else eps / rule.down if mean < rule.low_rate else eps
        return AdaptationState(eps, n, min(mean, 1.0))
    raise DTypeError(f"rule: expected RobbinsMonro, Multiplicative or Band, found {type(rule).__name__}")


def energy_target(eta: float, gap: float, kappa: float, low: float, high: float) -> float:
    """eta' = clip(eta exp(kappa sign(gap)), low, high), gap = mean E(x_neg) - mean E(x_pos).

    Burn-in of a decoupled SGLD, where nothing is rejected: a positive gap says that the chains lag behind the data,
    so eta grows. gap = 0 leaves eta. kappa >= 0   0 < low < high. Raises DTypeError, RangeError.
    """
    check_number("eta", eta, low=0.0, open_low=True)
    check_number("gap", gap, low=float("-inf"))
    check_number("kappa", kappa, low=0.0)
    _check_range(low, high)
    sign = (gap > 0) - (gap < 0)
    return min(max(float(eta) * exp(float(kappa) * sign), float(low)), float(high))


def _check_rate(name: str, value: float) -> None:
    check_number(name, value, low=0.0, high=1.0, open_low=True)
    if value == 1:
        raise RangeError(f"{name}: expected a rate in (0, 1), found 1")


def _check_range(low: float, high: float) -> None:
    check_number("low", low, low=0.0, open_low=True)
    check_number("high", high, low=low, open_low=True)
