"""Linear probes: how much of the classes do frozen features hold in a linear form?

    probe_ridge      W = (A' A + lam I)^-1 A' Y,  A the standardised features, Y one-hot; c = mean Y
    probe_logistic   W, c that minimise mean_n CE(A_n W + c, y_n) + (lam / 2) |W|^2, by Newton, each step by
                     conjugate gradients on H V = A' (P (A V) - P <P, A V>) / N + lam V
    probe_logits     A W + c
    probe_accuracy   share of argmax (A W + c) = y

A = (features - mean) / sd with the mean and sd of the training features, also on test data; a feature that does not
vary is left out by an infinite sd. The intercept c is not penalised. Features are penultimate ones, of a network that
is not trained further: a probe on top of the classifier's own logits says nothing about the features.

Source: Hoerl & Kennard 1970 (ridge); Alain & Bengio 2017, arXiv:1610.01644 (probes); Bishop 2006, Pattern
Recognition and Machine Learning, eqs. 4.108 to 4.110; Nocedal & Wright 2006, algorithm 7.1 (Newton with conjugate
gradients).
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from ..contracts import Array, RangeError, ShapeError, check_array, check_count, check_labels, check_number
from ..objectives.classify import log_softmax
from .estimate import Estimate


@dataclass(frozen=True, eq=False)
class Probe:
    """mean, sd: (F,) of the training features   W: (F, C)   c: (C,), all float64; steps: of Newton, 0 for ridge."""

    mean: Array
    sd: Array
    W: Array
    c: Array
    steps: int = 0


def probe_ridge(features: Array, y: Array, C: int, lam: float) -> Probe:
    """W = (A' A + lam I)^-1 A' Y and c = mean Y.

    features: (N, F)   y: (N,) integers in [0, C)   lam > 0. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    A, Y, mean, sd = _problem(features, y, C, lam)
    W = np.linalg.solve(A.T @ A + float(lam) * np.eye(A.shape[1]), A.T @ Y)  # (F, C)
    return Probe(mean, sd, W, Y.mean(axis=0))


def probe_logistic(features: Array, y: Array, C: int, lam: float, tol: float = 1e-8, steps: int = 100) -> Probe:
    """Minimise mean_n CE(A_n W + c, y_n) + (lam / 2) |W|^2 until the largest element of its gradient is <= tol.

    features: (N, F)   y: (N,) integers in [0, C), every class present   lam > 0: the minimum is then unique, c up to a
    constant, which is chosen to add to 0. Raises ShapeError, DTypeError, NonFiniteError, and RangeError, also when
    `steps` Newton steps did not reach tol.
    """
    A, Y, mean, sd = _problem(features, y, C, lam)
    check_number("tol", tol, low=0.0, open_low=True)
    check_count("steps", steps, low=1)
    if not bool((Y.sum(axis=0) > 0).all()):
        raise RangeError(f"y: expected every class in [0, {C}), found none of {int(np.argmin(Y.sum(axis=0)))}")
    B = np.concatenate([A, np.ones((len(A), 1))], axis=1)  # (N, F + 1)
    penalty = np.full((B.shape[1], 1), float(lam))
    penalty[-1] = 0
    V = np.zeros((B.shape[1], C))
    V[-1] = np.log(Y.mean(axis=0)) - np.log(Y.mean(axis=0)).mean()
    loss, grad, P = _logistic(B, Y, V, penalty)
    for step in range(steps):
        if float(np.abs(grad).max()) <= tol:
            return Probe(mean, sd, V[:-1], V[-1], step)
        move = _conjugate_gradients(B, P, penalty, -grad)
        slope, size = float((grad * move).sum()), 1.0
        while True:  # halve until the loss falls by enough
            trial = _logistic(B, Y, V + size * move, penalty)
            if trial[0] <= loss + 1e-4 * size * slope + 1e-15 * abs(loss) or size < 1e-10:
                break
            size /= 2
        V = V + size * move
        loss, grad, P = trial
    raise RangeError(f"steps: {steps} Newton steps left a gradient of {float(np.abs(grad).max()):.1e} > tol = {tol:g}")


def probe_logits(probe: Probe, features: Array) -> Array:
    """A W + c, (N, C), float64. features: (N, F). Raises ShapeError, NonFiniteError."""
    check_array("features", features, shape=(None, probe.mean.shape[0]), finite=True)
    logits: Array = (features.astype(np.float64) - probe.mean) / probe.sd @ probe.W + probe.c
    return logits


def probe_accuracy(probe: Probe, features: Array, y: Array) -> Estimate:
    """Share of samples whose largest logit is y, and sqrt(a (1 - a) / N).

    features: (N, F)   y: (N,) integers. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    logits = probe_logits(probe, features)
    check_labels("y", y, logits.shape[1], logits.shape[0])
    if len(y) == 0:
        raise ShapeError("features: expected at least one sample, found none")
    a = float((logits.argmax(axis=1) == y).mean())
    return Estimate(a, sqrt(a * (1 - a) / len(y)))


def _problem(features: Array, y: Array, C: int, lam: float) -> tuple[Array, Array, Array, Array]:
    """A (N, F), Y (N, C), mean and sd (F,), float64."""
    check_array("features", features, ndim=2, finite=True)
    check_count("C", C, low=2)
    check_labels("y", y, C, features.shape[0])
    check_number("lam", lam, low=0.0, open_low=True)
    if features.shape[0] < 2:
        raise ShapeError(f"features: expected at least two samples, found {features.shape[0]}")
    x = features.astype(np.float64)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    flat = sd <= 1e-12 * np.abs(mean)  # constant, but for rounding
    sd = np.where(flat, np.inf, sd)
    return (x - mean) / sd, np.eye(C)[y], mean, sd


def _logistic(B: Array, Y: Array, V: Array, penalty: Array) -> tuple[float, Array, Array]:
    """The loss, its gradient (F + 1, C), and P = softmax (N, C)."""
    log_p = log_softmax(B @ V)
    P = np.exp(log_p)
    loss = float(-(Y * log_p).sum() / len(B) + 0.5 * (penalty * V * V).sum())
    return loss, B.T @ (P - Y) / len(B) + penalty * V, P


def _conjugate_gradients(B: Array, P: Array, penalty: Array, b: Array) -> Array:
    """x with H x = b, to a residual that shrinks with b: Newton's steps then converge faster than linearly."""
    x = np.zeros_like(b)
    r, p = b.copy(), b.copy()
    square = start = float((r * r).sum())
    goal = start * min(0.25, sqrt(start)) ** 2
    for _ in range(10 * b.size):
        Q = P * (B @ p)  # (N, C)
        Hp = B.T @ (Q - P * Q.sum(axis=1, keepdims=True)) / len(B) + penalty * p
        curve = float((p * Hp).sum())
        if curve <= 0:  # along the constant that softmax does not see
            break
        x = x + square / curve * p
        r = r - square / curve * Hp
        square, last = float((r * r).sum()), square
        if square <= goal:
            break
        p = r + square / last * p
    return x
