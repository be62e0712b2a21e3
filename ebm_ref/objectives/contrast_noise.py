"""The noise that noise-contrastive estimation compares data with: a law that can be drawn from and evaluated.

    GaussianNoise       x = mean + L xi,  log p_n(x) = -|L^-1 (x - mean)|^2 / 2 - sum_d log L_dd - (D/2) log 2 pi
    gaussian_noise_fit  mean = sum_n x_n / N,  L L' = sum_n (x_n - mean)(x_n - mean)' / N + floor I
    UniformNoise        x = low + (high - low) u,  log p_n(x) = -D log(high - low) inside the box, -inf outside

Any object with `sample` and `log_density` (the protocol ContrastNoise) will do: a flow, or another energy with log Z.
A draw takes its numbers at (seed, Stream.CONTRAST_NOISE, step, chains[n], element).

Source: Gutmann & Hyvarinen 2012, Noise-contrastive estimation of unnormalized statistical models, section 2.3.
Level: none. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import log, pi
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..contracts import Array, RangeError, ShapeError, Stream, check_array, check_number, check_sizes, flat_size
from ..specs import Box, check_box


class ContrastNoise(Protocol):
    """A law on samples of one shape with p_n > 0 wherever data live."""

    def sample(self, backend: ModuleType, seed: int, step: int, chains: Array, dtype: Any) -> Array:
        """One draw for each chain, (N, *shape)."""
        ...

    def log_density(self, x: Array) -> Array:
        """log p_n(x), (N,); -inf where the density is 0. x: (N, *shape)."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """N(mean, L L') on samples of `shape`, flattened; mean: (D,)   L: (D, D) lower triangular   inverse: L^-1.

    Arrays of the samples' kind and dtype; `gaussian_noise_fit` makes them.
    """

    shape: tuple[int, ...]
    mean: Array
    L: Array
    inverse: Array

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        D, host = flat_size(self.shape), isinstance(self.mean, np.ndarray)  # an array on a device is not read back
        check_array("mean", self.mean, shape=(D,), finite=host)
        check_array("L", self.L, shape=(D, D), finite=host)
        check_array("inverse", self.inverse, shape=(D, D), finite=host)

    def sample(self, backend: ModuleType, seed: int, step: int, chains: Array, dtype: Any) -> Array:
        """x = mean + L xi, (N, *shape)."""
        D = flat_size(self.shape)
        xi = backend.noise_normal(seed, Stream.CONTRAST_NOISE, step, chains, D, dtype)  # (N, D)
        x: Array = self.mean + xi @ np.transpose(self.L)  # (N, D)
        return x.reshape((chains.shape[0], *self.shape))  # (N, *shape)

    def log_density(self, x: Array) -> Array:
        """-|L^-1 (x - mean)|^2 / 2 - sum_d log L_dd - (D/2) log 2 pi, (N,). Raises ShapeError, DTypeError."""
        check_array("x", x, shape=(None, *self.shape))
        D = flat_size(self.shape)
        z = (x.reshape((x.shape[0], D)) - self.mean) @ np.transpose(self.inverse)  # (N, D)
        log_p: Array = -0.5 * np.sum(z * z, axis=1) - (np.sum(np.log(np.diagonal(self.L))) + 0.5 * D * log(2 * pi))
        return log_p


def gaussian_noise_fit(x: Array, floor: float = 0.0) -> GaussianNoise:
    """mean = sum_n x_n / N,  L L' = sum_n (x_n - mean)(x_n - mean)' / N + floor I.

    x: (N, *shape) data, N >= 2   floor: variance added in every direction; > 0 where the data do not fill the space.
    Computed in x's dtype. Raises ShapeError, DTypeError, NonFiniteError, RangeError (a covariance that is singular).
    """
    check_array("x", x, finite=isinstance(x, np.ndarray))
    if x.ndim < 2 or x.shape[0] < 2:
        raise ShapeError(f"x: expected (N, *shape) with N >= 2, found {tuple(x.shape)}")
    check_number("floor", floor, low=0.0)
    N, D = x.shape[0], flat_size(x.shape[1:])
    rows = x.reshape((N, D))  # (N, D)
    mean = np.mean(rows, axis=0)  # (D,)
    d = rows - mean  # (N, D)
    eye = np.eye(D, dtype=x.dtype, like=x)  # (D, D)
    cov = np.transpose(d) @ d / N + float(floor) * eye  # (D, D)
    inverse = eye * np.nan  # (D, D)
    with suppress(np.linalg.LinAlgError):  # some libraries raise where cov is singular, others return NaN
        L = np.linalg.cholesky(cov)  # (D, D)
        inverse = np.linalg.solve(L, eye)  # (D, D)
    if not bool(np.isfinite(inverse).all()):
        raise RangeError(f"x: expected data that fill all {D} directions, found a singular covariance; set floor")
    return GaussianNoise(tuple(x.shape[1:]), mean, L, inverse)


@dataclass(frozen=True)
class UniformNoise:
    """Uniform on [low, high]^D, samples of `shape`. Raises RangeError unless `box` is (low, high)."""

    shape: tuple[int, ...]
    box: Box

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        if self.box is None:
            raise RangeError("box: expected (low, high), found None")
        check_box(self.box)

    def sample(self, backend: ModuleType, seed: int, step: int, chains: Array, dtype: Any) -> Array:
        """x = low + (high - low) u, (N, *shape)."""
        low, high = float(self.box[0]), float(self.box[1])
        u = backend.noise_uniform(seed, Stream.CONTRAST_NOISE, step, chains, flat_size(self.shape), dtype)  # (N, D)
        x: Array = np.clip(low + (high - low) * u, low, high)  # rounding may step over an edge
        return x.reshape((chains.shape[0], *self.shape))  # (N, *shape)

    def log_density(self, x: Array) -> Array:
        """-D log(high - low), or -inf outside the box, (N,). Raises ShapeError, DTypeError."""
        check_array("x", x, shape=(None, *self.shape))
        D, low, high = flat_size(self.shape), float(self.box[0]), float(self.box[1])
        rows = x.reshape((x.shape[0], D))  # (N, D)
        inside = np.all((rows >= low) & (rows <= high), axis=1)  # (N,)
        flat = np.zeros_like(x, shape=(x.shape[0],))  # (N,)
        return np.where(inside, flat - D * log(high - low), flat - np.inf)
