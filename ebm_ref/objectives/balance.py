"""Keeping the two halves of a contrastive gradient in proportion, when chains return samples of too low quality.

    balance_ratio    r = min(|g_pos| / |g_neg|, 1): what "weight" multiplies the negative half by
    balance_reached  mean E(x_neg) <= mean E(x_pos) + delta: where "steps" stops its chains
    balance_eta      eta' = clip(eta exp(kappa sign(mean E(x_neg) - mean E(x_pos))), low, high): "energy_target"

These are this project's own rules with its own names; they are not taken from a paper. What each one biases:

    weight          r != 1 is no longer the gradient of a difference: the loss prefers low energies on data, a constant
                    added to E changes it by (1 - r) times the constant, and its fixed points are not those of maximum
                    likelihood. |g| is over all parameters, of mean E on either side.
    steps           the length of the chain depends on its own energies. A chain that stops once its energy is low
                    enough over-represents low energies, even where each step alone keeps p(x).
    energy_target   a step size that follows the chain is no fixed kernel and has no stationary law. Use it as burn-in,
                    then freeze eta (kappa = 0).

Source: none, see above; the wish to balance is that of Sustek et al. 2023, arXiv:2303.04187 (abstract).
Level: 1. Twins: none.
"""

from __future__ import annotations

from math import exp

import numpy as np

from ..contracts import Array, Params, RangeError, check_number

BALANCES = ("steps", "weight", "energy_target")
TINY = 1e-30


def balance_ratio(g_pos: Params, g_neg: Params) -> Array:
    """r = min(|g_pos| / |g_neg|, 1), |.| over all names and elements; 0 where both are 0. returns ()."""
    n_pos, n_neg = _norm(g_pos), _norm(g_neg)  # (), ()
    ratio: Array = n_pos / np.maximum(np.maximum(n_neg, n_pos), TINY)
    return ratio


def balance_reached(energy_pos: float, energy_neg: float, delta: float) -> bool:
    """Whether mean E(x_neg) <= mean E(x_pos) + delta: the chains are as deep as the data."""
    return energy_neg <= energy_pos + delta


def balance_eta(
    eta: float, energy_pos: float, energy_neg: float, kappa: float, bounds: tuple[float, float]
) -> float:
    """eta' = clip(eta exp(kappa sign(energy_neg - energy_pos)), low, high): longer steps while the chains lag behind.

    eta > 0   kappa >= 0   bounds: (low, high), 0 < low <= high. Raises DTypeError, RangeError; NaN energies give eta.
    """
    check_number("eta", eta, low=0.0, open_low=True)
    check_number("kappa", kappa, low=0.0)
    for end in bounds:
        check_number("bounds", end, low=0.0, open_low=True)
    if bounds[0] > bounds[1]:
        raise RangeError(f"bounds: expected low <= high, found {bounds}")
    sign = (energy_neg > energy_pos) - (energy_neg < energy_pos)
    return min(max(float(eta) * exp(float(kappa) * sign), float(bounds[0])), float(bounds[1]))


def _norm(grads: Params) -> Array:
    """sqrt of the sum of squares over all names, ()."""
    total: Array = sum((np.sum(g**2) for g in grads.values()), start=0.0)  # type: ignore[assignment]
    return np.sqrt(total)
