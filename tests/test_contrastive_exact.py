"""contrastive against exact expectations: enumeration of 16 states, Gaussian chains, the equilibrium gap."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import ULA, ChainInfo, Stream, cd_step, contrastive, noise_normal, noise_uniform

BOWL = Bowl()


def normals(stream, *shape):
    return noise_normal(13, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:]))).reshape(shape)


@dataclass(frozen=True)
class Bits:
    """Fully visible Boltzmann machine on n spins, E = -sum_i h_i s_i - sum_(i<j) J_ij s_i s_j; theta: w."""

    n: int = 4

    @property
    def shape(self):
        return (self.n,)

    def theta_shapes(self):
        return {"w": (self.n + self.n * (self.n - 1) // 2,)}

    def features(self, x):
        rows, columns = np.triu_indices(self.n, 1)
        return np.concatenate([x, x[:, rows] * x[:, columns]], axis=1)

    def energy(self, theta, x):
        return -self.features(x) @ theta["w"]

    def grad_theta(self, theta, x, w):
        return {"w": -w @ self.features(x)}


def gibbs_matrix(energy, theta, states):
    """T[s, s'] of one systematic sweep: every spin in turn drawn from its conditional."""
    size, n = states.shape
    codes = {tuple(state): i for i, state in enumerate(states)}
    E, T = energy.energy(theta, states), np.eye(size)
    for i in range(n):
        flip = np.array([codes[tuple(np.where(np.arange(n) == i, -state, state))] for state in states])
        stay = 1 / (1 + np.exp(E - E[flip]))
        one = np.diag(stay)
        one[np.arange(size), flip] += 1 - stay
        T = T @ one
    return T


class EnumeratedGibbs:
    """A backend whose chains are K sweeps of Gibbs, drawn from the rows of T^K by one uniform each."""

    noise_normal = staticmethod(noise_normal)

    def __init__(self, T, states):
        self.T, self.states = T, states

    def langevin_run(self, energy, theta, x0, K, update, seed, step=0, chains=None, stream=Stream.CHAIN_NOISE):
        where = ((x0 > 0) @ (1 << np.arange(x0.shape[1]))).astype(int)
        rows = np.cumsum(np.linalg.matrix_power(self.T, K), axis=1)[where]
        u = noise_uniform(seed, stream, step, np.arange(len(x0)), 1)
        end = np.minimum((u > rows).sum(axis=1), len(self.states) - 1)
        return self.states[end], ChainInfo(np.zeros((K, len(x0))), np.zeros((K, len(x0))), np.ones(len(x0), bool))


@pytest.mark.parametrize("K", [0, 1, 2, 200])
def test_cd_step__expected_gradient_is_that_of_enumeration(K):
    """E[grad] = E_data[grad E] - E_(p_data T^K)[grad E]: exact on 16 states; K -> oo gives maximum likelihood."""
    energy, n = Bits(), 4
    states = 2.0 * ((np.arange(16)[:, None] >> np.arange(n)) & 1) - 1
    theta = {"w": 0.4 * normals(3, 1, 10)[0]}
    T = gibbs_matrix(energy, theta, states)
    p_model = np.exp(-energy.energy(theta, states))
    p_model /= p_model.sum()
    assert np.allclose(p_model @ T, p_model, rtol=1e-13)
    p_data = np.array([1, 3, 2, 1, 4, 1, 1, 2, 1, 1, 5, 1, 1, 1, 2, 3]) / 30
    x = np.repeat(states, (p_data * 30).astype(int), axis=0)  # (30, 4)
    N = 900
    x = np.tile(x, (N // 30, 1))
    features = energy.features(states)
    q = p_data @ np.linalg.matrix_power(T, K)
    exact = (q - p_data) @ features  # E_data[-f] - E_q[-f]

    backend = EnumeratedGibbs(T, states)
    steps = 60
    draws = [cd_step(backend, energy, theta, x, K, None, 0.0, 0.0, 5, t)[1]["w"] for t in range(steps)]
    error = np.std(draws, axis=0, ddof=1) / sqrt(steps)
    assert (np.abs(np.mean(draws, axis=0) - exact) <= 4.5 * error + 1e-14).all()
    if K == 200:
        likelihood = (p_model - p_data) @ features
        assert np.allclose(exact, likelihood, atol=1e-10)


def ula_variance(lam, s0, eps, k):
    a = 1 - eps * lam / 2
    return a ** (2 * k) * s0 + eps * (1 - a ** (2 * k)) / (1 - a**2)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_cd_step__gaussian_gradient_is_half_the_lost_variance(k):
    """E = lam x^2 / 2, data variance s_0, k ULA steps: expected gradient (s_0 - s_k) / 2."""
    lam, s0, eps, N = 1.7, 1.3, 0.3, 40_000
    x = sqrt(s0) * normals(Stream.SAMPLE_START, N, 1)
    _, grads, _ = cd_step(ebm_ref, BOWL, bowl_theta(lam), x, k, ULA(eps), 0.0, 0.0, 3, 0)
    sk = ula_variance(lam, s0, eps, k)
    spread = sqrt(2 * s0**2 + 2 * sk**2) / 2  # x_pos and x_neg are positively correlated, so this is an upper bound
    assert abs(grads["lam"][0] - (s0 - sk) / 2) < 4 * spread / sqrt(N)


def test_cd_step__gaussian_fixed_points_do_not_depend_on_k():
    """The gradient vanishes where ULA's own variance is the data's: lam (1 - eps lam / 4) = 1 / s_0, for every k."""
    s0, eps = 1.0, 0.3
    root = sqrt(1 - eps / s0)
    fixed = [2 / eps * (1 - root), 2 / eps * (1 + root)]
    assert np.allclose(fixed, [1.088933, 12.2444], atol=5e-5)
    for lam in fixed:
        for k in (1, 2, 7):
            assert abs(ula_variance(lam, s0, eps, k) - s0) < 1e-12
    N = 40_000
    x = normals(Stream.SAMPLE_START, N, 1)
    x *= sqrt(s0 / (x**2).mean())  # data of variance exactly s_0
    for k in (1, 4):
        near = [
            cd_step(ebm_ref, BOWL, bowl_theta(lam), x, k, ULA(eps), 0.0, 0.0, 3, 0)[1]["lam"][0]
            for lam in (0.7, fixed[0], 1.6)
        ]
        assert abs(near[1]) < 4 / sqrt(N)
        assert near[0] < -4 / sqrt(N) < 4 / sqrt(N) < near[2]  # descent drives lam to the stable root


def test_contrastive__equilibrium_gap_identity():
    """E = s g with a free gain s: at the stationary s, gap = 2 alpha (mean E+^2 + mean E-^2)."""
    alpha = 0.05
    # g = x^2 / 2 + b: means -0.2 and 0.5, second moments 0.3 and 0.9, by two values each
    g_pos = -0.2 + np.array([1, -1]) * sqrt(0.3 - 0.04)
    g_neg = 0.5 + np.array([1, -1]) * sqrt(0.9 - 0.25)
    b = min(g_pos.min(), g_neg.min())
    x_pos, x_neg = (np.sqrt(2 * (g - b))[:, None] for g in (g_pos, g_neg))
    s = (0.5 - -0.2) / (2 * alpha * (0.3 + 0.9))
    theta = bowl_theta(s, bias=s * b)  # E = s g
    loss, grads, info = contrastive(BOWL, theta, x_pos, x_neg, alpha)
    assert np.isclose(s, 5.8333, atol=1e-4) and np.isclose(info["gap"], 4.083333, atol=1e-6)
    assert np.isclose(info["gap"], 2 * alpha * s**2 * (0.3 + 0.9), rtol=1e-13)
    assert abs(grads["lam"][0] + b * grads["bias"][0]) < 1e-12  # d/ds of E = s (x^2 / 2 + b)
    assert np.isclose(loss, -info["gap"] / 2)
