"""A figure NAME and its standard error NAME_se, as summary.json holds them."""

from __future__ import annotations

from math import isnan, sqrt

from ebm_ref.evaluation import Estimate


def with_error(name: str, estimate: Estimate) -> dict[str, float | None]:
    """{NAME: value, NAME_se: its standard error}."""
    return {name: estimate.value, f"{name}_se": None if isnan(estimate.se) else estimate.se}


def share(p: float, n: int) -> Estimate:
    """A share p of n independent draws, and sqrt(p (1 - p) / n)."""
    return Estimate(p, sqrt(p * (1 - p) / n))
