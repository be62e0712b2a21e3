"""Moves for annealing: each leaves exp(-energy) invariant, by an acceptance test.

    FlipTransition   bits: for d = 1 .. D propose x' = x with bit d flipped, accept with min(1, exp(E(x) - E(x')))

Source: Metropolis et al. 1953.
Level: 1 (energies alone for bits). Twins: none; any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ..contracts import Array, Energy, Params, Stream, check_count, flat_size


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
        flat, accepted = x.reshape((N, D)), 0.0 * E
        for j in range(self.sweeps):
            u = backend.noise_uniform(seed, Stream.MH_UNIFORM, step * self.sweeps + j, np.arange(N), D, x.dtype)
            for d in range(D):
                flipped = flat.copy()
                flipped[:, d] = 1 - flat[:, d]
                E_new = energy.energy(theta, flipped.reshape(x.shape))
                accept = np.log(u[:, d]) < E - E_new  # (N,); False where it is NaN
                flat = np.where(accept[:, None], flipped, flat)
                E = np.where(accept, E_new, E)
                accepted = accepted + np.where(accept, np.ones_like(E), np.zeros_like(E))
        return flat.reshape(x.shape), accepted / (self.sweeps * D)
