"""Descent on x against closed forms: rates on a quadratic, the descent bound, Adam's blindness to scale."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

from ebm_ref import (
    AdamDescent,
    GradientDescent,
    LookAheadDescent,
    NesterovDescent,
    QuadraticEnergy,
    Stream,
    descent_run,
    noise_normal,
)

BOWL = Bowl()


def roots(b, c):
    """The larger modulus of z^2 + b z + c = 0."""
    return np.abs(np.roots([1, b, c])).max()


def rate(rule, lam, K=400):
    """Mean factor of |x| a step, over the second half; both coordinates of (x, v) decay at the larger root."""
    x, state, _ = descent_run(BOWL, bowl_theta(lam), np.array([[1.0]]), K // 2, rule)
    size = [np.hypot(x[0, 0], state.get("velocity", x)[0, 0])]
    x, state, _ = descent_run(BOWL, bowl_theta(lam), x, K // 2, rule, state=state)
    size.append(np.hypot(x[0, 0], state.get("velocity", x)[0, 0]))
    return (size[1] / size[0]) ** (2 / K)


def test_descent_run__rates_are_the_roots():
    """lam = 2, eta = 0.1, mu = 0.35: descent 0.800, look-ahead 0.816, Nesterov 0.648."""
    lam, eta, mu = 2.0, 0.1, 0.35
    a = eta * lam
    look_ahead, nesterov = roots(-(1 - a * (1 + mu)), -mu * a), roots(-(1 + mu) * (1 - a), mu * (1 - a))
    assert abs(look_ahead - 0.816) < 5e-4 and abs(rate(GradientDescent(eta), lam) - 0.8) < 1e-12
    assert abs(rate(LookAheadDescent(eta, mu), lam, 100) - look_ahead) < 1e-6
    x0, x1 = 1.0, 1.0 - a  # the recursion itself, exactly: the roots are real, 0.648 and 0.432
    x, _, _ = descent_run(BOWL, bowl_theta(lam), np.array([[1.0]]), 30, NesterovDescent(eta, mu))
    for _ in range(29):
        x0, x1 = x1, (1 + mu) * (1 - a) * x1 - mu * (1 - a) * x0
    assert np.isclose(x[0, 0], x1, rtol=1e-10)
    assert abs(nesterov - 0.648) < 5e-4
    assert abs(rate(NesterovDescent(eta, mu), lam, 80) - nesterov) < 1e-3


@pytest.mark.parametrize("mu", [0.2, 0.8])
def test_descent_run__look_ahead_is_stable_iff_a_is_below_its_bound(mu):
    for factor, stable in ((0.99, True), (1.01, False)):
        rule = LookAheadDescent(factor * 2 / (1 + 2 * mu), mu)
        x, _, _ = descent_run(BOWL, bowl_theta(1.0), np.array([[1.0]]), 2000, rule)
        assert (abs(x[0, 0]) < 1e-3) == stable and (stable or abs(x[0, 0]) > 1e3)


@pytest.mark.parametrize("g_min", [0.5, 0.05])
def test_descent_run__stops_within_the_bound_of_the_descent_lemma(g_min):
    """At most ceil(2 (E_0 - min E) / (eta g_min^2)) gradients for eta <= 1 / L; fewer for a larger g_min."""
    energy, theta = Bowl((3,)), bowl_theta(0.05, 0.5, 2.0)
    x0 = 3 * noise_normal(3, Stream.SAMPLE_START, 0, np.arange(50), 3)
    x, _, info = descent_run(energy, theta, x0, 20_000, GradientDescent(0.5), g_min)
    E0 = energy.energy(theta, x0)
    assert info.extra["stopped"].all()
    assert (info.extra["nfe"] <= np.ceil(2 * E0 / (0.5 * g_min**2))).all() and ceil(g_min) == 1
    assert (np.linalg.norm(energy.grad_x(theta, x), axis=1) < g_min).all()
    later = descent_run(energy, theta, x0, 20_000, GradientDescent(0.5), g_min / 2)[2].extra["nfe"]
    assert (later >= info.extra["nfe"]).all() and later.sum() > info.extra["nfe"].sum()


def test_descent_run__nesterov_and_adam_end_at_the_minimum():
    energy = QuadraticEnergy((3,))
    A = noise_normal(3, Stream.TOY, 0, np.arange(3), 3)
    theta = {"mu": np.array([1.0, -2.0, 0.5]), "P": A @ A.T + np.eye(3)}
    x0 = noise_normal(3, Stream.SAMPLE_START, 0, np.arange(5), 3)
    for rule in (GradientDescent(0.1), NesterovDescent(0.1, 0.5), LookAheadDescent(0.1, 0.3), AdamDescent(0.02)):
        x, _, info = descent_run(energy, theta, x0, 3000, rule, 1e-6)
        assert np.allclose(x, theta["mu"], atol=1e-5) and info.extra["stopped"].all()


def test_descent_run__adam_does_not_see_the_scale_of_the_energy():
    x0, rule = noise_normal(3, Stream.SAMPLE_START, 0, np.arange(6), 2), AdamDescent(0.05, eps=1e-300)
    paths = [descent_run(Bowl((2,)), bowl_theta(1.0 * c, 3.0 * c), x0, 40, rule)[0] for c in (1.0, 1e-3, 1e4)]
    assert np.allclose(paths[0], paths[1], rtol=1e-9) and np.allclose(paths[0], paths[2], rtol=1e-9)
    first, _, _ = descent_run(Bowl((2,)), bowl_theta(1.0, 3.0), x0, 1, rule)
    assert np.allclose(first, x0 - 0.05 * np.sign(x0), rtol=1e-12)  # the first step is eta in every coordinate
