"""One Hypothesis strategy per public function, named by the function: `strategy("conv2d_backward", dtype)`.

A strategy draws sizes, switches and a seed, and NumPy builds the arrays from the seed: quick to draw, and
it shrinks towards one sample, one pixel, zeros and contiguous memory. Sizes are awkward on purpose: ones,
primes, and both sides of every power of two that a tile might have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...extras import require
from ..case import Case
from .buffer import buffer_draw, buffer_push
from .draw import Draw
from .energies import classifier_energy, conv_energy, deep_conv_energy, mlp_energy
from .fields import conv_field, field_energy, mlp_field
from .flow import coupling_assign, coupling_cost, descent_run, repulsion
from .langevin import langevin_jitter, langevin_run, langevin_step
from .layers import conv2d_backward, conv2d_forward, group_norm_backward, group_norm_forward
from .noise import noise_bits, noise_index, noise_normal, noise_permutation, noise_philox, noise_uniform

PROBLEMS: dict[str, Callable[[Draw], Case]] = {
    problem.__name__: problem
    for problem in (
        noise_philox,
        noise_bits,
        noise_uniform,
        noise_normal,
        noise_index,
        noise_permutation,
        langevin_step,
        langevin_jitter,
        langevin_run,
        buffer_draw,
        buffer_push,
        conv2d_forward,
        conv2d_backward,
        group_norm_forward,
        group_norm_backward,
        conv_energy,
        mlp_energy,
        deep_conv_energy,
        classifier_energy,
        mlp_field,
        conv_field,
        field_energy,
        descent_run,
        coupling_cost,
        coupling_assign,
        repulsion,
    )
}


def strategy(function: str, dtype: Any = np.float64) -> Any:
    """The Hypothesis strategy of a function's cases."""
    st = require("hypothesis.strategies", "verify")

    @st.composite
    def cases(draw: Callable[[Any], Any]) -> Case:
        return PROBLEMS[function](Draw(draw, st, dtype))

    return cases()
