"""Bits per dimension, gaps and outliers, against closed forms and brute force."""

from __future__ import annotations

from math import log, log2, pi, sqrt

import numpy as np
import pytest
from evaluation_parts import LinearLogits, normals, phi
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import NonFiniteError
from ebm_ref.evaluation import (
    Estimate,
    aupr,
    aupr_in,
    aupr_out,
    auroc,
    auroc_estimate,
    bits_per_dim,
    bits_per_dim_run,
    dequantise,
    energy_gap,
    energy_gap_ema,
    fpr_at_tpr,
    log_z_quadrature,
    mutate,
    mutate_run,
    score_energy,
    score_grad_norm,
    score_likelihood_ratio,
    score_max_softmax,
    score_typicality,
)
from ebm_ref.objectives.classify import log_softmax

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
