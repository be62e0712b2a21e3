"""What annealed importance sampling found, and when it is a bound.

    ais_result      from log w: mean log w, log mean w or -log mean 1/w, ess, and their standard errors
    log_z_bracket   lower and upper bound of log Z, if one run is the one and the other the other
    nll_bracket     mean E(data) + either bound: optimistic, pessimistic

Source: Neal 2001, Annealed importance sampling; Grosse, Ghahramani & Adams 2015, arXiv:1511.02543.
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np

from ..contracts import Array, RangeError, check_array, check_choice, check_number
from .estimate import Estimate, check_draws, estimate_log_mean_exp, estimate_mean, weights_ess

LOWER = "E[w] = Z: in expectation mean log w <= log mean w <= log Z, if every move keeps its gamma_k."
UPPER = (
    "E[1/w] = 1/Z: in expectation log Z <= -log mean 1/w <= mean log w, if every move keeps its gamma_k and, as the "
    "caller states, the start samples are exact draws of the model."
)
NO_BOUND = (
    "No bound: the start samples are not stated to be exact draws of the model, and from others this number can lie "
    "on either side of log Z."
)


@dataclass(frozen=True, eq=False)
class AISResult:
    """What a run of N chains over K temperatures says about log Z.

    mean_log_w    mean of log w and its standard error
    log_mean_w    forward: log mean w; reverse: -log mean 1/w; by the delta method
    ess           (sum w)^2 / sum w^2, of 1/w in reverse; near 1, one chain decides log_mean_w
    acceptance    (K,), mean acceptance at beta_1 .. beta_K
    bound         what both numbers are of log Z: "lower", "upper" or None, and `holds`, when
    log_w, x      (N,) float64 and the last states (N, *shape): near exp(-E)/Z forward, near the base in reverse
    """

    mean_log_w: Estimate
    log_mean_w: Estimate
    ess: float
    acceptance: Array
    bound: str | None
    holds: str
    betas: tuple[float, ...]
    log_w: Array
    x: Array


@dataclass(frozen=True)
class Bracket:
    """lower <= log Z <= upper in expectation; gap = upper - lower, its standard error from both ends."""

    lower: Estimate
    upper: Estimate
    gap: Estimate


def check_betas(betas: Sequence[float]) -> tuple[float, ...]:
    """`betas` as floats; raises unless 0 = beta_0 < ... < beta_K = 1, K >= 1."""
    for beta in betas:
        check_number("betas", beta, low=0.0, high=1.0)
    betas = tuple(float(beta) for beta in betas)
    rises = all(a < b for a, b in zip(betas[:-1], betas[1:], strict=True))
    if len(betas) < 2 or betas[0] != 0.0 or betas[-1] != 1.0 or not rises:
        raise RangeError(f"betas: expected 0 = beta_0 < ... < beta_K = 1, found {betas!r}")
    return betas


def ais_result(
    log_w: Array,
    acceptance: list[Any],
    betas: tuple[float, ...],
    x: Array,
    sign: float,
    bound: str | None,
    holds: str,
) -> AISResult:
    """The statistics of a run. log_w: (N,)   sign: 1 forward, -1 for the means of 1/w in reverse.

    bound: "lower", which a run with sign 1 can be, "upper", one with -1, or None. Raises ShapeError, DTypeError,
    RangeError.
    """
    check_draws("log_w", log_w)
    betas = check_betas(betas)
    check_array("x", x)
    check_number("sign", sign, low=-1.0, high=1.0)
    if abs(sign) != 1:
        raise RangeError(f"sign: expected 1 or -1, found {sign}")
    if bound not in (None, "lower" if sign == 1 else "upper"):
        raise RangeError(f"bound: expected {'lower' if sign == 1 else 'upper'} or None, found {bound!r}")
    log_mean = estimate_log_mean_exp(sign * log_w)
    shares = np.array([float(share) for share in acceptance])  # (K,)
    return AISResult(
        estimate_mean(log_w),
        Estimate(sign * log_mean.value, log_mean.se),
        weights_ess(sign * log_w),
        shares,
        bound,
        holds,
        betas,
        log_w,
        x,
    )


def log_z_bracket(forward: AISResult, reverse: AISResult, end: str = "log_mean_w") -> Bracket:
    """lower from the forward run, upper from the reverse run.

    end: "log_mean_w", the tighter, or "mean_log_w", whose standard error needs no large ess.
    Raises RangeError unless the one is a lower and the other an upper bound.
    """
    check_choice("end", end, ("log_mean_w", "mean_log_w"))
    for name, run, bound in (("forward", forward, "lower"), ("reverse", reverse, "upper")):
        if run.bound != bound:
            raise RangeError(f"{name}: expected a run that is a {bound} bound, found {run.bound}. {run.holds}")
    lower, upper = getattr(forward, end), getattr(reverse, end)
    return Bracket(lower, upper, Estimate(upper.value - lower.value, hypot(upper.se, lower.se)))


def nll_bracket(energy_data: Array, bracket: Bracket) -> tuple[Estimate, Estimate]:
    """mean E(data) + lower and mean E(data) + upper: the optimistic and the pessimistic -mean log p(data).

    energy_data: (N,) energies of held-out data. Raises ShapeError, DTypeError.
    """
    mean = estimate_mean(check_draws("energy_data", energy_data))
    low, high = (Estimate(mean.value + end.value, hypot(mean.se, end.se)) for end in (bracket.lower, bracket.upper))
    return low, high
