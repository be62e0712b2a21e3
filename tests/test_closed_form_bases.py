"""The parts of annealing: bases, the path between base and model, moves, ladders, means of weights."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from evaluation_parts import normals, rbm_theta
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import RangeError, ShapeError, Stream
from ebm_ref.evaluation import (
    BernoulliBase,
    Estimate,
    FlipTransition,
    GaussianBase,
    MALATransition,
    NormalBase,
    TemperedEnergy,
    UniformBase,
    ais_run,
    beta_ladder,
    estimate_log_mean_exp,
    weights_ess,
)
from ebm_ref.noise import noise_uniform


def test_tempered_energy__is_the_base_at_0_and_the_model_at_1():
    energy, theta, x = ebm_ref.QuadraticEnergy((3,)), None, normals(6, 3)
    theta = {"mu": np.array([0.3, 0.0, -1.0]), "P": np.diag([1.0, 2.0, 3.0])}
    for base in (NormalBase(), GaussianBase(np.ones(3), np.tril(np.ones((3, 3)))), UniformBase((-9.0, 9.0))):
        ends = [TemperedEnergy(energy, base, beta) for beta in (0.0, 1.0)]
        np.testing.assert_allclose(ends[0].energy(theta, x), -base.log_density(x), atol=1e-13)
        np.testing.assert_allclose(ends[1].energy(theta, x), energy.energy(theta, x), atol=1e-13)
        middle = TemperedEnergy(energy, base, 0.3)
        v, h = normals(6, 3, 9), 1e-5
        slope = (middle.energy(theta, x + h * v) - middle.energy(theta, x - h * v)) / (2 * h)
        np.testing.assert_allclose((middle.grad_x(theta, x) * v).sum(axis=1), slope, atol=1e-8)
        grads = middle.grad_theta(theta, x, np.ones(6))
        np.testing.assert_allclose(grads["mu"], 0.3 * energy.grad_theta(theta, x, np.ones(6))["mu"], atol=1e-13)
    walls = TemperedEnergy(energy, UniformBase((-1.0, 1.0)), 1.0)
    assert np.isinf(walls.energy(theta, np.full((1, 3), 1.5))).all()


@pytest.mark.parametrize(
    "base", [NormalBase(), GaussianBase(np.array([1.0]), np.array([[0.5]])), UniformBase((-2.0, 3.0))]
)
def test_base__is_normalised_and_draws_what_it_says(base):
    grid = np.linspace(-9, 9, 18_001)[:, None]
    assert abs(np.exp(base.log_density(grid)).sum() * 1e-3 - 1) < 1e-3
    x = base.draw(ebm_ref, 5, 4000, (1,), np.float64)
    assert abs(estimate_log_mean_exp(0.3 * x[:, 0]).value - generating(base, 0.3)) < 0.02


def test_gaussian_and_bernoulli_base__draw_their_moments():
    root = np.array([[0.6, 0.0], [1.1, 0.4]])
    x = GaussianBase(np.array([1.0, -2.0]), root).draw(ebm_ref, 6, 20_000, (2,), np.float64)
    assert (np.abs(x.mean(axis=0) - [1, -2]) < 5 * np.sqrt(np.diag(root @ root.T) / 20_000)).all()
    np.testing.assert_allclose(np.cov(x.T), root @ root.T, atol=5 * 1.4 * sqrt(2 / 20_000))
    bits = BernoulliBase(0.2).draw(ebm_ref, 6, 5000, (2, 2), np.float64)
    assert abs(bits.mean() - 0.2) < 5 * 0.4 / sqrt(20_000) and set(np.unique(bits)) == {0.0, 1.0}


def generating(base, s):
    """log E[exp(s x)] by the sum on a grid."""
    grid = np.linspace(-9, 9, 18_001)[:, None]
    return log(float(np.exp(base.log_density(grid) + s * grid[:, 0]).sum() * 1e-3))


def test_flip_transition__leaves_the_tempered_law_invariant():
    """The whole transition matrix of one sweep on 3 bits, by its acceptance probabilities: pi T = pi."""
    energy = ebm_ref.RBMEnergy(3, 2)
    theta, base = rbm_theta(energy), BernoulliBase(0.3)
    tempered = TemperedEnergy(energy, base, 0.6)
    states = ebm_ref.binary_states(3)
    E = tempered.energy(theta, states)
    pi_ = np.exp(-E) / np.exp(-E).sum()
    N = 40_000
    at = np.searchsorted(np.cumsum(pi_), noise_uniform(1, Stream.EVALUATION, 0, np.arange(N), 1)[:, 0])
    moved, accept = FlipTransition()(ebm_ref, tempered, theta, states[np.minimum(at, 7)], 1, 9, 0)
    count = np.bincount(ebm_ref.binary_index(moved), minlength=8)
    assert (np.abs(count / N - pi_) < 5 * np.sqrt(pi_ * (1 - pi_) / N)).all()
    T = np.eye(8)
    for d in range(3):
        flip = np.arange(8) ^ (1 << d)
        a = np.minimum(1, np.exp(E - E[flip]))
        step = np.diag(1 - a)
        step[np.arange(8), flip] = a
        T = T @ step
    start = states[np.full(N, 5)]
    moved, _ = FlipTransition()(ebm_ref, tempered, theta, start, 1, 10, 0)
    share = np.bincount(ebm_ref.binary_index(moved), minlength=8) / N
    assert (np.abs(share - T[5]) < 5 * np.sqrt(T[5] * (1 - T[5]) / N) + 1e-12).all()
    assert 0 < accept.mean() < 1


def test_beta_ladder__rises_from_0_to_1():
    assert beta_ladder(4) == (0.0, 0.25, 0.5, 0.75, 1.0)
    sigmoid = beta_ladder(20, "sigmoid")
    steps = np.diff(sigmoid)
    assert sigmoid[0] == 0 and sigmoid[-1] == 1 and (steps > 0).all()
    assert steps[10] > 5 * steps[0] and np.allclose(steps, steps[::-1])


def test_estimate__log_mean_exp_and_ess_are_their_equations():
    log_w = np.array([0.0, log(3.0), log(2.0)])
    found = estimate_log_mean_exp(log_w + 1000)
    assert found.value == pytest.approx(1000 + log(2)) and found.se == pytest.approx(1 / (2 * sqrt(3)))
    assert weights_ess(log_w - 1000) == pytest.approx(36 / 14)
    assert weights_ess(np.zeros(9)) == 9 and np.isnan(estimate_log_mean_exp(np.zeros(1)).se)
    assert estimate_log_mean_exp(np.full(3, -np.inf)).value == -np.inf
    assert isinstance(found, Estimate)


@pytest.mark.parametrize(
    ("betas", "error"),
    [((0.0,), RangeError), ((0.0, 0.5), RangeError), ((0.1, 1.0), RangeError), ((0.0, 0.6, 0.6, 1.0), RangeError)],
)
def test_ais_run__bad_ladders_are_refused(betas, error):
    with pytest.raises(error, match="betas"):
        ais_run(ebm_ref, Bowl(), bowl_theta(1.0), NormalBase(), betas, 4, MALATransition(0.1), seed=0)


def test_ais_run__a_step_size_is_missing():
    with pytest.raises(ShapeError, match="each temperature"):
        ais_run(ebm_ref, Bowl(), bowl_theta(1.0), NormalBase(), beta_ladder(3), 4, MALATransition((0.1, 0.1)), seed=0)
