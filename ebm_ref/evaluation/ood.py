"""Out-of-distribution detection from scores; higher score = more in-distribution, e.g. s = -E(x).

    auroc            P(s_in > s_out) + 1/2 P(s_in = s_out)
    auroc_estimate   the same, with DeLong's standard error: a_i = P(s_in_i > s_out) + 1/2 P(=), b_j = P(s_in > s_out_j)
                     + 1/2 P(=);  se^2 = var a / N + var b / M
    aupr             sum_i (R_i - R_(i-1)) P_i over the distinct thresholds, falling;  recall R, precision P of the
                     positive class, which is the first argument
    aupr_in, _out    in-distribution as the positive class, score s;  the others as the positive class, score -s
    fpr_at_tpr       P(s_out >= t), t the highest threshold with P(s_in >= t) >= tpr

AUROC is a property of the two laws; AUPR depends on N : M too, and on which class is positive: report both. Any
increasing map of the scores leaves all of them as they are. Scores that are NaN are an error here, before they are
paired with labels.

Source: Hanley & McNeil 1982 (the area as a rank statistic, ties by mid-ranks); DeLong, DeLong & Clarke-Pearson 1988;
Davis & Goadrich 2006 (precision and recall); Boyd, Eng & Page 2013 (average precision); Hendrycks & Gimpel 2017.
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from math import ceil, nan, sqrt

import numpy as np

from ..contracts import Array, ShapeError, check_array, check_number
from .estimate import Estimate


def auroc(scores_in: Array, scores_out: Array) -> float:
    """P(s_in > s_out) + 1/2 P(s_in = s_out), exact: pairs are counted in integers.

    scores_in: (N,) scores of in-distribution samples, higher = more in-distribution
    scores_out: (M,) scores of the others
    Raises ShapeError when either is empty, NonFiniteError on NaN or infinity.
    """
    check_scores("scores_in", scores_in)
    check_scores("scores_out", scores_out)
    twice = int(_twice_above(scores_in, scores_out).sum())
    return twice / (2 * scores_in.size * scores_out.size)


def auroc_estimate(scores_in: Array, scores_out: Array) -> Estimate:
    """`auroc` and sqrt(var a / N + var b / M), a and b the share of pairs that each score wins.

    scores_in: (N,)   scores_out: (M,), independent of each other. NaN for the error when N or M is 1, and 0 where the
    two sets do not overlap: then the true area may still be below 1. Raises ShapeError, NonFiniteError.
    """
    area = auroc(scores_in, scores_out)
    if min(scores_in.size, scores_out.size) < 2:
        return Estimate(area, nan)
    a = _twice_above(scores_in, scores_out) / (2 * scores_out.size)  # (N,)
    b = 1 - _twice_above(scores_out, scores_in) / (2 * scores_in.size)  # (M,)
    return Estimate(area, sqrt(float(a.var(ddof=1)) / a.size + float(b.var(ddof=1)) / b.size))


def aupr(scores_pos: Array, scores_neg: Array) -> Estimate:
    """Average precision sum_i (R_i - R_(i-1)) P_i over the distinct thresholds, and its standard error at fixed N : M.

    scores_pos: (N,) scores of the positive class, higher = more positive   scores_neg: (M,) of the other
    With P(t) = n(t) / (n(t) + m(t)), counts of scores >= t, the value is mean_i P(s_i) over positives; the error is of
    first order in the two empirical laws (delta method), and NaN when N or M is 1. Raises ShapeError, NonFiniteError.
    """
    check_scores("scores_pos", scores_pos)
    check_scores("scores_neg", scores_neg)
    N, M = scores_pos.size, scores_neg.size
    pos, neg = np.sort(scores_pos), np.sort(scores_neg)
    n = N - np.searchsorted(pos, pos, side="left")  # (N,) positives at or above each positive
    m = M - np.searchsorted(neg, pos, side="left")  # (N,) negatives at or above it
    precision = n / (n + m)
    value = float(np.mean(precision))
    if min(N, M) < 2:
        return Estimate(value, nan)
    # P = n / (n + m): dP/dn = m / (n + m)^2, dP/dm = -n / (n + m)^2, each summed over the thresholds a score reaches
    by_pos = np.cumsum(m / (n + m) ** 2)  # (N,) over thresholds up to the i-th lowest positive
    by_neg = np.cumsum(-n / (n + m) ** 2)
    reach = np.searchsorted(pos, pos, side="right")  # ties share a threshold
    influence_pos = precision + by_pos[reach - 1]  # (N,)
    below = np.searchsorted(pos, neg, side="right")  # (M,) positives at or below each negative
    influence_neg = (M / N) * np.concatenate([[0.0], by_neg])[below]  # (M,)
    spread = float(influence_pos.var(ddof=1)) / N + float(influence_neg.var(ddof=1)) / M
    return Estimate(value, sqrt(spread))


def aupr_in(scores_in: Array, scores_out: Array) -> Estimate:
    """`aupr` with the in-distribution samples as the positive class. Raises ShapeError, NonFiniteError."""
    check_scores("scores_in", scores_in)
    check_scores("scores_out", scores_out)
    return aupr(scores_in, scores_out)


def aupr_out(scores_in: Array, scores_out: Array) -> Estimate:
    """`aupr` with the out-of-distribution samples as the positive class, found by low scores. Raises as `aupr`."""
    check_scores("scores_in", scores_in)
    check_scores("scores_out", scores_out)
    return aupr(-scores_out, -scores_in)


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


def _twice_above(scores: Array, others: Array) -> Array:
    """2 (number of others below) + (number of others equal), for each score, integers."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, scores, side="left")  # pairs with other < score
    at_most = np.searchsorted(ranked, scores, side="right")  # pairs with other <= score
    return below + at_most
