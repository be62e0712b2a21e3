"""Samplers and the replay buffer; they see energies only through the protocol."""

from .buffer import buffer_draw, buffer_push, buffer_start
from .class_buffer import (
    ClassGaussians,
    class_block,
    class_buffer_draw,
    class_buffer_index,
    class_buffer_start,
    class_gaussian_draw,
    class_gaussians,
)
from .jempp import jempp_run
from .langevin import langevin_jitter, langevin_run, langevin_step

__all__ = [
    "ClassGaussians",
    "buffer_draw",
    "buffer_push",
    "buffer_start",
    "class_block",
    "class_buffer_draw",
    "class_buffer_index",
    "class_buffer_start",
    "class_gaussian_draw",
    "class_gaussians",
    "jempp_run",
    "langevin_jitter",
    "langevin_run",
    "langevin_step",
]
