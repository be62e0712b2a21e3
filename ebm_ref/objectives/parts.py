"""What the contrastive objectives share: a check of samples, and data noise and restarts drawn by address.

    data_noise   x_pos = box(x + sigma_data xi),  xi at (seed, DATA_NOISE, step, n, element)
    restarts     low + (high - low) u, or box(x + sigma_data xi'), both at (seed, BUFFER_FRESH, step, n, element)

Source: Du & Mordatch 2019, arXiv:1903.08689, section 3 (restarts of the chains).
Level: none. Twins: none; it takes the module to draw with.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Energy,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_number,
    flat_size,
)
from ..specs import Box, check_box

Info = dict[str, Any]


def check_samples(name: str, x: Array, energy: Energy) -> None:
    """Raise unless `x` is (N, *energy.shape) with N >= 1."""
    check_array(name, x, shape=(None, *energy.shape))
    if x.shape[0] == 0:
        raise ShapeError(f"{name}: expected at least one sample, found none")


def data_noise(
    backend: ModuleType, energy: Energy, x: Array, sigma_data: float, seed: int, step: int, box: Box | None
) -> Array:
    """x_pos = box(x + sigma_data xi). x: (N, *shape), returns like x. Raises ShapeError, DTypeError, RangeError."""
    check_samples("x", x, energy)
    check_number("sigma_data", sigma_data, low=0.0)
    check_box(box)
    return _noised(backend, x, sigma_data, Stream.DATA_NOISE, seed, step, box)


def restarts(
    backend: ModuleType, x: Array, sigma_data: float, seed: int, step: int, box: Box | None, start: str
) -> Array:
    """Where restarted chains begin, like x: uniform in the box, or data noised anew. Raises RangeError.

    start: "uniform", which needs a box, or "data_noise".
    """
    check_choice("start", start, ("uniform", "data_noise"))
    if start == "data_noise":
        return _noised(backend, x, sigma_data, Stream.BUFFER_FRESH, seed, step, box)
    if box is None:
        raise RangeError("box: uniform restarts need (low, high), found None; give a box or start from data_noise")
    low, high, D = float(box[0]), float(box[1]), flat_size(x.shape[1:])
    u = backend.noise_uniform(seed, Stream.BUFFER_FRESH, step, np.arange(x.shape[0]), D, x.dtype)  # (N, D)
    fresh: Array = (low + (high - low) * u).reshape(x.shape)  # (N, *shape)
    return fresh


def _noised(
    backend: ModuleType, x: Array, sigma: float, stream: Stream, seed: int, step: int, box: Box | None
) -> Array:
    xi = backend.noise_normal(seed, stream, step, np.arange(x.shape[0]), flat_size(x.shape[1:]), x.dtype)  # (N, D)
    x = x + float(sigma) * xi.reshape(x.shape)  # (N, *shape)
    return x if box is None else np.clip(x, float(box[0]), float(box[1]))
