"""Calibration, attacks and probes, against closed forms and brute force."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
import pytest
from evaluation_parts import LinearLogits, normals, uniforms

import ebm_ref
from ebm_ref.contracts import RangeError, Stream
from ebm_ref.evaluation import (
    brier,
    ece,
    nll,
    pgd_run,
    probe_accuracy,
    probe_logistic,
    probe_logits,
    probe_ridge,
    reliability,
    robust_accuracy,
    temperature_fit,
)
from ebm_ref.noise import noise_index
from ebm_ref.objectives.classify import log_softmax

# -------------------------------------------------------------------------------------- calibration


def brute_ece(p, y, bins):
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_ece__is_the_equation(bins):
    p = np.exp(log_softmax(2 * normals(500, 4)))
    y = noise_index(ebm_ref.noise_bits(3, Stream.EVALUATION, 9, np.arange(500), 1)[:, 0], 4)
    found, bars = ece(p, y, bins), reliability(p, y, bins)
    assert found.value == pytest.approx(brute_ece(p, y, bins), abs=1e-14)
    full = bars.count > 0
    terms = bars.count[full] / 500 * np.abs(bars.accuracy - bars.confidence)[full]
    assert found.value == pytest.approx(terms.sum()) and bars.count.sum() == 500
    assert np.isnan(bars.accuracy[~full]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ece__an_edge_belongs_to_the_bin_below_it(dtype):
    """(l, u]: confidences 0.6, 0.7, 0.8 of ten bins lie in bins 5, 6, 7, although 10 x 0.7 rounds above 7."""
    p = np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [1.0, 0.0]], dtype)
    bars = reliability(p, np.zeros(4, np.int64), 10)
    assert np.flatnonzero(bars.count).tolist() == [5, 6, 7, 9]


def test_ece__of_a_constant_confidence_and_of_a_calibrated_classifier():
    y = (np.arange(1000) >= 640).astype(np.int64)  # class 0 in 64 of 100
    p = np.tile([0.8, 0.2], (1000, 1))
    found = ece(p, y)
    assert found.value == pytest.approx(0.16) and found.se == pytest.approx(sqrt(0.64 * 0.36 / 999))
    sizes = []
    for N in (400, 40_000):
        confidence = 0.5 + 0.5 * uniforms(N, 1, N)[:, 0]
        y = (uniforms(N, 1, N + 1)[:, 0] > confidence).astype(np.int64)
        p = np.stack([confidence, 1 - confidence], axis=1)
        sizes.append(ece(p, y).value)
        bars = reliability(p, y)
        full = bars.count > 30
        assert (np.abs(bars.accuracy - bars.confidence)[full] < 5 * bars.se[full]).all()
    assert sizes[1] < 0.012 and sizes[1] < sizes[0] / 4  # like 1 / sqrt(N)


def test_nll_and_brier__are_their_equations():
    logits, y = 3 * normals(50, 5), np.arange(50) % 5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = -np.log(p[np.arange(50), y])
    assert nll(logits, y) == (pytest.approx(each.mean()), pytest.approx(each.std(ddof=1) / sqrt(50)))
    square = ((p - np.eye(5)[y]) ** 2).sum(axis=1)
    assert brier(p, y) == (pytest.approx(square.mean()), pytest.approx(square.std(ddof=1) / sqrt(50)))
    sure = np.eye(3)
    assert brier(sure, np.arange(3)).value == 0 and brier(sure, np.array([1, 2, 0])).value == 2
    assert nll(1e5 * sure, np.array([1, 2, 0])).value == pytest.approx(1e5)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_temperature_fit__recovers_the_temperature_that_made_the_labels(true):
    logits = 4 * normals(6000, 5, 20)
    p = np.exp(log_softmax(logits / true))
    y = (np.cumsum(p, axis=1) < uniforms(6000, 1, 21)).sum(axis=1)
    fit = temperature_fit(logits, y)
    assert abs(fit.temperature.value - true) < 5 * fit.temperature.se < 0.5 * true
    grid = [nll(logits / (fit.temperature.value * f), y).value for f in (0.999, 1.0, 1.001)]
    assert grid[1] < grid[0] and grid[1] < grid[2]
    assert fit.nll_after == pytest.approx(grid[1], abs=1e-13) and fit.nll_before == pytest.approx(nll(logits, y).value)
    assert fit.steps < 15
    assert abs(temperature_fit(1e4 * logits, y).temperature.value / fit.temperature.value - 1e4) < 1e-6
    information = np.exp(log_softmax(logits / true))  # the inverse of Fisher's information, at the truth
    spread = (information * logits**2).sum(axis=1) - (information * logits).sum(axis=1) ** 2
    assert fit.temperature.se == pytest.approx(true**2 / sqrt(spread.sum()), rel=0.1)


def test_temperature_fit__refuses_where_no_temperature_is_best():
    logits = normals(40, 3)
    with pytest.raises(RangeError, match="every label wins"):
        temperature_fit(logits, logits.argmax(axis=1))
    with pytest.raises(RangeError, match="uniform guess"):
        temperature_fit(logits, logits.argmin(axis=1))


# ------------------------------------------------------------------------------------------ attacks


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_pgd__reaches_the_closed_form_on_linear_logits(norm, dual):
    """margin - eps |w_y - w_c|_dual in ceil(eps / alpha) steps from x, where the box does not bind."""
    classifier, D, eps, alpha = LinearLogits((2, 3)), 6, 0.5, 0.15
    theta = {"W": normals(D, 2, 30), "c": np.array([0.3, -0.2])}
    x, y = normals(40, D, 31).reshape(40, 2, 3), np.arange(40) % 2
    sign = np.where(y == 0, 1, -1)
    slope = theta["W"][:, 0] - theta["W"][:, 1]
    worst = sign * margin(classifier, theta, x) - eps * np.linalg.norm(slope, dual)
    K = ceil(eps / alpha)
    attack = pgd_run(ebm_ref, classifier, theta, x, y, eps, alpha, K, seed=0, norm=norm, random_start=False)
    np.testing.assert_allclose(sign * margin(classifier, theta, attack.x), worst, atol=1e-12)
    np.testing.assert_allclose(attack.loss, np.log1p(np.exp(-worst)), atol=1e-12)
    np.testing.assert_array_equal(attack.right, worst > 0)
    short = pgd_run(ebm_ref, classifier, theta, x, y, eps, alpha, K - 1, seed=0, norm=norm, random_start=False)
    assert (sign * margin(classifier, theta, short.x) > worst + 1e-3).all()
    away = np.linalg.norm((attack.x - x).reshape(40, -1), np.inf if norm == "linf" else 2, axis=1)
    assert (away <= eps + 1e-12).all()
    accuracy = robust_accuracy(attack)
    assert accuracy.value == (worst > 0).mean()
    assert accuracy.se == pytest.approx(sqrt(accuracy.value * (1 - accuracy.value) / 40))
    started = pgd_run(ebm_ref, classifier, theta, x, y, eps, alpha, 2 * ceil(2 * eps / alpha), 0, norm, starts=2)
    np.testing.assert_allclose(sign * margin(classifier, theta, started.x), worst, atol=1e-2)


def margin(classifier, theta, x):
    F = classifier.logits(theta, x)
    return F[:, 0] - F[:, 1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd__stays_in_ball_and_box_starts_evenly_and_never_does_worse_than_no_attack(norm):
    classifier, eps, box = LinearLogits((5,)), 0.6, (0.0, 1.0)
    theta = {"W": normals(5, 3, 32), "c": np.zeros(3)}
    x, y = uniforms(500, 5, 33), np.arange(500) % 3
    attack = pgd_run(ebm_ref, classifier, theta, x, y, eps, 0.1, 8, seed=4, norm=norm, box=box, starts=2)
    away = np.linalg.norm(attack.x - x, np.inf if norm == "linf" else 2, axis=1)
    assert (away <= eps + 1e-12).all() and attack.x.min() >= 0 and attack.x.max() <= 1
    np.testing.assert_allclose(attack.loss, attack.losses.max(axis=(0, 1)))
    assert (attack.loss > -log_softmax(classifier.logits(theta, x))[np.arange(500), y]).mean() > 0.99
    start = pgd_run(ebm_ref, classifier, theta, np.zeros((500, 5)), y, eps, 0.1, 0, seed=4, norm=norm).x
    if norm == "linf":
        radius = np.abs(start / eps).max(axis=1)  # P(radius < r) = r^D
    else:
        radius = np.linalg.norm(start / eps, axis=1)
    assert abs((radius**5).mean() - 0.5) < 5 * sqrt(1 / 12 / 500)
    assert np.abs(start.mean(axis=0)).max() < 5 * eps / sqrt(500)


# ------------------------------------------------------------------------------------------- probes


def blobs(N, F, C, purpose):
    y = np.arange(N) % C
    return 1.5 * normals(C, F, 40)[y] + normals(N, F, purpose) * (1 + np.arange(F)) + 3, y


def test_probe_ridge__is_the_closed_form_and_the_limit_of_gradient_descent():
    x, y = blobs(90, 4, 3, 41)
    probe, lam = probe_ridge(x, y, 3, 2.5), 2.5
    A, Y = (x - x.mean(axis=0)) / x.std(axis=0), np.eye(3)[y]
    W, c = np.zeros((4, 3)), np.zeros(3)
    for _ in range(4000):
        gap = A @ W + c - Y
        W, c = W - 0.005 * (A.T @ gap + lam * W), c - 0.005 * gap.sum(axis=0)
    np.testing.assert_allclose(probe.W, W, atol=1e-12)
    np.testing.assert_allclose(probe.c, c, atol=1e-12)
    np.testing.assert_allclose(probe.W, np.linalg.inv(A.T @ A + lam * np.eye(4)) @ A.T @ Y, atol=1e-12)
    np.testing.assert_allclose(probe_logits(probe, x), A @ W + c, atol=1e-11)


@pytest.mark.parametrize("lam", [1e-4, 0.1])
def test_probe_logistic__is_where_the_gradient_vanishes(lam):
    x, y = blobs(120, 5, 4, 42)
    probe = probe_logistic(x, y, 4, lam, tol=1e-10)
    A = (x - x.mean(axis=0)) / x.std(axis=0)
    P = np.exp(log_softmax(A @ probe.W + probe.c)) - np.eye(4)[y]
    np.testing.assert_allclose(A.T @ P / 120 + lam * probe.W, 0, atol=1e-10)
    np.testing.assert_allclose(P.mean(axis=0), 0, atol=1e-10)
    assert probe.steps < 25 and abs(probe.c.sum()) < 1e-9


def test_probe__moves_of_scale_change_nothing_and_constant_features_are_left_out():
    x, y = blobs(120, 5, 4, 43)
    x[:, 2] = 7.7
    for fit in (lambda f: probe_ridge(f, y, 4, 1.0), lambda f: probe_logistic(f, y, 4, 0.01)):
        probe, moved = fit(x), fit(x * [1, 100, 1, 1e-3, 1] + 5)
        np.testing.assert_allclose(moved.W, probe.W, atol=1e-7)
        assert (probe.W[2] == 0).all() and np.isfinite(probe_logits(probe, x + 1)).all()


def test_probe__permuted_labels_are_chance_and_true_ones_are_not():
    (x, y), (x_test, y_test) = blobs(600, 6, 3, 44), blobs(600, 6, 3, 45)
    orders = [ebm_ref.noise_permutation(1, Stream.EVALUATION, 50 + r, 600) for r in range(40)]
    for fit in (lambda t: probe_ridge(x, t, 3, 1.0), lambda t: probe_logistic(x, t, 3, 0.01, tol=1e-6)):
        chance = np.array([probe_accuracy(fit(y[order]), x_test, y_test).value for order in orders])
        assert abs(chance.mean() - 1 / 3) < 5 * chance.std(ddof=1) / sqrt(40)
        accuracy = probe_accuracy(fit(y), x_test, y_test)
        assert accuracy.value > 0.55 and accuracy.se == pytest.approx(sqrt(accuracy.value * (1 - accuracy.value) / 600))
