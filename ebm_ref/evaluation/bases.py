"""Base distributions of annealing, normalised, and the path from a base to a model.

    NormalBase      p_0 = N(0, I)
    GaussianBase    p_0 = N(mu, L L'),   log p_0(x) = -|z|^2 / 2 - sum_d log L_dd - (D/2) log 2 pi,  L z = x - mu
    UniformBase     p_0 = (high - low)^-D on the box, 0 outside: what is annealed to is then exp(-E) on the box
    BernoulliBase   p_0 = prod_d p^x_d (1 - p)^(1 - x_d) on {0, 1}^D
    TemperedEnergy  E_beta(x) = beta E(x) - (1 - beta) log p_0(x), infinite where p_0 is 0

The base must be normalised, or log Z is off by the log of what is missing: a soft wall around a uniform start costs
D log(1 + sqrt(pi / k) / (high - low)) for the penalty k (x - box(x))^2.

Source: Neal 2001, Annealed importance sampling, eq. 3 (geometric path).
Level: 1. Twins: none; any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Shapes,
    Stream,
    check_array,
    check_number,
    flat_size,
)
from ..specs import Box, check_box


class Base(Protocol):
    """A normalised density p_0 that can be drawn from."""

    def log_density(self, x: Array) -> Array:
        """log p_0(x_n), (N,); -inf outside its support. x: (N, *shape)."""

    def grad_log_density(self, x: Array) -> Array:
        """grad_x log p_0(x_n), like x; 0 outside its support."""

    def draw(self, backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """x_n ~ p_0 at (seed, Stream.ANNEALING, 0, n, element), (N, *shape)."""


@dataclass(frozen=True)
class NormalBase:
    """p_0 = N(0, I)."""

    def log_density(self, x: Array) -> Array:
        flat = _rows(x)
        log_p: Array = -0.5 * np.sum(flat * flat, axis=1) - 0.5 * flat.shape[1] * log(2 * pi)
        return log_p

    def grad_log_density(self, x: Array) -> Array:
        return -x

    def draw(self, backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
        return _normals(backend, seed, N, shape, dtype).reshape((N, *shape))


@dataclass(frozen=True, eq=False)
class GaussianBase:
    """p_0 = N(mu, root root'). mu: (D,)   root: (D, D), lower triangular with a positive diagonal, one dtype.

    `GaussianBase(mean, np.linalg.cholesky(covariance))` of the training data is often a short way to the model.
    Raises ShapeError, DTypeError, RangeError.
    """

    mu: Array
    root: Array

    def __post_init__(self) -> None:
        host = isinstance(self.root, np.ndarray)  # an array on a device is not read back
        check_array("mu", self.mu, ndim=1, finite=host)
        check_array("root", self.root, shape=(self.mu.shape[0],) * 2, finite=host)
        if self.mu.dtype != self.root.dtype:
            raise DTypeError(f"root: expected mu's {self.mu.dtype}, found {self.root.dtype}")
        if host and not bool(np.all(self.root == np.tril(self.root)) & np.all(np.diagonal(self.root) > 0)):
            raise RangeError("root: expected a lower triangular matrix with a positive diagonal")

    def log_density(self, x: Array) -> Array:
        z = self._whiten(x)  # (N, D)
        log_root = np.sum(np.log(np.diagonal(self.root)))
        log_p: Array = -0.5 * np.sum(z * z, axis=1) - log_root - 0.5 * z.shape[1] * log(2 * pi)
        return log_p

    def grad_log_density(self, x: Array) -> Array:
        pull: Array = -np.linalg.solve(np.transpose(self.root), np.transpose(self._whiten(x)))  # (D, N)
        like: Array = np.transpose(pull).reshape(x.shape)
        return like

    def draw(self, backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
        if flat_size(shape) != self.mu.shape[0]:
            raise ShapeError(f"mu: expected shape ({flat_size(shape)},), found {self.mu.shape}")
        if dtype != self.mu.dtype:
            raise DTypeError(f"mu: expected {dtype}, found {self.mu.dtype}")
        xi = _normals(backend, seed, N, shape, dtype)  # (N, D)
        x: Array = (self.mu + xi @ np.transpose(self.root)).reshape((N, *shape))
        return x

    def _whiten(self, x: Array) -> Array:
        """z with root z = x - mu, (N, D)."""
        z: Array = np.transpose(np.linalg.solve(self.root, np.transpose(_rows(x) - self.mu)))
        return z


@dataclass(frozen=True)
class UniformBase:
    """p_0 uniform on the box (low, high)^D. Raises RangeError."""

    box: Box

    def __post_init__(self) -> None:
        if self.box is None:
            raise RangeError("box: expected (low, high), found None")
        check_box(self.box)

    def log_density(self, x: Array) -> Array:
        flat = _rows(x)
        low, high = float(self.box[0]), float(self.box[1])
        inside = np.all((flat >= low) & (flat <= high), axis=1)  # (N,)
        level = np.full_like(flat[:, 0], -flat.shape[1] * log(high - low))
        log_p: Array = np.where(inside, level, -np.inf)
        return log_p

    def grad_log_density(self, x: Array) -> Array:
        return np.zeros_like(x)

    def draw(self, backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
        low, high = float(self.box[0]), float(self.box[1])
        u = _uniforms(backend, seed, N, shape, dtype)  # (N, D)
        return np.clip(low + (high - low) * u, low, high).reshape((N, *shape))


@dataclass(frozen=True)
class BernoulliBase:
    """Independent bits, 1 with probability p. Raises RangeError unless 0 < p < 1."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_number("p", self.p, low=0.0, high=1.0, open_low=True)
        if self.p == 1.0:
            raise RangeError("p: expected a number in (0, 1), found 1.0")

    def log_density(self, x: Array) -> Array:
        flat, p = _rows(x), float(self.p)
        log_p: Array = np.sum(flat, axis=1) * (log(p) - log(1 - p)) + flat.shape[1] * log(1 - p)
        return log_p

    def grad_log_density(self, x: Array) -> Array:
        return np.full_like(x, log(self.p) - log(1 - self.p))

    def draw(self, backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
        u = _uniforms(backend, seed, N, shape, dtype)  # (N, D)
        return np.where(u <= float(self.p), np.ones_like(u), np.zeros_like(u)).reshape((N, *shape))


@dataclass(frozen=True)
class TemperedEnergy:
    """E_beta(x) = beta E(x) - (1 - beta) log p_0(x): the base at beta = 0, the model at beta = 1.

    It is an energy of level 1, so every sampler runs on it. Where p_0 is 0 it is infinite at every beta, which a
    sampler with an acceptance test refuses. Raises RangeError unless 0 <= beta <= 1.
    """

    model: Energy
    base: Base
    beta: float

    def __post_init__(self) -> None:
        check_number("beta", self.beta, low=0.0, high=1.0)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.model.shape

    def theta_shapes(self) -> Shapes:
        return self.model.theta_shapes()

    def energy(self, theta: Params, x: Array) -> Array:
        """E_beta(x_n), (N,). x: (N, *shape)."""
        return self._path(self.model.energy(theta, x), x)

    def grad_x(self, theta: Params, x: Array) -> Array:
        """beta grad_x E - (1 - beta) grad_x log p_0, like x."""
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """Both, from one pass of the model."""
        E, g = self.model.energy_and_grad_x(theta, x)
        beta = float(self.beta)
        return self._path(E, x), beta * g - (1 - beta) * self.base.grad_log_density(x)

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """beta sum_n w_n grad_theta E(x_n), like theta."""
        return self.model.grad_theta(theta, x, float(self.beta) * w)

    def _path(self, E: Array, x: Array) -> Array:
        log_p = self.base.log_density(x)  # (N,)
        inside = np.isfinite(log_p)
        beta = float(self.beta)
        known = beta * E - (1 - beta) * np.where(inside, log_p, np.zeros_like(log_p))
        path: Array = np.where(inside, known, np.inf)
        return path


def _rows(x: Array) -> Array:
    """(N, *shape) -> (N, D)."""
    return x.reshape((x.shape[0], flat_size(x.shape[1:])))


def _normals(backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
    xi: Array = backend.noise_normal(seed, Stream.ANNEALING, 0, np.arange(N), flat_size(shape), dtype)
    return xi


def _uniforms(backend: ModuleType, seed: int, N: int, shape: tuple[int, ...], dtype: Any) -> Array:
    u: Array = backend.noise_uniform(seed, Stream.ANNEALING, 0, np.arange(N), flat_size(shape), dtype)
    return u
