"""Distillation by drawn starts: where students begin, how long they go, and one training step.

    student_draw   x0 ~ N(0, I);  h = 0 with probability `still`, else uniform in (0, h_max]
    distill_step   trajectory   x_N of N = floor(h_max / eta) teacher steps from x0, h = N eta    trajectory_regression
                   lagrangian   at x0, h drawn                                                     lagrangian
                   eulerian     at a state of the teacher's path from x0, one of 0 ... N steps, h   eulerian

h = 0 asks for u(x, 0) = v(x), from which the identities carry on to h > 0: most of the mass lies there. All draws are
at Stream.STUDENT, those of sample n at the chains 3 n (x0), 3 n + 1 (h) and 3 n + 2 (steps).

Source: Geng et al. 2025, Mean Flows, arXiv:2505.13447, section 4.3 (three quarters of the batch at h = 0).
Level: 1 of the teacher. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's
calls.
"""

from __future__ import annotations

from math import floor
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Params,
    RangeError,
    Stream,
    check_choice,
    check_count,
    check_number,
    check_params,
    flat_size,
)
from ..samplers.chain import chain_column
from .distill import (
    Velocity,
    check_flow_map,
    eulerian,
    lagrangian,
    teacher_run,
    trajectory_regression,
)
from .parts import Info

LESSONS = ("trajectory", "lagrangian", "eulerian")


def student_draw(
    backend: ModuleType, flow_map: Any, N: int, seed: int, step: int, still: float = 0.75, dtype: Any = np.float32
) -> tuple[Array, Array]:
    """x0 ~ N(0, I), (N, *shape), and h, (N,): 0 with probability still, else uniform in (0, h_max].

    backend: module with noise_uniform, noise_normal   flow_map: FlowMap   N >= 1   still: [0, 1)
    Raises DTypeError, RangeError.
    """
    check_flow_map(flow_map)
    check_count("N", N, low=1)
    _check_still(still)
    check_choice("dtype", np.dtype(dtype).name, ("float32", "float64"))
    chains, D, h_max, still = 3 * np.arange(N), flat_size(flow_map.shape), float(flow_map.h_max), float(still)
    x0 = backend.noise_normal(seed, Stream.STUDENT, step, chains, D, dtype).reshape((N, *flow_map.shape))
    u = backend.noise_uniform(seed, Stream.STUDENT, step, chains + 1, 1, dtype)[:, 0]  # (N,)
    h = np.where(u <= still, np.zeros_like(u), np.minimum((u - still) / (1 - still), 1) * h_max)  # (N,)
    return x0, np.minimum(h, np.full_like(h, h_max))


def distill_step(
    backend: ModuleType,
    flow_map: Any,
    theta: Params,
    velocity: Velocity,
    N: int,
    lesson: str,
    eta: float,
    seed: int,
    step: int,
    still: float = 0.75,
) -> tuple[Array, Params, Info]:
    """One of the losses of distill.py on N drawn starts.

    backend: module with noise_uniform, noise_normal   flow_map: Phi, a FlowMap   velocity: v   N >= 1
    lesson: "trajectory", "lagrangian" or "eulerian"   eta: the teacher's step, in (0, h_max]; lagrangian needs none
    still: [0, 1), the probability of h = 0; trajectory has one h
    returns loss, grads, info; info adds x (N, *shape), h (a number, or (N,)). Raises as its loss.
    """
    check_flow_map(flow_map)
    check_params("theta", theta)
    check_choice("lesson", lesson, LESSONS)
    check_number("eta", eta, low=0.0, high=flow_map.h_max, open_low=True)
    dtype = next((value.dtype for value in theta.values()), np.dtype(np.float32))
    x, h = student_draw(backend, flow_map, N, seed, step, still, dtype)
    steps = floor(float(flow_map.h_max) / float(eta) * (1 + 1e-12))  # h_max = N eta, rounded
    if lesson == "trajectory":
        length = min(steps * float(eta), float(flow_map.h_max))
        end = teacher_run(velocity, x, eta, steps)
        loss, grads, info = trajectory_regression(flow_map, theta, x, end, length)
        return loss, grads, info | {"x": x, "h": length}
    if lesson == "eulerian":
        u = backend.noise_uniform(seed, Stream.STUDENT, step, 3 * np.arange(N) + 2, 1, dtype)[:, 0]  # (N,)
        for k in range(steps):
            goes_on = u * (steps + 1) > k + 1  # (N,): it takes ceil(u (steps + 1)) - 1 steps
            x = np.where(chain_column(goes_on, x), teacher_run(velocity, x, eta, 1), x)
    loss, grads, info = (eulerian if lesson == "eulerian" else lagrangian)(flow_map, theta, velocity, x, h)
    return loss, grads, info | {"x": x, "h": h}


def _check_still(still: float) -> None:
    check_number("still", still, low=0.0, high=1.0)
    if still == 1:
        raise RangeError("still: expected a number in [0, 1), found 1")
