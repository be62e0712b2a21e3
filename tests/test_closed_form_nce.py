"""Noise-contrastive estimation and maximum likelihood against exact expectations, by enumeration and quadrature."""

from __future__ import annotations

from math import log, pi, sqrt

import numpy as np
import pytest
from derivatives import close, random_theta
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    DoubleWellEnergy,
    GaussianNoise,
    MLPEnergy,
    QuadraticEnergy,
    RBMEnergy,
    RingEnergy,
    adam_init,
    adam_step,
    binary_states,
    conditional_nce,
    maximum_likelihood,
    ml_step,
    nce,
    nce_start,
    quadrature_grid,
    ranking_nce,
    score_matching,
)

# The data live on 4 states, each as often as its weight says, so an average over them is an exact expectation.
STATES = binary_states(2)
P_DATA, P_NOISE = np.array([1, 2, 3, 4]) / 10, np.array([4, 1, 3, 2]) / 10


def table(p, n=10):
    """The states, each n p times."""
    return np.repeat(STATES, np.round(n * p).astype(int), axis=0)


def log_noise(x, p=P_NOISE):
    return np.log(p)[ebm_ref.binary_index(x)]


class Table:
    """E(x) = theta["e"][state of x], on bits: every positive law is one of these."""

    shape = (2,)

    def theta_shapes(self):
        return {"e": (4,)}

    def energy(self, theta, x):
        return theta["e"][ebm_ref.binary_index(x)]

    def grad_theta(self, theta, x, w):
        return {"e": np.bincount(ebm_ref.binary_index(x), weights=w, minlength=4)}


# ---------------------------------------------------------------------------------------- binary NCE


@pytest.mark.parametrize("nu", [1.0, 3.0, 0.2])
@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_nce__expected_gradient_is_0_at_the_data_law_for_every_noise_and_nu(nu, shift):
    """4(e) 1, exact sums: -E - c = log p_data, whatever part of log p_data is E's and whatever c's."""
    theta = {"e": -np.log(P_DATA) + shift, "log_z": np.array([-shift])}
    for p in (P_NOISE, P_DATA, np.array([7, 1, 1, 1]) / 10):
        x_pos, x_neg = table(P_DATA), table(p)
        _, grads, _ = nce(Table(), theta, x_pos, x_neg, log_noise(x_pos, p), log_noise(x_neg, p), nu)
        close(np.concatenate(list(grads.values())), np.zeros(5), 1e-13)


@pytest.mark.parametrize("nu", [1.0, 4.0])
def test_nce__expected_gradient_is_0_at_a_gaussian_data_law(nu):
    """4(e) 1, quadrature: data N(0.3, 0.8^2), noise N(-0.5, 1.5^2); both expectations by Gauss and Hermite."""
    energy, (m, s) = QuadraticEnergy((1,)), (0.3, 0.8)
    noise = GaussianNoise((1,), np.array([-0.5]), np.array([[1.5]]), np.array([[1 / 1.5]]))
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    weights = weights / weights.sum()
    theta = {"mu": np.array([m]), "P": np.array([[1 / s**2]]), "log_z": np.array([0.5 * log(2 * pi * s**2)])}

    def expected(theta):
        total = {name: np.zeros_like(value) for name, value in theta.items()}
        for z, w in zip(nodes, weights, strict=True):
            x_pos, x_neg = np.array([[m + s * z]]), np.array([[-0.5 + 1.5 * z]])
            densities = noise.log_density(x_pos), noise.log_density(x_neg)
            _, grads, _ = nce(energy, theta, x_pos, x_neg, *densities, nu)
            total = {name: total[name] + w * grads[name] for name in total}
        return total

    for grad in expected(theta).values():
        close(grad, np.zeros_like(grad), 1e-7)
    assert abs(expected(theta | {"mu": np.array([0.6])})["mu"]) > 0.02  # and elsewhere it is not


def test_nce__minimiser_is_the_data_law_and_c_is_log_z():
    """4(e) 2: three of four energies free, the fourth held at 0, so c must become log sum exp(-E)."""
    theta = nce_start(Table(), {"e": np.zeros(4)})
    x_pos, x_neg = table(P_DATA), table(P_NOISE)
    state = adam_init(theta)
    for lr in np.geomspace(0.1, 1e-5, 1500):
        _, grads, _ = nce(Table(), theta, x_pos, x_neg, log_noise(x_pos), log_noise(x_neg), 2.0)
        grads["e"] = grads["e"] * np.array([1, 1, 1, 0])
        theta, state = adam_step(theta, grads, state, float(lr))
    close(np.exp(-theta["e"]) / np.exp(-theta["e"]).sum(), P_DATA, 1e-6)
    close(theta["log_z"], np.log(np.exp(-theta["e"]).sum(keepdims=True)), 1e-6)


def test_nce__gradient_in_c_is_that_of_the_output_bias():
    """0.3, 1: E and c enter only as E + c."""
    energy, rng = MLPEnergy((2,), (5,)), np.random.default_rng(1)
    theta = random_theta(energy, rng) | {"log_z": np.array([0.3])}
    x_pos, x_neg, a, b = rng.normal(size=(6, 2)), rng.normal(size=(9, 2)), rng.normal(size=6), rng.normal(size=9)
    loss, grads, _ = nce(energy, theta, x_pos, x_neg, a, b)
    close(grads["log_z"], grads["out.b"], 1e-14)
    moved = theta | {"out.b": theta["out.b"] + 2.0, "log_z": theta["log_z"] - 2.0}
    again, same, _ = nce(energy, moved, x_pos, x_neg, a, b)
    assert loss == pytest.approx(again, abs=1e-13)
    for name in grads:
        close(same[name], grads[name], 1e-13)


# --------------------------------------------------------------------------------------- ranking NCE


def test_ranking_nce__with_one_negative_is_the_logistic_loss_of_the_difference():
    """4(e) 3: L = mean softplus(-(l_0 - l_1)); the weights of its gradient sum to 0."""
    energy, rng = Table(), np.random.default_rng(2)
    theta, x_pos, x_neg = {"e": rng.normal(size=4)}, table(P_DATA), table(P_NOISE)
    loss, grads, _ = ranking_nce(energy, theta, x_pos, x_neg[:, None], log_noise(x_pos), log_noise(x_neg)[:, None])
    d = (-energy.energy(theta, x_pos) - log_noise(x_pos)) - (-energy.energy(theta, x_neg) - log_noise(x_neg))
    assert loss == pytest.approx(np.log1p(np.exp(-d)).mean(), abs=1e-14)
    assert abs(grads["e"].sum()) < 1e-15
    other, _, _ = ranking_nce(energy, theta, x_pos, x_neg[:, None], log_noise(x_pos) + 9, log_noise(x_neg)[:, None] + 9)
    assert other == pytest.approx(loss, abs=1e-14)  # only the ratio of noise densities enters


def test_ranking_nce__expected_gradient_is_0_at_the_data_law():
    """Every x_0 with every pair (x_1, x_2), as often as they are drawn: 10 x 10 x 10 rows, an exact expectation."""
    x_0, x_k = table(P_DATA), table(P_NOISE)
    i, j, k = (axis.ravel() for axis in np.meshgrid(*[np.arange(10)] * 3, indexing="ij"))
    x_neg = np.stack([x_k[j], x_k[k]], axis=1)
    densities = log_noise(x_0[i]), np.stack([log_noise(x_k[j]), log_noise(x_k[k])], axis=1)
    _, grads, _ = ranking_nce(Table(), {"e": -np.log(P_DATA) + 1.7}, x_0[i], x_neg, *densities)
    close(grads["e"], np.zeros(4), 1e-13)
    flat = np.zeros(1000), np.zeros((1000, 2))  # without -log p_n it learns the ratio of data to noise
    _, grads, _ = ranking_nce(Table(), {"e": -np.log(P_DATA / P_NOISE)}, x_0[i], x_neg, *flat)
    close(grads["e"], np.zeros(4), 1e-13)


# ----------------------------------------------------------------------------------- conditional NCE


class Quartic(Bowl):
    """E = a x^2 + b x^4 in one dimension, by the tests' own hand."""

    def energy(self, theta, x):
        return theta["a"] * x[:, 0] ** 2 + theta["b"] * x[:, 0] ** 4

    def grad_theta(self, theta, x, w):
        return {"a": np.sum(w * x[:, 0] ** 2, keepdims=True), "b": np.sum(w * x[:, 0] ** 4, keepdims=True)}


def expected_conditional(theta, sigma, nodes=40):
    """E over x ~ N(0, 1) and xi ~ N(0, 1) of the loss, and of its gradient, by products of Gauss-Hermite nodes."""
    z, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    total, slope = 0.0, {"a": 0.0, "b": 0.0}
    for x, w in zip(z, weights, strict=True):
        for xi, v in zip(z, weights, strict=True):
            loss, grads, _ = conditional_nce(Quartic(), theta, np.array([[x]]), np.array([[x + sigma * xi]]))
            total += w * v * loss
            slope = {name: slope[name] + w * v * grads[name] for name in slope}
    return total, slope


def test_conditional_nce__becomes_score_matching_as_q_narrows():
    """4(e) 4, E = .4 x^2 + .05 x^4, data N(0, 1): (L - 2 log 2) / (sigma^2 / 2) = -.344, -.318, -.305 -> J = -.300.

    T4: J = E[|E'|^2 / 2 - E''] = .32 + .08 + .02 * 15 - .8 - .6 = -.300.
    """
    theta = {"a": np.array([0.4]), "b": np.array([0.05])}
    z, weights = np.polynomial.hermite_e.hermegauss(20)
    slope, bend = 0.8 * z + 0.2 * z**3, 0.8 + 0.6 * z**2
    J = (0.5 * slope**2 - bend) @ (weights / weights.sum())
    assert J == pytest.approx(-0.3, abs=1e-12)
    found = [float((expected_conditional(theta, s)[0] - 2 * log(2)) / (s**2 / 2)) for s in (0.2, 0.1, 0.05, 0.02, 0.01)]
    np.testing.assert_allclose(found[:3], [-0.344, -0.318, -0.305], rtol=0, atol=5e-4)
    assert (found[3] - J) / (found[4] - J) == pytest.approx(4, rel=0.02)  # O(sigma^4) in L is O(sigma^2) here


def test_conditional_nce__counts_the_ratio_of_an_asymmetric_q():
    """q moves state s to s + 1 more often than back. The odds that x came first, p(x) q(x' | x) / (p(x') q(x | x')),
    are e^G; so, exactly over all pairs, the gradient is 0 at the data's law, and not with the ratio left out or turned.
    """
    Q = np.array([[1, 6, 1, 2], [2, 1, 6, 1], [1, 2, 1, 6], [6, 1, 2, 1]]) / 10  # rows sum to 1
    here, there = (a.ravel() for a in np.meshgrid(np.arange(4), np.arange(4), indexing="ij"))
    times = np.round(100 * P_DATA[here] * Q[here, there]).astype(int)
    here, there = np.repeat(here, times), np.repeat(there, times)
    ratio = np.log(Q[here, there]) - np.log(Q[there, here])
    theta = {"e": -np.log(P_DATA)}
    _, grads, _ = conditional_nce(Table(), theta, STATES[here], STATES[there], ratio)
    close(grads["e"], np.zeros(4), 1e-13)
    for wrong in (None, -ratio):
        _, grads, _ = conditional_nce(Table(), theta, STATES[here], STATES[there], wrong)
        assert np.abs(grads["e"]).max() > 0.01


# -------------------------------------------------------------------------------- maximum likelihood


def test_maximum_likelihood__is_the_enumerated_likelihood_of_an_rbm():
    """1(e) 1: loss = -mean log p(x), from the model's own probabilities; the gradient is its derivative."""
    energy = RBMEnergy(4, 3)
    theta, x = random_theta(energy, np.random.default_rng(5)), binary_states(4)[[0, 3, 3, 9, 14]]
    points = binary_states(4)
    loss, grads, info = maximum_likelihood(energy, theta, x, points)
    assert loss == pytest.approx(-np.log(energy.probabilities(theta))[[0, 3, 3, 9, 14]].mean(), abs=1e-13)
    assert info["log_z"] == pytest.approx(energy.log_z(theta), abs=1e-13)
    close(info["p"], energy.probabilities(theta), 1e-14)
    again = ml_step(ebm_ref, energy, theta, x, points, None, 0, 0)
    assert again[0] == loss and all((again[1][name] == grads[name]).all() for name in grads)
    uniform = maximum_likelihood(energy, theta, points, points)[1]  # moments of x under the model, by the gradient
    p = energy.probabilities(theta)
    close(uniform["visible.b"], p @ points - points.mean(axis=0), 1e-14)


CASES = {
    "quadratic": (QuadraticEnergy((2,)), {"mu": [0.5, -1.0], "P": [[2.0, 0.6], [0.6, 0.5]]}, (-14.0, 14.0)),
    "double_well": (DoubleWellEnergy((1,)), {"height": [2.0], "tilt": [0.7]}, (-5.0, 5.0)),
    "ring": (RingEnergy(), {"radius": [0.8], "stiffness": [3.0]}, (-3.0, 3.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_maximum_likelihood__by_quadrature_is_the_closed_form(name):
    energy, theta, box = CASES[name]
    theta = {key: np.array(value) for key, value in theta.items()}
    points, w = quadrature_grid(box, 240, energy.shape[0])
    x = np.random.default_rng(6).normal(size=(7, *energy.shape))
    loss, _, info = maximum_likelihood(energy, theta, x, points, w)
    assert info["log_z"] == pytest.approx(energy.log_z(theta), abs=1e-9)
    assert loss == pytest.approx(energy.energy(theta, x).mean() + energy.log_z(theta), abs=1e-9)


def test_maximum_likelihood__gradient_is_0_where_the_moments_agree():
    """E = lam x^2 / 2: d NLL / d lam = (mean x^2 - 1 / lam) / 2, which vanishes at the data's own precision."""
    points, w = quadrature_grid((-12.0, 12.0), 400, 1)
    x = np.array([[-1.0], [0.5], [2.0]])
    square = (x**2).mean()
    for lam in (0.7, 1 / square, 3.0):
        _, grads, info = maximum_likelihood(Bowl(), bowl_theta(lam), x, points, w)
        close(grads["lam"], [(square - 1 / lam) / 2], 1e-12)
        close(grads["bias"], [0.0], 1e-14)
        close(info["gap"], (1 - lam * square) / 2, 1e-12)


def test_quadrature_grid__is_midpoints_whose_weights_fill_the_box():
    points, w = quadrature_grid((-1.0, 2.0), 3, 2, np.float32)
    assert points.dtype == w.dtype == np.float32 and points.shape == (9, 2)
    np.testing.assert_array_equal(np.unique(points), np.array([-0.5, 0.5, 1.5]))
    assert w.sum() == 9 and len(np.unique(points, axis=0)) == 9
    points, w = quadrature_grid((0.0, sqrt(2)), 5, 1)
    assert points.shape == (5, 1) and w.sum() == pytest.approx(sqrt(2))


def test_conditional_nce__gradient_becomes_that_of_score_matching():
    energy = QuadraticEnergy((1,))
    theta = {"mu": np.array([0.2]), "P": np.array([[1.4]])}
    sigma, x = 1e-3, np.array([[-1.0], [0.4], [1.9]])
    near = np.concatenate([x + sigma, x - sigma])  # xi = +1 and -1: mean 0, square 1
    _, grads, _ = conditional_nce(energy, theta, np.concatenate([x, x]), near)
    _, wanted, _ = score_matching(energy, theta, x)
    for name in theta:
        close(grads[name] / (sigma**2 / 2), wanted[name], 1e-5)
