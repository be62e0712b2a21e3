"""The CPU backend: Numba kernels with many samples in the lanes of a vector register.

A twin takes the oracle's parameters under the oracle's names; `ebm_fast/__init__.py` says what is where.
"""

from .buffer import buffer_draw, buffer_push
from .langevin import langevin_jitter, langevin_run, langevin_step
from .noise import (
    noise_bits,
    noise_index,
    noise_normal,
    noise_permutation,
    noise_philox,
    noise_uniform,
)

__all__ = [
    "buffer_draw",
    "buffer_push",
    "langevin_jitter",
    "langevin_run",
    "langevin_step",
    "noise_bits",
    "noise_index",
    "noise_normal",
    "noise_permutation",
    "noise_philox",
    "noise_uniform",
]
