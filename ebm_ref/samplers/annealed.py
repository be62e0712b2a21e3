"""Annealed Langevin dynamics: ULA on a ladder of noise levels, from smooth to sharp.

    annealed_steps   alpha_i = eps sigma_i^2 / sigma_L^2,   sigma_1 > ... > sigma_L
    annealed_run     for i = 1..L, T times:   x <- x - (alpha_i/2) grad_x E_i(x) + sqrt(alpha_i) xi

E_i = E(., sigma_i) is the energy of the data with noise of standard deviation sigma_i, so -grad_x E_i is the score
s(x, sigma_i). Every step is `langevin_run` with ULA(alpha_i): alpha_i/2 and sqrt(alpha_i), the paper's convention.

A factor of 2: the released code writes x += step s + sqrt(2 step) xi with step = 2e-5 (sigma_i / sigma_L)^2, so its
alpha_i is twice its step. Its settings are eps_step = 4e-5 here; 2e-5 would halve the time that the chain runs.

Nothing is rejected: the law is that of ULA on each level, started from the level before, and it is exp(-E_L) only as
eps -> 0 and T -> oo. It is a path from noise to data, not an importance sampler.

A chain that stops at one level (langevin.py says when) stays stopped through the levels that follow.

Source: Song & Ermon 2019, arXiv:1907.05600, algorithm 1; released code: sigma from 1 to 0.01, L = 10, T = 100.
Level: 1. Twins: none; it calls the `langevin_run` of the module that it is handed.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Array, ChainInfo, DTypeError, Energy, Params, RangeError, ShapeError, check_count, check_number
from ..specs import ULA
from .chain import chain_count, chain_keep, chain_start

Levels = Any  # a sequence of L energies, an energy with `at(sigma)`, or a callable sigma -> energy


def annealed_steps(sigma: Sequence[float], eps_step: float) -> tuple[float, ...]:
    """alpha_i = eps_step sigma_i^2 / sigma_L^2, the ULA step of each level.

    sigma: L >= 1 numbers > 0, from large to small   eps_step > 0: the step of the last level
    returns L numbers. Raises ShapeError, DTypeError, RangeError.
    """
    check_number("eps_step", eps_step, low=0.0, open_low=True)
    if len(sigma) == 0:
        raise ShapeError("sigma: expected at least one noise level, found none")
    for i, level in enumerate(sigma):
        check_number(f"sigma[{i}]", level, low=0.0, open_low=True)
        if i > 0 and not level < sigma[i - 1]:
            raise RangeError(f"sigma: expected levels from large to small, found {sigma[i - 1]} before {level}")
    return tuple(float(eps_step) * (float(level) / float(sigma[-1])) ** 2 for level in sigma)


def annealed_run(
    backend: ModuleType,
    energies: Levels,
    theta: Params | Sequence[Params],
    x0: Array,
    K: int | None,
    sigma: Sequence[float],
    T: int,
    eps_step: float,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
    done: int = 0,
) -> tuple[Array, ChainInfo]:
    """K steps of the L T of the ladder, of which `done` are behind; chain step k draws at counter step + k.

    backend: module with noise_normal, langevin_run   energies: L energies in the order of sigma, an energy with
    `at(sigma_i)`, or a callable of sigma_i   theta: one for all levels, or L of them   x0: (N, *shape), untouched
    K: None = all that remain   sigma: L levels, from large to small   T: steps a level   eps_step: as `annealed_steps`
    returns x like x0 and ChainInfo: energy, grad_norm (K, N), each of its level's energy; alive; nonfinite; extra:
    nfe (N,), level (K,). To go on: x0 = x, step = step + K, done = done + K.
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    alpha, L = annealed_steps(sigma, eps_step), len(sigma)
    check_count("T", T, low=1)
    check_count("done", done, low=0, high=L * T)
    K = L * T - done if K is None else K
    check_count("K", K, low=0, high=L * T - done)
    ladder = [(_energy_at(energies, i, sigma), _theta_at(theta, i, L)) for i in range(L)]
    chains = chain_start(backend, ladder[0][0], x0, K, seed, step, chains)

    x, end = np.copy(x0), done + K
    alive = np.ones_like(x, shape=x.shape[:1], dtype=bool)
    energy, grad_norm = (np.empty_like(x, shape=(K, x.shape[0])) for _ in range(2))
    level = np.empty_like(x, shape=(K,), dtype=np.int64)
    for i in range(L):
        first, last = max(done, i * T), min(end, (i + 1) * T)  # the steps of level i that this call makes
        if first >= last:
            continue
        at, part = ladder[i]
        moved, info = backend.langevin_run(
            at, part, x, last - first, ULA(alpha[i]), seed, step + first - done, chains=chains
        )
        rows = slice(first - done, last - done)
        energy[rows], grad_norm[rows], level[rows] = info.energy, info.grad_norm, i
        x = chain_keep(alive, moved, x)  # a chain stopped by an earlier level has not moved
        alive = alive & info.alive
    nfe = np.full_like(alive, K, dtype=np.int64)
    stopped = chain_count(~alive)
    return x, ChainInfo(energy, grad_norm, alive, stopped, {"nfe": nfe, "level": level})


def _energy_at(energies: Levels, i: int, sigma: Sequence[float]) -> Energy:
    """E_i."""
    if isinstance(energies, Sequence):
        if len(energies) != len(sigma):
            raise ShapeError(f"energies: expected one for each of {len(sigma)} levels, found {len(energies)}")
        found = energies[i]
    elif hasattr(energies, "at"):
        found = energies.at(float(sigma[i]))
    elif callable(energies):
        found = energies(float(sigma[i]))
    else:
        raise DTypeError(
            f"energies: expected a sequence, an energy with at(sigma) or a callable, found {type(energies).__name__}"
        )
    if not hasattr(found, "energy_and_grad_x"):
        raise DTypeError(f"energies: level {i} is no energy but {type(found).__name__}")
    energy: Energy = found
    return energy


def _theta_at(theta: Params | Sequence[Params], i: int, L: int) -> Params:
    """theta of level i."""
    if isinstance(theta, dict):
        return theta
    if len(theta) != L:
        raise ShapeError(f"theta: expected one, or one for each of {L} levels, found {len(theta)}")
    part: Params = theta[i]
    return part
