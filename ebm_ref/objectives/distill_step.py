"""Distillation by drawn starts: where students begin, how long they go, and one training step.

    student_draw     x0 ~ N(0, I);  h = 0 with probability `still`, else uniform in (0, h_max]
    distill_step     lagrangian   at x0, h drawn                                                    lagrangian
                     eulerian     at a state of the teacher's path from x0, one of 0 ... N steps, h  eulerian
    student_pairs    x0 ~ N(0, I), drawn once;  x_end: where the teacher is h_max later, N steps of h_max / N <= eta
    trajectory_step  a batch of those pairs, drawn with replacement                    trajectory_regression, h = h_max

h = 0 asks for u(x, 0) = v(x), from which the identities carry on to h > 0: most of the mass lies there. The draws of a
step are at Stream.STUDENT, those of sample n at the chains 3 n (x0), 3 n + 1 (h) and 3 n + 2 (steps).

Pairs are stored because a step of the teacher costs as much as one of training: with a path of N steps for each sample
of each batch, N of N + 1 evaluations would be the teacher's. n pairs cost n N once, and a student that has seen each of
them many times over is as good as its teacher's map is smooth between them. Their starts are at Stream.STUDENT, in the
last step that has an address, where no training step is.

Source: Geng et al. 2025, Mean Flows, arXiv:2505.13447, section 4.3 (three quarters of the batch at h = 0); Liu, Gong &
Liu 2023, arXiv:2209.03003, section 2.2 (a one-step student of stored ends of a flow).
Level: 1 of the teacher. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's
calls.
"""

from __future__ import annotations

from math import ceil, floor
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Params,
    RangeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_number,
    check_params,
    flat_size,
)
from ..samplers.chain import chain_column
from ..specs import Box
from .distill import (
    IDENTITIES,
    Velocity,
    check_flow_map,
    eulerian,
    lagrangian,
    teacher_run,
    trajectory_regression,
)
from .parts import Info

LAST = 2**32 - 1  # the step of the pairs' starts
BLOCK = 256  # starts that the teacher moves at once
Pairs = tuple[Array, Array]


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
    lesson: "lagrangian" or "eulerian"   eta: the teacher's step, in (0, h_max]; lagrangian needs none
    still: [0, 1), the probability of h = 0
    returns loss, grads, info; info adds x (N, *shape), h (N,). Raises as its loss.
    """
    check_flow_map(flow_map)
    check_params("theta", theta)
    check_choice("lesson", lesson, IDENTITIES)
    check_number("eta", eta, low=0.0, high=flow_map.h_max, open_low=True)
    x, h = student_draw(backend, flow_map, N, seed, step, still, _dtype(theta))
    if lesson == "eulerian":
        steps = floor(float(flow_map.h_max) / float(eta) * (1 + 1e-12))  # h_max = N eta, rounded
        u = backend.noise_uniform(seed, Stream.STUDENT, step, 3 * np.arange(N) + 2, 1, x.dtype)[:, 0]  # (N,)
        for k in range(steps):
            goes_on = u * (steps + 1) > k + 1  # (N,): it takes ceil(u (steps + 1)) - 1 steps
            x = np.where(chain_column(goes_on, x), teacher_run(velocity, x, eta, 1), x)
    loss, grads, info = (eulerian if lesson == "eulerian" else lagrangian)(flow_map, theta, velocity, x, h)
    return loss, grads, info | {"x": x, "h": h}


def student_pairs(
    backend: ModuleType,
    flow_map: Any,
    velocity: Velocity,
    N: int,
    eta: float,
    seed: int,
    dtype: Any = np.float32,
    box: Box | None = None,
) -> Pairs:
    """x0 ~ N(0, I) and x_end, each (N, *shape): teacher_run from x0 for h_max, in equal steps of at most eta.

    backend: module with noise_normal   flow_map: FlowMap   velocity: v   N >= 1   eta: in (0, h_max]
    box: (low, high) of the teacher's states, None = none
    Raises DTypeError, ShapeError, RangeError, and NonFiniteError where the teacher diverges.
    """
    check_flow_map(flow_map)
    check_count("N", N, low=1)
    check_number("eta", eta, low=0.0, high=flow_map.h_max, open_low=True)
    check_choice("dtype", np.dtype(dtype).name, ("float32", "float64"))
    h = float(flow_map.h_max)
    steps = ceil(h / float(eta) * (1 - 1e-12))  # h_max = steps eta, rounded
    D, chains = flat_size(flow_map.shape), np.arange(N)
    x0 = backend.noise_normal(seed, Stream.STUDENT, LAST, chains, D, dtype).reshape((N, *flow_map.shape))
    blocks = [x0[i : i + BLOCK] for i in range(0, N, BLOCK)]
    x_end = np.concatenate([teacher_run(velocity, x, h / steps, steps, box) for x in blocks])  # (N, *shape)
    check_array("x_end", x_end, finite=isinstance(x_end, np.ndarray))
    return x0, x_end


def trajectory_step(
    backend: ModuleType, flow_map: Any, theta: Params, pairs: Pairs, N: int, seed: int, step: int
) -> tuple[Array, Params, Info]:
    """trajectory_regression at h = h_max of N of the pairs, drawn with replacement at Stream.STUDENT_INDEX.

    backend: module with noise_bits, noise_index   flow_map: Phi, a FlowMap   pairs: of student_pairs   N >= 1
    returns loss, grads, info; info adds idx (N,). Raises as trajectory_regression.
    """
    check_flow_map(flow_map)
    check_params("theta", theta)
    check_count("N", N, low=1)
    x0, x_end = pairs
    check_array("pairs[0]", x0, shape=(None, *flow_map.shape))
    check_array("pairs[1]", x_end, shape=x0.shape)
    bits = backend.noise_bits(seed, Stream.STUDENT_INDEX, step, np.arange(N), 1)[:, 0]  # (N,)
    idx = backend.noise_index(bits, x0.shape[0])  # (N,)
    loss, grads, info = trajectory_regression(flow_map, theta, x0[idx], x_end[idx], float(flow_map.h_max))
    return loss, grads, info | {"idx": idx}


def _dtype(theta: Params) -> Any:
    return next((value.dtype for value in theta.values()), np.dtype(np.float32))


def _check_still(still: float) -> None:
    check_number("still", still, low=0.0, high=1.0)
    if still == 1:
        raise RangeError("still: expected a number in [0, 1), found 1")
