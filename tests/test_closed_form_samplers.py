"""Samplers against closed forms: Gaussian laws and acceptance, leapfrog's own energy, and kernels on a grid."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta
from lopsided import Lopsided, check_law, exact_start, trajectory

import ebm_ref
from ebm_ref import (
    ULA,
    DoubleWellEnergy,
    GaussianMixtureEnergy,
    QuadraticEnergy,
    Stream,
    hmc_leapfrog,
    hmc_log_ratio,
    hmc_run,
    hmc_step,
    langevin_run,
    mala_log_ratio,
    mala_propose,
    mala_run,
    mala_step,
    noise_normal,
    noise_uniform,
)

BOWL = Bowl()
WELL, WELL_THETA = DoubleWellEnergy((1,)), {"height": np.array([0.8]), "tilt": np.array([0.5])}
MIXTURE = GaussianMixtureEnergy((2, 3), 3)
MIXTURE_THETA = {
    "logit": np.array([0.3, 1.5, 0.0]),
    "mu": noise_normal(3, Stream.TOY, 0, np.arange(3), 6),
    "log_sigma": np.array([0.2, -0.4, 0.1]),
}


def normals(stream, *shape, step=0):
    return noise_normal(91, stream, step, np.arange(shape[0]), int(np.prod(shape[1:]))).reshape(shape)


# ---------------------------------------------------------------------------------------------- ULA


@pytest.mark.parametrize(("lam", "eps", "wanted"), [(2.0, 0.5, 2 / 3), (0.7, 1.0, None), (4.0, 0.25, None)])
def test_langevin_run__ula_has_its_stationary_variance_and_not_one_over_lambda(lam, eps, wanted):
    """1 / (lam (1 - eps lam / 4)); lam = 2, eps = 1/2 gives 2/3."""
    exact = 1 / (lam * (1 - eps * lam / 4))
    assert wanted is None or np.isclose(exact, wanted, rtol=1e-15)
    N = 100_000
    x, _ = langevin_run(BOWL, bowl_theta(lam), sqrt(exact) * normals(Stream.SAMPLE_START, N, 1), 12, ULA(eps), seed=4)
    error = exact * sqrt(2 / N)
    assert abs(x.var() - exact) < 5 * error < abs(exact - 1 / lam)


@pytest.mark.parametrize(("lam", "eta", "sigma"), [(2.0, 0.25, 0.6), (1.5, 0.9, 0.4)])
def test_langevin_run__decoupled_has_its_stationary_variance(lam, eta, sigma):
    """sigma^2 / (eta lam (2 - eta lam))."""
    exact, N = sigma**2 / (eta * lam * (2 - eta * lam)), 100_000
    x0 = sqrt(exact) * normals(Stream.SAMPLE_START, N, 1)
    x, _ = langevin_run(BOWL, bowl_theta(lam), x0, 12, ebm_ref.SGLD(eta, sigma), seed=4)
    assert abs(x.var() - exact) < 5 * exact * sqrt(2 / N)


# ----------------------------------------------------------------------------------------- the ratio


@pytest.mark.parametrize("eps", [0.01, 0.25, 2.0])
def test_mala_log_ratio__is_both_forms(eps):
    """log p(x') q(x' -> x) - log p(x) q(x -> x'), and the form with the noise of the way back."""
    x, xi = normals(1, 40, 2, 3), normals(2, 40, 2, 3)
    E, g = MIXTURE.energy_and_grad_x(MIXTURE_THETA, x)
    y = mala_propose(x, g, xi, eps)
    E_y, g_y = MIXTURE.energy_and_grad_x(MIXTURE_THETA, y)
    l = mala_log_ratio(E, E_y, g, g_y, xi, eps)

    def square(v):
        return (v**2).sum(axis=(1, 2))

    q_form = E - E_y - (square(x - y + eps / 2 * g_y) - square(y - x + eps / 2 * g)) / (2 * eps)
    back = -xi + sqrt(eps) / 2 * (g + g_y)
    assert np.allclose(l, q_form, rtol=0, atol=1e-11)
    assert np.allclose(l, E - E_y - square(back) / 2 + square(xi) / 2, rtol=0, atol=1e-12)
    assert np.allclose(x, mala_propose(y, g_y, back, eps), atol=1e-13)  # the noise of the way back goes back


def test_mala_log_ratio__on_a_gaussian_is_the_closed_form():
    """l = (eps/8) (|P x|^2 - |P x'|^2): the energies cancel."""
    A = normals(5, 4, 4)
    energy, eps = QuadraticEnergy((4,)), 0.3
    theta = {"mu": np.zeros(4), "P": A @ A.T + np.eye(4)}
    x, xi = normals(1, 30, 4), normals(2, 30, 4)
    E, g = energy.energy_and_grad_x(theta, x)
    y = mala_propose(x, g, xi, eps)
    l = mala_log_ratio(E, energy.energy(theta, y), g, energy.grad_x(theta, y), xi, eps)
    wanted = eps / 8 * (((x @ theta["P"]) ** 2).sum(axis=1) - ((y @ theta["P"]) ** 2).sum(axis=1))
    assert np.allclose(l, wanted, rtol=1e-10, atol=1e-11)


def gaussian_acceptance(lam, eps):
    """Mean of min(1, exp l) over x ~ N(0, 1/lam) and xi, by quadrature of the closed form."""
    z = np.linspace(-9, 9, 1801)
    w = np.exp(-(z**2) / 2)
    w /= w.sum()
    x, xi = z[:, None] / sqrt(lam), z[None]
    y = (1 - eps * lam / 2) * x + sqrt(eps) * xi
    return w @ np.minimum(1, np.exp(eps / 8 * lam**2 * (x**2 - y**2))) @ w


def test_mala_run__on_a_gaussian_has_its_variance_and_acceptance():
    """lam = 4, eps = 1/4: variance 1/4 (0.200 with step^2 in the ratio), mean acceptance about 0.92."""
    lam, eps, N, K = 4.0, 0.25, 20_000, 20
    exact = gaussian_acceptance(lam, eps)
    assert abs(exact - 0.92) < 0.005
    x, info = mala_run(ebm_ref, BOWL, bowl_theta(lam), normals(Stream.SAMPLE_START, N, 1) / 2, K, eps, seed=2)
    assert abs(x.var() - 0.25) < 5 * 0.25 * sqrt(2 / N)
    rate = info.extra["accept"].mean(axis=0)  # (N,), one mean for each chain: independent
    assert abs(rate.mean() - exact) < 5 * rate.std() / sqrt(N) < 0.004


# ------------------------------------------------------------------------------------------ leapfrog


@pytest.mark.parametrize("L", [1, 2, 10, 1000])
def test_hmc_leapfrog__conserves_its_own_energy(L):
    """p^2 / 2 + lam (1 - h^2 lam / 4) q^2 / 2: 0.492438 at h = 0.7, lam = 1.3, (q, p) = (0.4, 0.9)."""
    h, lam, theta = 0.7, 1.3, bowl_theta(1.3)
    q, p = np.array([[0.4]]), np.array([[0.9]])

    def modified(q, p):
        return p[0, 0] ** 2 / 2 + lam * (1 - h**2 * lam / 4) * q[0, 0] ** 2 / 2

    assert abs(modified(q, p) - 0.492438) < 5e-7
    q, p, E, g, finite = hmc_leapfrog(BOWL, theta, q, p, BOWL.grad_x(theta, q), h, L)
    assert abs(modified(q, p) - 0.492438) < 5e-7 and finite.all()
    assert np.allclose(E, BOWL.energy(theta, q)) and np.allclose(g, BOWL.grad_x(theta, q))


@pytest.mark.parametrize(("h", "stable"), [(0.99, True), (1.01, False)])
def test_hmc_leapfrog__is_stable_iff_h_squared_lambda_is_below_4(h, stable):
    theta, q = bowl_theta(4.0), np.array([[0.3]])
    q, *_ = hmc_leapfrog(BOWL, theta, q, np.array([[0.2]]), 4 * q, h, 400)
    assert (abs(q[0, 0]) < 10) == stable


def leapfrog(energy, theta, x, p, h, L):
    return hmc_leapfrog(energy, theta, x, p, energy.grad_x(theta, x), h, L)


def test_hmc_leapfrog__returns_from_the_reversed_momentum():
    x, p = normals(1, 7, 2, 3), normals(2, 7, 2, 3)
    end, p_end, *_ = leapfrog(MIXTURE, MIXTURE_THETA, x, p, 0.2, 13)
    back, p_back, *_ = leapfrog(MIXTURE, MIXTURE_THETA, end, -p_end, 0.2, 13)
    assert np.allclose(back, x, atol=1e-12) and np.allclose(-p_back, p, atol=1e-12)
    assert np.abs(end - x).max() > 0.5


def test_hmc_leapfrog__keeps_volume():
    """det d(x', p') / d(x, p) = 1, by central differences in 2 + 2 dimensions."""
    energy, theta = DoubleWellEnergy((2,)), {"height": np.array([0.8, 0.3]), "tilt": np.array([0.5, -0.2])}
    z, d = normals(1, 1, 4), 1e-5
    shifts = z + d * np.concatenate([np.eye(4), -np.eye(4)])  # (8, 4)
    x, p, *_ = leapfrog(energy, theta, shifts[:, :2], shifts[:, 2:], 0.3, 5)
    moved = np.concatenate([x, p], axis=1)
    assert abs(np.linalg.det((moved[:4] - moved[4:]) / (2 * d)) - 1) < 1e-7


def test_hmc_leapfrog__energy_error_falls_as_h_squared():
    x, p = normals(1, 400, 1), normals(2, 400, 1)
    errors = []
    for L in (10, 20, 40):
        end, p_end, E, _, _ = leapfrog(WELL, WELL_THETA, x, p, 1 / L, L)
        errors.append(np.abs(hmc_log_ratio(WELL.energy(WELL_THETA, x), E, p, p_end)).mean())
    assert 3.8 < errors[0] / errors[1] < 4.2 and 3.95 < errors[1] / errors[2] < 4.05


def test_hmc_step__of_one_leapfrog_is_mala():
    """h = sqrt(eps), p = xi: the same proposal, the same ratio, the same decision."""
    x, xi, u = normals(1, 200, 2, 3), normals(2, 200, 2, 3), noise_uniform(1, 8, 0, np.arange(200), 1)[:, 0]
    E, g = MIXTURE.energy_and_grad_x(MIXTURE_THETA, x)
    ours = hmc_step(MIXTURE, MIXTURE_THETA, x, E, g, xi, u, sqrt(0.7), 1)
    theirs = mala_step(MIXTURE, MIXTURE_THETA, x, E, g, xi, u, 0.7)
    assert all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(ours, theirs, strict=True))
    assert 20 < theirs[3].sum() < 180


# ------------------------------------------------------------------------------- kernels on a grid


def grid_law(n=161, end=2.6):
    x = np.linspace(-end, end, n)[:, None]
    E, g = WELL.energy_and_grad_x(WELL_THETA, x)
    p = np.exp(-E)
    return x, E, g, p / p.sum()


def test_mala_log_ratio__balances_every_pair_of_a_grid():
    """T_ij = q(x_i -> x_j) min(1, exp l_ij) dx: pi_i T_ij = pi_j T_ji and pi T = pi, to rounding."""
    x, E, g, law = grid_law()
    n, eps, dx = len(x), 0.3, x[1, 0] - x[0, 0]
    i, j = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    xi = (x[j] - x[i] + eps / 2 * g[i]) / sqrt(eps)  # the noise that goes from i to j
    assert np.allclose(mala_propose(x[i], g[i], xi, eps), x[j], atol=1e-12)
    q = np.exp(-(xi[:, 0] ** 2) / 2) / sqrt(2 * pi * eps) * dx
    T = (q * np.exp(np.minimum(mala_log_ratio(E[i], E[j], g[i], g[j], xi, eps), 0))).reshape(n, n)
    np.fill_diagonal(T, 0)
    flow = law[:, None] * T
    assert np.abs(flow - flow.T).max() < 1e-14
    assert T.sum(axis=1).max() <= 1 and 0.3 < T.sum(axis=1) @ law
    T += np.diag(1 - T.sum(axis=1))
    assert np.abs(law @ T - law).max() < 1e-14


@pytest.mark.parametrize("L", [1, 3])
def test_hmc_step__kernel_on_a_grid_leaves_the_law(L):
    """Every x of a grid by every p of another. A path ends between two points and is shared by them: pi T = pi as a
    distribution function; and smooth functions keep their means, by quadrature over x and p, to 1e-5."""
    x, E, g, law = grid_law(241)
    p = np.linspace(-6, 6, 801)
    w = np.exp(-(p**2) / 2)
    i, k = (a.ravel() for a in np.meshgrid(np.arange(len(x)), np.arange(len(p)), indexing="ij"))
    u = np.full(len(i), np.exp(-700.0))  # accepts nearly everywhere: what is wanted here is where paths end, and l
    end, _, _, accept, l = hmc_step(WELL, WELL_THETA, x[i], E[i], g[i], p[k, None], u, 0.45, L)
    assert (accept | (l < -690)).all()
    end, flow = end[:, 0], (w / w.sum())[k] * law[i] * np.exp(np.minimum(l, 0))  # mass that leaves i by p
    assert 0.3 < flow.sum() < 0.9
    for f in (lambda x: x, lambda x: x**2, lambda x: x**3, lambda x: np.cos(2 * x)):
        assert abs(flow @ (f(end) - f(x[i, 0]))) < 1e-5
    at = np.clip((end - x[0, 0]) / (x[1, 0] - x[0, 0]), 0, len(x) - 1.001)
    low, part = at.astype(int), at % 1
    change = np.bincount(low, flow * (1 - part), len(x)) + np.bincount(low + 1, flow * part, len(x))
    change -= np.bincount(i, flow, len(x))
    assert np.abs(np.cumsum(change)).max() < 3e-4


# ---------------------------------------------------------------- the law, beside a wall, 10^6 draws


@pytest.mark.parametrize("method", ["mala", "hmc"])
def test_metropolis__draws_have_the_law_of_a_lopsided_target_with_a_wall(method):
    """E = (x - 3)^2 / 2 - sqrt(x), x > 0: steps so large that proposals cross the wall, which has density 0."""
    N, T, crossed = 5000, 200, 0

    def step(x, t):
        nonlocal crossed
        if method == "mala":
            x, info = mala_run(ebm_ref, Lopsided(), {}, x, 1, 2.0, seed=11, step=t)
        else:
            x, info = hmc_run(ebm_ref, Lopsided(), {}, x, 1, 0.9, 2, seed=11, step=t)
        crossed += info.nonfinite
        return x

    draws = trajectory(step, exact_start(N), T)
    check_law(draws)
    assert crossed > 1000
