"""Conservative projection: the potential whose descent is nearest to a given velocity.

    projection          r = grad V(x) + v(x),   J = mean_n w_n mean_d r_nd^2,
                        grad_theta J = (2 / (N D)) grad_theta sum_n w_n r_n . grad_x V(x_n), r held
    projection_step     v of a flow, at points x_t = (1 - t) x0 + t x1 of its own path, x0 and t drawn
    projection_fourier  the minimum on a periodic grid of constant density: V^(k) = i k . v^(k) / |k|^2, V^(0) = 0

At the minimum div(rho w (grad V + v)) = 0: the Helmholtz projection weighted by w and the density rho of x. What stays
of J is the part of v that no potential has: 0 if and only if v is the gradient of a function. So J, unlike a loss of
regression on noise, says how far a flow is from having an energy.

A flow's v depends on t. One V(x) for all times is fitted to the mean of v over the times that lead through x,
V' = -E[v(x, t) | x]; an energy with a time of its own, V(x, t) (NoiseConditionalEnergy), to each v(., t). For linear
paths with independent pairs V*(x, t) = -(|x|^2 / 2 + (1 - t) log p_t(x)) / t is exact. For a score field
v = grad log p_t it is V = -log p_t.

Source: Salimans & Ho 2021, Should EBMs model the energy or the score?; Thornton et al. 2025, arXiv:2502.12786 (an
energy from a given score); Bhatia et al. 2013, The Helmholtz-Hodge decomposition: a survey (the Fourier form).
Level: 2. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Energy2,
    Params,
    RangeError,
    ShapeError,
    check_array,
    check_derivatives,
    check_number,
    flat_size,
    theta_check,
)
from ..samplers.chain import chain_column
from .flow_matching import check_velocity, flow_draw, flow_point
from .parts import Info, check_rows, check_samples


def projection(
    energy: Energy2, theta: Params, x: Array, v: Array, w: Array | None = None
) -> tuple[Array, Params, Info]:
    """J = mean_n w_n mean_d (grad_x V(x_n) + v_n)_d^2 and its gradient in theta.

    energy: V   x: (N, *shape)   v: like x, the velocity at x, constant   w: (N,), >= 0; None = 1
    returns loss (), grads like theta, info: losses (N,), the samples' mean squares without w, and power, the mean of
    w_n mean_d v_nd^2, which J is a part of. Raises ShapeError, DTypeError, RangeError, NonFiniteError, BackendError (no
    level 2), SmoothnessError (relu).
    """
    check_derivatives("projection", energy, "grad_theta_along")
    check_samples("x", x, energy)
    check_rows("v", v, x.shape, x)
    if w is not None:
        check_rows("w", w, (x.shape[0],), x)
        if isinstance(w, np.ndarray) and bool((w < 0).any()):
            raise RangeError(f"w: expected weights >= 0, found {w.min()}")
    N, D = x.shape[0], flat_size(energy.shape)
    r = energy.grad_x(theta, x) + v  # (N, *shape)
    losses = np.mean((r * r).reshape((N, D)), axis=1)  # (N,)
    w = np.ones_like(losses) if w is None else w
    grads = energy.grad_theta_along(theta, x, chain_column((2 / (N * D)) * w, r) * r)
    power = np.mean(w * np.mean((v * v).reshape((N, D)), axis=1))
    loss: Any = np.mean(w * losses)  # ()
    return loss, grads, {"losses": losses, "power": power}


def projection_step(
    backend: ModuleType,
    energy: Any,
    theta: Params,
    time_field: Any,
    theta_field: Params,
    x: Array,
    seed: int,
    step: int,
) -> tuple[Array, Params, Info]:
    """`projection` on v(x_t, t) at x_t = (1 - t) x0 + t x; x0 and t drawn as flow_step does.

    energy: V(x), or V(x, t) with `at`, for t in [0, 1]   time_field, theta_field: v, the teacher   x: (N, *shape) data
    returns loss, grads, info; info adds t (N,). Raises as projection.
    """
    check_derivatives("projection_step", energy, "grad_theta_along")
    check_velocity("time_field", time_field)
    if tuple(time_field.shape) != tuple(energy.shape):
        raise ShapeError(f"time_field: expected the energy's shape {energy.shape}, found {time_field.shape}")
    check_samples("x", x, energy)
    theta_check(energy, theta)
    theta_check(time_field, theta_field, "theta_field")
    x0, t = flow_draw(backend, x, seed, step)
    x_t = flow_point(x0, x, t)  # (N, *shape)
    v = time_field.at(t).field(theta_field, x_t)  # (N, *shape)
    held = energy.at(t) if hasattr(energy, "at") else energy
    loss, grads, info = projection(held, theta, x_t, v)
    return loss, grads, info | {"t": t}


def projection_fourier(v: Array, period: float) -> tuple[Array, Array]:
    """V with grad V nearest to -v, in the mean square over a periodic grid, and what is left, grad V + v.

    V^(k) = i k . v^(k) / |k|^2, V^(0) = 0: of every wave number that the grid resolves; the highest of an even axis,
    whose slope the grid does not see, is left out of V and of its gradient.
    v: (n_1, ..., n_D, D), its component d along axis d   period > 0: of every axis   returns V (n_1, ..., n_D),
    residual like v. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_array("v", v, finite=True)
    if v.ndim < 2 or v.shape[-1] != v.ndim - 1 or 0 in v.shape:
        raise ShapeError(f"v: expected shape (n_1, ..., n_D, D), found {tuple(v.shape)}")
    check_number("period", period, low=0.0, open_low=True)
    axes = tuple(range(v.ndim - 1))
    k = np.stack(np.meshgrid(*(_waves(n, float(period)) for n in v.shape[:-1]), indexing="ij"), axis=-1)  # like v
    square = np.sum(k * k, axis=-1)  # (n_1, ..., n_D)
    v_hat = np.fft.fftn(v, axes=axes)  # like v
    V_hat = 1j * np.sum(k * v_hat, axis=-1) / np.where(square > 0, square, 1)  # (n_1, ..., n_D)
    grad = np.fft.ifftn(1j * k * V_hat[..., None], axes=axes).real  # like v
    V: Array = np.fft.ifftn(V_hat).real.astype(v.dtype)
    return V, (grad + v).astype(v.dtype)


def _waves(n: int, period: float) -> Array:
    """2 pi / period times 0, 1, ..., -1; the highest of an even n, which is its own negative, is 0."""
    k = np.fft.fftfreq(n, 1 / n)
    k = np.where(2 * np.abs(k) == n, 0.0, k)
    waves: Array = 2 * np.pi / period * k
    return waves
