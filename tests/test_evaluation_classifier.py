"""Evaluations of a ClassifierEnergy: its attack gradient, its refinement, its features and its confidence."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along
from evaluation_parts import normals

import ebm_ref
from ebm_ref.contracts import RangeError
from ebm_ref.evaluation import (
    RefinedClassifier,
    nll,
    pgd_gradient,
    pgd_run,
    probe_accuracy,
    probe_ridge,
    robust_accuracy,
    score_energy,
    score_max_softmax,
)
from ebm_ref.objectives.classify import log_softmax
from ebm_ref.specs import SGLD

CLASSIFIER = ebm_ref.ClassifierEnergy(ebm_ref.MLPEnergy((2,), (16,)), 3)
THETA = ebm_ref.theta_init(CLASSIFIER, seed=5, dtype=np.float64)
THETA = {name: value * 2 for name, value in THETA.items()}
X = normals(300, 2, 90)
Y = CLASSIFIER.logits(THETA, X).argmax(axis=1)


def test_pgd_gradient__is_the_derivative_of_the_cross_entropy():
    loss, right, g = pgd_gradient(CLASSIFIER, THETA, X, Y)
    np.testing.assert_allclose(loss.mean(), nll(CLASSIFIER.logits(THETA, X), Y).value)
    assert right.all()
    v = normals(300, 2, 91)
    wanted = along(lambda x: pgd_gradient(CLASSIFIER, THETA, x, Y)[0], X, v)
    np.testing.assert_allclose((g * v).sum(axis=1), wanted, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_run__finds_errors_that_random_noise_does_not(norm):
    eps = 0.4
    attack = pgd_run(ebm_ref, CLASSIFIER, THETA, X, Y, eps, 0.1, 20, seed=1, norm=norm)
    noise = pgd_run(ebm_ref, CLASSIFIER, THETA, X, Y, eps, 0.1, 0, seed=1, norm=norm)
    assert robust_accuracy(attack).value < robust_accuracy(noise).value - 0.05
    np.testing.assert_array_equal(attack.right, CLASSIFIER.logits(THETA, attack.x).argmax(axis=1) == Y)
    more = pgd_run(ebm_ref, CLASSIFIER, THETA, X, Y, eps, 0.1, 20, seed=1, norm=norm, starts=3)
    assert (more.loss >= attack.loss).all()  # the first start is the same


def test_refined_classifier__is_the_mean_over_copies_and_straight_through():
    still = RefinedClassifier(ebm_ref, CLASSIFIER, SGLD(eta=0.0, sigma=0.0), K=3, S=2, seed=4)
    np.testing.assert_allclose(still.logits(THETA, X), CLASSIFIER.logits(THETA, X), atol=1e-14)
    update = SGLD(eta=0.2, sigma=0.05)
    refined = RefinedClassifier(ebm_ref, CLASSIFIER, update, K=4, S=3, seed=4)
    copies = [ebm_ref.langevin_run(CLASSIFIER, THETA, X, 4, update, 4, 4 * s)[0] for s in range(3)]
    assert np.abs(copies[0] - copies[1]).min() > 0  # each copy has noise of its own
    mean = sum(CLASSIFIER.logits(THETA, x) for x in copies) / 3
    np.testing.assert_allclose(refined.logits(THETA, X), mean, atol=1e-14)
    dy, v = normals(300, 3, 92), normals(300, 2, 93)
    dx, grads = refined.logits_backward(THETA, X, dy)
    shifted = along(lambda s: sum((dy * CLASSIFIER.logits(THETA, x + s * v)).sum(axis=1) for x in copies) / 3, 0.0, 1.0)
    np.testing.assert_allclose((dx * v).sum(axis=1), shifted, atol=1e-9)
    for name, g in grads.items():
        each = [CLASSIFIER.logits_backward(THETA, x, dy)[1][name] for x in copies]
        np.testing.assert_allclose(g, sum(each) / 3, atol=1e-12)
    assert robust_accuracy(pgd_run(ebm_ref, refined, THETA, X, Y, 0.3, 0.1, 5, seed=1)).value < 1
    with pytest.raises(RangeError, match="S"):
        RefinedClassifier(ebm_ref, CLASSIFIER, update, K=4, S=0, seed=4)


def test_scores_and_probe__on_a_classifier_energy():
    F = CLASSIFIER.logits(THETA, X)
    np.testing.assert_allclose(score_max_softmax(CLASSIFIER, THETA, X), np.exp(log_softmax(F)).max(axis=1))
    np.testing.assert_allclose(score_energy(CLASSIFIER, THETA, X), np.log(np.exp(F).sum(axis=1)))
    features = CLASSIFIER.features(THETA, X)  # (300, 16), of which the labels are a linear function
    assert probe_accuracy(probe_ridge(features, Y, 3, 1e-3), features, Y).value > 0.9
