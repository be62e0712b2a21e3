"""Samplers and the replay buffer; they see energies only through the protocol."""

from .buffer import buffer_draw, buffer_push, buffer_start
from .langevin import langevin_jitter, langevin_run, langevin_step

__all__ = ["buffer_draw", "buffer_push", "buffer_start", "langevin_jitter", "langevin_run", "langevin_step"]
