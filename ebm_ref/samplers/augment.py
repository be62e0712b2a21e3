"""Augmentation as a transition of the chains: moves that hardly change what a sample shows.

    augment      x' = box(flip(shift(x)) + sigma xi)
        shift    by a rows and b columns, a, b uniform on -shift .. shift; the edge is repeated where the image left
        flip     the columns turned around where u < 1/2
    augment_run  the draws at (seed, AUGMENTATION, step, chains[n], element): rows, columns, flip at 0, 1, 2; xi from 4

A chain that moves only down its own energy stays near where it was; this kernel takes it to what the data contain as
well. It is applied to what is read from the buffer, never to data or to what is compared with them.

Source: Du, Li, Tenenbaum & Mordatch 2021, arXiv:2012.01316 (their moves: crops, flips, colour, blur).
Level: none. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    ShapeError,
    Stream,
    check_array,
    check_count,
    check_flag,
    check_number,
    flat_size,
)
from ..specs import Box, check_box
from .chain import chain_column, check_like


@dataclass(frozen=True)
class Augmentation:
    """shift: pixels at most, along rows and columns   flip: turn columns around, half of the time   sigma: noise."""

    shift: int = 0
    flip: bool = False
    sigma: float = 0.0

    def __post_init__(self) -> None:
        check_count("shift", self.shift, low=0)
        check_flag("flip", self.flip)
        check_number("sigma", self.sigma, low=0.0)


def augment(x: Array, u: Array, xi: Array, augmentation: Augmentation, box: Box | None = None) -> Array:
    """x' = box(flip(shift(x)) + sigma xi).

    x: (N, H, W, C), or any (N, *shape) where neither shift nor flip   u: (N, 3) float64 uniforms: rows, columns, flip
    xi: normals like x   returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    check_array("u", u, shape=(x.shape[0], 3))
    if u.dtype != np.float64:
        raise DTypeError(f"u: expected float64, so that a move is decided alike everywhere, found {u.dtype}")
    check_like("xi", xi, x)
    check_box(box)
    shift = augmentation.shift
    if (shift or augmentation.flip) and (x.ndim != 4 or shift >= min(x.shape[1:3])):
        raise ShapeError(f"x: expected images (N, H, W, C) larger than the shift of {shift}, found {tuple(x.shape)}")
    y = x
    for axis in (1, 2) if shift else ():
        steps, moved = u[:, axis - 1] * (2 * shift + 1), y
        for j in range(-shift, shift + 1):  # j = floor(steps) - shift: the last j whose interval has begun
            begun = chain_column(steps >= j + shift, y)  # (N, 1, 1, 1)
            moved = np.where(begun, _shifted(y, j, axis), moved)
        y = moved
    if augmentation.flip:
        y = np.where(chain_column(u[:, 2] < 0.5, y), np.flip(y, axis=2), y)
    y = y + float(augmentation.sigma) * xi
    return y if box is None else np.clip(y, float(box[0]), float(box[1]))


def augment_run(
    backend: ModuleType,
    x: Array,
    augmentation: Augmentation,
    seed: int,
    step: int,
    box: Box | None = None,
    chains: Array | None = None,
) -> Array:
    """`augment` with u at elements 0, 1, 2 and xi at 4 .. D + 3 of (seed, AUGMENTATION, step, chains[n]).

    backend: module with noise_uniform, noise_normal   x: (N, *shape)   chains: (N,), None = 0..N-1. Raises as augment.
    """
    check_array("x", x)
    chains = np.arange(x.shape[0]) if chains is None else chains
    backend.noise_uniform(seed, Stream.AUGMENTATION, step, chains, 0)  # refuses a bad address
    if chains.shape != (x.shape[0],):
        raise ShapeError(f"chains: expected shape ({x.shape[0]},), found {chains.shape}")
    D = flat_size(x.shape[1:])
    u = backend.noise_uniform(seed, Stream.AUGMENTATION, step, chains, 3)  # (N, 3)
    xi = backend.noise_normal(seed, Stream.AUGMENTATION, step, chains, D + 4, x.dtype)[:, 4:]  # (N, D)
    return augment(x, u, xi.reshape(x.shape), augmentation, box)


def _shifted(x: Array, j: int, axis: int) -> Array:
    """x moved j pixels along the axis, its edge repeated behind it."""
    if j == 0:
        return x
    pads = [(0, 0)] * 4
    pads[axis] = (j, 0) if j > 0 else (0, -j)
    wide, size = np.pad(x, pads, mode="edge"), x.shape[axis]
    keep = slice(0, size) if j > 0 else slice(-j, -j + size)
    return wide[:, keep] if axis == 1 else wide[:, :, keep]
