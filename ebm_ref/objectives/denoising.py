"""Denoising score matching: fit grad_x E at noised data to the noise that is in them.

    denoising           x~ = x + sigma xi,   J = mean_n |r_n|^2 / 2,   r = grad_x E(x~) - xi / sigma
                        grad_theta J = (1/N) grad_theta sum_n r_n . grad_x E(x~_n), r held
    denoising_levels    x~_n = x_n + sigma_n xi_n with sigma_n = sigmas[idx_n] and E(x~, sigma) conditional on it:
                        J = mean_n w_n |r_n|^2 / 2,   w_n = weights[idx_n], else sigma_n^2: |sigma grad_x E - xi|^2 / 2
    denoising_ladder    sigma_i = high (low / high)^(i / (L - 1)),  i = 0 ... L - 1
    dsm_step            denoising, xi drawn
    multi_dsm_step      denoising_levels, idx uniform and xi drawn: of mean (1/L) sum_i w_i J(sigma_i)

The slope of log q(x~ | x) is -xi / sigma and the model's slope is -grad_x E, hence the minus in r: with a plus the
energy comes out upside down. The minimum is the score of the noised density q = p * N(0, sigma^2 I), not of p:
J - D / (2 sigma^2) has the mean of Hyvarinen's loss on q. `centred` is that difference; `paired`, of the same mean, is
mean_n w_n [|g_n|^2 / 2 - g_n . xi_n / sigma_n], free of the noise of |xi|^2, so it shows progress at small sigma.
The variance of the gradient without a weight grows as 1 / sigma^2 when sigma -> 0.

Source: Vincent 2011, A Connection Between Score Matching and Denoising Autoencoders, eq. 11;
Song & Ermon 2019, arXiv:1907.05600, eq. 5 and 6 (levels, weight sigma^2, geometric ladder).
Level: 2. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy2,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_count,
    check_derivatives,
    check_number,
    flat_size,
)

Info = dict[str, Any]


class ConditionalEnergy(Protocol):
    """What `denoising_levels` needs: energies x -> E(x, sigma) for sigma in [low, high], one for each sample."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    def at(self, t: Any) -> Any: ...


def denoising(energy: Energy2, theta: Params, x: Array, xi: Array, sigma: float) -> tuple[Array, Params, Info]:
    """J = mean_n |grad_x E(x_n + sigma xi_n) - xi_n / sigma|^2 / 2 and its gradient in theta.

    x: (N, *shape) data   xi: like x, standard normals   sigma > 0
    returns loss (), grads like theta, info: centred = loss - D / (2 sigma^2), and paired, of the same mean.
    Raises ShapeError, DTypeError, RangeError, BackendError (no level 2), SmoothnessError (relu).
    """
    check_derivatives("denoising", energy, "grad_theta_along")
    check_number("sigma", sigma, low=0.0, open_low=True)
    _check_data(energy.shape, x, xi)
    sigma = float(sigma)
    at = x + sigma * xi  # (N, *shape)
    g = energy.grad_x(theta, at)  # (N, *shape)
    r = g - xi / sigma
    grads = energy.grad_theta_along(theta, at, r / x.shape[0])
    loss: Any = np.mean(0.5 * _dot(r, r))  # ()
    paired = np.mean(0.5 * _dot(g, g) - _dot(g, xi) / sigma)
    return loss, grads, {"centred": loss - flat_size(energy.shape) / (2 * sigma**2), "paired": paired}


def denoising_levels(
    energy: ConditionalEnergy,
    theta: Params,
    x: Array,
    xi: Array,
    idx: Array,
    sigmas: tuple[float, ...],
    weights: tuple[float, ...] | None = None,
) -> tuple[Array, Params, Info]:
    """J = mean_n w_n |grad_x E(x_n + sigma_n xi_n, sigma_n) - xi_n / sigma_n|^2 / 2 and its gradient in theta.

    x: (N, *shape) data   xi: like x, standard normals   idx: (N,) integers, sigma_n = sigmas[idx_n]
    sigmas: levels in [energy.low, energy.high]   weights: one >= 0 for each level; None: sigma^2
    returns loss (), grads like theta, info: centred = loss - mean_n w_n D / (2 sigma_n^2), paired, of the same mean,
    and losses (N,), the samples' own terms.
    Raises ShapeError, DTypeError, RangeError, BackendError (no level 2), SmoothnessError (relu).
    """
    lam = _check_levels(energy, sigmas, weights)
    _check_data(energy.shape, x, xi)
    _check_idx(idx, x.shape[0], len(sigmas))
    N, D = x.shape[0], flat_size(energy.shape)
    sigma = np.asarray(sigmas, dtype=x.dtype, like=x)[idx]  # (N,)
    w = np.asarray(lam, dtype=x.dtype, like=x)[idx]  # (N,)
    held = energy.at(sigma)
    wide = (N,) + (1,) * (x.ndim - 1)
    at = x + sigma.reshape(wide) * xi  # (N, *shape)
    g = held.grad_x(theta, at)  # (N, *shape)
    r = g - xi / sigma.reshape(wide)
    grads = held.grad_theta_along(theta, at, w.reshape(wide) * r / N)
    losses = 0.5 * w * _dot(r, r)  # (N,)
    loss: Any = np.mean(losses)  # ()
    centred = loss - np.mean(w * D / (2 * sigma * sigma))
    paired = np.mean(w * (0.5 * _dot(g, g) - _dot(g, xi) / sigma))
    return loss, grads, {"centred": centred, "paired": paired, "losses": losses}


def denoising_ladder(high: float, low: float, L: int) -> tuple[float, ...]:
    """sigma_i = high (low / high)^(i / (L - 1)), from high down to low, both exact. 0 < low < high, L >= 2.

    Raises DTypeError, RangeError.
    """
    check_number("low", low, low=0.0, open_low=True)
    check_number("high", high, low=low, open_low=True)
    check_count("L", L, low=2)
    between = (float(high) * (float(low) / float(high)) ** (i / (L - 1)) for i in range(1, L - 1))
    return (float(high), *between, float(low))


def dsm_step(
    backend: ModuleType, energy: Energy2, theta: Params, x: Array, sigma: float, seed: int, step: int
) -> tuple[Array, Params, Info]:
    """`denoising` at one level; xi is drawn at Stream.LEVEL_NOISE.

    backend: module with noise_normal   x: (N, *shape) data   sigma > 0   step: training step
    Raises as denoising.
    """
    check_derivatives("dsm_step", energy, "grad_theta_along")
    check_number("sigma", sigma, low=0.0, open_low=True)
    _check_data(energy.shape, x, x)
    return denoising(energy, theta, x, _normals(backend, x, seed, step), sigma)


def multi_dsm_step(
    backend: ModuleType,
    energy: ConditionalEnergy,
    theta: Params,
    x: Array,
    sigmas: tuple[float, ...],
    seed: int,
    step: int,
    weights: tuple[float, ...] | None = None,
) -> tuple[Array, Params, Info]:
    """`denoising_levels`; idx is drawn at Stream.NOISE_LEVEL, uniform over the levels, xi at Stream.LEVEL_NOISE.

    backend: module with noise_bits, noise_index, noise_normal   x: (N, *shape) data   step: training step
    returns loss, grads, info; info adds idx (N,). Raises as denoising_levels.
    """
    _check_levels(energy, sigmas, weights)
    _check_data(energy.shape, x, x)
    bits = backend.noise_bits(seed, Stream.NOISE_LEVEL, step, np.arange(x.shape[0]), 1)[:, 0]  # (N,)
    idx = backend.noise_index(bits, len(sigmas))  # (N,)
    xi = _normals(backend, x, seed, step)  # (N, *shape)
    loss, grads, info = denoising_levels(energy, theta, x, xi, idx, sigmas, weights)
    return loss, grads, info | {"idx": idx}


def _normals(backend: ModuleType, x: Array, seed: int, step: int) -> Array:
    """xi, like x."""
    N, D = x.shape[0], flat_size(x.shape[1:])
    xi: Array = backend.noise_normal(seed, Stream.LEVEL_NOISE, step, np.arange(N), D, x.dtype).reshape(x.shape)
    return xi  # (N, *shape)


def _dot(a: Array, b: Array) -> Array:
    """a_n . b_n, (N,)."""
    dot: Array = np.sum((a * b).reshape((a.shape[0], flat_size(a.shape[1:]))), axis=1)
    return dot


def _check_data(shape: tuple[int, ...], x: Array, xi: Array) -> None:
    host = isinstance(x, np.ndarray)  # an array on a device is not read back
    check_array("x", x, shape=(None, *shape), finite=host)
    if x.shape[0] == 0:
        raise ShapeError("x: expected at least one sample, found none")
    check_array("xi", xi, shape=x.shape, finite=host)
    if xi.dtype != x.dtype:
        raise DTypeError(f"xi: expected x's {x.dtype}, found {xi.dtype}")


def _check_levels(
    energy: ConditionalEnergy, sigmas: tuple[float, ...], weights: tuple[float, ...] | None
) -> tuple[float, ...]:
    """The weights of the levels; raises unless sigmas and weights are tuples of numbers in their ranges."""
    if not hasattr(energy, "at"):
        raise DTypeError(f"energy: expected a noise-conditional energy, found {type(energy).__name__}")
    check_derivatives("denoising_levels", energy, "grad_theta_along")
    if not isinstance(sigmas, tuple) or len(sigmas) == 0:
        raise DTypeError(f"sigmas: expected a non-empty tuple of levels, found {sigmas!r}")
    for i, sigma in enumerate(sigmas):
        check_number(f"sigmas[{i}]", sigma, low=0.0, open_low=True)
        check_number(f"sigmas[{i}]", sigma, low=energy.low, high=energy.high)
    if weights is None:
        return tuple(float(sigma) ** 2 for sigma in sigmas)
    if not isinstance(weights, tuple) or len(weights) != len(sigmas):
        raise ShapeError(f"weights: expected a tuple of {len(sigmas)} numbers, found {weights!r}")
    for i, weight in enumerate(weights):
        check_number(f"weights[{i}]", weight, low=0.0)
    return weights


def _check_idx(idx: Array, N: int, L: int) -> None:
    """Raise unless (N,) integers in [0, L); an array on a device is not read back to check its range."""
    kind = getattr(getattr(idx, "dtype", None), "kind", None)
    if kind is None or kind not in "iu":
        raise DTypeError(f"idx: expected an array of integers, found {getattr(idx, 'dtype', type(idx).__name__)}")
    if idx.shape != (N,):
        raise ShapeError(f"idx: expected shape ({N},), found {tuple(idx.shape)}")
    if isinstance(idx, np.ndarray) and (int(idx.min()) < 0 or int(idx.max()) >= L):
        raise RangeError(f"idx: expected levels in [0, {L}), found {int(idx.min())} to {int(idx.max())}")
