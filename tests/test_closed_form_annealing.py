"""log Z by quadrature, enumeration and annealing, against closed forms and against each other."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, pi, sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import RangeError, ShapeError, Stream
from ebm_ref.evaluation import (
    BernoulliBase,
    Estimate,
    FlipTransition,
    GaussianBase,
    HMCTransition,
    MALATransition,
    NormalBase,
    TemperedEnergy,
    UniformBase,
    ais_reverse_run,
    ais_run,
    ais_tune,
    beta_ladder,
    estimate_log_mean_exp,
    log_z_bracket,
    log_z_enumeration,
    log_z_quadrature,
    weights_ess,
)
from ebm_ref.noise import noise_normal, noise_uniform

LOG_Z = 0.5 * log(pi)  # E = x^2, lambda = 2
STANDARD_ERRORS = 5


def normals(N, D, purpose=0):
    return noise_normal(2024, Stream.EVALUATION, purpose, np.arange(N), D)


# ----------------------------------------------------------------------------- quadrature, enumeration


def test_log_z_quadrature__is_the_closed_form_in_one_and_two_dimensions():
    line = log_z_quadrature(Bowl((1,)), bowl_theta(2.0, bias=0.3), (-8.0, 8.0))
    assert abs(line.log_z - (LOG_Z - 0.3)) < 1e-13 and line.error < 1e-12 and line.edge < 1e-20
    energy = ebm_ref.QuadraticEnergy((2,))
    theta = {"mu": np.array([0.5, -0.4]), "P": np.array([[2.0, 0.7], [0.7, 1.0]])}
    plane = log_z_quadrature(energy, theta, ((-8.0, 9.0), (-10.0, 10.0)))
    assert abs(plane.log_z - energy.log_z(theta)) < 1e-12 and plane.error < 1e-9
    mixture = ebm_ref.GaussianMixtureEnergy((2,), 2)
    theta = {
        "logit": np.array([0.2, -1.0]),
        "mu": np.array([[1.0, 0.0], [-1.0, 2.0]]),
        "log_sigma": np.array([-0.5, 0.1]),
    }
    plane = log_z_quadrature(mixture, theta, (-9.0, 11.0))
    assert abs(plane.log_z - mixture.log_z(theta)) < 1e-10


def test_log_z_quadrature__says_how_wrong_it_is_and_what_the_box_cuts_off():
    theta = bowl_theta(2.0)
    coarse = log_z_quadrature(Bowl((1,)), theta, (-8.0, 8.0), panels=4, n=2)
    assert 1e-4 < abs(coarse.log_z - LOG_Z) <= coarse.error
    cut = log_z_quadrature(Bowl((1,)), theta, (-1.0, 1.0))
    assert cut.edge == pytest.approx(exp(-1), rel=1e-3) and cut.error < 1e-12 and cut.log_z < LOG_Z - 0.1
    flat = log_z_quadrature(Bowl((2,)), bowl_theta(0.0, 0.0), ((0.0, 2.0), (-1.0, 4.0)))
    assert flat.log_z == pytest.approx(log(10), abs=1e-13) and flat.edge == 1.0


def test_log_z_enumeration__is_the_rbm_s_and_a_product_of_bits():
    energy = ebm_ref.RBMEnergy(9, 4)
    theta = rbm_theta(energy)
    assert abs(log_z_enumeration(energy, theta) - energy.log_z(theta)) < 1e-12
    bits = log_z_enumeration(Bowl((3,)), bowl_theta(1.0, 2.0, -1.0), (-1.0, 0.0, 2.0))
    each = [log(exp(-l / 2) + 1 + exp(-2 * l)) for l in (1.0, 2.0, -1.0)]
    assert abs(bits - sum(each)) < 1e-13


def rbm_theta(energy, scale=1.0):
    rng = np.random.default_rng(7)
    return {name: scale * rng.normal(size=shape) for name, shape in energy.theta_shapes().items()}


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
        assert bracket.gap.value < widest + 5 * bracket.gap.se
    assert min(forward.ess, reverse.ess) > 0.3 * len(forward.log_w)
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
    move = ais_tune(ebm_ref, energy, theta, base, betas, 100, HMCTransition(0.5, L=3), seed=900)
    u, xi = noise_uniform(4, Stream.EVALUATION, 0, np.arange(500), 1)[:, 0], normals(500, 2, 1)
    forward = ais_run(ebm_ref, energy, theta, base, betas, 500, move, seed=8)
    reverse = ais_reverse_run(ebm_ref, energy, theta, base, betas, energy.sample_exact(theta, u, xi), move, 8, True)
    bracketed(forward, reverse, truth, 0.05)
    assert (np.abs(forward.acceptance[3:] - 0.651) < 0.1).all()  # what the pilot aimed at


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


# ---------------------------------------------------------------------------- pieces of the machinery


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


def test_log_z__bad_input_is_refused():
    with pytest.raises(ShapeError, match="one or two dimensions"):
        log_z_quadrature(Bowl((3,)), bowl_theta(1.0, 1.0, 1.0), (-1.0, 1.0))
    with pytest.raises(RangeError, match="even"):
        log_z_quadrature(Bowl(), bowl_theta(1.0), (-1.0, 1.0), panels=5)
    with pytest.raises(RangeError, match="box"):
        log_z_quadrature(Bowl(), bowl_theta(1.0), (1.0, -1.0))
    with pytest.raises(RangeError, match="2\\^24"):
        log_z_enumeration(Bowl((25,)), bowl_theta(*np.ones(25)))
    with pytest.raises(ShapeError, match="each temperature"):
        ais_run(ebm_ref, Bowl(), bowl_theta(1.0), NormalBase(), beta_ladder(3), 4, MALATransition((0.1, 0.1)), seed=0)
