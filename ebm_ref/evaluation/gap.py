"""The energy gap between model samples and data, with its error and its history.

    energy_gap      mean E(x_neg) - mean E(x_pos),   se^2 = var E(x_neg) / N_neg + var E(x_pos) / N_pos
    energy_gap_ema  m = sum_t w_t gap_t,   s^2 = sum_t w_t (gap_t - m)^2,   w_t proportional to decay^(T - t)

At equilibrium it is 0, or 2 alpha (mean E(x_pos)^2 + mean E(x_neg)^2) with the energy regulariser. A large gap that
stays positive: the chains are far from the model, or the regulariser rules. Negative: the chains relax below the
data, as in training that does not converge, where the gap oscillates: s says by how much.

The standard error takes samples to be independent; chains of one run that share a past are not quite.

Source: Du & Mordatch 2019, arXiv:1903.08689 (the gap); the rest are weighted moments.
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from math import hypot, sqrt

import numpy as np

from ..contracts import Array, RangeError, ShapeError, check_array, check_number
from ..diagnostics import diagnostics_gap
from .estimate import Estimate, estimate_mean


def energy_gap(energy_pos: Array, energy_neg: Array) -> Estimate:
    """mean E(x_neg) - mean E(x_pos) and sqrt(var E(x_neg) / N_neg + var E(x_pos) / N_pos).

    energy_pos: (N_pos,) of data   energy_neg: (N_neg,) of model samples. Raises ShapeError, NonFiniteError.
    """
    gap = diagnostics_gap(energy_pos, energy_neg)
    return Estimate(gap, hypot(estimate_mean(energy_pos).se, estimate_mean(energy_neg).se))


def energy_gap_ema(gaps: Array, decay: float = 0.99) -> tuple[float, float]:
    """m and s: mean and standard deviation of a history of gaps, the last weighing most.

    gaps: (T,), one a training step   decay: [0, 1); 1 / (1 - decay) steps are remembered.
    Raises ShapeError, NonFiniteError, RangeError.
    """
    check_array("gaps", gaps, ndim=1, finite=True)
    if gaps.size == 0:
        raise ShapeError("gaps: expected at least one gap, found none")
    check_number("decay", decay, low=0.0, high=1.0)
    if decay == 1.0:
        raise RangeError("decay: expected a number in [0, 1), found 1.0")
    w = float(decay) ** np.arange(gaps.size - 1, -1, -1, dtype=np.float64)  # (T,)
    w /= w.sum()
    x = gaps.astype(np.float64)
    m = float(w @ x)
    return m, sqrt(float(w @ (x - m) ** 2))
