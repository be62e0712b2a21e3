"""Moves for annealing: each leaves exp(-energy) invariant, by an acceptance test.

    MALATransition   `steps` steps of MALA with eps_step, one for all temperatures or one for each
    HMCTransition    `steps` steps of HMC: L leapfrogs of size h, one for all temperatures or one for each
    FlipTransition   bits: for d = 1 .. D propose x' = x with bit d flipped, accept with min(1, exp(E(x) - E(x')))
    ais_tune         a pilot run from base to model that adapts the step size at each temperature, then freezes it

A step size that was adapted on the run itself would make the run no longer what its weights assume; a pilot's does not.

Source: Neal 2001, Annealed importance sampling, section 3 (any invariant moves); Metropolis et al. 1953 (flips).
Level: 1 (energies alone for bits). Twins: none; any array that answers NumPy's calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from ..contracts import (
    Array,
    ChainInfo,
    DTypeError,
    Energy,
    Params,
    ShapeError,
    Stream,
    check_count,
    check_number,
    flat_size,
)
from ..samplers import RobbinsMonro, adaptation_start, hmc_adapt, hmc_run, mala_adapt, mala_run
from ..samplers.adaptation import HMC_TARGET, MALA_TARGET
from .ais_result import check_betas
from .bases import Base, TemperedEnergy

Size = float | tuple[float, ...]


@dataclass(frozen=True)
class MALATransition:
    """eps_step: a number, or one for each of beta_1 .. beta_K   steps: MALA steps at each temperature."""

    eps_step: Size
    steps: int = 1

    def __post_init__(self) -> None:
        _check_sizes("eps_step", self.eps_step, self.steps)

    def __call__(
        self, backend: ModuleType, energy: Energy, theta: Params, x: Array, k: int, seed: int, step: int
    ) -> tuple[Array, Array]:
        """x' and the share of accepted proposals; step j draws at counter step steps + j of the seed."""
        eps_step = _size("eps_step", self.eps_step, k)
        x, info = mala_run(backend, energy, theta, x, self.steps, eps_step, seed, step * self.steps)
        return x, _share(info)


@dataclass(frozen=True)
class HMCTransition:
    """h: a number, or one for each of beta_1 .. beta_K   L: leapfrogs   steps: HMC steps at each temperature."""

    h: Size
    L: int = 5
    steps: int = 1

    def __post_init__(self) -> None:
        _check_sizes("h", self.h, self.steps)
        check_count("L", self.L, low=1)

    def __call__(
        self, backend: ModuleType, energy: Energy, theta: Params, x: Array, k: int, seed: int, step: int
    ) -> tuple[Array, Array]:
        """x' and the share of accepted proposals; step j draws at counter step steps + j of the seed."""
        h = _size("h", self.h, k)
        x, info = hmc_run(backend, energy, theta, x, self.steps, h, self.L, seed, step * self.steps)
        return x, _share(info)


@dataclass(frozen=True)
class FlipTransition:
    """`sweeps` sweeps of Metropolis bit flips on {0, 1}^D: D energies of the batch a sweep."""

    sweeps: int = 1

    def __post_init__(self) -> None:
        check_count("sweeps", self.sweeps, low=1)

    def __call__(
        self, backend: ModuleType, energy: Energy, theta: Params, x: Array, k: int, seed: int, step: int
    ) -> tuple[Array, Array]:
        """x' and the share of accepted flips; sweep j draws u at (seed, MH_UNIFORM, step sweeps + j, n, d)."""
        N, D = x.shape[0], flat_size(energy.shape)
        E = energy.energy(theta, x)  # (N,)
        flat, accepted = x.reshape((N, D)), np.zeros_like(E)
        for j in range(self.sweeps):
            u = backend.noise_uniform(seed, Stream.MH_UNIFORM, step * self.sweeps + j, np.arange(N), D, x.dtype)
            for d in range(D):
                flipped = np.copy(flat)
                flipped[:, d] = 1 - flat[:, d]
                E_new = energy.energy(theta, flipped.reshape(x.shape))
                accept = np.log(u[:, d]) < E - E_new  # (N,); False where it is NaN
                flat = np.where(accept[:, None], flipped, flat)
                E = np.where(accept, E_new, E)
                accepted = accepted + np.where(accept, np.ones_like(E), np.zeros_like(E))
        return flat.reshape(x.shape), accepted / (self.sweeps * D)


def ais_tune(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    base: Base,
    betas: Sequence[float],
    N: int,
    transition: MALATransition | HMCTransition,
    seed: int,
    burn: int = 20,
    dtype: DTypeLike = np.float64,
) -> MALATransition | HMCTransition:
    """`transition` with a step size for each temperature, from a pilot of N chains that walk from base to model.

    transition: its step size (the first, where there are several) is where adaptation starts   burn: steps of
    Robbins-Monro at each temperature, towards the acceptance 0.574 (MALA) or 0.651 (HMC)   seed: of the pilot; give
    the runs another   the rest as in `ais_run`. Raises DTypeError, RangeError, ShapeError.
    """
    betas = check_betas(betas)
    check_count("N", N, low=1)
    check_count("burn", burn, low=1)
    if not isinstance(transition, (MALATransition, HMCTransition)):
        raise DTypeError(f"transition: expected MALATransition or HMCTransition, found {type(transition).__name__}")
    x = base.draw(backend, seed, N, energy.shape, np.dtype(dtype))  # (N, *shape)
    first = transition.eps_step if isinstance(transition, MALATransition) else transition.h
    eps = float(first[0] if isinstance(first, tuple) else first)
    sizes = []
    for k, beta in enumerate(betas[1:]):
        tempered, state = TemperedEnergy(energy, base, beta), adaptation_start(eps)
        if isinstance(transition, MALATransition):
            rule = RobbinsMonro(MALA_TARGET)
            x, state, _ = mala_adapt(backend, tempered, theta, x, burn, rule, state, seed, k * burn)
        else:
            rule = RobbinsMonro(HMC_TARGET)
            x, state, _ = hmc_adapt(backend, tempered, theta, x, burn, transition.L, rule, state, seed, k * burn)
        eps = state.eps_step
        sizes.append(eps)
    if isinstance(transition, MALATransition):
        return replace(transition, eps_step=tuple(sizes))
    return replace(transition, h=tuple(sizes))


def _share(info: ChainInfo) -> Array:
    """Share of accepted proposals of each chain, (N,)."""
    share: Array = np.mean(info.extra["accept"], axis=0)
    return share


def _size(name: str, size: Size, k: int) -> float:
    """The step size at beta_k, k = 1 .. K."""
    if not isinstance(size, tuple):
        return size
    if k > len(size):
        raise ShapeError(f"{name}: expected one number for each temperature, found {len(size)} for beta_{k}")
    return size[k - 1]


def _check_sizes(name: str, size: Size, steps: int) -> None:
    check_count("steps", steps, low=1)
    for one in size if isinstance(size, tuple) else (size,):
        check_number(name, one, low=0.0, open_low=True)
    if size == ():
        raise ShapeError(f"{name}: expected one number for each temperature, found none")
