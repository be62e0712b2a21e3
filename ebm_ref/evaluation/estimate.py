"""A number and its standard error, from independent draws.

    estimate_mean           mean x,   se = sd(x) / sqrt(N)
    estimate_log_mean_exp   log mean w,  w = exp(log_w),   se = sd(w) / (sqrt(N) mean w)      (delta method)
    weights_ess             (sum w)^2 / sum w^2: how many equal weights would vary as little

sd divides by N - 1. One draw has a value and no standard error: se is NaN. Weights are divided by the largest before
they are added, so nothing overflows.

Source: Casella & Berger 2002, Statistical Inference, theorem 5.5.24 (delta method); Kong 1992, A note on importance
sampling using standardized weights.
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from math import log, nan, sqrt
from typing import NamedTuple

import numpy as np

from ..contracts import Array, ShapeError, check_array


class Estimate(NamedTuple):
    """A value and the standard error of that value; NaN where one draw says nothing about its spread."""

    value: float
    se: float


def estimate_mean(x: Array) -> Estimate:
    """mean x and sd(x) / sqrt(N), in float64.

    x: (N,), independent draws. Raises ShapeError, DTypeError. Non-finite draws give a non-finite value.
    """
    x = check_draws("x", x)
    return Estimate(float(np.mean(x)), _spread(x) / sqrt(x.size))


def estimate_log_mean_exp(log_w: Array) -> Estimate:
    """log mean exp(log_w) and sd(w) / (sqrt(N) mean w), in float64.

    log_w: (N,), -inf for a weight of 0. Raises ShapeError, DTypeError. NaN or +inf give a non-finite value.
    The standard error is honest only while no single weight dominates: read it with `weights_ess`.
    """
    log_w = check_draws("log_w", log_w)
    top = float(np.max(log_w))
    if not np.isfinite(top):
        return Estimate(top, nan)
    w = np.exp(log_w - top)  # (N,) in [0, 1], the largest is 1
    mean = float(np.mean(w))
    return Estimate(top + log(mean), _spread(w) / (sqrt(w.size) * mean))


def weights_ess(log_w: Array) -> float:
    """(sum w)^2 / sum w^2, in [1, N].

    log_w: (N,). Raises ShapeError, DTypeError. NaN where the largest weight is not a finite positive number.
    """
    log_w = check_draws("log_w", log_w)
    top = float(np.max(log_w))
    if not np.isfinite(top):
        return nan
    w = np.exp(log_w - top)
    return float(np.sum(w) ** 2 / np.sum(w**2))


def check_draws(name: str, x: Array) -> Array:
    """`x` in float64; raises unless it is a non-empty (N,) array."""
    check_array(name, x, ndim=1)
    if x.size == 0:
        raise ShapeError(f"{name}: expected at least one draw, found none")
    return x.astype(np.float64)


def _spread(x: Array) -> float:
    """Standard deviation with N - 1; NaN for one draw or for draws that are not finite."""
    if x.size < 2 or not bool(np.isfinite(x).all()):
        return nan
    return float(np.std(x, ddof=1))
