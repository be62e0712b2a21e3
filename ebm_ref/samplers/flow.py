"""Flows: no noise after the start. A velocity integrated, and a one-step student followed by a few Langevin steps.

    flow_run       x' = v(x, s), from s = start to s = end in K equal steps of ds = (end - start) / K
        euler      x <- x + ds v(x, s)                                                     error O(ds)
        heun       x <- x + (ds / 2) (v(x, s) + v(x + ds v(x, s), s + ds))                 error O(ds^2), two velocities
    student_run    x = Phi(x0, h), one evaluation of a flow map; then K Langevin steps of the energy itself

On v = a x Euler multiplies by 1 + a ds a step, Heun by 1 + a ds + (a ds)^2 / 2, the flow by exp(a ds). end < start
runs backwards, from data to noise.

A one-step student has no density and inherits its teacher's faults. Langevin steps of the true energy repair it where
they mix: on E = lam x^2 / 2 the variance the student leaves behind decays as a^(2K), a = 1 - eta lam, towards the
chain's own. A sample whose velocity or next state is not finite stops where it is, and is counted.

Source: Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, sections II.1 and II.7;
Lipman et al. 2023, arXiv:2210.02747 (sampling by integration).
Level: the field's values; student_run: 1. Twins: none; they work on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    ChainInfo,
    DTypeError,
    Energy,
    Params,
    ShapeError,
    check_array,
    check_choice,
    check_count,
    check_number,
    theta_check,
)
from ..specs import Update
from .chain import chain_count, chain_finite, chain_keep, chain_norm, chain_start

SCHEMES = ("euler", "heun")


def flow_run(
    time_field: Any, theta: Params, x0: Array, K: int, scheme: str = "euler", start: float = 0.0, end: float = 1.0
) -> tuple[Array, ChainInfo]:
    """x at s = end of x' = v(x, s) from x0 at s = start, in K >= 1 steps.

    time_field: v, a TimeField whose v is like x   x0: (N, *shape), untouched   scheme: "euler" or "heun"
    start, end: in [time_field.low, time_field.high]   returns x like x0, ChainInfo: energy (0, N), since a flow has
    none, grad_norm (K, N) = |v| at the start of each step.
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    if not (hasattr(time_field, "at") and hasattr(time_field, "out_shape")):
        raise DTypeError(f"time_field: expected a field of x and t, found {type(time_field).__name__}")
    if tuple(time_field.out_shape) != tuple(time_field.shape):
        raise ShapeError(f"time_field: expected values of shape {time_field.shape}, found {time_field.out_shape}")
    check_array("x0", x0, shape=(None, *time_field.shape), finite=isinstance(x0, np.ndarray))
    check_count("K", K, low=1)
    check_choice("scheme", scheme, SCHEMES)
    check_number("start", start, low=time_field.low, high=time_field.high)
    check_number("end", end, low=time_field.low, high=time_field.high)
    x, N, span = np.copy(x0), x0.shape[0], float(end) - float(start)
    alive = np.full_like(x, True, shape=(N,), dtype=bool)
    info = ChainInfo(np.empty_like(x, shape=(0, N)), np.empty_like(x, shape=(K, N)), alive)
    times = [float(start) + span * k / K for k in range(K)] + [float(end)]
    for k in range(K):
        ds = times[k + 1] - times[k]
        with np.errstate(over="ignore", invalid="ignore"):  # such samples stop, and are counted
            v = time_field.at(times[k]).field(theta, x)  # (N, *shape)
            info.grad_norm[k] = chain_norm(v)
            moved = x + ds * v
            info.alive = info.alive & chain_finite(v) & chain_finite(moved)
            if scheme == "heun":
                ahead = chain_keep(info.alive, moved, x)
                v = 0.5 * (v + time_field.at(times[k + 1]).field(theta, ahead))
                moved = x + ds * v
                info.alive = info.alive & chain_finite(moved)
        x = chain_keep(info.alive, moved, x)
    info.nonfinite = chain_count(~info.alive)
    return x, info


def student_run(
    backend: ModuleType,
    flow_map: Any,
    theta: Params,
    energy: Energy,
    theta_energy: Params,
    x0: Array,
    h: float,
    K: int,
    update: Update,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> tuple[Array, ChainInfo]:
    """x = Phi(x0, h), then backend.langevin_run(energy, theta_energy, x, K, update, ...).

    flow_map: Phi, a FlowMap of the energy's shape   x0: (N, *shape), untouched   h: in [0, flow_map.h_max]
    K >= 0   update: ULA or SGLD   chains: their addresses, None = 0..N-1
    returns x like x0, langevin_run's info. A student longer than its teacher's horizon is a RangeError.
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    if not (hasattr(flow_map, "flow") and hasattr(flow_map, "h_max")):
        raise DTypeError(f"flow_map: expected a flow map, found {type(flow_map).__name__}")
    if tuple(flow_map.shape) != tuple(energy.shape):
        raise ShapeError(f"flow_map: expected the energy's shape {energy.shape}, found {flow_map.shape}")
    check_number("h", h, low=0.0, high=flow_map.h_max)
    theta_check(energy, theta_energy, "theta_energy")
    chains = chain_start(backend, energy, x0, K, seed, step, chains)
    x = flow_map.flow(theta, x0, float(h))
    found: tuple[Array, ChainInfo] = backend.langevin_run(
        energy, theta_energy, x, K, update, seed, step=step, chains=chains
    )
    return found
