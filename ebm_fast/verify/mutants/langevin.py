"""Langevin steps and chains: step size, noise, clips, addresses.

On E = lambda x^2 / 2 the chain is linear and its law is known: variance sigma^2 / (eta lambda (2 - eta lambda)).
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, RangeError, Stream
from ebm_ref.specs import SGLD

from .parts import gaussian, settled
from .table import Function, check_of, mutant_of

GRID = np.linspace(-1.0, 1.0, 401)

# ------------------------------------------------------------------------------------------ checks


@check_of("langevin_step", want=sqrt(1 / (1 - 0.25 / 4)), allowed=1e-3)
def langevin_step_under_a_wide_clip(fn: Function) -> float:
    """N(0, 1), step 1/4, norm clipped at 10, which nothing reaches: stationary sd (1 - eps/4)^-1/2."""
    return sqrt(settled(lambda x: fn(x, x, np.zeros_like(x), 0.125, 0.5, None, 10.0), 0.5, 12 * GRID[::2]))


@check_of("langevin_step", want=0.1 / 0.9, allowed=1e-3)
def langevin_step_without_a_clip(fn: Function) -> float:
    """N(0, 1) at temperature 0.1, no clip: stationary variance sigma^2 / (eta (2 - eta))."""
    return settled(lambda x: fn(x, x, np.zeros_like(x), 0.2, 0.2), 0.2, 30 * GRID)


@check_of("langevin_step", want=100.0)
def langevin_step_heats_up(fn: Function) -> float:
    """the noise at temperature 10 has 100 times the variance of that at 0.1."""
    x, xi = np.zeros((2, 1)), np.array([[-1.0], [1.0]])
    hot, cold = (fn(x, x, xi, 0.1, sqrt(2 * 0.1 * T)).var() for T in (10.0, 0.1))
    return float(hot / cold)


@check_of("langevin_run", want=1.0, allowed=0.12)
def langevin_run_stays_in_its_law(fn: Function) -> float:
    """N(0, 1), eta = 0.1, sigma^2 = eta (2 - eta), 500 steps: variance 1 (4,000 draws)."""
    update = SGLD(0.1, sqrt(0.1 * 1.9))
    return float(np.var(fn(*gaussian(1.0, (4,)), np.zeros((1000, 4)), 500, update, 7)[0]))


@check_of("langevin_run", want=0.9**10)
def langevin_run_without_noise(fn: Function) -> float:
    """sigma = 0 is gradient descent: x_K = (1 - eta)^K x_0."""
    return float(fn(*gaussian(1.0), np.ones((1, 1)), 10, SGLD(0.1, 0.0), 0)[0][0, 0])


@check_of("langevin_run", want=0.0, allowed=5 / sqrt(256))
def langevin_run_seeds_are_strangers(fn: Function) -> float:
    """no step's noise under seed s is a step's noise under s + 1: largest correlation at any lag (256 draws)."""
    first, second = (_noise(fn, seed) for seed in (40, 41))
    pairs = [np.corrcoef(a, b)[0, 1] for a in first for b in second]
    return float(max(pairs, key=abs))


@check_of("langevin_run", want=1.0, allowed=0.0)
def langevin_run_repeats_itself(fn: Function) -> float:
    """the same address gives the same chain: share of equal states in a second run."""
    args = (*gaussian(1.0), np.zeros((16, 1)), 3, SGLD(0.1, 1.0), 5)
    return float(np.mean(fn(*args)[0] == fn(*args)[0]))


@check_of("annealed_run", want=(1 - 0.04 / 2) ** 10, allowed=1e-6)
def annealed_run_contracts(fn: Function) -> float:
    """E = x^2 / 2 on the last level, far out: T steps of x - (alpha/2) x contract by (1 - alpha/2)^T."""
    energy, theta = gaussian(1.0)
    x, _ = fn(ebm_ref, [energy], theta, np.full((1, 1), 1e9), None, (0.5,), 10, 0.04, 1)
    return float(x[0, 0] / 1e9)


def _noise(fn: Function, seed: int) -> list[Array]:
    """The noise of steps 1 .. 6 of one run on a flat energy, from runs of one step more each."""
    energy, theta = gaussian(0.0)
    runs = [np.zeros((256, 1))]
    for K in range(1, 7):
        runs.append(fn(energy, theta, np.zeros((256, 1)), K, SGLD(0.1, 1.0), seed)[0])
    return [(b - a)[:, 0] for a, b in zip(runs[:-1], runs[1:], strict=True)]


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("langevin_step_under_a_wide_clip", "artifex trainers/energy_trainer.py:244", "sd 1 -> 1.94 (clip 10)")
def clip_that_shrinks(
    x: Array, g: Array, xi: Array, eta: float, sigma: float, clip: Any = None, clip_norm: Any = None, box: Any = None
) -> Array:
    """a gradient of norm n is scaled by min(n, c) / max(n, c), so short ones shrink"""
    n = np.sqrt(np.sum(g * g, axis=1, keepdims=True))
    g = g * np.minimum(n, clip_norm) / np.maximum(n, clip_norm)
    return ebm_ref.langevin_step(x, g, xi, eta, sigma, clip, None, box)


@mutant_of("langevin_step_without_a_clip", "artifex models/energy/mcmc.py:66", "variance 0.1 -> 69.15")
def clip_that_rules(
    x: Array, g: Array, xi: Array, eta: float, sigma: float, clip: Any = None, clip_norm: Any = None, box: Any = None
) -> Array:
    """every element of the gradient is clipped at 0.03, asked or not: a random walk"""
    return ebm_ref.langevin_step(x, g, xi, eta, sigma, 0.03, clip_norm, box)


@mutant_of("langevin_step_heats_up", "artifex models/energy/mcmc.py:66", "T = .1, 1, 10 -> 69.15 at all three")
def noise_of_one_size(
    x: Array, g: Array, xi: Array, eta: float, sigma: float, clip: Any = None, clip_norm: Any = None, box: Any = None
) -> Array:
    """documented sqrt(2 eta T), written as a fixed noise scale"""
    return ebm_ref.langevin_step(x, g, xi, eta, 0.005, clip, clip_norm, box)


def _chain(energy: Any, theta: Params, x: Array, K: int, eta: Any, sigma: float, xi: Any) -> tuple[Array, None]:
    for k in range(K):
        x = x - eta(k) * energy.grad_x(theta, x) + sigma * xi(k).reshape(x.shape)
    return x, None


@mutant_of("langevin_run_stays_in_its_law", "artifex models/energy/mcmc.py:304", "variance 1 -> 6.78 (2,000 steps)")
def step_that_decays(energy: Any, theta: Params, x0: Array, K: int, update: Any, seed: int, step: int = 0) -> Any:
    """the step decays along the chain and the noise does not"""
    N, D = x0.shape
    return _chain(
        energy,
        theta,
        x0,
        K,
        lambda k: update.eta * 0.995**k,
        update.sigma,
        lambda k: ebm_ref.noise_normal(seed, Stream.CHAIN_NOISE, step + k, np.arange(N), D),
    )


@mutant_of("langevin_run_without_noise", "torchebm samplers, LangevinDynamics", "noise_scale=0 raises")
def noise_must_be(energy: Any, theta: Params, x0: Array, K: int, update: Any, seed: int, step: int = 0) -> Any:
    """descent without noise is refused"""
    if update.sigma <= 0:
        raise RangeError("sigma: expected a positive number, found 0")
    return ebm_ref.langevin_run(energy, theta, x0, K, update, seed, step)


@mutant_of("langevin_run_seeds_are_strangers", "torchebm cuda/fused_langevin.py:84", "by reading: n - 1 of n shared")
def seed_plus_step(energy: Any, theta: Params, x0: Array, K: int, update: Any, seed: int, step: int = 0) -> Any:
    """step i draws under seed + i"""
    N, D = x0.shape
    return _chain(
        energy,
        theta,
        x0,
        K,
        lambda k: update.eta,
        update.sigma,
        lambda k: ebm_ref.noise_normal(seed + k, Stream.CHAIN_NOISE, step, np.arange(N), D),
    )


CALLS = [0]  # of hidden_state


@mutant_of("langevin_run_repeats_itself", "ebmkit, global random state", "by reading: no resume")
def hidden_state(energy: Any, theta: Params, x0: Array, K: int, update: Any, seed: int, step: int = 0) -> Any:
    """noise comes from a state that earlier calls have moved"""
    CALLS[0] += K
    return ebm_ref.langevin_run(energy, theta, x0, K, update, seed, step + CALLS[0])


@mutant_of("annealed_run_contracts", "ermongroup/ncsn runners/anneal_runner.py", "a factor of 2")
def twice_the_step(
    backend: Any, energies: Any, theta: Any, x0: Array, K: Any, sigma: Any, T: int, eps_step: float, seed: int
) -> Any:
    """x + alpha s + sqrt(2 alpha) xi, where the paper has alpha/2 and sqrt(alpha)"""
    return ebm_ref.annealed_run(backend, energies, theta, x0, K, sigma, T, 2 * eps_step, seed)
