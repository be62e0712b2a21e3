"""The random parts of one training step of a joint energy-based model; `jem_step` puts them together.

    noised     box(x + sigma xi)
    fresh      where a restarted chain begins: "uniform" in the box, "data_noise", or a draw of ClassGaussians
    place      x0 from anywhere in the buffer, or from the block of each chain's class
    moved      K gradients, `inner` moves along each (1: Langevin; more: JEM++'s inner loop)
    lengthened balance="steps": K more at a time while mean E(x_neg) > mean E(x_pos) + delta and K_max is not reached

Classes and places in blocks are drawn on the host from the same words as everywhere, since labels live there.

Source: as jem_step.py. Level: 1. Twins: none; it takes the module.
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
    Energy,
    Params,
    RangeError,
    Stream,
    check_count,
    check_number,
    flat_size,
)
from ..noise import noise_bits, noise_index
from ..samplers.class_buffer import ClassGaussians, class_buffer_draw, class_buffer_index, class_gaussian_draw
from ..samplers.jempp import jempp_run
from ..specs import Box, Update
from .balance import balance_reached

Start = str | ClassGaussians
STARTS = ("uniform", "data_noise")


@dataclass(frozen=True)
class JEMDraws:
    """Where the random numbers of one training step lie, and how its chains move.

    length: counter of a chain's first step, a training step = the most moves that a chain may take.
    """

    backend: ModuleType
    seed: int
    step: int
    classes: int
    box: Box | None
    update: Update
    inner: int
    length: int

    def class_index(self, chains: Array, word: int) -> Array:
        """y ~ U{0..C-1}, (N,): word 0 the class of a chain, word 1 that of its restart."""
        return noise_index(noise_bits(self.seed, Stream.CLASS_INDEX, self.step, chains, 2)[:, word], self.classes)

    def noised(self, x: Array, sigma: float, stream: Stream, chains: Array) -> Array:
        """box(x + sigma xi), like x."""
        D = flat_size(x.shape[1:])
        xi = self.backend.noise_normal(self.seed, stream, self.step, chains, D, x.dtype)  # (N, D)
        x = x + float(sigma) * xi.reshape(x.shape)  # (N, *shape)
        return x if self.box is None else np.clip(x, float(self.box[0]), float(self.box[1]))

    def fresh(self, start: Start, x: Array, y: Array | None, sigma: float, chains: Array) -> Array:
        """Where restarted chains begin, one a row of x, like x. y: their classes, None = drawn where wanted."""
        D = flat_size(x.shape[1:])
        if isinstance(start, ClassGaussians):
            y = self.class_index(chains, 1) if y is None else y
            xi = self.backend.noise_normal(self.seed, Stream.BUFFER_FRESH, self.step, chains, D, x.dtype)  # (N, D)
            return class_gaussian_draw(start, y, xi, self.box)
        if start == "data_noise":
            return self.noised(x, sigma, Stream.BUFFER_FRESH, chains)
        if self.box is None:
            raise RangeError("box: uniform restarts need (low, high), found None; give a box or another start")
        low, high = float(self.box[0]), float(self.box[1])
        u = self.backend.noise_uniform(self.seed, Stream.BUFFER_FRESH, self.step, chains, D, x.dtype)  # (N, D)
        fresh: Array = (low + (high - low) * u).reshape(x.shape)  # (N, *shape)
        return fresh

    def place(self, buffer: Buffer, y: Array | None, fresh: Array, rho: float, chains: Array) -> tuple[Any, Any, Any]:
        """x0 (N, *shape), idx (N,), restart (N,). y: classes of the chains, None = from anywhere."""
        u = self.backend.noise_uniform(self.seed, Stream.BUFFER_MASK, self.step, chains, 1)[:, 0]  # (N,)
        if y is None:
            bits = self.backend.noise_bits(self.seed, Stream.BUFFER_INDEX, self.step, chains, 1)[:, 0]  # (N,)
            x0, idx, restart = self.backend.buffer_draw(buffer.slots, buffer.filled, bits, u, fresh, rho)
            return x0, idx, restart
        bits = noise_bits(self.seed, Stream.BUFFER_INDEX, self.step, chains, 1)[:, 0]  # (N,)
        idx = class_buffer_index(bits, y, buffer.slots.shape[0], self.classes)  # (N,)
        idx = np.asarray(idx, like=buffer.slots)
        x0, restart = class_buffer_draw(buffer.slots, idx, u, fresh, rho)
        return x0, idx, restart

    def moved(
        self, energy: Energy, theta: Params, x0: Array, K: int, chains: Array, done: int = 0
    ) -> tuple[Array, ChainInfo]:
        """K gradients from x0, after `done` moves of this training step."""
        first = self.step * self.length + done
        if self.inner > 1:
            return jempp_run(self.backend, energy, theta, x0, K, self.inner, self.update, self.seed, first, chains)
        run = self.backend.langevin_run(energy, theta, x0, K, self.update, self.seed, first, chains=chains)
        x, info = run
        return x, info

    def lengthened(
        self, energy: Energy, marginal: Energy, theta: Params, x_pos: Array, x_neg: Array, K: int, delta: float
    ) -> tuple[Array, int]:
        """(x_neg, gradients in all): K more at a time while they are higher than the data by more than delta.

        energy: what the chains move on   marginal: what is compared.
        """
        chains, K_max, done = np.arange(x_neg.shape[0]), self.length // self.inner, K
        target = float(np.mean(marginal.energy(theta, x_pos)))
        while done < K_max and not balance_reached(target, float(np.mean(marginal.energy(theta, x_neg))), delta):
            more = min(K, K_max - done)
            x_neg, _ = self.moved(energy, theta, x_neg, more, chains, done * self.inner)
            done += more
        return x_neg, done


def chain_length(K: int, inner: int, K_max: int | None, delta: float, balance: str | None) -> int:
    """The moves that a chain may take in one training step: what the step's counter is multiplied by."""
    check_count("K", K, low=0)
    check_count("inner", inner, low=1)
    check_number("delta", delta, low=float("-inf"))
    if balance != "steps":
        if K_max is not None:
            raise RangeError(f'K_max: expected None unless balance="steps", found {K_max}')
        return K * inner
    if K_max is None:
        raise RangeError('K_max: balance="steps" needs it, found None')
    check_count("K", K, low=1)
    check_count("K_max", K_max, low=K)
    return K_max * inner
