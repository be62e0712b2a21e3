"""Annealed Langevin, preconditioned SGLD and adaptation against closed forms."""

from __future__ import annotations

from math import exp, log, pi, sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    HMC_TARGET,
    MALA_TARGET,
    PSGLD,
    ULA,
    Band,
    GaussianMixtureEnergy,
    Multiplicative,
    QuadraticEnergy,
    RobbinsMonro,
    Stream,
    adaptation_rate,
    adaptation_start,
    adaptation_step,
    annealed_run,
    annealed_steps,
    hmc_adapt,
    hmc_run,
    langevin_run,
    mala_adapt,
    mala_run,
    noise_normal,
    psgld_run,
    psgld_step,
)

MIXTURE = GaussianMixtureEnergy((1,), 2)


def normals(stream, *shape):
    return noise_normal(19, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:]))).reshape(shape)


# ------------------------------------------------------------------------------------------ annealed


def test_annealed_steps__are_the_paper_s_and_twice_the_released_code_s():
    sigma = [float(s) for s in np.geomspace(1, 0.01, 10)]
    alpha = annealed_steps(sigma, 4e-5)
    for a, s in zip(alpha, sigma, strict=True):
        released = 2e-5 * (s / 0.01) ** 2  # x += released * score + sqrt(2 released) xi
        assert np.isclose(a / 2, released, rtol=1e-12) and np.isclose(sqrt(a), sqrt(2 * released), rtol=1e-12)
    assert alpha[-1] == 4e-5


def test_annealed_run__of_a_gaussian_has_the_closed_form_law():
    """E_i = (x - m)^2 / (2 (s + sigma_i^2)): a mean and a variance through every step of every level."""
    m, s, sigma, T, eps, N = 1.5, 0.3, (2.0, 0.8, 0.3), 3, 0.1, 100_000
    energy = QuadraticEnergy((1,))
    thetas = [{"mu": np.array([m]), "P": np.array([[1 / (s + level**2)]])} for level in sigma]
    x0 = -1 + 0.5 * normals(Stream.SAMPLE_START, N, 1)
    x, info = annealed_run(ebm_ref, [energy] * 3, thetas, x0, None, sigma, T, eps, seed=3)
    mean, var = -1 - m, 0.25
    for level in sigma:
        alpha = eps * level**2 / 0.3**2
        for _ in range(T):
            a = 1 - alpha / 2 / (s + level**2)
            mean, var = a * mean, a * a * var + alpha
    assert abs(x.mean() - m - mean) < 5 * sqrt(var / N)
    assert abs(x.var() - var) < 5 * var * sqrt(2 / N)
    assert (info.extra["nfe"] == 9).all() and (info.extra["level"] == [0, 0, 0, 1, 1, 1, 2, 2, 2]).all()


def test_annealed_run__of_a_mixture_has_the_law_of_its_kernels():
    """Two narrow modes, far apart: the law after all levels by the ULA kernels on a grid, and the modes' weights."""
    sigma, T, eps, N = (3.0, 1.5, 0.8, 0.4), 10, 0.12, 20_000
    thetas = []
    for level in sigma:
        scale = sqrt(0.25 + level**2)  # a component 0.7 N(-2, 1/4) or 0.3 N(3, 1/4), with the level's noise
        logit = np.log([0.7, 0.3]) - log(scale)  # `logit` is of exp(-|d|^2 / 2) before it is normalised
        thetas.append({"logit": logit, "mu": np.array([[-2.0], [3.0]]), "log_sigma": np.full(2, log(scale))})
    x0 = 4 * normals(Stream.SAMPLE_START, N, 1)
    x, _ = annealed_run(ebm_ref, [MIXTURE] * 4, thetas, x0, None, sigma, T, eps, seed=5)
    grid = np.linspace(-25, 25, 1001)
    law = np.exp(-(grid**2) / 32)
    law /= law.sum()
    for theta, alpha in zip(thetas, annealed_steps(sigma, eps), strict=True):
        mean = grid - alpha / 2 * MIXTURE.grad_x(theta, grid[:, None])[:, 0]
        kernel = np.exp(-((grid - mean[:, None]) ** 2) / (2 * alpha)) * (grid[1] - grid[0]) / sqrt(2 * pi * alpha)
        for _ in range(T):
            law = law @ kernel
    assert abs(law.sum() - 1) < 1e-9
    for name, f in {"x": lambda x: x, "x^2": lambda x: x**2, "right mode": lambda x: (x > 0.5) * 1.0}.items():
        mean = law @ f(grid)
        error = sqrt(law @ (f(grid) - mean) ** 2 / N)
        assert abs(f(x).mean() - mean) < 5 * error, name
    assert 0.25 < (x > 0.5).mean() < 0.5  # started from noise, both modes are found


# ------------------------------------------------------------------------------------ preconditioned


def test_psgld_run__with_a_constant_scale_is_ula():
    """Frozen V, and a linear energy whose g^2 is V's fixed point: ULA with step eps G."""
    x0, V, theta = normals(1, 6, 3), np.full((6, 3), 4.0), bowl_theta(0.5, 1.0, 2.0)
    energy, eps, lam = Bowl((3,)), 0.3, 0.5
    x, V_end, _ = psgld_run(ebm_ref, energy, theta, x0, 5, PSGLD(eps, 1.0, lam), 9, step=4, V=V)
    wanted, _ = langevin_run(energy, theta, x0, 5, ULA(eps / 2.5), 9, step=4)
    assert np.allclose(x, wanted, rtol=0, atol=1e-14) and (V_end == V).all()

    g, xi = np.full((6, 3), -2.0), normals(2, 6, 3)
    x, V_end = psgld_step(x0, g, V, xi, PSGLD(eps, 0.9, lam))
    assert np.allclose(V_end, V, rtol=1e-15)
    assert np.allclose(x, x0 - eps / 2 / 2.5 * g + sqrt(eps / 2.5) * xi, rtol=0, atol=1e-14)


def psgld_law(update, grid, energy, theta):
    """Stationary law of psgld with beta = 0 (V is g^2, the chain is Markov in x) by its kernel on a grid."""
    x = grid[:, None]
    g, zero, one = energy.grad_x(theta, x), np.zeros_like(x), np.ones_like(x)
    h = energy.hvp(theta, x, one) if update.gamma else None
    mean, _ = psgld_step(x, g, zero, zero, update, h)
    scale = psgld_step(x, g, zero, one, update, h)[0] - mean
    kernel = np.exp(-(((grid - mean) / scale) ** 2) / 2) / scale
    kernel /= kernel.sum(axis=1, keepdims=True)
    law = np.linalg.matrix_power(kernel, 4096)[len(grid) // 2]
    return law / law.sum()


def test_psgld_step__without_gamma_is_biased_and_with_gamma_is_not():
    """beta = 0, E = x^2 / 2, as eps -> 0: (lam + |x|) exp(-x^2 / 2), of variance 1.4438 at lam = 1; or variance 1."""
    grid, energy = np.linspace(-6, 6, 401), QuadraticEnergy((1,))
    theta = {"mu": np.zeros(1), "P": np.ones((1, 1))}
    limit = np.exp(-(grid**2) / 2) * (1 + np.abs(grid))
    wanted = {False: grid**2 @ limit / limit.sum(), True: 1.0}
    assert abs(wanted[False] - (sqrt(2 * pi) + 4) / (sqrt(2 * pi) + 2)) < 1e-4
    for gamma in (False, True):
        errors = [
            grid**2 @ psgld_law(PSGLD(eps, 0.0, 1.0, gamma), grid, energy, theta) - wanted[gamma]
            for eps in (0.08, 0.04, 0.02)
        ]
        assert abs(errors[2]) < 0.02 and abs(errors[2]) < 0.65 * abs(errors[1]) < 0.5 * abs(errors[0])
    assert PSGLD(0.1, 0.0, 1.0).biased and not PSGLD(0.1, 0.0, 1.0, gamma=True).biased
    assert PSGLD(0.1).biased and PSGLD(0.1, gamma=True).biased and not PSGLD(0.1, beta=1.0).biased


def test_psgld_step__gamma_is_the_derivative_of_G():
    """-(1 - beta) G^2 h g / sqrt(V'), from x' with and without it, against central differences of G(g(x))."""
    energy, update, eps = QuadraticEnergy((1,)), PSGLD(0.2, 0.7, 0.3, gamma=True), 0.2
    theta, x, V = {"mu": np.array([0.3]), "P": np.array([[1.7]])}, normals(1, 9, 1), normals(2, 9, 1) ** 2
    zero, g = np.zeros_like(x), energy.grad_x(theta, x)
    with_gamma, _ = psgld_step(x, g, V, zero, update, np.full_like(x, 1.7))
    without, _ = psgld_step(x, g, V, zero, PSGLD(0.2, 0.7, 0.3))

    def G(x):
        return 1 / (0.3 + np.sqrt(0.7 * V + 0.3 * energy.grad_x(theta, x) ** 2))

    gamma = (G(x + 1e-5) - G(x - 1e-5)) / 2e-5
    assert np.allclose(with_gamma - without, eps / 2 * gamma, rtol=1e-7, atol=1e-12)


# ---------------------------------------------------------------------------------------- adaptation


def test_adaptation_rate__is_the_mean_of_min_1_exp_l():
    l = np.array([0.7, log(0.5), -np.inf, log(0.1)])
    assert np.isclose(adaptation_rate(l), (1 + 0.5 + 0 + 0.1) / 4, rtol=1e-15)


def test_adaptation_step__robbins_monro_is_its_recursion():
    rule, state, log_eps = RobbinsMonro(0.5, c=2.0, n0=3.0, kappa=0.8), adaptation_start(0.2), log(0.2)
    for n, rate in enumerate((0.9, 0.1, 0.5, 1.0), start=1):
        state = adaptation_step(rule, state, rate)
        log_eps += 2.0 / (n + 3.0) ** 0.8 * (rate - 0.5)
        assert np.isclose(state.eps_step, exp(log_eps), rtol=1e-14) and state.n == n


def test_adaptation_step__multiplicative_follows_its_average_and_stays_in_its_range():
    rule, state = Multiplicative(), adaptation_start(0.1, rate=0.65)
    state = adaptation_step(rule, state, 0.9)
    assert np.isclose(state.rate, 0.9 * 0.65 + 0.1 * 0.9) and np.isclose(state.eps_step, 0.102)
    state = adaptation_step(rule, state, 0.0)
    assert np.isclose(state.rate, 0.9 * 0.675) and np.isclose(state.eps_step, 0.102 * 0.98)
    for rate, end in ((1.0, 0.5), (0.0, 1e-4)):
        for _ in range(600):
            state = adaptation_step(rule, state, rate)
        assert state.eps_step == end


def test_adaptation_step__band_acts_at_the_end_of_a_window_by_its_mean():
    rule, state = Band(every=3), adaptation_start(1.0)
    for rates, size in (((0.7, 1.0, 0.9), 1.1), ((0.0, 1.0, 1.0), 1.1), ((0.2, 0.3, 1.0), 1.1 / 1.2)):
        for rate in rates[:2]:
            before = state.eps_step
            state = adaptation_step(rule, state, rate)
            assert state.eps_step == before
        state = adaptation_step(rule, state, rates[2])
        assert np.isclose(state.eps_step, size, rtol=1e-14)


@pytest.mark.parametrize("method", ["mala", "hmc"])
@pytest.mark.parametrize("start", [0.01, 3.0])
def test_adaptation__reaches_its_target_on_a_gaussian_and_freezes(method, start):
    energy, theta, N = Bowl((10,)), bowl_theta(*np.linspace(0.5, 2, 10)), 400
    x0 = normals(Stream.SAMPLE_START, N, 10)
    target = MALA_TARGET if method == "mala" else HMC_TARGET
    rule, state = RobbinsMonro(target), adaptation_start(start)
    if method == "mala":
        x, state, burn = mala_adapt(ebm_ref, energy, theta, x0, 250, rule, state, seed=1)
        _, info = mala_run(ebm_ref, energy, theta, x, 60, state.eps_step, seed=1, step=250)
    else:
        x, state, burn = hmc_adapt(ebm_ref, energy, theta, x0, 250, 3, rule, state, seed=1)
        _, info = hmc_run(ebm_ref, energy, theta, x, 60, state.eps_step, 3, seed=1, step=250)
    rates = info.extra["accept"].mean(axis=0)  # (N,), independent
    assert abs(rates.mean() - target) < 5 * rates.std() / sqrt(N) + 0.01
    sizes = burn.extra["eps_step"]
    assert sizes[0] == start and len(set(sizes)) > 200 and state.n == 250
    assert (info.extra["eps_step"] == state.eps_step).all()  # to the bit
