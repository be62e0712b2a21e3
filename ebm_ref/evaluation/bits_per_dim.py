"""Bits per dimension of integer pixels under a continuous density.

    dequantise         y = low + (high - low) (v + u) / levels,   v in 0 .. levels - 1,  u uniform in (0, 1]
    bits_per_dim       P(v) = E_u[p(y)] c^D,  c = (high - low) / levels,  so  log P(v) >= E_u[log p(y)] + D log c:
                       bpd = -mean log p(y) / (D log 2) + log2 levels - log2(high - low)
                       for 256 levels: + 8 on [0, 1], + 7 on [-1, 1]
    bits_per_dim_run   the same with log p(y) = -E(y) - log Z; S > 1 draws of u tighten the bound:
                       log P(v) >= E[log (1/S) sum_s p(y_s)] + D log c

Both overstate the bits of the discrete model that p implies, and that is a bound on real data only where log Z is an
upper bound, or exact: a lower bound of log Z (forward annealing) flatters. A density trained on noised data models the
noised data; its bits are no bound for the clean.

Source: Theis, van den Oord & Bethge 2016, arXiv:1511.01844, section 3.1; Burda, Grosse & Salakhutdinov 2016,
arXiv:1509.00519 (S > 1); Ho et al. 2019, arXiv:1902.00275.
Level: 1 (energies alone). Twins: none.
"""

from __future__ import annotations

from math import log, log2, sqrt
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_count,
    check_number,
    flat_size,
)
from ..specs import Box, check_box
from .estimate import Estimate, check_draws, estimate_mean


def dequantise(v: Array, u: Array, box: Box, levels: int = 256) -> Array:
    """y = low + (high - low) (v + u) / levels, in u's dtype.

    v: (N, *shape), integers in [0, levels)   u: like v, uniform in (0, 1]   box: (low, high) that the density uses
    Raises DTypeError, ShapeError, RangeError.
    """
    low, high = _ends(box)
    check_count("levels", levels, low=2)
    check_pixels("v", v, levels)
    check_array("u", u, shape=v.shape)
    y: Array = low + (high - low) / int(levels) * (v.astype(u.dtype) + u)
    return y


def bits_per_dim(log_p: Array, D: int, box: Box, levels: int = 256) -> Estimate:
    """-mean log_p / (D log 2) + log2 levels - log2(high - low), with the standard error of the mean over images.

    log_p: (N,), log density of the dequantised images on `box`. Raises ShapeError, DTypeError, RangeError.
    """
    check_count("D", D, low=1)
    check_count("levels", levels, low=2)
    low, high = _ends(box)
    mean = estimate_mean(check_draws("log_p", log_p))
    return Estimate(-mean.value / (D * log(2)) + log2(levels) - log2(high - low), mean.se / (D * log(2)))


def bits_per_dim_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    v: Array,
    log_z: Estimate | float,
    box: Box,
    seed: int,
    S: int = 1,
    levels: int = 256,
    dtype: Any = np.float32,
) -> Estimate:
    """Bits per dimension of v under exp(-E)/Z, from S dequantisations of each image.

    backend: module with noise_uniform   v: (N, *shape), integers in [0, levels)   log_z: a number, or an Estimate
    whose standard error is added in squares   dtype: theta's. Draw s of image n is at (seed, DEQUANTISE, s, n).
    Raises ShapeError, DTypeError, RangeError.
    """
    check_count("S", S, low=1)
    shift = log_z if isinstance(log_z, Estimate) else Estimate(log_z, 0.0)
    check_number("log_z", shift.value, low=float("-inf"))
    check_pixels("v", v, levels)
    if v.shape[1:] != energy.shape or v.shape[0] == 0:
        raise ShapeError(f"v: expected shape (N, {', '.join(map(str, energy.shape))}) with N >= 1, found {v.shape}")
    N, D = v.shape[0], flat_size(energy.shape)
    draws = []
    for s in range(S):
        u = backend.noise_uniform(seed, Stream.DEQUANTISE, s, np.arange(N), D, dtype).reshape(v.shape)
        draws.append(-energy.energy(theta, dequantise(v, u, box, levels)).astype(np.float64))  # (N,)
    log_w = np.stack(draws)  # (S, N)
    top = np.max(log_w, axis=0)  # (N,)
    log_p = top + np.log(np.mean(np.exp(log_w - top), axis=0)) - shift.value  # (N,)
    bits = bits_per_dim(log_p, D, box, levels)
    return Estimate(bits.value, sqrt(bits.se**2 + (shift.se / (D * log(2))) ** 2))


def _ends(box: Box) -> tuple[float, float]:
    if box is None:
        raise RangeError("box: expected (low, high), found None")
    check_box(box)
    return float(box[0]), float(box[1])


def check_pixels(name: str, v: Any, levels: int) -> None:
    """Raise unless `v` holds integers in [0, levels); an array on a device is not read back to check its range."""
    check_count("levels", levels, low=2)
    if not hasattr(v, "dtype") or v.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected an array of integers, found {getattr(v, 'dtype', type(v).__name__)}")
    if isinstance(v, np.ndarray) and v.size and (int(v.min()) < 0 or int(v.max()) >= levels):
        raise RangeError(f"{name}: expected integers in [0, {levels}), found {int(v.min())} to {int(v.max())}")
