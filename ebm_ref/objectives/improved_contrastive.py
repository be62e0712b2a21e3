"""Improved contrastive divergence: CD, and a term that lets theta see where its own sampler ends.

    improved_contrastive   L = contrastive(x_pos, x_neg, alpha)
                               + kappa_opt mean E_frozen(x_K(theta)) - kappa_ent mean log max(rho(x_K(theta)), floor)
                           u = kappa_opt grad_x E(x_K) / n - kappa_ent (x_K - c) / (n rho^2)
                           grads = contrastive's + unrolled_backward(u)
    icd_step               x_neg = K Langevin steps from the augmented buffer; then back into it

In the second line theta inside the energy is frozen and theta inside the sample is live: the last `depth` steps of
the chain are differentiated, 1 of them in the paper's recipe and K for the full path. rho is the distance to the
nearest of some buffer samples c, a stand-in for entropy, so the line approximates KL(q_theta || p_frozen) for q_theta
the law of x_K: it pulls the end of the chain towards the model and keeps ends apart.

The sign is that of the released code, which adds this KL. The derivative of CD_K itself subtracts it:
dCD_K = E_data[dE] - E_q[dE] - (dq/dtheta) dKL(q || p)/dq. So read it as a regulariser that keeps the sampler consistent
with the model, not as the gradient that CD leaves out.

Order of operations: data noise; draw; augmentation of what was drawn, not of restarts; K - depth steps, then depth
steps that are remembered; reference drawn from the buffer before this step's samples enter it, without the slot that a
chain came from; loss and gradient; push. A chain that stopped in the first part of the steps tries again in the second.

Source: Du, Li, Tenenbaum & Mordatch 2021, arXiv:2012.01316, and its code (signs, last step, kappa = 1 and 0.3).
Level: 2. Twins: none; it takes the module to draw and sample with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Buffer,
    ChainInfo,
    Energy2,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_count,
    check_derivatives,
    check_number,
)
from ..samplers.augment import Augmentation, augment_run
from ..samplers.chain import chain_count, chain_keep
from ..samplers.unrolled import UnrolledStep, unrolled_backward, unrolled_run
from ..specs import Box, Update
from .contrastive import contrastive
from .neighbours import check_neighbours, neighbour_spread
from .parts import Info, check_samples, data_noise, restarts


@dataclass(frozen=True)
class ICDTerms:
    """The weights and sizes of improved contrastive divergence, each checked."""

    alpha: float = 1.0  # energy regulariser
    kappa_opt: float = 1.0  # weight of the frozen energy of the chain's end
    kappa_ent: float = 0.3  # weight of the log distance to the nearest reference
    references: int = 100  # buffer samples to be near to
    floor: float = 1e-3  # distances below count as this and pull no more
    depth: int = 1  # steps of the chain that are differentiated; K for all of them
    samples: int | None = None  # chains that are differentiated, the first of the batch; None for all
    augmentation: Augmentation | None = None  # of what is read from the buffer

    def __post_init__(self) -> None:
        for name in ("alpha", "kappa_opt", "kappa_ent"):
            check_number(name, getattr(self, name), low=0.0)
        check_number("floor", self.floor, low=0.0, open_low=True)
        for name in ("references", "depth"):
            check_count(name, getattr(self, name), low=1)
        if self.samples is not None:
            check_count("samples", self.samples, low=1)


def improved_contrastive(
    energy: Energy2,
    theta: Params,
    x_pos: Array,
    x_neg: Array,
    steps: list[UnrolledStep],
    update: Update,
    reference: Array | None,
    terms: ICDTerms,
    same: Array | None = None,
) -> tuple[Array, Params, Info]:
    """L = contrastive + kappa_opt mean E_frozen(x_K(theta)) - kappa_ent mean log max(rho(x_K(theta)), floor).

    x_pos: (N_pos, *shape) data   x_neg: (N, *shape), ends of chains   steps: the last of the first n chains, n <= N, as
    unrolled_run kept them under `update`   reference: (C, *shape), None where kappa_ent is 0   same: (n, C) bool, pairs
    left out   terms: its alpha, kappa_opt, kappa_ent and floor are used
    returns loss (), grads like theta, info: energy_pos, energy_neg, gap, loss_contrastive, loss_opt, loss_ent.
    Raises SmoothnessError, BackendError, ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_derivatives("improved_contrastive", energy, "grad_theta_along")
    check_count("len(steps)", len(steps), low=1)
    check_samples("x_pos", x_pos, energy)
    check_samples("x_neg", x_neg, energy)
    n = steps[-1].at.shape[0]
    if not 1 <= n <= x_neg.shape[0]:
        raise ShapeError(f"steps: expected 1 to {x_neg.shape[0]} chains, found {n}")
    ends = x_neg[:n]  # (n, *shape)
    if terms.kappa_ent:
        if reference is None:
            raise ShapeError("reference: expected (C, *shape) where kappa_ent > 0, found None")
        check_neighbours(ends, reference, same)
    loss, grads, info = contrastive(energy, theta, x_pos, x_neg, terms.alpha)
    E, g = energy.energy_and_grad_x(theta, ends)  # (n,), (n, *shape)
    loss_opt: Any = float(terms.kappa_opt) * np.mean(E)  # ()
    loss_ent, u = 0 * loss_opt, float(terms.kappa_opt) / n * g  # (), (n, *shape)
    if terms.kappa_ent and reference is not None:
        spread, away = neighbour_spread(ends, reference, terms.floor, same)  # (), (n, *shape)
        loss_ent, u = -float(terms.kappa_ent) * spread, u - float(terms.kappa_ent) * away
    path, _ = unrolled_backward(energy, theta, steps, u, update, to_start=False)
    info |= {"loss_contrastive": loss, "loss_opt": loss_opt, "loss_ent": loss_ent}
    return loss + loss_opt + loss_ent, {name: grads[name] + path[name] for name in grads}, info


def icd_step(
    backend: ModuleType,
    energy: Energy2,
    theta: Params,
    x: Array,
    buffer: Buffer,
    K: int,
    update: Update,
    terms: ICDTerms,
    sigma_data: float,
    rho: float,
    seed: int,
    step: int,
    box: Box | None,
    start: str = "uniform",
) -> tuple[Array, Params, Info]:
    """`improved_contrastive` on x_pos = box(x + sigma_data xi) and K >= 1 Langevin steps from the buffer.

    backend: module with noise_bits, noise_uniform, noise_normal, langevin_run, langevin_step, langevin_jitter,
    buffer_draw, buffer_push   x: (N, *shape) data   buffer: advanced in place, last of all   rho: of a restart
    start: a restart is uniform in the box ("uniform") or box(x + sigma_data xi') ("data_noise")
    The reference takes the words of chains N .. N + references - 1 at Stream.BUFFER_INDEX.
    returns loss, grads, info; info adds x_neg (N, *shape), chain (ChainInfo) and restart (N,).
    Raises SmoothnessError, BackendError, ShapeError, DTypeError, RangeError, NonFiniteError (buffer).
    """
    check_derivatives("icd_step", energy, "grad_theta_along", *(("hvp",) if terms.depth > 1 else ()))
    check_count("K", K, low=1)
    if terms.kappa_ent and buffer.filled == 0:
        raise RangeError("buffer: expected samples to be the reference of kappa_ent > 0, found none")
    x_pos = data_noise(backend, energy, x, sigma_data, seed, step, box)
    N, C = x.shape[0], terms.references
    chains = np.arange(N)
    bits = backend.noise_bits(seed, Stream.BUFFER_INDEX, step, np.arange(N + C), 1)[:, 0]  # (N + C,)
    mask = backend.noise_uniform(seed, Stream.BUFFER_MASK, step, np.arange(N + C), 1)[:, 0]  # (N + C,)
    fresh = restarts(backend, x, sigma_data, seed, step, box, start)  # (N, *shape)
    x0, idx, restart = backend.buffer_draw(buffer.slots, buffer.filled, bits[:N], mask[:N], fresh, rho)
    if terms.augmentation is not None:
        x0 = chain_keep(restart, x0, augment_run(backend, x0, terms.augmentation, seed, step, box))

    depth = min(terms.depth, K)
    middle, early = backend.langevin_run(energy, theta, x0, K - depth, update, seed, step * K)
    x_neg, steps, late = unrolled_run(backend, energy, theta, middle, depth, update, seed, step * K + K - depth)
    n = N if terms.samples is None else min(terms.samples, N)
    reference = same = None
    if terms.kappa_ent:
        none = np.zeros_like(x, shape=(C, *energy.shape))  # never used: at rho = 0 nothing restarts
        reference, theirs, _ = backend.buffer_draw(buffer.slots, buffer.filled, bits[N:], mask[N:], none, 0.0)
        same = idx[:n, None] == theirs[None, :]  # (n, C)
    parts = [s.part(n) for s in steps]
    loss, grads, info = improved_contrastive(energy, theta, x_pos, x_neg, parts, update, reference, terms, same)

    bits = backend.noise_bits(seed, Stream.BUFFER_RESERVOIR, step, chains, 1)[:, 0]  # (N,)
    buffer.filled, buffer.ptr = backend.buffer_push(
        buffer.slots, buffer.filled, buffer.ptr, x_neg, buffer.policy, idx=idx, bits=bits
    )
    return loss, grads, info | {"x_neg": x_neg, "chain": _joined(early, late), "restart": restart}


def _joined(early: ChainInfo, late: ChainInfo) -> ChainInfo:
    """One ChainInfo of both parts of the chains."""
    alive = early.alive & late.alive  # (N,)
    joined = ChainInfo(
        np.concatenate([early.energy, late.energy]), np.concatenate([early.grad_norm, late.grad_norm]), alive
    )
    joined.nonfinite = chain_count(~alive)
    return joined
