"""Keeping the two halves of a contrastive gradient in proportion, when chains return samples of too low quality.

    balance_ratio    r = min(|g_pos| / |g_neg|, 1): what "weight" multiplies the negative half by
    balance_reached  mean E(x_neg) <= mean E(x_pos) + delta: where "steps" stops its chains
    energy_target    eta' = clip(eta exp(kappa sign(mean E(x_neg) - mean E(x_pos))), low, high): samplers/adaptation.py

These are this project's own rules with its own names; they are not taken from a paper. What each one biases:

    weight          r != 1 is no longer the gradient of a difference: the loss prefers low energies on data, a constant
                    added to E changes it by (1 - r) times the constant, and its fixed points are not those of maximum
                    likelihood. |g| is over all parameters, of mean E on either side.
    steps           the length of the chain depends on its own energies. A chain that stops once its energy is low
                    enough over-represents low energies, even where each step alone keeps p(x).
    energy_target   a step size that follows the chain is no fixed kernel and has no stationary law. Use it as burn-in,
                    then freeze eta: a recipe's burn_in says for how many steps it moves.

Source: none, see above; the wish to balance is that of Sustek et al. 2023, arXiv:2303.04187 (abstract).
Level: 1. Twins: none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, Params, ShapeError, check_number, check_params

BALANCES = ("steps", "weight", "energy_target")
TINY = 1e-30


def balance_ratio(g_pos: Params, g_neg: Params) -> Array:
    """r = min(|g_pos| / |g_neg|, 1), |.| over all names and elements; 0 where both are 0. returns ().

    g_pos, g_neg: of one energy, the same names. Raises DTypeError, ShapeError.
    """
    check_params("g_pos", g_pos)
    check_params("g_neg", g_neg)
    if set(g_pos) != set(g_neg):
        raise ShapeError(f"g_neg: expected the names {', '.join(g_pos)}, found {', '.join(g_neg)}")
    n_pos, n_neg = _norm(g_pos), _norm(g_neg)  # (), ()
    ratio: Array = n_pos / np.maximum(np.maximum(n_neg, n_pos), TINY)
    return ratio


def balance_reached(energy_pos: float, energy_neg: float, delta: float) -> bool:
    """Whether mean E(x_neg) <= mean E(x_pos) + delta: the chains are as deep as the data; False where one is NaN.

    delta: of any sign. Raises RangeError, DTypeError.
    """
    check_number("delta", delta, low=float("-inf"))
    for name, E in (("energy_pos", energy_pos), ("energy_neg", energy_neg)):
        if isinstance(E, bool) or not isinstance(E, (int, float, np.number)):
            raise DTypeError(f"{name}: expected a real number, found {E!r}")
    return energy_neg <= energy_pos + delta


def _norm(grads: Params) -> Array:
    """sqrt of the sum of squares over all names, ()."""
    total: Any = 0.0
    for g in grads.values():
        total = total + np.sum(g**2)
    norm: Array = np.sqrt(total)
    return norm
