"""A box without walls: x is folded back into it, so that a sampler may step across.

    fold(y)          = low + w - |((y - low) mod 2 w) - w|,   w = high - low: y mirrored at low and high until inside
    MirroredEnergy   E(fold(y)) / T,   grad = s grad E(fold(y)) / T,  s = +1 or -1, the slope of fold
    MirroredBase     log p_0(fold(y)) = -D log w everywhere: `UniformBase` seen through fold

A chain of MALA or HMC on E(fold(y)) is, folded, a chain on the box that leaves exp(-E / T) on it invariant: E o fold is
unchanged by every mirror and so is the law of the proposals. With a hard wall (`UniformBase`: energy infinite outside)
a proposal dies when one of D coordinates leaves the box, and where data sit on the walls nearly all do.

Weights of annealing are the same numbers as on the box: both densities are those of fold(y).

Source: this project's own; the mirror is the method of images of a reflected diffusion (Skorokhod 1961).
Level: 1. Twins: none; any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Array, Energy, Params, RangeError, Shapes, check_array, check_number, flat_size
from ..specs import Box, check_box
from .bases import UniformBase


def fold(y: Array, box: Box) -> Array:
    """y mirrored at the walls until it is in the box, like y. Raises RangeError, DTypeError."""
    check_array("y", y)
    low, high = _ends(box)
    width = high - low
    folded: Array = np.clip(low + width - np.abs((y - low) % (2 * width) - width), low, high)  # the last bit, too
    return folded


@dataclass(frozen=True)
class MirroredEnergy:
    """E(fold(y)) / T. box: (low, high)   T > 0, the temperature. Raises RangeError."""

    model: Energy
    box: Box
    T: float = 1.0

    def __post_init__(self) -> None:
        _ends(self.box)
        check_number("T", self.T, low=0.0, open_low=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.model.shape

    def theta_shapes(self) -> Shapes:
        return self.model.theta_shapes()

    def energy(self, theta: Params, x: Array) -> Array:
        """E(fold(x_n)) / T, (N,). x: (N, *shape), anywhere."""
        return self.model.energy(theta, fold(x, self.box)) / float(self.T)

    def grad_x(self, theta: Params, x: Array) -> Array:
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """Both, from one pass of the model; on a wall, where fold has a kink, the slope from above."""
        low, high = _ends(self.box)
        E, g = self.model.energy_and_grad_x(theta, fold(x, self.box))
        rising = (x - low) % (2 * (high - low)) < high - low
        return E / float(self.T), np.where(rising, g, -g) / float(self.T)

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta E(fold(x_n)) / T, like theta."""
        return self.model.grad_theta(theta, fold(x, self.box), w / float(self.T))


@dataclass(frozen=True)
class MirroredBase:
    """Uniform on the box, of mirrored points. Raises RangeError."""

    box: Box

    def __post_init__(self) -> None:
        _ends(self.box)

    def log_density(self, x: Array) -> Array:
        low, high = _ends(self.box)
        flat = x.reshape((x.shape[0], flat_size(x.shape[1:])))
        level: Array = np.full_like(flat[:, 0], -flat.shape[1] * log(high - low))
        return level

    def grad_log_density(self, x: Array) -> Array:
        return np.zeros_like(x)

    def draw(self, backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
        return UniformBase(self.box).draw(backend, seed, N, shape, dtype)


def _ends(box: Box) -> tuple[float, float]:
    if box is None:
        raise RangeError("box: expected (low, high), found None")
    check_box(box)
    return float(box[0]), float(box[1])
