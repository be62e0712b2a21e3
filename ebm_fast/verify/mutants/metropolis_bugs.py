"""Mutants of MALA and HMC; their checks are in metropolis.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream

from .table import mutant_of


@mutant_of("mala_log_ratio_of_a_gaussian", "DAEBM lib/diffusion.py")
def squared_step(E: Array, E_new: Array, g: Array, g_new: Array, xi: Array, eps_step: float) -> Array:
    """the noise of the way back with step^2 for step"""
    s = eps_step / 2 * (g + g_new)
    return E - E_new + np.sum(s * (xi - s / 2), axis=1)


@mutant_of("mala_step_keeps_its_law", "DAEBM lib/diffusion.py", "variance 0.25 -> 0.200")
def law_of_a_squared_step(
    energy: Any, theta: Params, x: Array, E: Array, g: Array, xi: Array, u: Array, eps_step: float
) -> Any:
    """the same, seen from where the chain settles"""
    moved = ebm_ref.mala_propose(x, g, xi, eps_step)
    E_new, g_new = energy.energy_and_grad_x(theta, moved)
    l = squared_step(E, E_new, g, g_new, xi, eps_step)
    return *ebm_ref.metropolis_step(l, u, (x, E, g), (moved, E_new, g_new)), l


@mutant_of("mala_step_takes_long_steps", "ebmkit, underdamped Langevin as exact", "variance 1 -> 2.000 (step 1)")
def no_test(energy: Any, theta: Params, x: Array, E: Array, g: Array, xi: Array, u: Array, eps_step: float) -> Any:
    """a discretised diffusion offered as exact: every proposal is taken"""
    return ebm_ref.mala_step(energy, theta, x, E, g, xi, np.full_like(u, 1e-300), eps_step)


@mutant_of(
    "mala_step_takes_long_steps", "artifex mcmc.py, improved_langevin_dynamics", "acceptance that rejects nothing"
)
def falls_are_called_acceptance(
    energy: Any, theta: Params, x: Array, E: Array, g: Array, xi: Array, u: Array, eps_step: float
) -> Any:
    """acceptance is the share of falls in energy; nothing is rejected"""
    x, E_new, g, _, l = no_test(energy, theta, x, E, g, xi, u, eps_step)
    return x, E_new, g, E_new < E, l


@mutant_of("metropolis_step_decides_for_each", "artifex sampling/blackjax_samplers.py:99", "correlation 0 -> 1")
def one_for_all(log_ratio: Array, u: Array, old: Any, new: Any) -> Any:
    """log densities are added over the batch: one decision for all chains"""
    return ebm_ref.metropolis_step(np.full_like(log_ratio, log_ratio.sum()), np.full_like(u, u[0]), old, new)


@mutant_of("hmc_step_at_a_wall", "torchebm core/base_integrator.py:880", "mean 3.288 -> 2.79 (step 1)")
def nan_becomes_zero(
    energy: Any, theta: Params, x: Array, E: Array, g: Array, p: Array, u: Array, h: float, L: int
) -> Any:
    """a position that is NaN becomes 0 and may be accepted"""
    y, q, slope = x, p, g
    for _ in range(L):
        q = np.nan_to_num(q - h / 2 * slope, posinf=0.0, neginf=0.0)
        y = np.nan_to_num(y + h * q, posinf=0.0, neginf=0.0)
        E_new, slope = energy.energy_and_grad_x(theta, y)
        q = np.nan_to_num(q - h / 2 * slope, posinf=0.0, neginf=0.0)
        y = np.where(np.isfinite(slope), y, 0.0)
    E_new, slope = energy.energy_and_grad_x(theta, y)
    l = ebm_ref.hmc_log_ratio(E, E_new, p, q)
    return *ebm_ref.metropolis_step(l, u, (x, E, g), (y, E_new, slope)), l


@mutant_of("kinetic_energy_of_images", "torchebm samplers/hmc.py:149", "RuntimeError on (B, 1, 8, 8)")
def kinetic_of_the_last_axis(E: Array, E_new: Array, p: Array, p_new: Array) -> Array:
    """|p|^2 over the last axis alone"""
    return E + np.sum(p * p, axis=-1) / 2 - E_new - np.sum(p_new * p_new, axis=-1) / 2


@mutant_of("hmc_step_keeps_its_law", "improved_contrastive_divergence hmc.py:50", "sd 0.1 -> 0.232 (step 0.1)")
def accept_means_stay(
    energy: Any, theta: Params, x: Array, E: Array, g: Array, p: Array, u: Array, h: float, L: int
) -> Any:
    """the accept mask restores the old state"""
    y, q, E_new, slope, _ = ebm_ref.hmc_leapfrog(energy, theta, x, p, g, h, L)
    l = ebm_ref.hmc_log_ratio(E, E_new, p, q)
    return *ebm_ref.metropolis_step(l, u, (y, E_new, slope), (x, E, g)), l


@mutant_of("leapfrog_is_of_second_order", "improved_contrastive_divergence hmc.py:14", "error O(h^2) -> O(h)")
def kick_too_many(energy: Any, theta: Params, x: Array, p: Array, g: Array, h: float, L: int) -> Any:
    """a half kick and a full kick at the start"""
    return ebm_ref.hmc_leapfrog(energy, theta, x, p - h / 2 * g, g, h, L)


@mutant_of("leapfrog_is_of_second_order", "improved_contrastive_divergence hmc.py:35", "error O(h^2) -> O(1)")
def kick_without_its_step(energy: Any, theta: Params, x: Array, p: Array, g: Array, h: float, L: int) -> Any:
    """the last half kick lacks the step size"""
    x, p, E, g, finite = ebm_ref.hmc_leapfrog(energy, theta, x, p, g, h, L)
    return x, p + h / 2 * g - g / 2, E, g, finite


@mutant_of("leapfrog_counts_its_steps", "openai ebm_code_release hmc.py", "n + 1 leapfrogs for n")
def one_leapfrog_more(energy: Any, theta: Params, x: Array, p: Array, g: Array, h: float, L: int) -> Any:
    """L + 1 leapfrogs"""
    return ebm_ref.hmc_leapfrog(energy, theta, x, p, g, h, L + 1)


@mutant_of("leapfrog_counts_its_steps", "sliced_score_matching evaluations/hmc.py", "n - 1 leapfrogs for n")
def one_leapfrog_less(energy: Any, theta: Params, x: Array, p: Array, g: Array, h: float, L: int) -> Any:
    """L - 1 leapfrogs: none for 1"""
    return ebm_ref.hmc_leapfrog(energy, theta, x, p, g, h, L - 1)


@mutant_of("hmc_run_keeps_its_law", "improved_contrastive_divergence hmc.py", "momentum sd 0.1, unit mass")
def cold_momentum(
    backend: Any, energy: Any, theta: Params, x0: Array, K: int, h: float, L: int, seed: int, step: int = 0
) -> Any:
    """momentum is drawn with sd 0.1 and weighed with unit mass"""

    def cold(seed: int, stream: int, *address: Any) -> Array:
        return (0.1 if stream == Stream.MOMENTUM else 1.0) * backend.noise_normal(seed, stream, *address)

    cooled: Any = SimpleNamespace(noise_normal=cold, noise_uniform=backend.noise_uniform)
    return ebm_ref.hmc_run(cooled, energy, theta, x0, K, h, L, seed, step)
