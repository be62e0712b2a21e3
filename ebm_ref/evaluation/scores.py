"""Scores of one sample from an energy; higher = more in-distribution.

    score_energy            -E(x): log p(x) up to log Z
    score_grad_norm         -|grad_x E(x)|_2: how flat the density is there; model samples sit where it is small
    score_field_norm        -|f(x)|_2, of a field that need not be a gradient
    score_typicality        -|E(x) - mean E(train)|: samples of a high-dimensional law have its typical energy, and the
                            mode, though likelier, has not
    score_likelihood_ratio  E_bg(x) - E(x) = log p(x) - log p_bg(x) + const: the two log Z shift every score alike
    score_max_softmax       max_y softmax F(x)_y, F the logits of a classifier
    mutate                  where(u <= mu, (v + r) mod levels, v),  r uniform in 0 .. levels - 1

The background model of the ratio is the same network trained on mutated inputs (mu in 0.1, 0.2, 0.3; weight decay in
0, 10, 100; chosen on a validation set of outliers): it keeps what most pixels have in common and forgets the
semantics. The offset r may be 0, so an entry changes with probability mu (levels - 1) / levels.

Source: Grathwohl et al. 2020, arXiv:1912.03263 (energy, gradient norm); Nalisnick et al. 2019, arXiv:1906.02994
(typicality); Ren et al. 2019, arXiv:1906.02845, eq. 3 and section 4 (ratio, mutation); Hendrycks & Gimpel 2017;
Wang & Du 2025, arXiv:2510.02300 (of an explicit energy, score_energy; of an implicit field, its norm).
Level: 1. Twins: none; any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    Energy,
    Field,
    Params,
    ShapeError,
    Stream,
    check_array,
    check_number,
    flat_size,
    theta_check,
)
from .bits_per_dim import check_pixels
from .classifier import Classifier


def score_energy(energy: Energy, theta: Params, x: Array) -> Array:
    """-E(x_n). x: (N, *shape), returns (N,). Raises what the energy raises."""
    return -energy.energy(theta, x)


def score_grad_norm(energy: Energy, theta: Params, x: Array) -> Array:
    """-|grad_x E(x_n)|_2. x: (N, *shape), returns (N,). Raises what the energy raises."""
    g = energy.grad_x(theta, x).reshape((x.shape[0], flat_size(energy.shape)))  # (N, D)
    norm: Array = np.sqrt(np.sum(g * g, axis=1))
    return -norm


def score_field_norm(field: Field, theta: Params, x: Array) -> Array:
    """-|f(x_n)|_2: of a field that has no energy, and is short on the data it has learned to rest at.

    x: (N, *shape), returns (N,). Raises what the field raises.
    """
    f = field.field(theta, x).reshape((x.shape[0], flat_size(field.out_shape)))  # (N, D)
    norm: Array = np.sqrt(np.sum(f * f, axis=1))
    return -norm


def score_typicality(energy: Energy, theta: Params, x: Array, mean_energy: float) -> Array:
    """-|E(x_n) - mean_energy|. x: (N, *shape)   mean_energy: mean E over the training data   returns (N,).

    Raises RangeError (mean_energy) and what the energy raises.
    """
    check_number("mean_energy", mean_energy, low=float("-inf"))
    return -np.abs(energy.energy(theta, x) - float(mean_energy))


def score_likelihood_ratio(energy: Energy, theta: Params, energy_bg: Energy, theta_bg: Params, x: Array) -> Array:
    """E_bg(x_n) - E(x_n). energy_bg: trained on mutated inputs   x: (N, *shape), returns (N,).

    Raises ShapeError when the two models see samples of different shapes, and what the energies raise.
    """
    if energy.shape != energy_bg.shape:
        raise ShapeError(f"energy_bg: expected sample shape {energy.shape}, found {energy_bg.shape}")
    theta_check(energy, theta)
    theta_check(energy_bg, theta_bg, "theta_bg")
    return energy_bg.energy(theta_bg, x) - energy.energy(theta, x)


def score_max_softmax(classifier: Classifier, theta: Params, x: Array) -> Array:
    """max_y softmax F(x_n)_y = 1 / sum_y exp(F_y - max F). x: (N, *shape), returns (N,)."""
    F = classifier.logits(theta, x)  # (N, C)
    check_array("logits", F, ndim=2)
    score: Array = 1 / np.sum(np.exp(F - np.max(F, axis=1, keepdims=True)), axis=1)
    return score


def mutate(v: Array, u: Array, r: Array, mu: float, levels: int = 256) -> Array:
    """where(u <= mu, (v + r) mod levels, v).

    v: any shape, integers in [0, levels)   u: like v, uniform in (0, 1]   r: like v, integers in [0, levels)
    mu: mutation rate in [0, 1]   returns like v. Raises DTypeError, ShapeError, RangeError.
    """
    check_number("mu", mu, low=0.0, high=1.0)
    for name, y in (("v", v), ("r", r)):
        check_pixels(name, y, levels)
    check_array("u", u, shape=v.shape)
    if r.shape != v.shape:
        raise ShapeError(f"r: expected shape {v.shape}, found {r.shape}")
    moved = (v.astype(np.int64) + r.astype(np.int64)) % int(levels)  # in 64 bits: uint8 would wrap at 256
    mutated: Array = np.where(u <= float(mu), moved, v).astype(v.dtype)
    return mutated


def mutate_run(backend: ModuleType, v: Array, mu: float, seed: int, step: int = 0, levels: int = 256) -> Array:
    """`mutate` with u at (seed, AUGMENTATION, step, n, d) and r at (seed, AUGMENTATION, step, n, D + d).

    backend: module with noise_uniform, noise_bits, noise_index   v: (N, *shape)   returns like v. Raises as `mutate`.
    """
    check_pixels("v", v, levels)
    N, D = v.shape[0], flat_size(v.shape[1:])
    chains = np.arange(N)
    u = backend.noise_uniform(seed, Stream.AUGMENTATION, step, chains, D).reshape(v.shape)
    bits = backend.noise_bits(seed, Stream.AUGMENTATION, step, chains, 2 * D)[:, D:]  # (N, D)
    r = backend.noise_index(bits, levels).reshape(v.shape)
    return mutate(v, u, r, mu, levels)
