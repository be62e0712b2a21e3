"""Out-of-distribution detection from scores; higher score = more in-distribution, e.g. s = -E(x).

    auroc        P(s_in > s_out) + 1/2 P(s_in = s_out)
    fpr_at_tpr   P(s_out >= t), t the highest threshold with P(s_in >= t) >= tpr

Source: Hanley & McNeil 1982 (the area as a rank statistic, ties by mid-ranks); Hendrycks & Gimpel 2017.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from ..contracts import Array, ShapeError, check_array, check_number


def auroc(scores_in: Array, scores_out: Array) -> float:
    """P(s_in > s_out) + 1/2 P(s_in = s_out), exact: pairs are counted in integers.

    scores_in: (N,) scores of in-distribution samples, higher = more in-distribution
    scores_out: (M,) scores of the others
    Raises ShapeError when either is empty, NonFiniteError on NaN or infinity.
    """
    check_scores("scores_in", scores_in)
    check_scores("scores_out", scores_out)
    ranked = np.sort(scores_out)
    below = np.searchsorted(ranked, scores_in, side="left")  # (N,) pairs with s_out < s_in
    at_most = np.searchsorted(ranked, scores_in, side="right")  # (N,) pairs with s_out <= s_in
    twice = int(below.sum()) + int(at_most.sum())  # 2 wins + 1 for each tie
    return twice / (2 * scores_in.size * scores_out.size)


def fpr_at_tpr(scores_in: Array, scores_out: Array, tpr: float = 0.95) -> float:
    """P(s_out >= t), t the highest threshold that still accepts a share `tpr` of the in-distribution scores.

    scores_in: (N,) scores of in-distribution samples, higher = more in-distribution
    scores_out: (M,) scores of the others
    Raises ShapeError, NonFiniteError as `auroc`; RangeError unless 0 < tpr <= 1.
    """
    check_scores("scores_in", scores_in)
    check_scores("scores_out", scores_out)
    check_number("tpr", tpr, low=0.0, high=1.0, open_low=True)
    accepted = ceil(tpr * scores_in.size * (1 - 1e-12))  # the factor forgives the last bit of tpr * N
    threshold = np.sort(scores_in)[scores_in.size - accepted]
    return float(np.mean(scores_out >= threshold))


def check_scores(name: str, scores: Array) -> None:
    """Raise unless `scores` is a non-empty, finite (N,) array."""
    check_array(name, scores, ndim=1, finite=True)
    if scores.size == 0:
        raise ShapeError(f"{name}: expected at least one score, found none")
