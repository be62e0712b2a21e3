"""Flow matching: a velocity v(x, t) that carries noise (t = 0) to data (t = 1) along straight lines, on average.

    flow_matching   x_t = (1 - t) x0 + t x1,  r = v(x_t, t) - (x1 - x0),   J = mean_n mean_d r_nd^2
                    grad_theta J = (2 / (N D)) grad_theta sum_n r_n . v(x_t_n, t_n), r held
    flow_step       x0 ~ N(0, I) and t ~ U(0, 1] drawn (flow_draw);  flow_point: x_t

The minimum is v*(x, t) = E[x1 - x0 | x_t = x], under which x' = v*(x, t) has the law of x_t at each t; it is where the
lines through x meet on average, so the flow curves though each line is straight, and J does not go to 0: what is left
is the spread of x1 - x0 given x_t. With independent pairs v* = (x + (1 - t) grad log p_t(x)) / t: the gradient of a
function of x at each t, though a network's v need not be one (projection.py). The loss is the mean over the D elements,
as in released code; papers write sums.

Source: Lipman et al. 2023, Flow Matching, arXiv:2210.02747, eq. 9; Liu, Gong & Liu 2023, arXiv:2209.03003, eq. 1.
Level: the field's field_grad_theta. Twins: none; it takes the module to draw with, and works on any array that answers
NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Array, DTypeError, Params, ShapeError, Stream, check_array, check_levels, flat_size
from ..samplers.chain import chain_column, check_like
from .parts import Info, check_samples


def flow_matching(time_field: Any, theta: Params, x0: Array, x1: Array, t: Array) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d (v(x_t, t) - (x1 - x0))_nd^2, x_t = (1 - t) x0 + t x1, and its gradient in theta.

    time_field: v, a TimeField whose v is like x   x0: (N, *shape) noise   x1: like x0, the data it goes to
    t: (N,) in [time_field.low, time_field.high]   returns loss (), grads like theta, info: losses (N,), the samples'
    own means. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_velocity("time_field", time_field)
    check_samples("x0", x0, time_field)
    _check_like("x1", x1, x0)
    check_times("t", t, x0, time_field.low, time_field.high)
    N, D = x0.shape[0], flat_size(time_field.shape)
    x_t = flow_point(x0, x1, t)  # (N, *shape)
    held = time_field.at(t)
    r = held.field(theta, x_t) - (x1 - x0)  # (N, *shape)
    grads = held.field_grad_theta(theta, x_t, (2 / (N * D)) * r)
    losses = np.mean((r * r).reshape((N, D)), axis=1)  # (N,)
    loss: Any = np.mean(losses)  # ()
    return loss, grads, {"losses": losses}


def flow_step(
    backend: ModuleType, time_field: Any, theta: Params, x: Array, seed: int, step: int
) -> tuple[Array, Params, Info]:
    """`flow_matching`; x0 is drawn at Stream.FLOW_NOISE, t uniform in (0, 1] at Stream.FLOW_TIME.

    backend: module with noise_uniform, noise_normal   x: (N, *shape) data   step: training step
    returns loss, grads, info; info adds t (N,). Raises as flow_matching.
    """
    check_velocity("time_field", time_field)
    check_samples("x", x, time_field)
    x0, t = flow_draw(backend, x, seed, step)
    loss, grads, info = flow_matching(time_field, theta, x0, x, t)
    return loss, grads, info | {"t": t}


def flow_point(x0: Array, x1: Array, t: Array) -> Array:
    """x_t = (1 - t) x0 + t x1. x0, x1: (N, *shape)   t: (N,)   returns like x0. Raises ShapeError, DTypeError."""
    check_like("x1", x1, x0, "x0")
    check_times("t", t, x0, 0.0, 1.0)
    time = chain_column(t, x0)  # (N, 1, ...)
    x_t: Array = (1 - time) * x0 + time * x1
    return x_t


def flow_draw(backend: ModuleType, x: Array, seed: int, step: int) -> tuple[Array, Array]:
    """x0 ~ N(0, I), like x, at Stream.FLOW_NOISE, and t ~ U(0, 1], (N,), at Stream.FLOW_TIME. x: (N, *shape)."""
    check_array("x", x)
    if x.ndim < 2 or x.shape[0] == 0:
        raise ShapeError(f"x: expected samples (N, *shape) with N >= 1, found {tuple(x.shape)}")
    chains, D = np.arange(x.shape[0]), flat_size(x.shape[1:])
    x0 = backend.noise_normal(seed, Stream.FLOW_NOISE, step, chains, D, x.dtype).reshape(x.shape)
    return x0, backend.noise_uniform(seed, Stream.FLOW_TIME, step, chains, 1, x.dtype)[:, 0]


def check_velocity(name: str, time_field: Any) -> None:
    """Raise unless `time_field` is a field of x and t whose values are like x."""
    if not (hasattr(time_field, "at") and hasattr(time_field, "out_shape")):
        raise DTypeError(f"{name}: expected a field of x and t, found {type(time_field).__name__}")
    if tuple(time_field.out_shape) != tuple(time_field.shape):
        raise ShapeError(f"{name}: expected values of shape {time_field.shape} like x, found {time_field.out_shape}")


def check_times(name: str, t: Array, x: Array, low: float, high: float) -> None:
    """Raise unless `t` is (N,) of x's dtype in [low, high]; an array on a device is not read back."""
    check_array(name, t, shape=(x.shape[0],), finite=isinstance(t, np.ndarray))
    if t.dtype != x.dtype:
        raise DTypeError(f"{name}: expected {x.dtype} like the samples, found {t.dtype}")
    check_levels(name, t, low, high)


def _check_like(name: str, y: Array, x: Array) -> None:
    check_array(name, y, shape=x.shape, finite=isinstance(y, np.ndarray))
    check_like(name, y, x, "x0")
