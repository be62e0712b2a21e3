"""denoising and denoising_levels against closed forms: Gaussians, and a mixture against its convolution."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from derivatives import close
from score_cases import SmoothBowl, normals

import ebm_ref
from ebm_ref import DoubleWellEnergy, GaussianMixtureEnergy, NoiseConditionalEnergy, QuadraticEnergy
from ebm_ref.objectives import denoising, denoising_ladder, denoising_levels, dsm_step, multi_dsm_step, score_matching


def gaussian_case(D=3, N=7, sigma=0.6):
    """A quadratic energy, data repeated under noise whose mean is 0 and covariance is I exactly."""
    A, B = normals(1, D, D), normals(2, D, D)
    theta = {"mu": normals(3, 1, D)[0], "P": A @ A.T + np.eye(D)}
    x = normals(4, N, D) @ B + 1.0
    xi = sqrt(D) * np.concatenate([np.eye(D), -np.eye(D)])  # (2 D, D)
    m, S = x.mean(axis=0), np.cov(x.T, bias=True)
    return theta, np.repeat(x, 2 * D, axis=0), np.tile(xi, (N, 1)), m, S + sigma**2 * np.eye(D), sigma


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1)])
def test_denoising__gaussian_loss_and_gradient(shape):
    """J = [tr P (S + s^2 I) P + d'P^2 d - 2 tr P + D/s^2]/2, and the gradient of score matching on N(m, S + s^2 I)."""
    theta, x, xi, m, blurred, sigma = gaussian_case()
    wide = (len(x), *shape)
    loss, grads, info = denoising(QuadraticEnergy(shape), theta, x.reshape(wide), xi.reshape(wide), sigma)
    P, d = theta["P"], m - theta["mu"]
    centred = 0.5 * (np.trace(P @ blurred @ P) + d @ P @ P @ d - 2 * np.trace(P))
    assert loss == pytest.approx(centred + 0.5 * 3 / sigma**2, rel=1e-12)
    assert info["centred"] == pytest.approx(centred, rel=1e-12)
    assert info["paired"] == pytest.approx(centred, rel=1e-12)  # mean |xi|^2 is D exactly
    close(grads["mu"], -P @ P @ d, 1e-12)
    outer = np.outer(d, d)
    wanted = 0.5 * (blurred @ P + P @ blurred) + 0.5 * (P @ outer + outer @ P) - np.eye(3)
    close(0.5 * (grads["P"] + grads["P"].T), wanted, 1e-12)


def test_denoising__gaussian_minimum_is_the_inverse_of_the_noised_covariance():
    """At P = (S + s^2 I)^-1, mu = m the gradient is 0 and J = [D/s^2 - tr (S + s^2 I)^-1]/2."""
    _, x, xi, m, blurred, sigma = gaussian_case()
    best = {"mu": m, "P": np.linalg.inv(blurred)}
    loss, grads, info = denoising(QuadraticEnergy((3,)), best, x, xi, sigma)
    assert loss == pytest.approx(0.5 * (3 / sigma**2 - np.trace(best["P"])), rel=1e-12)
    assert info["centred"] == pytest.approx(-0.5 * np.trace(best["P"]), rel=1e-12)
    for grad in grads.values():
        close(grad, np.zeros_like(grad), 1e-11)


# ----------------------------------------------- a mixture of Gaussians: DSM on p is score matching on p * N(0, s^2 I)

P_DATA = (np.array([0.3, 0.7]), np.array([-1.2, 0.8]), np.array([0.35, 0.5]))  # weights, means, deviations


def mixture_theta(weights, means, deviations):
    return {"logit": np.log(weights / deviations), "mu": means[:, None], "log_sigma": np.log(deviations)}


def hyvarinen_by_quadrature(energy, theta, weights, means, deviations):
    """J and its gradient on a one-dimensional mixture, from levels 1 to 3 on a grid."""
    x = np.linspace(-9, 9, 4001)[:, None]
    q = sum(
        p * np.exp(-0.5 * ((x[:, 0] - mu) / s) ** 2) / (s * sqrt(2 * np.pi))
        for p, mu, s in zip(weights, means, deviations, strict=True)
    )
    q = q * (x[1, 0] - x[0, 0])
    assert q.sum() == pytest.approx(1, abs=1e-12)
    g, one = energy.grad_x(theta, x), np.ones_like(x)
    J = q @ (0.5 * g[:, 0] ** 2 - energy.curvature(theta, x, one))
    along = energy.grad_theta_along(theta, x, q[:, None] * g)
    bent = energy.grad_theta_curvature(theta, x, one, q)
    return J, {name: along[name] - bent[name] for name in along}


@pytest.mark.parametrize("sigma", [0.3, 1.0])
@pytest.mark.parametrize("model", ["double_well", "the mixture itself"])
def test_dsm_step__on_a_mixture_is_score_matching_on_its_convolution(model, sigma):
    """The means of centred, paired and of the gradient over many noises: J and its gradient on p * N(0, sigma^2)."""
    weights, means, deviations = P_DATA
    noised = (weights, means, np.sqrt(deviations**2 + sigma**2))
    data = GaussianMixtureEnergy((1,), 2)
    if model == "double_well":
        energy, theta = DoubleWellEnergy((1,)), {"height": np.array([0.3]), "tilt": np.array([0.2])}
    else:
        energy, theta = data, mixture_theta(*noised)
    want, want_grads = hyvarinen_by_quadrature(energy, theta, *noised)
    runs, N = 30, 6000
    x = data.sample_exact(
        mixture_theta(*P_DATA), ebm_ref.noise_uniform(3, 40, 0, np.arange(runs * N), 1)[:, 0], normals(41, runs * N, 1)
    )
    draws = [dsm_step(ebm_ref, energy, theta, x[t * N : (t + 1) * N], sigma, 5, t) for t in range(runs)]

    def within(found, wanted):
        error = np.std(found, axis=0, ddof=1) / sqrt(runs)
        assert (np.abs(np.mean(found, axis=0) - wanted) <= 5 * error).all()
        return error

    within([info["centred"] for _, _, info in draws], want)
    within([info["paired"] for _, _, info in draws], want)
    for name, grad in want_grads.items():
        within([grads[name] for _, grads, _ in draws], grad)
    if model == "the mixture itself":  # the noised density is the minimum
        for grad in want_grads.values():
            close(grad, np.zeros_like(grad), 1e-9)


def test_denoising__paired_is_quieter_than_centred_at_small_noise():
    """centred carries the noise of |xi|^2 / (2 sigma^2), of deviation sqrt(D / (2 N)) / sigma^2; paired does not."""
    energy, theta, sigma, N = SmoothBowl((2,)), {"lam": np.ones(2), "bias": np.zeros(1)}, 0.05, 100
    infos = [dsm_step(ebm_ref, energy, theta, normals(4, N, 2), sigma, 1, t)[2] for t in range(40)]
    centred, paired = (np.std([info[name] for info in infos]) for name in ("centred", "paired"))
    assert centred == pytest.approx(sqrt(2 / 2) / sigma**2 / sqrt(N), rel=0.4)
    assert paired < centred / 5


# -------------------------------------------- E = a |x|^2 / 2 on N(0, s^2 I) has its minimum at a = 1 / (s^2 + sigma^2)


def minimiser(gradient):
    """a where dJ/da = 0, J a parabola: the gradient is a line."""
    at_0, at_1 = gradient(0.0), gradient(1.0)
    return -at_0 / (at_1 - at_0)


def bowl(shape, a):
    return {"lam": np.full(int(np.prod(shape)), a), "bias": np.zeros(1)}


def exact_moments(N, shape, s, seed):
    """x and xi with mean squares s^2 D and D and no correlation: pairs of one xi with x and with -x."""
    x, xi = normals(seed, N // 2, *shape), normals(seed + 1, N // 2, *shape)
    x, xi = s * x * sqrt(x.size / (x**2).sum()), xi * sqrt(xi.size / (xi**2).sum())
    return np.concatenate([x, -x]), np.concatenate([xi, xi])


SHAPES = [(1,), (2,), (8,), (2, 4, 1), (2, 4, 8)]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("N", [2, 16, 256])
@pytest.mark.parametrize("shape", SHAPES)
def test_denoising__minimiser_is_the_inverse_noised_variance(shape, N, sigma):
    """For every D, batch, shape and sigma: kills a flipped sign and a score divided by the batch."""
    x, xi = exact_moments(N, shape, 0.7, seed=N)
    a = minimiser(lambda a: denoising(SmoothBowl(shape), bowl(shape, a), x, xi, sigma)[1]["lam"].sum())
    assert a == pytest.approx(1 / (0.49 + sigma**2), rel=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1,), (8,), (2, 4, 1)])
def test_dsm_step__minimiser_is_the_inverse_noised_variance(shape, seed):
    """a = sum xi . x~ / (sigma sum |x~|^2), within 5 standard errors of that ratio."""
    N, sigma, s = 4000, 0.5, 0.7
    x = s * normals(seed, N, *shape)
    a = minimiser(lambda a: dsm_step(ebm_ref, SmoothBowl(shape), bowl(shape, a), x, sigma, seed, 4)[1]["lam"].sum())
    xi = ebm_ref.noise_normal(seed, ebm_ref.Stream.LEVEL_NOISE, 4, np.arange(N), x[0].size)
    noised = x.reshape(N, -1) + sigma * xi
    above, below = (xi * noised).sum(axis=1) / sigma, (noised**2).sum(axis=1)
    error = np.std(above - a * below) / below.mean() / sqrt(N)
    assert abs(a - 1 / (s**2 + sigma**2)) < 5 * error


def test_minimiser__sees_a_flipped_sign_and_a_score_divided_by_the_batch():
    """With +xi/sigma for -xi/sigma the minimum is at -a; with grad E / N for grad E it is at N a."""
    energy, shape, N, sigma = SmoothBowl((2,)), (2,), 16, 0.5
    x, xi = exact_moments(N, shape, 1.0, seed=3)
    at = x + sigma * xi

    def flipped(a):
        return energy.grad_theta_along(bowl(shape, a), at, energy.grad_x(bowl(shape, a), at) + xi / sigma)["lam"].sum()

    def over_batch(a):
        return energy.grad_theta_along(bowl(shape, a), at, energy.grad_x(bowl(shape, a), at) / N - xi / sigma)[
            "lam"
        ].sum()

    assert minimiser(flipped) == pytest.approx(-0.8, rel=1e-12)
    assert minimiser(over_batch) == pytest.approx(0.8 * N, rel=1e-12)


# ------------------------------------------------------------------------------------------ many levels


def level_case(D=2, L=4):
    energy = NoiseConditionalEnergy(QuadraticEnergy((D + 1,)), 0.1, 2.0)
    A = normals(7, D + 1, D + 1)
    return energy, {"mu": normals(8, 1, D + 1)[0], "P": A @ A.T + np.eye(D + 1)}, denoising_ladder(2.0, 0.1, L)


def test_denoising_levels__is_the_sum_of_its_levels():
    """With every level once: (1/L) sum_i w_i J(sigma_i), each J the one-level loss of E(x, sigma_i)."""
    energy, theta, sigmas = level_case()
    x, xi = normals(4, 12, 2), normals(5, 12, 2)
    idx = np.repeat(np.arange(4), 3)
    for weights in (None, (0.5, 0.0, 2.0, 1.0)):
        loss, grads, info = denoising_levels(energy, theta, x, xi, idx, sigmas, weights)
        wanted = {name: np.zeros_like(value) for name, value in theta.items()}
        total = centred = paired = 0.0
        for i, sigma in enumerate(sigmas):
            w = (sigma**2 if weights is None else weights[i]) / 4
            part = idx == i
            J, parts, notes = denoising(energy.at(sigma), theta, x[part], xi[part], sigma)
            total, centred, paired = total + w * J, centred + w * notes["centred"], paired + w * notes["paired"]
            wanted = {name: wanted[name] + w * parts[name] for name in theta}
        assert loss == pytest.approx(total, rel=1e-12) and info["losses"].mean() == pytest.approx(total, rel=1e-12)
        assert info["centred"] == pytest.approx(centred, rel=1e-12)
        assert info["paired"] == pytest.approx(paired, rel=1e-12)
        for name in theta:
            close(grads[name], wanted[name], 1e-12)


def test_denoising_levels__weight_sigma_squared_is_the_ncsn_summand():
    """|sigma grad E - xi|^2 / 2, which at grad E = 0 is |xi|^2 / 2 at every level."""
    energy, theta, sigmas = level_case()
    x, xi, idx = normals(4, 8, 2), normals(5, 8, 2), np.arange(8) % 4
    sigma = np.array(sigmas)[idx]
    g = energy.grad_x(theta, x + sigma[:, None] * xi, sigma)
    _, _, info = denoising_levels(energy, theta, x, xi, idx, sigmas)
    close(info["losses"], 0.5 * ((sigma[:, None] * g - xi) ** 2).sum(axis=1), 1e-12)
    flat = {"mu": theta["mu"], "P": np.zeros((3, 3))}
    close(denoising_levels(energy, flat, x, xi, idx, sigmas)[2]["losses"], 0.5 * (xi**2).sum(axis=1), 1e-12)


def test_multi_dsm_step__draws_every_level_alike():
    energy, theta, sigmas = level_case()
    x = normals(4, 8000, 2)
    _, _, info = multi_dsm_step(ebm_ref, energy, theta, x, sigmas, 3, 1)
    counts = np.bincount(info["idx"], minlength=4)
    assert (np.abs(counts - 2000) < 5 * sqrt(8000 * 3 / 16)).all()


def test_multi_dsm_step__mean_is_score_matching_on_each_noised_gaussian():
    """paired has the mean (1/L) sum_i sigma_i^2 J_i, J_i Hyvarinen's loss of E(x, sigma_i) on N(0, S + sigma_i^2 I)."""
    energy, theta, sigmas = level_case()
    N, S = 20_000, np.array([[1.0, 0.4], [0.4, 0.5]])
    x = normals(4, N, 2) @ np.linalg.cholesky(S).T
    wanted = 0.0
    for sigma in sigmas:
        P, f = theta["P"], energy.at(sigma).feature
        blurred, tilt = S + sigma**2 * np.eye(2), P[:2, 2] * (f - theta["mu"][2]) - P[:2, :2] @ theta["mu"][:2]
        J = 0.5 * np.trace(P[:2, :2] @ blurred @ P[:2, :2]) + 0.5 * tilt @ tilt - np.trace(P[:2, :2])
        wanted += sigma**2 * J / 4
    found = [multi_dsm_step(ebm_ref, energy, theta, x[t::10], sigmas, 3, t)[2]["paired"] for t in range(10)]
    assert abs(np.mean(found) - wanted) < 5 * np.std(found, ddof=1) / sqrt(10)


def test_denoising__tends_to_score_matching_when_the_noise_goes():
    """centred(sigma) -> J on the data itself; with antithetic noise the gap is O(sigma^2)."""
    energy, theta = DoubleWellEnergy((2,)), {"height": np.array([0.3, 0.5]), "tilt": np.array([0.2, -0.1])}
    x = normals(4, 6, 2)
    xi = sqrt(2) * np.concatenate([np.eye(2), -np.eye(2)])
    J = score_matching(energy, theta, x)[0]
    gaps = []
    for sigma in (0.02, 0.01):
        paired = denoising(energy, theta, np.repeat(x, 4, axis=0), np.tile(xi, (6, 1)), sigma)[2]["paired"]
        gaps.append(abs(paired - J))
    assert gaps[0] < 0.05 and gaps[0] / gaps[1] == pytest.approx(4, rel=0.05)
