"""Maximum likelihood, CD and PCD against closed forms: enumeration, Gaussian chains, the gap, the buffer."""

from __future__ import annotations

from math import sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import close, random_theta
from duck_backend import SmoothBowl
from gaussian import Bowl, bowl_theta
from signs import balanced

import ebm_ref
from ebm_ref import (
    ULA,
    ChainInfo,
    RBMEnergy,
    Stream,
    binary_states,
    buffer_push,
    buffer_start,
    cd_step,
    contrastive,
    maximum_likelihood,
    noise_bits,
    noise_uniform,
    pcd_step,
    rbm_gibbs_run,
    unrolled_run,
)

STATES = binary_states(4)
P_DATA = np.array([1, 3, 2, 1, 4, 1, 1, 2, 1, 1, 5, 1, 1, 1, 2, 3]) / 30
DATA = np.repeat(STATES, (30 * P_DATA).astype(int), axis=0)  # (30, 4): its averages are exact expectations


def rbm(scale=0.7):
    energy = RBMEnergy(4, 3)
    theta = random_theta(energy, np.random.default_rng(21))
    return energy, {name: scale * value for name, value in theta.items()}


def expected(energy, theta, p):
    """sum_x p(x) grad_theta E(x)."""
    return energy.grad_theta(theta, STATES, p)


GIBBS = SimpleNamespace(  # a backend whose chains are block-Gibbs sweeps
    **{name: getattr(ebm_ref, name) for name in ("noise_normal", "noise_uniform", "noise_bits", "buffer_draw")},
    buffer_push=buffer_push,
    langevin_run=lambda energy, theta, x0, K, update, seed, step=0: (
        rbm_gibbs_run(ebm_ref, energy, theta, x0, K, seed, step),
        ChainInfo(np.zeros((K, len(x0))), np.zeros((K, len(x0))), np.ones(len(x0), bool)),
    ),
)


# --------------------------------------------------------------------------- 1(e): enumeration


def test_cd__expected_gradient_goes_to_that_of_maximum_likelihood():
    """1(e) 1: E_data[grad E] - E_(p_data T^K)[grad E] -> the exact ML gradient, geometrically in K."""
    energy, theta = rbm()
    T, data = energy.gibbs_matrix(theta), expected(energy, theta, P_DATA)
    _, exact, _ = maximum_likelihood(energy, theta, DATA, STATES)
    distance = []
    for K in (0, 1, 2, 4, 8, 400):
        model = expected(energy, theta, P_DATA @ np.linalg.matrix_power(T, K))
        gaps = [np.abs(data[name] - model[name] - exact[name]).max() for name in theta]
        distance.append(max(gaps))
    assert all(a > 1.5 * b for a, b in zip(distance, distance[1:], strict=False)) and distance[-1] < 1e-13


@pytest.mark.parametrize("K", [1, 3])
def test_cd_step__with_gibbs_chains_has_the_expectation_of_the_matrix_power(K):
    energy, theta = rbm()
    x, steps = np.tile(DATA, (30, 1)), 40  # 900 chains a step
    q = P_DATA @ np.linalg.matrix_power(energy.gibbs_matrix(theta), K)
    data, model = expected(energy, theta, P_DATA), expected(energy, theta, q)
    draws = [cd_step(GIBBS, energy, theta, x, K, None, 0.0, 0.0, 5, t)[1] for t in range(steps)]
    for name in theta:
        each = np.array([d[name] for d in draws])
        error = each.std(axis=0, ddof=1) / sqrt(steps)
        assert (np.abs(each.mean(axis=0) - (data[name] - model[name])) <= 5 * error + 1e-14).all(), name


def test_cd_literal__gradient_of_the_divergence_on_the_enumerated_model():
    """CD_K = KL(p_d || p) - KL(q_K || p), q_K = p_d T^K: its derivative, by differences, is the practical gradient
    minus the path term (dq_K/dtheta) . log(q_K / p); so CD as used drops a term, and adding it has the wrong sign.
    """
    energy, theta = rbm()
    K, h, rng = 2, 1e-5, np.random.default_rng(3)
    u = {name: rng.normal(size=value.shape) for name, value in theta.items()}

    def laws(s):
        moved = {name: theta[name] + s * u[name] for name in theta}
        q = P_DATA @ np.linalg.matrix_power(energy.gibbs_matrix(moved), K)
        return energy.probabilities(moved), q

    def divergence(s):
        p, q = laws(s)
        return (P_DATA * np.log(P_DATA / p)).sum() - (q * np.log(q / p)).sum()

    def slope(f):
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

    p, q = laws(0.0)
    practical = expected(energy, theta, P_DATA - q)
    practical = sum((practical[name] * u[name]).sum() for name in theta)
    path = slope(lambda s: laws(s)[1]) @ np.log(q / p)
    literal = slope(divergence)
    assert literal == pytest.approx(practical - path, abs=1e-8)
    assert abs(path) > 1e-3


def test_pcd_step__with_gibbs_chains_follows_the_same_chains():
    """Tieleman's PCD: as many slots as chains, no restarts, each chain back into its own slot."""
    energy, theta = rbm()
    buffer = buffer_start(6, (4,), start="samples", samples=STATES[:6], seed=1, dtype=np.float64)
    x = STATES[:6].copy()
    for t in range(3):
        bits = noise_bits(2, Stream.BUFFER_INDEX, t, np.arange(6), 1)[:, 0]
        idx = ebm_ref.noise_index(bits, 6)
        want = rbm_gibbs_run(ebm_ref, energy, theta, x[idx], 2, 2, 2 * t)
        _, _, info = pcd_step(GIBBS, energy, theta, DATA[:6], buffer, 2, None, 0.0, 0.0, 0.0, 2, t, (0.0, 1.0))
        np.testing.assert_array_equal(info["x_neg"], want)
        for n, place in enumerate(idx):
            x[place] = want[n]
        np.testing.assert_array_equal(buffer.slots, x)


# ------------------------------------------------------------------------- 1(e): Gaussian chains


def variance(lam, s0, eps, k):
    """s_k = a^(2k) s_0 + eps (1 - a^(2k)) / (1 - a^2), a = 1 - eps lam / 2."""
    a = 1 - eps * lam / 2
    return a ** (2 * k) * s0 + eps * (1 - a ** (2 * k)) / (1 - a**2)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_cd__gaussian_chain_has_the_exact_expectation(K):
    """1(e) 2: gradient (s_0 - s_K) / 2 in lam, with no sampling error at all."""
    lam, s0, eps = 1.7, 1.3, 0.3
    x0, backend = balanced(s0, K)
    x, _, _ = unrolled_run(backend, SmoothBowl(), bowl_theta(lam), x0, K, ULA(eps), 0)
    assert (x**2).mean() == pytest.approx(variance(lam, s0, eps, K), rel=1e-13)
    _, grads, _ = contrastive(Bowl(), bowl_theta(lam), x0, x, 0.0)
    close(grads["lam"], [(s0 - variance(lam, s0, eps, K)) / 2], 1e-14)


def test_t8__cd_fixed_points_do_not_depend_on_k():
    """T8: s_0 = 1, eps = .3: lam = 1.088933, stable, and 12.2444, spurious, for every k; not lam = 1 / s_0."""
    eps = 0.3
    for lam, digits in ((2 / eps * (1 - sqrt(1 - eps)), 1.088933), (2 / eps * (1 + sqrt(1 - eps)), 12.2444)):
        assert lam == pytest.approx(digits, abs=5e-7 if digits < 2 else 5e-5)
        for K in (1, 3, 6):
            x0, backend = balanced(1.0, K)

            def gradient(lam, x0=x0, backend=backend, K=K):
                x, _, _ = unrolled_run(backend, SmoothBowl(), bowl_theta(lam), x0, K, ULA(eps), 0)
                return contrastive(Bowl(), bowl_theta(lam), x0, x, 0.0)[1]["lam"][0]

            assert abs(gradient(lam)) < 1e-12
            rising = gradient(lam + 1e-4) > 0 > gradient(lam - 1e-4)
            assert rising == (digits < 2)  # descent returns to the first root and leaves the second
    assert abs(variance(1.0, 1.0, eps, 1) - 1) > 0.01


def test_t13__equilibrium_gap():
    """T13, 1(e) 3: g of means (-.2, .5) and second moments (.3, .9), alpha = .05: s* = 5.8333, gap 4.083333."""
    alpha, s = 0.05, 0.7 / (2 * 0.05 * 1.2)
    g_pos, g_neg = -0.2 + np.array([1, -1]) * sqrt(0.26), 0.5 + np.array([1, -1]) * sqrt(0.65)
    b = min(g_pos.min(), g_neg.min())
    x_pos, x_neg = (np.sqrt(2 * (g - b))[:, None] for g in (g_pos, g_neg))  # g = x^2 / 2 + b
    _, grads, info = contrastive(Bowl(), bowl_theta(s, bias=s * b), x_pos, x_neg, alpha)
    assert s == pytest.approx(5.8333, abs=5e-5) and info["gap"] == pytest.approx(4.083333, abs=5e-7)
    assert abs(grads["lam"][0] + b * grads["bias"][0]) < 1e-12  # stationary in s
    _, _, free = contrastive(Bowl(), bowl_theta(s, bias=s * b), x_pos, x_pos, 0.0)
    assert free["gap"] == 0


def test_t17__a_buffer_of_floats_does_not_shrink():
    """T17: 8-bit round trips multiply the mean by about 255/256: .9961, .9616, .6764 after 1, 10, 100; ours by 1."""
    assert [round((255 / 256) ** n, 4) for n in (1, 10)] == [0.9961, 0.9616]
    assert (255 / 256) ** 100 == pytest.approx(0.6764, abs=5e-4)
    x = noise_uniform(3, Stream.TOY, 0, np.arange(2000), 10)
    mine, theirs = x.copy(), x.copy()
    for trip in range(100):
        slots = np.zeros_like(mine)
        buffer_push(slots, 0, 0, mine, "fifo")
        mine = slots
        u = noise_uniform(3, Stream.TOY, trip + 1, np.arange(2000), 10)
        theirs = np.floor(255 * theirs) / 256 + u / 256
    np.testing.assert_array_equal(mine, x)
    assert theirs.mean() / x.mean() == pytest.approx(0.676, abs=0.01)
