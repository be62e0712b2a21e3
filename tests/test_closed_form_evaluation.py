"""Bits, gaps, outliers, calibration, attacks, probes and feature distances against closed forms and brute force."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, erf, log, log2, pi, sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import NonFiniteError, RangeError, Stream
from ebm_ref.evaluation import (
    Estimate,
    aupr,
    aupr_in,
    aupr_out,
    auroc,
    auroc_estimate,
    bits_per_dim,
    bits_per_dim_run,
    brier,
    dequantise,
    ece,
    energy_gap,
    energy_gap_ema,
    fpr_at_tpr,
    frechet_feature,
    frechet_gaussian,
    inception_style_score,
    log_z_quadrature,
    mmd_rbf,
    mutate,
    mutate_run,
    nll,
    pgd_run,
    probe_accuracy,
    probe_logistic,
    probe_logits,
    probe_ridge,
    rbf_kernel,
    reliability,
    robust_accuracy,
    score_energy,
    score_grad_norm,
    score_likelihood_ratio,
    score_max_softmax,
    score_typicality,
    temperature_fit,
)
from ebm_ref.noise import noise_index, noise_normal, noise_uniform
from ebm_ref.objectives.classify import log_softmax


def normals(N, D, purpose=0):
    return noise_normal(7, Stream.EVALUATION, purpose, np.arange(N), D)


def uniforms(N, D, purpose=0):
    return noise_uniform(7, Stream.EVALUATION, purpose, np.arange(N), D)


def phi(a):
    return 0.5 * (1 + erf(a / sqrt(2)))


@dataclass(frozen=True)
class LinearLogits:
    """F(x) = x W + c. theta: W (D, C), c (C,)."""

    shape: tuple[int, ...]

    def logits(self, theta, x):
        return x.reshape((len(x), -1)) @ theta["W"] + theta["c"]

    def logits_backward(self, theta, x, dy):
        return (dy @ theta["W"].T).reshape(x.shape), {"W": x.reshape((len(x), -1)).T @ dy, "c": dy.sum(axis=0)}


# --------------------------------------------------------------------------------- bits per dimension


@pytest.mark.parametrize(("box", "constant"), [((0.0, 1.0), 8.0), ((-1.0, 1.0), 7.0)])
def test_bits_per_dim__constants_are_8_and_7(box, constant):
    log_p = np.array([-3.0, -5.0, -7.0])
    found = bits_per_dim(log_p, 4, box)
    assert found.value == pytest.approx(5 / (4 * log(2)) + constant, abs=1e-14)
    assert found.se == pytest.approx(2 / sqrt(3) / (4 * log(2)))
    flat = np.full(5, -4 * log(box[1] - box[0]))  # the uniform density on the box: 8 bits for a pixel of 256 values
    assert bits_per_dim(flat, 4, box).value == pytest.approx(8.0, abs=1e-14)


def test_bits_per_dim_run__bounds_the_bits_of_the_discrete_model_and_tightens():
    """P(v) = int of p over the cell of v, by quadrature; the bound is above -log2 P(v), less so for S > 1."""
    energy, theta, box, levels = Bowl((1,)), bowl_theta(60.0), (-1.0, 1.0), 8
    log_z = log_z_quadrature(energy, theta, box).log_z
    v = np.repeat(np.arange(levels), 400)[:, None]
    cells = np.linspace(*box, levels + 1)
    exact = [
        -(log_z_quadrature(energy, theta, (a, b)).log_z - log_z) / log(2)
        for a, b in zip(cells[:-1], cells[1:], strict=True)
    ]
    truth = float(np.repeat(exact, 400).mean())
    bounds = [bits_per_dim_run(ebm_ref, energy, theta, v, log_z, box, 3, S, levels, np.float64) for S in (1, 4, 64)]
    jensen = 0.0  # the exact bound for S = 1: mean over the cells of E_u[E(y)]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    for a, b in zip(cells[:-1], cells[1:], strict=True):
        y = (a + b) / 2 + (b - a) / 2 * nodes
        jensen += float(weights @ (30 * y * y)) / 2 / levels
    expected = (jensen + log_z) / log(2) + log2(levels) - log2(2)
    noise = 5 * 60 / sqrt(400 * levels)  # of the cells, far above the error of the draws within one
    assert abs(bounds[0].value - expected) < min(noise, 0.15)
    gaps = [bound.value - truth for bound in bounds]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0
    shifted = bits_per_dim_run(ebm_ref, energy, theta, v, Estimate(log_z + 1, 0.3), box, 3, 1, levels, np.float64)
    assert shifted.value - bounds[0].value == pytest.approx(1 / log(2))
    assert shifted.se == pytest.approx(sqrt(bounds[0].se ** 2 + (0.3 / log(2)) ** 2))


def test_dequantise__fills_each_cell_and_nothing_else():
    v = np.array([[0, 255], [17, 128]], np.uint8)
    for u in (np.full((2, 2), 2.0**-33), np.ones((2, 2))):
        y = dequantise(v, u, (-1.0, 1.0))
        np.testing.assert_allclose((y + 1) * 128, v + u, atol=1e-12)
        assert y.min() > -1 - 1e-12 and y.max() <= 1


# ------------------------------------------------------------------------------------------ the gap


def test_energy_gap__value_and_error():
    pos, neg = np.array([1.0, 3.0, 5.0]), np.array([7.0, 9.0])
    found = energy_gap(pos, neg)
    assert found.value == 5.0 and found.se == pytest.approx(sqrt(4 / 3 + 2 / 2))
    m, s = energy_gap_ema(np.array([1.0, 2.0, 4.0]), 0.5)
    w = np.array([0.25, 0.5, 1.0]) / 1.75
    assert m == pytest.approx(w @ [1, 2, 4]) and s == pytest.approx(sqrt(w @ (np.array([1, 2, 4]) - m) ** 2))
    assert energy_gap_ema(np.full(50, 3.0)) == (pytest.approx(3.0), pytest.approx(0.0, abs=1e-7))


def test_energy_gap__of_a_regularised_energy_with_a_free_gain_is_the_closed_form():
    """T13: E = s g, alpha = 0.05, g of means (-.2, .5) and second moments (.3, .9): gap = 2 alpha s^2 (.3 + .9)."""
    alpha, s = 0.05, (0.5 + 0.2) / (2 * 0.05 * (0.3 + 0.9))
    pos, neg = two_points(-0.2, 0.3), two_points(0.5, 0.9)
    assert energy_gap(s * pos, s * neg).value == pytest.approx(4.083333, abs=5e-7)
    regulariser = 2 * alpha * (np.mean((s * pos) ** 2) + np.mean((s * neg) ** 2))
    assert energy_gap(s * pos, s * neg).value == pytest.approx(regulariser)


def two_points(mean, second):
    spread = sqrt(second - mean**2)
    return np.array([mean - spread, mean + spread])


# --------------------------------------------------------------------------------------- outliers


def lists(seed, levels):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, rng.integers(2, 30)) / 4 for _ in range(2))


def brute_aupr(pos, neg):
    """sum_i (R_i - R_(i-1)) P_i, threshold by threshold, from the highest."""
    total, recall = 0.0, 0.0
    for t in sorted(set(pos) | set(neg), reverse=True):
        tp, fp = int((pos >= t).sum()), int((neg >= t).sum())
        total += (tp / len(pos) - recall) * tp / (tp + fp)
        recall = tp / len(pos)
    return total


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_aupr_and_auroc__are_brute_force_with_ties(levels):
    for seed in range(30):
        a, b = lists(seed, levels)
        assert aupr(a, b).value == pytest.approx(brute_aupr(a, b), abs=1e-14)
        assert aupr_in(a, b) == aupr(a, b) and aupr_out(a, b).value == pytest.approx(brute_aupr(-b, -a), abs=1e-14)
        pairs = [1.0 if s > t else 0.5 if s == t else 0.0 for s in a for t in b]
        assert auroc(a, b) == auroc_estimate(a, b).value == sum(pairs) / len(pairs)
        won = np.array(pairs).reshape(len(a), len(b))
        se = sqrt(won.mean(axis=1).var(ddof=1) / len(a) + won.mean(axis=0).var(ddof=1) / len(b))
        assert auroc_estimate(a, b).se == pytest.approx(se, abs=1e-14)


def test_ood__keeps_its_values_under_monotone_maps_and_a_shift_of_the_energy():
    a, b = normals(60, 1)[:, 0], normals(50, 1, 1)[:, 0] - 1
    for f in (lambda s: np.exp(s) + 7, lambda s: s - 100.0, np.arctan):
        for statistic in (auroc_estimate, aupr_in, aupr_out):
            assert statistic(f(a), f(b)) == pytest.approx(statistic(a, b))
        assert fpr_at_tpr(f(a), f(b)) == fpr_at_tpr(a, b)


def test_auroc_and_aupr__of_gaussians_and_their_errors():
    """AUROC is Phi(d / sqrt 2); each standard error is the spread of the statistic over independent repeats."""
    d, repeats, N, M = 1.2, 300, 80, 50
    xi = normals(repeats, N + M, 4)
    found = [(auroc_estimate(x[:N] + d, x[N:]), aupr(x[:N] + d, x[N:]), aupr_out(x[:N] + d, x[N:])) for x in xi]
    for which in range(3):
        values = np.array([f[which].value for f in found])
        errors = np.array([f[which].se for f in found])
        spread = values.std(ddof=1)
        assert abs(np.sqrt(np.mean(errors**2)) / spread - 1) < 5 / sqrt(2 * repeats)
        if which == 0:
            assert abs(values.mean() - phi(d / sqrt(2))) < 5 * spread / sqrt(repeats)


def test_aupr__limits():
    high, low = np.array([3.0, 4.0]), np.array([0.0, 1.0, 2.0])
    assert aupr_in(high, low).value == 1.0 and aupr_out(high, low).value == 1.0
    tied = np.zeros(3)
    assert aupr_in(np.zeros(2), tied).value == pytest.approx(0.4) and aupr_out(
        np.zeros(2), tied
    ).value == pytest.approx(0.6)


def test_ood__nan_scores_are_refused_before_they_are_paired_with_labels():
    good, bad = np.array([1.0, 2.0]), np.array([0.0, np.nan, 3.0])
    for statistic in (auroc, auroc_estimate, aupr, aupr_in, aupr_out, fpr_at_tpr):
        with pytest.raises(NonFiniteError, match="1 NaN or inf of 3"):
            statistic(good, bad)


def test_scores__are_their_equations_and_tell_gaussians_apart():
    energy, theta, wide = Bowl((3,)), bowl_theta(1.0, 1.0, 1.0), bowl_theta(0.25, 0.25, 0.25, bias=5.0)
    x = normals(400, 3)
    r2 = (x * x).sum(axis=1)
    np.testing.assert_allclose(score_energy(energy, theta, x), -r2 / 2)
    np.testing.assert_allclose(score_grad_norm(energy, theta, x), -np.sqrt(r2))
    np.testing.assert_allclose(score_typicality(energy, theta, x, 1.5), -np.abs(r2 / 2 - 1.5))
    ratio = score_likelihood_ratio(energy, theta, energy, wide, x)
    np.testing.assert_allclose(ratio, 5 + r2 / 8 - r2 / 2)
    log_ratio = -r2 / 2 + r2 / 8 - 1.5 * log(2 * pi) + 1.5 * log(2 * pi / 0.25)  # log p - log p_bg, normalised
    np.testing.assert_allclose(ratio - log_ratio, ratio[0] - log_ratio[0])
    assert auroc(ratio, ratio - 1) == auroc(ratio + 3, ratio + 2)
    mode = np.zeros((5, 3))  # likelier than any sample, and not typical
    assert auroc(score_energy(energy, theta, x), score_energy(energy, theta, mode)) == 0
    assert auroc(score_typicality(energy, theta, x, 1.5), score_typicality(energy, theta, mode, 1.5)) > 0.75
    classifier, weights = LinearLogits((3,)), {"W": normals(3, 4, 2), "c": normals(1, 4, 3)[0]}
    p = np.exp(log_softmax(classifier.logits(weights, x)))
    np.testing.assert_allclose(score_max_softmax(classifier, weights, x), p.max(axis=1))


@pytest.mark.parametrize("mu", [0.1, 0.3])
def test_mutate__changes_a_share_mu_255_256_and_wraps(mu):
    v = np.full((300, 8, 8, 1), 250, np.uint8)
    mutated = mutate_run(ebm_ref, v, mu, seed=3)
    rate, n = mu * 255 / 256, v.size
    assert mutated.dtype == np.uint8
    assert abs((mutated != v).mean() - rate) < 5 * sqrt(rate * (1 - rate) / n)
    changed = mutated[mutated != v].astype(np.int64)
    assert abs(changed.mean() - (255 * 256 / 2 - 250) / 255) < 5 * 74 / sqrt(changed.size)
    np.testing.assert_array_equal(mutate(v, np.ones(v.shape), v, 0.0), v)
    np.testing.assert_array_equal(mutate(v, np.ones(v.shape), np.full_like(v, 10), 1.0), np.full_like(v, 4))


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


# ----------------------------------------------------------------------------------------- features


def test_frechet__closed_forms():
    mu, S = np.array([0.5, -1.0, 2.0]), np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]])
    assert frechet_gaussian(mu, S, mu, S) == pytest.approx(0, abs=1e-13)
    a, b = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.0])
    found = frechet_gaussian(mu, np.diag(a), mu + 1, np.diag(b))
    assert found == pytest.approx(3 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())
    R = np.array([[1.0, 0.2, 0], [0, 1, -0.7], [0.4, 0, 1]])
    other = R @ R.T
    product = np.sqrt(np.linalg.eigvals(S @ other).real).sum()  # tr (S_1 S_2)^1/2 by the product's own eigenvalues
    wanted = np.trace(S) + np.trace(other) - 2 * product
    assert frechet_gaussian(mu, S, mu, other) == pytest.approx(wanted, rel=1e-12)
    assert frechet_gaussian(mu, other, mu, S) == pytest.approx(wanted, rel=1e-12)
    singular = np.outer(mu, mu)  # the product of two of rank one has no positive root along most axes
    assert frechet_gaussian(mu, singular, mu, 4 * singular) == pytest.approx(float(mu @ mu), rel=1e-6)
    x = normals(50, 3, 60)
    assert frechet_feature(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_feature(x, x + [3.0, 0, 4]) == pytest.approx(25)
    assert frechet_feature(x, 3 * x) == pytest.approx(4 * np.trace(np.cov(x.T)) + 4 * (x.mean(axis=0) ** 2).sum())


def test_rbf_kernel__mean_over_gaussians_of_t11():
    """|1 + (s1 + s2) / b^2|^-1/2 exp(-d^2 / (2 (b^2 + s1 + s2))), by Gauss-Hermite sums over our kernel."""
    s1, s2, d, b = 0.5, 1.2, 0.7, 1.5
    closed = (1 + (s1 + s2) / b**2) ** -0.5 * np.exp(-(d**2) / (2 * (b**2 + s1 + s2)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    k = rbf_kernel((sqrt(s1) * nodes)[:, None], (d + sqrt(s2) * nodes)[:, None], b)
    assert weights @ k @ weights == pytest.approx(closed, abs=1e-12)
    assert abs(closed - 0.709342) < 5e-7


def kernel_mean(S1, S2, gap, b):
    F = len(gap)
    return np.linalg.det(np.eye(F) + (S1 + S2) / b**2) ** -0.5 * np.exp(
        -0.5 * gap @ np.linalg.solve(b**2 * np.eye(F) + S1 + S2, gap)
    )


def test_mmd_rbf__is_the_closed_form_of_gaussians_within_its_error():
    S1, S2, gap, b = np.diag([0.5, 1.0]), np.diag([1.2, 0.3]), np.array([0.7, -0.2]), 1.5
    truth = kernel_mean(S1, S1, 0 * gap, b) + kernel_mean(S2, S2, 0 * gap, b) - 2 * kernel_mean(S1, S2, gap, b)
    values = []
    for r in range(60):
        x = normals(100, 2, 100 + r) @ np.sqrt(S1)
        y = normals(90, 2, 300 + r) @ np.sqrt(S2) + gap
        values.append(mmd_rbf(x, y, b))
    found, spread = np.array([v.value for v in values]), np.std([v.value for v in values], ddof=1)
    assert abs(found.mean() - truth) < 5 * spread / sqrt(60)
    assert abs(np.mean([v.se for v in values]) / spread - 1) < 5 / sqrt(120)


def test_mmd_rbf__biased_is_never_negative_and_0_for_equal_sets_and_unbiased_has_mean_0():
    x = normals(60, 3, 70) + 50
    biased = mmd_rbf(x, x[::-1], 1.0, unbiased=False)
    assert biased.value == pytest.approx(0, abs=1e-15)
    K, L = rbf_kernel(x[:30], x[:30], 1.0), rbf_kernel(x[30:], x[30:], 1.0)
    cross = rbf_kernel(x[:30], x[30:], 1.0)
    V = K.mean() + L.mean() - 2 * cross.mean()
    U = (K.sum() - 30) / (30 * 29) + (L.sum() - 30) / (30 * 29) - 2 * cross.mean()
    assert mmd_rbf(x[:30], x[30:], 1.0, unbiased=False).value == pytest.approx(V) and V > 0
    assert mmd_rbf(x[:30], x[30:], 1.0).value == pytest.approx(U)
    same = [mmd_rbf(normals(40, 2, 500 + r), normals(40, 2, 700 + r), 1.0).value for r in range(100)]
    assert min(same) < 0 and abs(np.mean(same)) < 5 * np.std(same) / 10


def test_inception_style_score__limits_and_the_mutual_information():
    assert inception_style_score(np.tile([0.2, 0.5, 0.3], (40, 1))).value == pytest.approx(1)
    one_hot = np.eye(4)[np.arange(40) % 4]
    found = inception_style_score(one_hot)
    assert found.value == pytest.approx(4) and found.se == pytest.approx(0, abs=1e-12)
    logits = 2 * normals(30, 5, 80)
    information, _ = ebm_ref.objectives.classify.mutual_information(logits)
    assert inception_style_score(np.exp(log_softmax(logits)), splits=1).value == pytest.approx(np.exp(information))
