"""Contrastive divergence: lower the energy of data, raise the energy of model samples.

    contrastive   L = mean E(x_pos) - mean E(x_neg) + alpha (mean E(x_pos)^2 + mean E(x_neg)^2)
                  grad_theta L = sum_i w_pos_i grad_theta E(x_pos_i) + sum_j w_neg_j grad_theta E(x_neg_j)
                  w_pos_i = (1 + 2 alpha E(x_pos_i)) / N_pos,   w_neg_j = (-1 + 2 alpha E(x_neg_j)) / N_neg
    cd_step       x_pos = box(x + sigma_data xi),   x_neg = K Langevin steps from x_pos               (CD-K)
    pcd_step      x_pos likewise,   x_neg = K Langevin steps from the buffer, then back into it       (PCD)

The maximum likelihood gradient is E_data[grad_theta E] - E_model[grad_theta E]. CD-K replaces the model by the
law q_K of its chains and drops the term through d q_K / d theta, so it is a biased surrogate, exact as K -> oo.
x_neg is a constant: nothing is differentiated through the chain. The square is of each energy, not of their mean.
If E = s g has a free gain s, a stationary point has gap = mean E(x_neg) - mean E(x_pos)
= 2 alpha (mean E(x_pos)^2 + mean E(x_neg)^2), which is 0 without the regulariser.

Order of operations in one training step: data noise; start of the chains (buffer_draw); K chain steps; loss and
gradient; write back (buffer_push). Chain step k of training step t draws at counter t K + k.

Source: Hinton 2002, Training products of experts by minimizing contrastive divergence, eq. 5; Tieleman 2008 (PCD);
Du & Mordatch 2019, arXiv:1903.08689, section 3 (buffer, alpha on both signs).
Level: 1. Twins: none; it takes the module to draw and sample with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..contracts import Array, Buffer, ChainInfo, Energy, Params, Stream, check_number
from ..specs import Box, Update
from .parts import Info, check_samples, data_noise, energy_gap, restarts


def contrastive(energy: Energy, theta: Params, x_pos: Array, x_neg: Array, alpha: float) -> tuple[Array, Params, Info]:
    """L = mean E(x_pos) - mean E(x_neg) + alpha (mean E(x_pos)^2 + mean E(x_neg)^2) and its gradient in theta.

    x_pos: (N_pos, *shape) data   x_neg: (N_neg, *shape) model samples, constants   alpha >= 0
    returns loss (), grads like theta, info: energy_pos, energy_neg (means), gap = energy_neg - energy_pos.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError. Non-finite energies give a non-finite loss, or
    NonFiniteError from an energy that refuses the weights that follow (those of this project do).
    """
    check_samples("x_pos", x_pos, energy)
    check_samples("x_neg", x_neg, energy)
    check_number("alpha", alpha, low=0.0)
    alpha = float(alpha)
    e_pos = energy.energy(theta, x_pos)  # (N_pos,)
    e_neg = energy.energy(theta, x_neg)  # (N_neg,)
    loss = np.mean(e_pos) - np.mean(e_neg) + alpha * (np.mean(e_pos**2) + np.mean(e_neg**2))  # ()
    w_pos = (1 + 2 * alpha * e_pos) / x_pos.shape[0]  # (N_pos,)
    w_neg = (-1 + 2 * alpha * e_neg) / x_neg.shape[0]  # (N_neg,)
    g_pos = energy.grad_theta(theta, x_pos, w_pos)
    g_neg = energy.grad_theta(theta, x_neg, w_neg)
    grads = {name: g_pos[name] + g_neg[name] for name in g_pos}
    return loss, grads, energy_gap(e_pos, e_neg)


def cd_step(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x: Array,
    K: int,
    update: Update,
    alpha: float,
    sigma_data: float,
    seed: int,
    step: int,
    box: Box | None = None,
) -> tuple[Array, Params, Info]:
    """`contrastive` on x_pos = box(x + sigma_data xi) and K Langevin steps from x_pos.

    backend: module with noise_normal, langevin_run   x: (N, *shape) data   step: training step
    returns loss, grads, info; info adds x_neg (N, *shape) and chain (ChainInfo).
    With K = 0 the chains have not moved: the loss is 0, and with alpha = 0 so is every gradient.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError (x).
    """
    check_number("alpha", alpha, low=0.0)
    x_pos = data_noise(backend, energy, x, sigma_data, seed, step, box)
    x_neg, chain = backend.langevin_run(energy, theta, x_pos, K, update, seed, step * K)
    loss, grads, info = contrastive(energy, theta, x_pos, x_neg, alpha)
    return loss, grads, _with_chain(info, x_neg, chain)


def pcd_step(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x: Array,
    buffer: Buffer,
    K: int,
    update: Update,
    alpha: float,
    sigma_data: float,
    rho: float,
    seed: int,
    step: int,
    box: Box | None,
    start: str = "uniform",
) -> tuple[Array, Params, Info]:
    """`contrastive` on x_pos = box(x + sigma_data xi) and K Langevin steps from the buffer.

    backend: module with noise_bits, noise_uniform, noise_normal, langevin_run, buffer_draw, buffer_push
    x: (N, *shape) data   buffer: advanced in place, last of all   rho: probability that a chain restarts
    start: a restart is uniform in the box ("uniform") or box(x + sigma_data xi') ("data_noise")
    returns loss, grads, info; info adds x_neg (N, *shape), chain (ChainInfo) and restart (N,).
    Raises ShapeError, DTypeError, RangeError, NonFiniteError (x, buffer).
    """
    check_number("alpha", alpha, low=0.0)
    x_pos = data_noise(backend, energy, x, sigma_data, seed, step, box)
    chains = np.arange(x.shape[0])
    bits = backend.noise_bits(seed, Stream.BUFFER_INDEX, step, chains, 1)[:, 0]  # (N,)
    u = backend.noise_uniform(seed, Stream.BUFFER_MASK, step, chains, 1)[:, 0]  # (N,)
    fresh = restarts(backend, x, sigma_data, seed, step, box, start)  # (N, *shape)
    x0, idx, restart = backend.buffer_draw(buffer.slots, buffer.filled, bits, u, fresh, rho)
    x_neg, chain = backend.langevin_run(energy, theta, x0, K, update, seed, step * K)
    loss, grads, info = contrastive(energy, theta, x_pos, x_neg, alpha)
    bits = backend.noise_bits(seed, Stream.BUFFER_RESERVOIR, step, chains, 1)[:, 0]  # (N,)
    buffer.filled, buffer.ptr = backend.buffer_push(
        buffer.slots, buffer.filled, buffer.ptr, x_neg, buffer.policy, idx=idx, bits=bits
    )
    return loss, grads, _with_chain(info, x_neg, chain) | {"restart": restart}


def _with_chain(info: Info, x_neg: Array, chain: ChainInfo) -> Info:
    return info | {"x_neg": x_neg, "chain": chain}
