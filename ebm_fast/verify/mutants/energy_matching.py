"""Energy matching: its pairs, its residuals, its clamp, and the clock and temperature of its chains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream
from ebm_ref.samplers.chain import chain_rows

from .parts import design, gaussian, normals, trace, uniforms
from .table import Function, check_of, mutant_of

# ------------------------------------------------------------------------------------------ checks


@check_of("coupling_permutation", want=64.0, allowed=0.0)
def coupling_permutation_keeps_every_datum(fn: Function) -> float:
    """64 samples of noise and 64 data: how many data are in a pair."""
    idx = fn(ebm_ref.coupling_assign, normals(1, 0, 64, 2), normals(2, 0, 64, 2))
    return float(len(np.unique(idx)))


@check_of("transport", want=0.0)
def transport_clips_each_sample_alone(fn: Function) -> float:
    """clip 1, residuals of 0.5 and 100: the gradient of both, less the mean of each one's own."""
    energy, theta = gaussian(0.0)
    x0, x1, t = np.zeros((2, 1)), np.array([[0.5], [100.0]]), np.array([1.0, 1.0])

    def slope(rows: slice) -> float:
        return trace(fn(energy, theta, x0[rows], x1[rows], t[rows], None, 1.0)[1])

    return slope(slice(0, 2)) - (slope(slice(0, 1)) + slope(slice(1, 2))) / 2


@check_of("energy_contrast", want=0.0, allowed=0.0)
def energy_contrast_clamps_what_it_scales(fn: Function) -> float:
    """weight 2 and clamp 0.02 at a raw gap of -0.015: 2 x 0.015 is beyond the clamp, the gradient is 0."""
    x_pos, x_neg = np.zeros((2, 1)), np.full((2, 1), np.sqrt(0.03))
    return trace(fn(*gaussian(1.0), x_pos, x_neg, 2.0, 0.0, 0.02)[1])


@check_of("heated_run", want=2.0, allowed=1e-12)
def heated_run_keeps_real_time(fn: Function) -> float:
    """flat V, s_star = tau = 1, 8 steps of 0.25: noise from time 1 on, in units of its addressed sum, and time 2."""
    energy, theta = gaussian(0.0)
    x, _ = fn(ebm_ref, energy, theta, np.zeros((64, 1)), 8, 0.25, 1.0, 1.0, 3)
    steps = [ebm_ref.noise_normal(3, Stream.CHAIN_NOISE, k, np.arange(64), 1) for k in range(4, 8)]
    return float(2.0 * np.sum(x * x) / np.sum((np.sqrt(0.5) * sum(steps)) ** 2))


@check_of("em_step", want=1.0)
def em_step_keeps_its_data_half_hot(fn: Function) -> float:
    """flat V, one step: how far the negatives that start at data have moved, in units of sqrt(2 dt tau) xi."""
    energy, theta = gaussian(0.0)
    x, terms = design(64, 1, 1), ebm_ref.EMTerms(0.5, K=1, dt=0.1)
    moved = fn(ebm_ref, energy, theta, x, x, terms, 3, 0)[2]["x_neg"][:32] - x[:32]
    xi = ebm_ref.noise_normal(3, Stream.CHAIN_NOISE, 0, np.arange(32), 1)
    return float(np.sum(moved * xi) / np.sum(np.sqrt(0.1) * xi * xi))


# ----------------------------------------------------------------------------------------- mutants


@mutant_of(
    "coupling_permutation_keeps_every_datum",
    "conditional-flow-matching torchcfm/optimal_transport.py, sample_map",
    "a share 1/e of the data in no pair",
)
def pairs_drawn_with_replacement(assign: Any, x0: Array, x1: Array) -> Array:
    """B pairs are drawn from the plan with replacement: some repeat, others are lost"""
    idx = ebm_ref.coupling_permutation(assign, x0, x1)
    return idx[np.floor(uniforms(5, 0, len(idx)) * len(idx)).astype(int) % len(idx)]


@mutant_of("transport_clips_each_sample_alone", "EnergyMatching, max_length = 500")
def clipped_by_the_batch(
    energy: Any, theta: Params, x0: Array, x1: Array, t: Array, w: Any = None, clip: float | None = None
) -> Any:
    """residuals are clipped by the norm of the whole batch: a far sample shrinks its neighbours"""
    loss, _, info = ebm_ref.transport(energy, theta, x0, x1, t, w)
    at = (1 - t[:, None]) * chain_rows(x0) + t[:, None] * chain_rows(x1)
    r = energy.grad_x(theta, at.reshape(x0.shape)) + x1 - x0
    size = np.sqrt(np.sum(r * r))
    r = r if clip is None else r * min(1.0, clip / size)
    return loss, energy.grad_theta_along(theta, at.reshape(x0.shape), 2 * r / r.size), info


@mutant_of("energy_contrast_clamps_what_it_scales", "nowhere: released code scales, then clamps", "a slip of ours")
def clamped_then_scaled(
    energy: Any, theta: Params, x_pos: Array, x_neg: Array, weight: float, trim: float = 0.0, clamp: Any = None
) -> Any:
    """the raw gap is clamped and the result is weighted: the bound moves with the weight"""
    loss, grads, info = ebm_ref.energy_contrast(energy, theta, x_pos, x_neg, 1.0, trim, clamp)
    return weight * loss, {name: weight * grad for name, grad in grads.items()}, info


@mutant_of("heated_run_keeps_real_time", "EnergyMatching toy2d/utils_2D.py, gibbs_sampler", "clock 1 at time 2")
def virtual_clock(
    backend: Any, energy: Any, theta: Params, x0: Array, K: int, dt: float, tau: float, s_star: float, seed: int
) -> Any:
    """the clock of the ramp runs from 0 to 1 over the K steps, whatever time K dt they take"""
    x, info = np.copy(x0), None
    for k in range(K):
        level = ebm_ref.heated_temperature((k + 1) / K, tau, s_star)
        x, info = backend.langevin_run(energy, theta, x, 1, ebm_ref.SGLD(dt, np.sqrt(2 * dt * level)), seed, k)
    return x, info


@mutant_of(
    "em_step_keeps_its_data_half_hot",
    "EnergyMatching cifar10/train_cifar_multigpu.py, same_temperature_scheduler",
    "no noise for s_star / dt steps",
)
def one_ramp_for_all(
    backend: Any, energy: Any, theta: Params, x: Array, x_pos: Array, terms: Any, seed: int, step: int
) -> Any:
    """negatives that start at data follow the ramp too: first of all they descend without noise"""
    K = terms.K
    loss, grads, info = ebm_ref.em_step(backend, energy, theta, x, x_pos, replace(terms, K=0), seed, step)
    numbers = (terms.dt, terms.tau, terms.s_star, seed, step * K)
    x_neg, _ = ebm_ref.heated_run(backend, energy, theta, info["x_neg"], K, *numbers)
    return loss, grads, info | {"x_neg": x_neg}
