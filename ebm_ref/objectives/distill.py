"""Distillation: a flow map Phi(x, h) = x + h u(x, h) learns where a teacher's descent x' = v(x) goes.

    teacher_velocity       v = -grad_x E of an energy, v = -f of a field that descent follows
    teacher_run            x_N:  N steps x <- box(x + eta v(x))
    trajectory_regression  J = mean |Phi(x0, h) - x_N|^2
    progressive            level 0: J = mean |Phi(x, eta) - (x + eta v(x))|^2, one true step of the teacher
                           level k: J = mean |Phi(x, 2h) - Phi'(Phi'(x, h), h)|^2,  h = eta 2^(k-1), Phi' held
    eulerian               J = mean |u - (v(x) + h (J_u v(x) - d_h u))'|^2
    lagrangian             J = mean |u - (v(x + h u) - h d_h u)'|^2

|.|^2 is the mean over the D elements; a prime marks a target, in which theta is held: its gradient is not taken. So
each needs values and forward derivatives of u and one field_grad_theta.

trajectory_regression and progressive have the teacher's own steps at their minimum: on v(x) = -A x the maps
(I - eta A)^N x and (I - eta A)^(2^k) x exactly. eulerian and lagrangian have the flow, exp(-A h) x, of continuous h.
The error of a level is carried on by the map's Lipschitz constant, err_{k+1} <= (1 + Lip) err_k + its own: compare the
last level with teacher_run. lagrangian evaluates the teacher where the student lands, so x need only be drawn where
students start; eulerian follows v at x and needs the states that the teacher visits. lagrangian needs no derivative of
u in x.

Of Energy Matching distil the part without noise, and let Langevin steps follow (samplers/flow.py, student_run). A
teacher with momentum is not a map of x, and cannot be distilled so.

Source: Salimans & Ho 2022, Progressive Distillation, arXiv:2202.00512; Boffi, Albergo & Vanden-Eijnden 2024,
arXiv:2406.07507 (Eulerian, Lagrangian and progressive flow maps); Geng et al. 2025, Mean Flows, arXiv:2505.13447, eq. 8
(the Eulerian target with a held derivative). Level: 1 of the teacher. Twins: none; they work on any array that answers
NumPy's calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    RangeError,
    check_array,
    check_count,
    check_levels,
    check_number,
    flat_size,
    theta_check,
)
from ..samplers.chain import check_like
from ..specs import Box, check_box
from .parts import Info, check_rows, check_samples

Velocity = Callable[[Array], Array]
IDENTITIES = ("lagrangian", "eulerian")


def teacher_velocity(teacher: Any, theta: Params) -> Velocity:
    """x -> v(x) = -grad_x E(x) of an energy, or -f(x) of a field that descent follows (x - eta f).

    teacher: an Energy or a Field   theta: its parameters. Raises ShapeError, DTypeError; v what
    the teacher does.
    """
    if not (hasattr(teacher, "grad_x") or hasattr(teacher, "field")) or hasattr(teacher, "at"):
        raise DTypeError(f"teacher: expected an energy or a field of x alone, found {type(teacher).__name__}")
    theta_check(teacher, theta)
    if hasattr(teacher, "grad_x"):
        return lambda x: -teacher.grad_x(theta, x)
    return lambda x: -teacher.field(theta, x)


def teacher_run(velocity: Velocity, x0: Array, eta: float, N: int, box: Box | None = None) -> Array:
    """x_N of N steps x <- box(x + eta v(x)).

    x0: (N, *shape), untouched   eta > 0   N >= 0 steps   box: (low, high) of every state after x0, None = none
    returns like x0. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x0", x0, finite=isinstance(x0, np.ndarray))
    check_number("eta", eta, low=0.0, open_low=True)
    check_count("N", N, low=0)
    check_box(box)
    x = np.copy(x0)
    for _ in range(N):
        x = x + float(eta) * _at(velocity, x)
        x = x if box is None else np.clip(x, float(box[0]), float(box[1]))
    return x


def trajectory_regression(
    flow_map: Any, theta: Params, x0: Array, x_end: Array, h: float | Array
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d (Phi(x0, h) - x_end)_nd^2 and its gradient in theta.

    flow_map: Phi, a FlowMap   x0: (N, *shape) starts   x_end: like x0, where the teacher is a time h later, as
    teacher_run with h = N eta   h: a number in [0, h_max], or (N,); longer than the horizon is a RangeError
    returns loss (), grads like theta, info: losses (N,). Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_flow_map(flow_map)
    check_samples("x0", x0, flow_map)
    check_rows("x_end", x_end, x0.shape, x0)
    _check_h(h, x0, flow_map.h_max)
    return _map_regression(flow_map, theta, x0, h, x_end)


def progressive(
    flow_map: Any, theta: Params, theta_target: Params, velocity: Velocity, x: Array, eta: float, level: int
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d (Phi(x, eta 2^level) - target)_nd^2: x + eta v(x) at level 0, else Phi'(Phi'(x, h), h).

    flow_map: Phi, a FlowMap   theta_target: of Phi', held   velocity: v, used at level 0 alone   x: (N, *shape)
    eta > 0: the teacher's step   level >= 0, eta 2^level <= h_max: a longer student is a RangeError
    returns loss (), grads like theta, info: losses (N,). Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_flow_map(flow_map)
    check_samples("x", x, flow_map)
    theta_check(flow_map, theta)
    theta_check(flow_map, theta_target, "theta_target")
    check_number("eta", eta, low=0.0, high=flow_map.h_max, open_low=True)
    check_count("level", level, low=0)
    if float(eta) * 2.0**level > flow_map.h_max:
        raise RangeError(
            f"level: expected eta 2^level <= {flow_map.h_max}, the horizon, found {float(eta) * 2.0**level}"
        )
    h = float(eta) * 2.0 ** (level - 1)
    if level == 0:
        target = x + float(eta) * _at(velocity, x)  # (N, *shape)
    else:
        target = flow_map.flow(theta_target, flow_map.flow(theta_target, x, h), h)
    return _map_regression(flow_map, theta, x, 2 * h, target)


def eulerian(
    flow_map: Any, theta: Params, velocity: Velocity, x: Array, h: float | Array
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d (u - target)_nd^2, target = v(x) + h (J_u(x, h) v(x) - d_h u(x, h)), held.

    flow_map: Phi, a FlowMap   velocity: v   x: (N, *shape), states the teacher visits   h: a number in [0, h_max], or
    (N,)   returns loss (), grads like theta, info: losses (N,). Raises ShapeError, DTypeError, RangeError,
    NonFiniteError.
    """
    check_flow_map(flow_map)
    check_samples("x", x, flow_map)
    time = _check_h(h, x, flow_map.h_max)
    v = _at(velocity, x)  # (N, *shape)
    u, u_dot = flow_map.u_dot(theta, x, h, v, _like_h(h, -1.0))
    return _u_regression(flow_map, theta, x, h, u, v + time * u_dot)


def lagrangian(
    flow_map: Any, theta: Params, velocity: Velocity, x: Array, h: float | Array
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d (u - target)_nd^2, target = v(x + h u(x, h)) - h d_h u(x, h), held.

    flow_map: Phi, a FlowMap   velocity: v   x: (N, *shape), where students start   h: a number in [0, h_max], or (N,)
    returns loss (), grads like theta, info: losses (N,). Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_flow_map(flow_map)
    check_samples("x", x, flow_map)
    time = _check_h(h, x, flow_map.h_max)
    u, u_dot = flow_map.u_dot(theta, x, h, np.zeros_like(x), _like_h(h, 1.0))
    return _u_regression(flow_map, theta, x, h, u, _at(velocity, x + time * u) - time * u_dot)


def check_flow_map(flow_map: Any) -> None:
    """Raise unless `flow_map` is one."""
    if not (hasattr(flow_map, "u_dot") and hasattr(flow_map, "h_max")):
        raise DTypeError(f"flow_map: expected a flow map, found {type(flow_map).__name__}")


def _map_regression(
    flow_map: Any, theta: Params, x: Array, h: float | Array, target: Array
) -> tuple[Array, Params, Info]:
    """J = mean (Phi(x, h) - target)^2: dJ/du = h dJ/dPhi."""
    N, D = x.shape[0], flat_size(flow_map.shape)
    time = _column(h, x)
    r = x + time * flow_map.u(theta, x, h) - target  # (N, *shape)
    grads = flow_map.u_grad_theta(theta, x, h, (2 / (N * D)) * (time * r))
    losses = np.mean((r * r).reshape((N, D)), axis=1)  # (N,)
    loss: Any = np.mean(losses)  # ()
    return loss, grads, {"losses": losses}


def _u_regression(
    flow_map: Any, theta: Params, x: Array, h: float | Array, u: Array, target: Array
) -> tuple[Array, Params, Info]:
    """J = mean (u - target)^2."""
    N, D = x.shape[0], flat_size(flow_map.shape)
    r = u - target  # (N, *shape)
    grads = flow_map.u_grad_theta(theta, x, h, (2 / (N * D)) * r)
    losses = np.mean((r * r).reshape((N, D)), axis=1)  # (N,)
    loss: Any = np.mean(losses)  # ()
    return loss, grads, {"losses": losses}


def _at(velocity: Velocity, x: Array) -> Array:
    """v(x); raises unless like x."""
    v = velocity(x)
    check_array("velocity", v, shape=x.shape)
    check_like("velocity", v, x)
    return v


def _check_h(h: Any, x: Array, h_max: float) -> Any:
    """h, to multiply x with; raises unless a number in [0, h_max], or (N,) of x's dtype."""
    if hasattr(h, "shape") and not isinstance(h, np.generic):
        check_rows("h", h, (x.shape[0],), x)
    check_levels("h", h, 0.0, float(h_max))
    return _column(h, x)


def _column(h: Any, x: Array) -> Any:
    if not hasattr(h, "shape") or isinstance(h, np.generic):
        return float(h)
    return h.reshape((x.shape[0],) + (1,) * (x.ndim - 1))  # (N, 1, ...)


def _like_h(h: Any, value: float) -> Any:
    """A rate of h, a number or (N,)."""
    return value if not hasattr(h, "shape") or isinstance(h, np.generic) else np.full_like(h, value)
