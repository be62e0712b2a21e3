"""Maximum likelihood, CD, PCD and improved CD against closed forms: enumeration, Gaussian chains, the gap, the sign."""

from __future__ import annotations

from math import log, pi, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import close, random_theta
from duck_backend import SmoothBowl
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    SGLD,
    ULA,
    ChainInfo,
    ICDTerms,
    RBMEnergy,
    Stream,
    binary_index,
    binary_states,
    buffer_push,
    buffer_start,
    cd_step,
    contrastive,
    improved_contrastive,
    maximum_likelihood,
    neighbour_entropy,
    neighbour_spread,
    noise_bits,
    noise_normal,
    noise_uniform,
    pcd_step,
    rbm_gibbs_run,
    unrolled_backward,
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


class Signs:
    """A backend whose normals are the next column of a table of -1 and 1: every sample meets every sign."""

    langevin_step, langevin_jitter = staticmethod(ebm_ref.langevin_step), staticmethod(ebm_ref.langevin_jitter)

    def __init__(self, table):
        self.table = table

    def noise_normal(self, seed, stream, step, chains, D, dtype=np.float64):
        return self.table[:, step : step + 1][:, :D]


def balanced(s0, K):
    """x_0 = +-sqrt(s_0) with every one of the 2^K signs of noise: second moments are exact."""
    bits = 2 * binary_states(K + 1) - 1
    return sqrt(s0) * bits[:, :1], Signs(bits[:, 1:])


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


# ----------------------------------------------------------------------------- 6(e): improved CD


def test_t10__last_step_of_icd():
    """T10, 6(e) 1: eta = .1, lam = 1.7, x~ = .95, no clip: dL_opt/dlam = -eta lam x_1 x~ = -.1273427."""
    rule = SGLD(0.1, 0.0)
    x_1, steps, _ = unrolled_run(ebm_ref, SmoothBowl(), bowl_theta(1.7), np.array([[0.95]]), 1, rule, 0)
    terms = ICDTerms(alpha=0.0, kappa_opt=1.0, kappa_ent=0.0)
    _, grads, info = improved_contrastive(SmoothBowl(), bowl_theta(1.7), x_1, x_1, steps, rule, None, terms)
    assert grads["lam"][0] == pytest.approx(-0.1273427, abs=6e-8)  # contrastive's own part is 0: x_pos = x_neg
    assert grads["lam"][0] == pytest.approx(-0.1 * 1.7 * x_1[0, 0] * 0.95, rel=1e-14)
    assert info["loss_opt"] == pytest.approx(0.5 * 1.7 * x_1[0, 0] ** 2, rel=1e-14) and info["loss_contrastive"] == 0


def test_t9__literal_cd_subtracts_the_path_and_icd_adds_it():
    """T9, 6(e) 2: s_0 = .5, eps = .3, lam = 1.1, k = 1: dCD/dlam = -.101971; with the path added, -.046642."""
    lam, s0, eps = 1.1, 0.5, 0.3
    theta, rule = bowl_theta(lam), ULA(eps)
    x0, backend = balanced(s0, 1)
    x_1, steps, _ = unrolled_run(backend, SmoothBowl(), theta, x0, 1, rule, 0)
    s1 = (x_1**2).mean()
    practical = contrastive(SmoothBowl(), theta, x0, x_1, 0.0)[1]["lam"][0]
    u = (lam * x_1 - x_1 / s1) / len(x_1)  # d/dx of E + log q, with q = N(0, s_1)
    path = unrolled_backward(SmoothBowl(), theta, steps, u, rule)[0]["lam"][0]
    assert practical - path == pytest.approx(-0.101971, abs=5e-7)
    assert practical + path == pytest.approx(-0.046642, abs=6e-7)

    def divergence(lam):  # CD_1 in closed form, for N(0, s) and N(0, 1 / lam): KL = (lam s - 1 - log(lam s)) / 2
        s = (1 - eps * lam / 2) ** 2 * s0 + eps
        return ((lam * s0 - log(lam * s0)) - (lam * s - log(lam * s))) / 2

    h = 1e-4
    assert (divergence(lam + h) - divergence(lam - h)) / (2 * h) == pytest.approx(practical - path, abs=1e-7)
    opt = ICDTerms(alpha=0.0, kappa_opt=1.0, kappa_ent=0.0)
    _, grads, _ = improved_contrastive(SmoothBowl(), theta, x0, x_1, steps, rule, None, opt)
    frozen = unrolled_backward(SmoothBowl(), theta, steps, lam * x_1 / len(x_1), rule)[0]["lam"][0]
    assert grads["lam"][0] == pytest.approx(practical + frozen, rel=1e-13)  # the KL's energy part comes with a plus


def test_neighbour_spread__is_radial_with_norm_one_over_n_rho():
    """6(e) 3: two points and one reference: the gradient points away from it, with norm kappa / (n rho)."""
    x, c = np.array([[3.0, 4.0], [0.3, -0.4]]), np.zeros((1, 2))
    spread, away = neighbour_spread(x, c)
    assert spread == pytest.approx((log(5) + log(0.5)) / 2, rel=1e-14)
    close(away, [[0.3 / 5, 0.4 / 5], [0.6, -0.8]], 1e-14)  # (x / rho) / (2 rho)
    close(np.linalg.norm(away, axis=1), [1 / (2 * 5), 1 / (2 * 0.5)], 1e-14)


LAWS = {
    "normal-1": (lambda n: noise_normal(1, Stream.TOY, 0, np.arange(n), 1), 0.5 * log(2 * pi * np.e)),
    "normal-3": (lambda n: noise_normal(1, Stream.TOY, 0, np.arange(n), 3) * [1, 2, 0.5], 1.5 * log(2 * pi * np.e)),
    "uniform-1": (lambda n: 3 * noise_uniform(2, Stream.TOY, 0, np.arange(n), 1), log(3)),
    "uniform-2": (lambda n: 0.5 * noise_uniform(2, Stream.TOY, 0, np.arange(n), 2), 2 * log(0.5)),
    "exponential": (lambda n: -np.log(noise_uniform(4, Stream.TOY, 0, np.arange(n), 1)), 1.0),
}


@pytest.mark.parametrize("name", LAWS)
def test_neighbour_entropy__of_known_laws(name):
    """Kozachenko and Leonenko: 5 s.e., var(D log rho) = var(log p) + pi^2 / 6 a sample, and an edge's bias."""
    draw, exact = LAWS[name]
    n = 1000
    found = neighbour_entropy(draw(n))
    assert abs(found - exact) < 5 * sqrt((1.5 + pi**2 / 6) / n) + 0.05
    close(neighbour_entropy(2 * draw(n)) - found, draw(2).shape[1] * log(2), 1e-12)


@pytest.mark.parametrize("capacity", [5, 16])
def test_reservoir__retains_every_sample_with_equal_probability(capacity):
    """6(e) 4: chi-square of the retention counts of n = 40 samples over 400 trials, each capacity / n."""
    n, trials, batch = 40, 400, 8
    counts = np.zeros(n)
    for trial in range(trials):
        slots, filled, ptr = np.zeros((capacity, 1)), 0, 0
        for start in range(0, n, batch):
            x = np.arange(start, start + batch, dtype=float)[:, None]
            bits = noise_bits(trial, Stream.BUFFER_RESERVOIR, start, np.arange(batch), 1)[:, 0]
            filled, ptr = buffer_push(slots, filled, ptr, x, "reservoir", bits=bits)
        counts[slots[:, 0].astype(int)] += 1
    p = capacity / n
    square = ((counts - trials * p) ** 2 / (trials * p * (1 - p))).sum() * (n - 1) / n
    assert abs(square - (n - 1)) < 5 * sqrt(2 * (n - 1))


def test_binary_index__is_the_row_of_binary_states():
    np.testing.assert_array_equal(binary_index(STATES), np.arange(16))
