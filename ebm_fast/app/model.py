"""A trained energy as the verbs judge it, and the samples that are chosen for that."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ebm_ref.contracts import Array, Energy, Params, Stream
from ebm_ref.specs import SGLD

from .placement import to_backend, to_host

CHUNK = 256  # samples whose energies are computed at once


@dataclass(frozen=True)
class Model:
    """An energy with its parameters, the backend that computes it, and the update of its chains."""

    backend: ModuleType
    energy: Energy | None  # None of what has none: a flow, a student
    theta: Params
    update: SGLD

    def energies(self, x: Array) -> Array:
        """E(x), (N,) float64, in chunks; x and what comes back are NumPy's, theta the backend's."""
        return self._rows("energy", x)

    def logits(self, x: Array) -> Array:
        """F(x), (N, C) float64, of a classifier."""
        return self._rows("logits", x)

    def features(self, x: Array) -> Array:
        """What the last linear layer of a classifier sees, (N, F) float64."""
        return self._rows("features", x)

    def _rows(self, method: str, x: Array) -> Array:
        chunks = (to_backend(self.backend, x[i : i + CHUNK]) for i in range(0, len(x), CHUNK))
        parts = [to_host(self.backend, getattr(self.energy, method)(self.theta, chunk)) for chunk in chunks]
        return np.concatenate(parts).astype(np.float64)


def choose(backend: ModuleType, samples: Array, count: int, seed: int, purpose: int) -> Array:
    """`count` of the samples, without repeats and by address; all of them where there are fewer."""
    order = to_host(backend, backend.noise_permutation(seed, Stream.EVALUATION, purpose, len(samples)))
    return samples[order[:count]]
