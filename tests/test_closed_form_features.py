"""Distances between sets of features, against closed forms."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from evaluation_parts import normals

import ebm_ref
from ebm_ref.evaluation import (
    frechet_feature,
    frechet_gaussian,
    inception_style_score,
    mmd_rbf,
    rbf_kernel,
)
from ebm_ref.objectives.classify import log_softmax

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
