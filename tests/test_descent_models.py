"""Descent on explicit energies, sums, labels and times; where equilibrium matching's descent ends."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
from derivatives import close, random_theta
from gaussian import Bowl, bowl_theta

from ebm_ref import (
    ClassifierEnergy,
    EquilibriumField,
    EquilibriumTarget,
    FieldEnergy,
    GradientDescent,
    GuidedField,
    LabelField,
    LookAheadDescent,
    MLPEnergy,
    MLPField,
    NoiseConditionalEnergy,
    QuadraticEnergy,
    Stream,
    SumField,
    TimeField,
    descent_run,
    noise_normal,
)
from ebm_ref.evaluation import auroc, score_energy, score_field_norm, score_grad_norm

RNG = np.random.default_rng(7)


def starts(N=7, D=2, dtype=np.float64):
    return 2 * noise_normal(43, Stream.SAMPLE_START, 0, np.arange(N), D, dtype)


class Slope:
    """f(x) = tanh x."""

    shape = out_shape = (2,)

    def theta_shapes(self):
        return {}

    def field(self, theta, x):
        return np.tanh(x)


@pytest.mark.parametrize("head", ["dot", "norm", "norm_below"])
def test_descent_run__of_an_explicit_energy_follows_its_gradient_and_not_its_field(head):
    energy, x0 = FieldEnergy(MLPField((2,), (8,)), head), starts()
    theta = random_theta(energy, RNG)
    x, _, info = descent_run(energy, theta, x0, 1, GradientDescent(0.01))
    h = 1e-5
    slope = [
        (energy.energy(theta, x0 + h * unit) - energy.energy(theta, x0 - h * unit)) / (2 * h) for unit in np.eye(2)
    ]
    close(x, x0 - 0.01 * np.stack(slope, axis=-1), 1e-8)
    close(info.energy[0], energy.energy(theta, x0), 0)
    assert np.abs(x - (x0 - 0.01 * energy.field.field(theta, x0))).max() > 1e-3
    lower = energy.energy(theta, descent_run(energy, theta, x0, 3, GradientDescent(1e-4))[0])
    assert (lower < energy.energy(theta, x0)).all()


def test_descent_run__of_copies_is_a_longer_step():
    """K copies added are K f: eta / K takes the same path."""
    field, x0 = MLPField((2,), (8,)), starts()
    theta = random_theta(field, RNG)
    copies = {f"{i}.{name}": value for i in range(4) for name, value in theta.items()}
    x, _, _ = descent_run(SumField((field,) * 4, (1.0,) * 4), copies, x0, 10, GradientDescent(0.02))
    close(x, descent_run(field, theta, x0, 10, GradientDescent(0.08))[0], 1e-10)


def test_descent_run__of_samples_held_at_something_of_their_own():
    """With a stop, which leaves rows out: each sample with its label, its time or its class is the sample alone."""
    x0, y, t = starts(), np.array([0, 1, -1, 1, 0, -1, 1]), np.linspace(0.1, 0.9, 7)
    labels, times = LabelField(MLPField((4,), (8,), out_channels=2), 2), TimeField(MLPField((3,), (8,), out_channels=2))
    classes, levels = (
        ClassifierEnergy(MLPEnergy((2,), (8,)), 3),
        NoiseConditionalEnergy(MLPEnergy((3,), (8,)), 0.1, 1.0),
    )
    cases = [
        (labels, lambda n: labels.at(y[n]), 1),
        (labels, lambda n: GuidedField(labels, y[n] % 2, 2.0), 1),
        (labels, lambda n: FieldEnergy(labels.at(y[n]), "norm"), 1),
        (labels, lambda n: SumField((labels.at(y[n]), QUIET), (1.0, 0.5)), "0."),
        (times, lambda n: times.at(t[n]), 1),
        (levels, lambda n: levels.at(t[n]), 1),
        (classes, lambda n: classes.given(y[n] % 2), 1),
    ]
    for of, at, prefix in cases:
        theta = random_theta(of, np.random.default_rng(3))
        theta = theta if prefix == 1 else {prefix + name: value for name, value in theta.items()}
        free = descent_run(at(slice(None)), theta, x0, 20, GradientDescent(0.02))[2]
        g_min = 1.001 * float(np.median(free.grad_norm[10]))
        x, _, info = descent_run(at(slice(None)), theta, x0, 20, GradientDescent(0.02), g_min)
        assert 0 < info.extra["stopped"].sum() < 7 and len(set(info.extra["nfe"])) > 1
        for n in range(7):
            alone, _, one = descent_run(at(slice(n, n + 1)), theta, x0[n : n + 1], 20, GradientDescent(0.02), g_min)
            close(alone[0], x[n], 1e-12)
            assert one.extra["nfe"] == info.extra["nfe"][n]


QUIET = Slope()


# ------------------------------------------------------------------------ where equilibrium matching's descent ends

POINTS = np.array([[1.0, 0.5], [-1.0, -0.5], [0.5, -1.5]])
BEST = EquilibriumField(POINTS, EquilibriumTarget(), cells=1)


def nearest(x):
    """Distance to the nearest point, and which it is."""
    gap = np.linalg.norm(x[:, None] - POINTS, axis=2)
    return gap.min(axis=1), gap.argmin(axis=1)


def test_descent_run__on_the_best_field_ends_at_the_data():
    """Run on, it returns the data set: all of its points, and nothing between. What is not a copy stopped early."""
    x0 = noise_normal(2, Stream.SAMPLE_START, 0, np.arange(60), 2)
    x, _, info = descent_run(BEST, {}, x0, 200, GradientDescent(0.02), 1e-6)
    gap, which = nearest(x)
    assert gap.max() < 1e-6 and (np.bincount(which, minlength=3) >= 8).all() and info.extra["stopped"].all()
    early, _, info = descent_run(BEST, {}, x0, 200, GradientDescent(0.02), 2.0)
    assert info.extra["stopped"].all() and nearest(early)[0].max() > 0.05 and info.extra["nfe"].mean() < 40


def test_descent_run__starts_from_an_input_that_is_noisy_in_part():
    """From gamma x + (1 - gamma) e more end at their own x, the larger gamma is; from gamma = 1 all, at once."""
    e, own = noise_normal(3, Stream.SAMPLE_START, 0, np.arange(90), 2), np.arange(90) % 3
    share, steps = [], []
    for gamma in (0.0, 0.5, 0.8, 1.0):
        x, _, info = descent_run(BEST, {}, gamma * POINTS[own] + (1 - gamma) * e, 200, GradientDescent(0.02), 1e-5)
        share.append((nearest(x)[1] == own).mean())
        steps.append(info.extra["nfe"].mean())
    assert share == sorted(share) and share[0] < 0.55 and share[2] > 0.95 and share[3] == 1
    assert steps == sorted(steps, reverse=True) and steps[3] == 1


def test_scores__of_a_field_and_of_its_energy_rank_data_first():
    """-|f| of an implicit field; of an explicit one -E, and -|grad E|, which is score_field_norm of its gradient."""
    away = 3 * noise_normal(4, Stream.EVALUATION, 0, np.arange(50), 2)
    near = np.repeat(POINTS, 10, axis=0) + 0.01 * noise_normal(5, Stream.EVALUATION, 0, np.arange(30), 2)
    found = score_field_norm(BEST, {}, near)
    close(found, -np.linalg.norm(BEST.field({}, near), axis=1), 1e-14)
    assert auroc(found, score_field_norm(BEST, {}, away)) > 0.95
    quadratic, theta = QuadraticEnergy((2,)), {"mu": np.ones(2), "P": np.eye(2)}
    close(score_grad_norm(quadratic, theta, near), score_field_norm(Shifted(), {}, near), 1e-14)
    assert auroc(score_energy(quadratic, theta, near), score_energy(quadratic, theta, 9 + away)) == 1


class Shifted(Slope):
    """f(x) = x - 1."""

    def field(self, theta, x):
        return x - 1


# ------------------------------------------------- look-ahead, on E = x^2 / 2 with a = eta: what it gains, and what not


def factor(a, mu):
    """The larger root of z^2 - (1 - a (1 + mu)) z - mu a = 0."""
    return np.abs(np.roots([1, -(1 - a * (1 + mu)), -mu * a])).max()


def test_look_ahead__is_a_better_integrator_and_no_acceleration():
    """1 - a + mu a^2 + O(a^3): never faster than descent's 1 - a; at mu = 1/2 it is e^-a to second order."""
    for mu in (0.1, 0.3, 0.5, 0.9):
        for a in (0.01, 0.05, 0.1):
            assert factor(a, mu) > 1 - a and abs(factor(a, mu) - (1 - a + mu * a * a)) < 2 * a**3
    assert f"{factor(0.1, 0.5):.4f}" == "0.9052" and f"{exp(-0.1):.4f}" == "0.9048"
    x, _, info = descent_run(Bowl(), bowl_theta(1.0), np.ones((1, 1)), 120, LookAheadDescent(0.1, 0.5))
    assert info.grad_norm[-1, 0] / info.grad_norm[-2, 0] == pytest.approx(factor(0.1, 0.5), rel=1e-10)
    gaps = [abs(factor(a, 0.5) - exp(-a)) for a in (0.02, 0.01)]
    assert gaps[0] / gaps[1] == pytest.approx(8, rel=0.1) and gaps[0] < abs(0.98 - exp(-0.02)) / 10
