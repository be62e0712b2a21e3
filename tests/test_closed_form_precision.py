"""What short numbers do to a chain, in closed form: lost steps, bounds on laws, biases, curls."""

from __future__ import annotations

from math import erf, exp, sqrt, tanh

import numpy as np
import pytest
from derivatives import random_theta
from flow_cases import normals

from ebm_ref import (
    SGLD,
    DoubleWellEnergy,
    GaussianMixtureEnergy,
    MLPEnergy,
    PrecisionEnergy,
    PrecisionPolicy,
    QuadraticEnergy,
    Stream,
    langevin_run,
    langevin_step,
    noise_normal,
    noise_uniform,
    precision_round,
    precision_round_randomly,
    precision_spacing,
)


def Phi(z):
    return 0.5 * (1 + erf(z / sqrt(2)))


# ---------------------------------------------------------------------- a state that is short loses its steps


def test_precision_round__bf16_state_loses_a_small_step():
    """1.5 + 0.00204 is 1.5 in bf16, whose half gap there is 0.0039; it is not in fp16."""
    x, step = np.array([1.5], np.float32), np.float32(0.00204)
    assert precision_round(x + step, "bf16")[0] == 1.5
    assert precision_round(x + step, "fp16")[0] == 1.501953125
    assert precision_spacing(x, "bf16")[0] == 0.0078125


@pytest.mark.parametrize(("x", "unchanged", "ratio"), [(0.75, 0.304, 1.051), (1.5, 0.565, 1.202), (3.0, 0.882, 1.154)])
def test_precision_round__bf16_state_of_a_langevin_chain(x, unchanged, ratio):
    """sigma = 0.005: P(no change) = 2 Phi(q / (2 sigma)) - 1 = 30.4, 56.5, 88.2 %; the variance of the step is
    sum_k (k q)^2 P(k) / sigma^2 = 1.051, 1.202, 1.154 of sigma^2, q the gap at x; of 40000 draws within 5 errors."""
    sigma, N = 0.005, 40000
    q = precision_spacing(np.array([x]), "bf16")[0]
    still = 2 * Phi(q / (2 * sigma)) - 1
    k = np.arange(-20, 21)
    p = np.array([Phi((j + 0.5) * q / sigma) - Phi((j - 0.5) * q / sigma) for j in k])
    variance, fourth = (p * (k * q) ** 2).sum(), (p * (k * q) ** 4).sum()
    assert still == pytest.approx(unchanged, abs=1e-3) and variance / sigma**2 == pytest.approx(ratio, abs=1e-3)
    start = np.full((N, 1), x, np.float32)
    moved = langevin_step(start, np.zeros_like(start), normals(90, N, 1, dtype=np.float32), 0.0, sigma)
    step = precision_round(moved, "bf16") - start
    assert abs((step == 0).mean() - still) < 5 * sqrt(still * (1 - still) / N)
    assert abs((step**2).mean() - variance) < 5 * sqrt((fourth - variance**2) / N)
    assert abs((moved - start).var() / sigma**2 - 1) < 5 * sqrt(2 / N)  # a float32 state notices every step


def test_langevin_run__is_unbiased_with_a_short_network_and_a_wide_state():
    """bf16 network, float32 state, E = |x|^2 / 2: the variance is 1 / (1 - eta / 2) within 5 errors."""
    eta, N, K = 0.05, 4000, 80
    energy = PrecisionEnergy(QuadraticEnergy((1,)), PrecisionPolicy("bf16"))
    theta = {"mu": np.zeros(1, np.float32), "P": np.ones((1, 1), np.float32)}
    x, _ = langevin_run(energy, theta, normals(91, N, 1, dtype=np.float32), K, SGLD(eta, sqrt(2 * eta)), 3)
    assert abs(x.var() * (1 - eta / 2) - 1) < 5 * sqrt(2 / N)


def test_langevin_step__stationary_variance_grows_as_the_step_falls_in_a_short_state():
    """Rounded at random to a grid of gap q = 1/4 each step adds q^2 / 6: (2 eta + q^2 / 6) / (1 - (1 - eta)^2), so for
    eta = 4 q^2, q^2 / 2, q^2 / 8 the variance is 2, 17, 67 % too large; of a wide state 0 %. Within 5 errors."""
    q, N, found = 0.25, 4000, []
    for step, (eta, excess) in enumerate(((4 * q * q, 0.02), (q * q / 2, 0.17), (q * q / 8, 0.67))):
        wide_variance = 1 / (1 - eta / 2)
        predicted = (2 * eta + q * q / 6) / (1 - (1 - eta) ** 2)
        assert predicted / wide_variance - 1 == pytest.approx(excess, abs=0.005)
        wide = sqrt(wide_variance) * normals(92, N, 1)  # both start in the law of the wide state
        x = wide
        for k in range(K := int(4 / eta)):
            xi = noise_normal(5, 40 + step, k, np.arange(N), 1)
            wide = langevin_step(wide, wide, xi, eta, sqrt(2 * eta))
            u = noise_uniform(5, Stream.ROUNDING, 1000 * step + k, np.arange(N), 1)
            x = on_a_grid(langevin_step(x, x, xi, eta, sqrt(2 * eta)), u, q)
        predicted += (1 - eta) ** (2 * K) * (wide_variance - predicted)
        assert abs(wide.var() / wide_variance - 1) < 5 * sqrt(2 / N)
        assert abs(x.var() / predicted - 1) < 5 * sqrt(2 / N)
        found.append(x.var() / wide_variance)
    assert found == sorted(found) and found[2] > 1.5


def on_a_grid(x, u, q):
    """x rounded at random to multiples of q: the gap of fp16 is 1 on all of [1024, 2048)."""
    return (precision_round_randomly(x / q + 1536, "fp16", u) - 1536) * q


def test_precision_energy__of_1000_moves_by_4_or_not_at_all():
    """In bf16 energies near 1000 are multiples of 4: MH sees differences of 0 or +-4 where they are below 1."""
    theta = {"mu": np.zeros(1), "P": np.ones((1, 1))}
    x = sqrt(2 * 1000) + np.linspace(-0.01, 0.01, 201)[:, None]
    wide = QuadraticEnergy((1,)).energy(theta, x)
    short = PrecisionEnergy(QuadraticEnergy((1,)), PrecisionPolicy("bf16")).energy(theta, x)
    assert np.ptp(wide) < 1 and (short % 4 == 0).all() and np.abs(short - wide).max() <= 8


# -------------------------------------------------------------------------- errors of the energy: bounds on laws


def law(E):
    p = np.exp(E.min() - E)
    return p / p.sum()


def total_variation(p, q):
    return 0.5 * np.abs(p - q).sum()


def test_law__of_an_energy_that_errs_by_d_stays_within_tanh():
    """|E^ - E| <= d: TV <= tanh(d / 2) and KL <= d^2 / 2, for random errors; both are near what can happen."""
    rng, worst = np.random.default_rng(4), 0.0
    for _ in range(300):
        d, n = rng.uniform(0.01, 3), rng.integers(2, 30)
        E = rng.normal(size=n) * rng.uniform(0, 4)
        shift = d * rng.choice([-1, 1], n) if rng.uniform() < 0.5 else rng.uniform(-d, d, n)
        p, q = law(E), law(E + shift)
        TV, KL = total_variation(p, q), (p * np.log(p / q)).sum()
        assert TV <= tanh(d / 2) * (1 + 1e-12) and KL <= d * d / 2 * (1 + 1e-12)
        worst = max(worst, TV / tanh(d / 2))
    assert worst > 0.6
    for d in (0.01, 0.5, 3.0):
        p1 = 1 / (
            1 + exp(d)
        )  # two points of masses p1, 1 - p1, errors +d and -d: the masses trade places... to the bound
        p, q = np.array([1 - p1, p1]), law(-np.log([1 - p1, p1]) + np.array([d, -d]))
        assert total_variation(p, q) == pytest.approx(tanh(d / 2), rel=1e-12)


LINE = {
    "double_well": DoubleWellEnergy((1,)),
    "mixture": GaussianMixtureEnergy((1,), 3),
    "mlp": MLPEnergy((1,), (16,)),
}


@pytest.mark.parametrize("form", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("name", ["double_well", "mixture", "mlp"])
def test_precision_energy__law_on_a_grid_is_within_the_bound(form, name):
    """d = max |E^ - E| on the grid: TV <= tanh(d / 2), KL <= d^2 / 2, of the law that MH on E^ has."""
    energy = {
        "double_well": DoubleWellEnergy((1,)),
        "mixture": GaussianMixtureEnergy((1,), 3),
        "mlp": MLPEnergy((1,), (16,)),
    }
    energy = energy[name]
    theta = random_theta(energy, np.random.default_rng(8))
    theta |= {key: np.abs(theta[key]) + 0.1 for key in ("height",) if key in theta}
    x = np.linspace(-2, 2, 301)[:, None]
    E, short = energy.energy(theta, x), PrecisionEnergy(energy, PrecisionPolicy(form)).energy(theta, x)
    d, p, q = np.abs(short - E).max(), law(E), law(short)
    assert total_variation(p, q) <= tanh(d / 2) and (p * np.log(p / q)).sum() <= d * d / 2
    if form != "int8" or name == "mlp":
        assert 0 < d < 0.3 and total_variation(p, q) > 0


def test_metropolis__on_a_short_energy_has_the_short_law():
    """The kernel of MH on a grid with E^ keeps exp(-E^) and not exp(-E), to 1e-14."""
    energy, theta = DoubleWellEnergy((1,)), {"height": np.array([1.0]), "tilt": np.array([0.3])}
    x = np.linspace(-2, 2, 41)[:, None]
    E = energy.energy(theta, x)
    short = PrecisionEnergy(energy, PrecisionPolicy("bf16")).energy(theta, x)
    accept = np.minimum(1, np.exp(short[:, None] - short))  # (from, to)
    near = np.abs(np.arange(41)[:, None] - np.arange(41)) == 1
    kernel = 0.5 * np.where(near, accept, 0)
    kernel += np.diag(1 - kernel.sum(axis=1))
    np.testing.assert_allclose(law(short) @ kernel, law(short), rtol=0, atol=1e-14)
    assert np.abs(law(E) @ kernel - law(E)).max() > 1e-5


# ---------------------------------------------------------------------- errors of the gradient: bounds on paths


@pytest.mark.parametrize("form", ["fp16", "bf16"])
def test_langevin_run__of_a_short_gradient_stays_beside_the_wide_one(form):
    """Shared noise, m-convex E, eta <= 2 / (m + L): |x^_n - x_n| <= d / m at every length, d = max |g^ - g| met."""
    P = np.array([[1.5, 0.4], [0.4, 0.7]], np.float32)
    m, L = np.linalg.eigvalsh(P)
    wide, theta = QuadraticEnergy((2,)), {"mu": np.array([0.3, -0.7], np.float32), "P": P}
    short, update = PrecisionEnergy(wide, PrecisionPolicy(form)), SGLD(0.3, 0.5)
    assert update.eta <= 2 / (m + L)
    x = y = normals(93, 50, 2, dtype=np.float32)
    d, gaps = 0.0, []
    for k in range(120):
        d = max(d, np.linalg.norm(short.grad_x(theta, y) - wide.grad_x(theta, y), axis=1).max())
        x, _ = langevin_run(wide, theta, x, 1, update, 3, step=k)
        y, _ = langevin_run(short, theta, y, 1, update, 3, step=k)
        gaps.append(np.linalg.norm(x - y, axis=1).max())
    assert 0 < max(gaps) <= d / m + 1e-5  # float32's own rounding
    assert max(gaps[80:]) < 3 * max(gaps[20:60])  # it does not compound


def test_langevin_step__a_constant_error_shifts_the_mean_by_d_over_a():
    """Drift -a x + d: the mean moves by d / a exactly, with the same noise path by path; the variance stays."""
    a, d, eta, K = 0.8, 0.05, 0.1, 400
    x = y = normals(94, 100, 1)
    for k in range(K):
        xi = noise_normal(7, Stream.CHAIN_NOISE, k, np.arange(100), 1)
        x = langevin_step(x, a * x, xi, eta, 0.3)
        y = langevin_step(y, a * y - d, xi, eta, 0.3)
    np.testing.assert_allclose(y - x, d / a * (1 - (1 - eta * a) ** K), rtol=1e-11)


def test_langevin_step__a_noisy_gradient_is_a_higher_temperature():
    """Zero-mean noise of variance s^2 in g: the variance is that of temperature 1 + eta s^2 / 2, within 5 errors."""
    eta, s, N, K = 0.1, 3.0, 8000, 80
    x = np.zeros((N, 1))
    for k in range(K):
        xi, error = (noise_normal(8, stream, k, np.arange(N), 1) for stream in (40, 41))
        x = langevin_step(x, x + s * error, xi, eta, sqrt(2 * eta))
    wanted = (1 + eta * s * s / 2) / (1 - eta / 2)
    assert wanted > 1.5 and abs(x.var() / wanted - 1) < 5 * sqrt(2 / N)


# ------------------------------------------------------------------- a forward pass alone in int8: no energy


def curl(energy, theta, x, h):
    """|d_1 g_2 - d_2 g_1| by central differences of width h, the worst of x."""
    e = h * np.eye(2)
    d1 = energy.grad_x(theta, x + e[0]) - energy.grad_x(theta, x - e[0])
    d2 = energy.grad_x(theta, x + e[1]) - energy.grad_x(theta, x - e[1])
    return np.abs(d1[:, 1] - d2[:, 0]).max() / (2 * h)


def loop(energy, theta, n):
    """The integral of g around a circle of radius 1: 0 for every gradient."""
    angle = 2 * np.pi * (np.arange(n) + 0.5) / n
    x, along = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    g = np.concatenate([energy.grad_x(theta, x[k : k + 1]) for k in range(n)])  # one by one: a scale for each sample
    return (g * along).sum() * 2 * np.pi / n


def test_precision_energy__int8_forward_is_not_the_gradient_of_anything():
    """Weights of the backward pass are not those of the forward pass: around a circle work is
    done that no energy accounts for."""
    energy = MLPEnergy((2,), (8, 8), "tanh")
    theta = {key: 0.7 * value for key, value in random_theta(energy, np.random.default_rng(3)).items()}
    wide, mixed = loop(energy, theta, 200), loop(PrecisionEnergy(energy, PrecisionPolicy("int8")), theta, 200)
    assert abs(wide) < 1e-12
    assert abs(mixed) > 1e-3
    x = normals(95, 6, 2)
    assert curl(energy, theta, x, 1e-4) < 1e-6


def test_langevin_run__does_not_read_the_energy():
    """A short energy with a wide gradient leaves the chain as it is, to the bit: a forward pass for values alone is
    free for chains and descent, and costs where energies are compared."""

    class Coarse(QuadraticEnergy):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return precision_round(1000 + E, "bf16"), g

    theta = {"mu": np.zeros(2), "P": np.eye(2)}
    x0, update = normals(96, 5, 2), SGLD(0.1, 0.3)
    x, info = langevin_run(QuadraticEnergy((2,)), theta, x0, 20, update, 3)
    y, coarse = langevin_run(Coarse((2,)), theta, x0, 20, update, 3)
    np.testing.assert_array_equal(x, y)
    assert np.ptp(info.energy) > 1 and set(np.unique(coarse.energy % 4)) == {0.0}
