"""What the contrastive objectives share: a check of samples, and data noise and restarts drawn by address.

    softplus     log(1 + e^G),   logistic: 1 / (1 + e^-G)
    energy_gap   mean E(x_neg) - mean E(x_pos), and both means
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
    DTypeError,
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
    """Raise unless `x` is (N, *energy.shape) with N >= 1, and finite; an array on a device is not read back."""
    check_array(name, x, shape=(None, *energy.shape), finite=isinstance(x, np.ndarray))
    if x.shape[0] == 0:
        raise ShapeError(f"{name}: expected at least one sample, found none")


def energy_gap(e_pos: Array, e_neg: Array) -> Info:
    """energy_pos, energy_neg (means), gap = energy_neg - energy_pos."""
    mean_pos, mean_neg = np.mean(e_pos), np.mean(e_neg)  # (), ()
    return {"energy_pos": mean_pos, "energy_neg": mean_neg, "gap": mean_neg - mean_pos}


def softplus(G: Array) -> Array:
    """log(1 + e^G)."""
    y: Array = np.logaddexp(G, np.zeros_like(G))
    return y


def logistic(G: Array) -> Array:
    """1 / (1 + e^-G)."""
    y: Array = np.exp(-softplus(-G))
    return y


def check_rows(name: str, y: Array | None, shape: tuple[int, ...], x: Array) -> None:
    """Raise unless `y` is an array of `shape` in x's dtype, and finite; an array on a device is not read back."""
    check_array(name, y, shape=shape, finite=isinstance(y, np.ndarray))
    assert y is not None  # check_array has refused None
    if y.dtype != x.dtype:
        raise DTypeError(f"{name}: expected {x.dtype} like the samples, found {y.dtype}")


def data_noise(
    backend: ModuleType, energy: Energy, x: Array, sigma_data: float, seed: int, step: int, box: Box | None
) -> Array:
    """x_pos = box(x + sigma_data xi). x: (N, *shape), returns like x. Raises ShapeError, DTypeError, RangeError."""
    check_samples("x", x, energy)
    check_number("sigma_data", sigma_data, low=0.0)
    check_box(box)
    return noised(backend, x, sigma_data, Stream.DATA_NOISE, seed, step, box)


def restarts(
    backend: ModuleType, x: Array, sigma_data: float, seed: int, step: int, box: Box | None, start: str
) -> Array:
    """Where restarted chains begin, like x: uniform in the box, or data noised anew. Raises RangeError.

    start: "uniform", which needs a box, or "data_noise".
    """
    check_choice("start", start, ("uniform", "data_noise"))
    if start == "data_noise":
        return noised(backend, x, sigma_data, Stream.BUFFER_FRESH, seed, step, box)
    if box is None:
        raise RangeError("box: uniform restarts need (low, high), found None; give a box or start from data_noise")
    low, high, D = float(box[0]), float(box[1]), flat_size(x.shape[1:])
    u = backend.noise_uniform(seed, Stream.BUFFER_FRESH, step, np.arange(x.shape[0]), D, x.dtype)  # (N, D)
    fresh: Array = (low + (high - low) * u).reshape(x.shape)  # (N, *shape)
    return fresh


def noised(backend: ModuleType, x: Array, sigma: float, stream: Stream, seed: int, step: int, box: Box | None) -> Array:
    """box(x + sigma xi), xi at (seed, stream, step, n, element). x: (N, *shape), returns like x."""
    xi = backend.noise_normal(seed, stream, step, np.arange(x.shape[0]), flat_size(x.shape[1:]), x.dtype)  # (N, D)
    x = x + float(sigma) * xi.reshape(x.shape)  # (N, *shape)
    return x if box is None else np.clip(x, float(box[0]), float(box[1]))
