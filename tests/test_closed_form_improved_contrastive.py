"""Improved CD against closed forms: the last step, the sign of its path, neighbours, the reservoir."""

from __future__ import annotations

from math import log, pi, sqrt

import numpy as np
import pytest
from derivatives import close
from duck_backend import SmoothBowl
from gaussian import bowl_theta
from signs import balanced

import ebm_ref
from ebm_ref import (
    SGLD,
    ULA,
    ICDTerms,
    Stream,
    buffer_push,
    contrastive,
    improved_contrastive,
    neighbour_entropy,
    neighbour_spread,
    noise_bits,
    noise_normal,
    noise_uniform,
    unrolled_backward,
    unrolled_run,
)


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
