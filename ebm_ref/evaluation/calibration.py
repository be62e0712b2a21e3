"""Does a classifier's confidence say how often it is right?

    nll               -mean_n log p(y_n | x_n)
    brier             mean_n sum_c (p_nc - [y_n = c])^2, in [0, 2]
    reliability       bins (l, u] of the confidence max_c p_nc, equal in width: count, mean confidence, accuracy
    ece               sum_b (n_b / n) |accuracy_b - confidence_b|
    temperature_fit   T that minimises the NLL of softmax(F / T) on held-out data, by Newton in b = 1/T:
                      f(b) = mean_n (logsumexp(b F_n) - b F_n[y_n]),   f' = mean_n (E_p[F_n] - F_n[y_n]),
                      f'' = mean_n Var_p[F_n] >= 0: convex, so the stationary point is the minimum

Temperature scaling moves no argmax, so it keeps the accuracy. The ECE of finite data is biased upwards, the more bins
the more: a perfectly calibrated classifier scores above 0; compare at equal n and bins.

Source: Guo et al. 2017, arXiv:1706.04599, eq. 5 and section 4.2; Naeini, Cooper & Hauskrecht 2015; Brier 1950;
Yang & Ji 2021, arXiv:2109.09032 (10 bins for JEM++; 15 is customary).
Level: of probabilities and logits only. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from ..contracts import Array, RangeError, check_array, check_count, check_labels
from ..objectives.classify import check_logits, log_softmax
from .classifier import check_probabilities
from .estimate import Estimate, estimate_mean

STEPS = 100  # Newton converges in a handful
LARGEST = 1e6  # an inverse temperature beyond this many times 1 / (spread of the logits) has no minimum


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: the bars of `bins` confidence bins (edges[b], edges[b + 1]].

    count, confidence, accuracy, se: (bins,); NaN where a bin is empty, se = sqrt(accuracy (1 - accuracy) / count).
    """

    edges: Array
    count: Array
    confidence: Array
    accuracy: Array
    se: Array


@dataclass(frozen=True)
class Temperature:
    """The temperature and its standard error (sandwich, then the delta method), and the NLL before and after."""

    temperature: Estimate
    nll_before: float
    nll_after: float
    steps: int


def nll(logits: Array, y: Array) -> Estimate:
    """-mean_n log softmax(F_n)[y_n] and its standard error.

    logits: (N, C)   y: (N,) integers in [0, C). Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_logits(logits)
    check_array("logits", logits, finite=True)
    check_labels("y", y, logits.shape[1], logits.shape[0])
    return estimate_mean(-log_softmax(logits.astype(np.float64))[np.arange(len(y)), y])


def brier(probabilities: Array, y: Array) -> Estimate:
    """mean_n sum_c (p_nc - [y_n = c])^2 and its standard error.

    probabilities: (N, C)   y: (N,) integers in [0, C). Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    _check(probabilities, y)
    gap = probabilities.astype(np.float64)  # a copy
    gap[np.arange(len(y)), y] -= 1
    return estimate_mean((gap * gap).sum(axis=1))


def reliability(probabilities: Array, y: Array, bins: int = 15) -> Reliability:
    """Count, mean confidence and accuracy of each confidence bin (l, u].

    probabilities: (N, C)   y: (N,) integers in [0, C). Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    confidence, right, at, edges = _binned(probabilities, y, bins)
    count = np.bincount(at, minlength=bins)
    n = np.where(count > 0, count, np.nan)
    accuracy = np.bincount(at, right, bins) / n
    return Reliability(
        edges, count, np.bincount(at, confidence, bins) / n, accuracy, np.sqrt(accuracy * (1 - accuracy) / n)
    )


def ece(probabilities: Array, y: Array, bins: int = 15) -> Estimate:
    """sum_b (n_b / n) |accuracy_b - confidence_b| and its standard error.

    probabilities: (N, C)   y: (N,) integers in [0, C). With s_b the sign of bin b's difference, the value is
    mean_n s_b(n) (right_n - confidence_n), and the error is that mean's: honest where the differences are not noise.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    confidence, right, at, _ = _binned(probabilities, y, bins)
    difference = right - confidence  # (N,)
    sign = np.sign(np.bincount(at, difference, bins))  # (bins,)
    return estimate_mean(sign[at] * difference)


def temperature_fit(logits: Array, y: Array) -> Temperature:
    """The T > 0 that minimises the NLL of softmax(F / T).

    logits: (N, C), C >= 2, of held-out data   y: (N,) integers in [0, C)
    Raises ShapeError, DTypeError, NonFiniteError, and RangeError where no finite T > 0 is best: every label is the
    largest logit (T -> 0), or the logits say less than a uniform guess (T -> infinity).
    """
    check_logits(logits)
    check_array("logits", logits, finite=True)
    check_labels("y", y, logits.shape[1], logits.shape[0])
    F = logits.astype(np.float64)
    F = F - F.mean(axis=1, keepdims=True)  # softmax does not see it
    scale = float(np.abs(F).max())
    if scale == 0 or float(F[np.arange(len(y)), y].mean()) <= 0:  # f'(0) = -mean F[y], F of mean 0
        raise RangeError("logits: expected to say more about y than a uniform guess; no finite temperature is best")
    F = F / scale
    if bool((F[np.arange(len(y)), y] >= F.max(axis=1)).all()):
        raise RangeError("logits: expected at least one wrong prediction; every label wins, so T = 0 would be best")
    b, low, high, steps, done = 1.0, 0.0, LARGEST, 0, False
    while not done and steps < STEPS:
        _, slope, curve, _ = _nll_of(F, y, b)
        low, high = (b, high) if slope < 0 else (low, b)  # f is convex: the minimum lies between
        new = b - slope / curve if curve > 0 else high
        new = new if low < new < high else (low + high) / 2
        done = abs(new - b) <= 1e-9 * b  # the error left is of the order of its square
        b, steps = new, steps + 1
    after, _, curve, slopes = _nll_of(F, y, b)
    se = float(np.std(slopes)) / (sqrt(len(y)) * curve)  # of b
    return Temperature(Estimate(scale / b, scale / b * se / b), _nll_of(F, y, scale)[0], after, steps)


def _nll_of(F: Array, y: Array, b: float) -> tuple[float, float, float, Array]:
    """f(b), f'(b), f''(b), and each sample's part of f', (N,)."""
    log_p = log_softmax(b * F)  # (N, C)
    p, rows = np.exp(log_p), np.arange(len(y))
    mean = (p * F).sum(axis=1)  # (N,)
    slopes = mean - F[rows, y]
    curve = (p * F * F).sum(axis=1) - mean**2
    return float(-log_p[rows, y].mean()), float(slopes.mean()), float(curve.mean()), slopes


def _binned(probabilities: Array, y: Array, bins: int) -> tuple[Array, Array, Array, Array]:
    """Confidence and correctness of each sample, (N,) float64, its bin, (N,), and the edges, (bins + 1,)."""
    _check(probabilities, y)
    check_count("bins", bins, low=1)
    confidence = probabilities.max(axis=1)
    edges = (np.arange(bins + 1) / bins).astype(probabilities.dtype)  # a confidence of 0.7 is on the edge 0.7
    at = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)  # edges[at] < confidence
    right = (probabilities.argmax(axis=1) == y).astype(np.float64)
    return confidence.astype(np.float64), right, at, edges


def _check(probabilities: Array, y: Array) -> None:
    check_probabilities("probabilities", probabilities)
    check_labels("y", y, probabilities.shape[1], probabilities.shape[0])
