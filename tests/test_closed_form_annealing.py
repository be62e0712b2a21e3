"""log Z by annealing, against closed forms, quadrature and enumeration."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt

import numpy as np
import pytest
from evaluation_parts import normals, rbm_theta
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import RangeError, Stream
from ebm_ref.evaluation import (
    AISResult,
    BernoulliBase,
    Estimate,
    FlipTransition,
    GaussianBase,
    HMCTransition,
    MALATransition,
    NormalBase,
    UniformBase,
    ais_reverse_run,
    ais_run,
    ais_tune,
    beta_ladder,
    log_z_bracket,
    log_z_quadrature,
    nll_bracket,
    weights_ess,
)
from ebm_ref.noise import noise_uniform

LOG_Z = 0.5 * log(pi)  # E = x^2, lambda = 2
STANDARD_ERRORS = 5


# ----------------------------------------------------------------------- T6, T7: exact expectations


@dataclass
class TwoPoints:
    """+-s has the second moment of N(0, s^2), and log w is linear in x^2 here: two chains give its exact mean."""

    def log_density(self, x):
        return NormalBase().log_density(x)

    def grad_log_density(self, x):
        return -x

    def draw(self, backend, seed, N, shape, dtype):
        return np.array([[-1.0], [1.0]])


def perfect(backend, energy, theta, x, k, seed, step):
    """An exact draw of gamma_beta, N(0, 1 / (1 - beta + 2 beta)), by its two points."""
    sd = 1 / sqrt(1 + energy.beta)
    return np.array([[-sd], [sd]]), np.ones(2)


TARGET = np.array([[-1.0], [1.0]]) / sqrt(2)


@pytest.mark.parametrize(("K", "lower", "upper"), [(1, 0.418939, 0.668939), (10, 0.559553, 0.584553)])
def test_ais__mean_log_w_of_t6_and_t7(K, lower, upper):
    args = (ebm_ref, Bowl(), bowl_theta(2.0), TwoPoints(), beta_ladder(K))
    forward = ais_run(*args, 2, perfect, seed=0)
    reverse = ais_reverse_run(*args, TARGET, perfect, seed=0, exact=True)
    assert abs(forward.mean_log_w.value - lower) < 5e-7 and abs(reverse.mean_log_w.value - upper) < 5e-7
    assert abs(LOG_Z - 0.572365) < 5e-7
    assert (forward.bound, reverse.bound) == ("lower", "upper")


def test_ais__closed_forms_behind_t6():
    """K = 1 is importance sampling: (1 - lambda) / 2 + log(2 pi) / 2, and (1 - lambda) / (2 lambda) + log(2 pi) / 2."""
    forward = ais_run(ebm_ref, Bowl(), bowl_theta(2.0), NormalBase(), (0.0, 1.0), 4000, MALATransition(0.5), seed=3)
    assert forward.mean_log_w.value == pytest.approx(-0.5 + 0.5 * log(2 * pi), abs=5 * forward.mean_log_w.se)
    start = NormalBase().draw(ebm_ref, 3, 4000, (1,), np.float64)
    weights = -Bowl().energy(bowl_theta(2.0), start) - NormalBase().log_density(start)
    np.testing.assert_array_equal(forward.log_w, weights)


# ------------------------------------------------------------------------------------ the bracket


def held(run, truth, se=STANDARD_ERRORS):
    """The tight end agrees with the truth, and the bound with its side, within standard errors."""
    assert abs(run.log_mean_w.value - truth) < se * run.log_mean_w.se + 1e-12
    sign = 1 if run.bound == "lower" else -1
    assert sign * (truth - run.mean_log_w.value) > -se * run.mean_log_w.se
    assert sign * (run.log_mean_w.value - run.mean_log_w.value) >= -1e-12  # Jensen, for the sample itself


def bracketed(forward, reverse, truth, widest):
    held(forward, truth)
    held(reverse, truth)
    for end in ("log_mean_w", "mean_log_w"):
        bracket = log_z_bracket(forward, reverse, end)
        assert bracket.lower.value - 5 * bracket.lower.se < truth < bracket.upper.value + 5 * bracket.upper.se
        assert bracket.gap.value == bracket.upper.value - bracket.lower.value < widest + 5 * bracket.gap.se
        assert bracket.gap.se == pytest.approx(sqrt(bracket.lower.se**2 + bracket.upper.se**2))
    assert min(forward.ess, reverse.ess) > 0.3 * len(forward.log_w)
    assert (forward.ess, reverse.ess) == (weights_ess(forward.log_w), weights_ess(-reverse.log_w))
    assert ((forward.acceptance > 0.1) & (forward.acceptance <= 1)).all()


def test_ais__brackets_the_log_z_of_an_rbm_by_enumeration():
    energy = ebm_ref.RBMEnergy(8, 5)
    theta = rbm_theta(energy, 1.5)
    truth, base, betas = energy.log_z(theta), BernoulliBase(), beta_ladder(30)
    u = noise_uniform(5, Stream.EVALUATION, 0, np.arange(400), 1)
    forward = ais_run(ebm_ref, energy, theta, base, betas, 400, FlipTransition(), seed=1)
    reverse = ais_reverse_run(
        ebm_ref, energy, theta, base, betas, energy.sample_exact(theta, u), FlipTransition(), seed=1, exact=True
    )
    bracketed(forward, reverse, truth, 0.1)
    assert set(np.unique(forward.x)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("base", "box"),
    [(NormalBase(), (-4.0, 4.0)), (UniformBase((-1.6, 1.4)), (-1.6, 1.4))],
    ids=["normal", "uniform"],
)
@pytest.mark.parametrize("move", [MALATransition(0.15, steps=2), HMCTransition(0.3, L=4)], ids=["mala", "hmc"])
def test_ais__brackets_the_log_z_of_a_double_well_by_quadrature(base, box, move):
    """With a uniform base, Z is the integral over its box, although the box cuts off mass."""
    energy, theta = ebm_ref.DoubleWellEnergy((1,)), {"height": np.array([2.0]), "tilt": np.array([0.5])}
    truth = log_z_quadrature(energy, theta, box)
    assert truth.error < 1e-9 and (truth.edge > 0.04) == (box[1] < 2)
    args = (ebm_ref, energy, theta, base, beta_ladder(40))
    forward = ais_run(*args, 600, move, seed=11)
    reverse = ais_reverse_run(*args, exact_line(energy, theta, 600, box), move, seed=11, exact=True)
    bracketed(forward, reverse, truth.log_z, 0.15)
    assert ((forward.x >= box[0]) & (forward.x <= box[1])).all()


def exact_line(energy, theta, N, box):
    """Draws from exp(-E)/Z on a box by the inverse of its distribution, a sum on 200,001 points."""
    grid = np.linspace(*box, 200_001)
    p = np.exp(-energy.energy(theta, grid[:, None]))
    u = noise_uniform(77, Stream.EVALUATION, 0, np.arange(N), 1)[:, 0]
    return grid[np.searchsorted(np.cumsum(p) / p.sum(), u)][:, None]


def test_ais__brackets_the_log_z_of_a_mixture_in_two_dimensions():
    energy = ebm_ref.GaussianMixtureEnergy((2,), 2)
    theta = {"logit": np.zeros(2), "mu": np.array([[1.0, 0.5], [-1.0, 0.0]]), "log_sigma": np.array([-0.5, -0.3])}
    truth = log_z_quadrature(energy, theta, (-6.0, 6.0)).log_z
    assert abs(truth - energy.log_z(theta)) < 1e-10
    base = GaussianBase(np.array([0.1, 0.2]), np.array([[1.2, 0.0], [0.3, 0.8]]))
    betas = beta_ladder(25, "sigmoid")
    move = ais_tune(ebm_ref, energy, theta, base, betas, 60, HMCTransition(1.5, L=3), seed=900)
    u, xi = noise_uniform(4, Stream.EVALUATION, 0, np.arange(500), 1)[:, 0], normals(500, 2, 1)
    forward = ais_run(ebm_ref, energy, theta, base, betas, 500, move, seed=8)
    reverse = ais_reverse_run(ebm_ref, energy, theta, base, betas, energy.sample_exact(theta, u, xi), move, 8, True)
    bracketed(forward, reverse, truth, 0.05)
    assert (np.abs(forward.acceptance[3:] - 0.651) < 0.15).all()  # what the pilot aimed at


# ------------------------------------------------- a start that is not exact is no bound, and says so


@pytest.mark.parametrize("sd", [2.0, 3.0])
def test_ais_reverse_run__a_poor_start_is_no_bound_and_refuses_the_name(sd):
    """E = |x|^2 / 2 in four dimensions: starts from N(0, sd^2 I) put the "upper bound" below log Z = 2 log 2 pi."""
    energy, theta, truth = Bowl((4,)), bowl_theta(1.0, 1.0, 1.0, 1.0), 2 * log(2 * pi)
    base = GaussianBase(np.zeros(4), 2.0 * np.eye(4))
    args, move = (ebm_ref, energy, theta, base, beta_ladder(10)), MALATransition(0.05)
    poor = ais_reverse_run(*args, sd * normals(2000, 4), move, seed=5)
    assert poor.mean_log_w.value + 5 * poor.mean_log_w.se < truth
    assert poor.bound is None and poor.holds.startswith("No bound")
    forward = ais_run(*args, 2000, move, seed=5)
    with pytest.raises(RangeError, match="reverse: expected a run that is a upper bound, found None. No bound"):
        log_z_bracket(forward, poor)
    with pytest.raises(RangeError, match="forward"):
        log_z_bracket(poor, poor)
    exact = ais_reverse_run(*args, normals(2000, 4), move, seed=5, exact=True)
    held(exact, truth)
    assert exact.bound == "upper" and log_z_bracket(forward, exact).gap.value < 1.0


def test_nll_bracket__is_optimistic_from_below_and_pessimistic_from_above():
    bracket = log_z_bracket(*fake_runs(2.0, 2.5))
    low, high = nll_bracket(np.array([1.0, 3.0]), bracket)
    assert (low.value, high.value) == (4.0, 4.5)
    assert low.se == pytest.approx(sqrt(1 + 0.1**2)) and high.se == pytest.approx(sqrt(1 + 0.1**2))


def fake_runs(*values):
    """A lower and an upper bound that say `values`, each with a standard error of 0.1."""
    runs = []
    for value, bound in zip(values, ("lower", "upper"), strict=True):
        end = Estimate(value, 0.1)
        runs.append(AISResult(end, end, 1.0, np.ones(1), bound, "", (0.0, 1.0), np.zeros(2), np.zeros((2, 1))))
    return runs


def test_ais__a_soft_wall_outside_the_base_s_normaliser_costs_54_nats():
    """A penalty (100 (x - box(x)))^2 around a uniform start adds D log(1 + sqrt(pi) / 100) to log Z."""
    wide = log_z_quadrature(SoftBox(), {}, (-1.0, 2.0), panels=600)
    assert abs(wide.log_z - log(1 + sqrt(pi) / 100)) < 1e-6
    assert 53.9 < 3072 * wide.log_z < 54.1
    assert UniformBase((0.0, 1.0)).log_density(np.array([[0.5], [1.001]])).tolist() == [0.0, -np.inf]


class SoftBox(Bowl):
    def theta_shapes(self):
        return {}

    def energy(self, theta, x):
        return np.sum((100 * (x - np.clip(x, 0, 1))) ** 2, axis=1)
