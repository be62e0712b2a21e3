"""Maximum likelihood with exact negatives: every state, or every cell of a grid, takes part with its probability.

    maximum_likelihood  L = mean E(x_pos) + log Z, the negative log-likelihood;  log Z = log sum_s w_s exp(-E(points_s))
                        grad_theta L = mean grad_theta E(x_pos) - sum_s p_s grad_theta E(points_s)
                        p_s = w_s exp(-E(points_s)) / Z
    ml_step             the same as a training step
    quadrature_grid     midpoints of n cells in [low, high] along each of D axes, w = ((high - low) / n)^D

A list of all states, each of weight 1, makes the sum exact; so this is the gradient that CD-K approaches as K -> oo. On
a grid the sum is the midpoint rule, whose error falls faster than any power of the cell for an exp(-E) that is smooth
and has died out at the edge of the box: the likelihood is that of the model cut off there. D is 1 or 2.

Source: Hinton 2002, Training products of experts by minimizing contrastive divergence, eq. 3.
Level: 1. Twins: none; it works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from ..contracts import (
    Array,
    DTypeError,
    Energy,
    Params,
    RangeError,
    check_array,
    check_choice,
    check_count,
    check_number,
)
from ..specs import Box, check_box
from .parts import Info, check_samples

MOST_POINTS = 2**24


def maximum_likelihood(
    energy: Energy, theta: Params, x_pos: Array, points: Array, w: Array | None = None
) -> tuple[Array, Params, Info]:
    """L = mean E(x_pos) + log sum_s w_s exp(-E(points_s)) and its exact gradient in theta.

    x_pos: (N, *shape) data   points: (S, *shape) states or grid   w: (S,) weights > 0, None = 1 each
    returns loss (), grads like theta, info: log_z, energy_pos, energy_neg = sum_s p_s E(points_s),
    gap = energy_neg - energy_pos, p (S,). Raises ShapeError, DTypeError, RangeError, NonFiniteError. Non-finite
    energies give a non-finite loss, or NonFiniteError from an energy that refuses the weights that follow.
    """
    check_samples("x_pos", x_pos, energy)
    check_samples("points", points, energy)
    if points.dtype != x_pos.dtype:
        raise DTypeError(f"points: expected x_pos' {x_pos.dtype}, found {points.dtype}")
    N, S = x_pos.shape[0], points.shape[0]
    if w is not None:
        check_array("w", w, shape=(S,), finite=isinstance(w, np.ndarray))
        if isinstance(w, np.ndarray) and not bool((w > 0).all()):
            raise RangeError(f"w: expected weights above 0, found {w.min()}")
    e_pos = energy.energy(theta, x_pos)  # (N,)
    e_neg = energy.energy(theta, points)  # (S,)
    logs = -e_neg  # (S,)
    if w is not None:
        logs = logs + np.log(w)
    top = np.max(logs)  # ()
    mass = np.exp(logs - top)  # (S,)
    total = np.sum(mass)  # ()
    log_z = top + np.log(total)  # ()
    p = mass / total  # (S,)
    mean_pos, mean_neg = np.mean(e_pos), np.sum(p * e_neg)  # (), ()
    g_pos = energy.grad_theta(theta, x_pos, np.ones_like(e_pos) / N)
    g_neg = energy.grad_theta(theta, points, -p)
    grads = {name: g_pos[name] + g_neg[name] for name in g_pos}
    info = {"log_z": log_z, "energy_pos": mean_pos, "energy_neg": mean_neg, "gap": mean_neg - mean_pos, "p": p}
    return mean_pos + log_z, grads, info


def ml_step(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x: Array,
    points: Array,
    w: Array | None,
    seed: int,
    step: int,
) -> tuple[Array, Params, Info]:
    """`maximum_likelihood` on x. It draws nothing: backend, seed and step are there because every step has them."""
    check_samples("x", x, energy)
    return maximum_likelihood(energy, theta, x, points, w)


def quadrature_grid(box: Box, n: int, D: int, dtype: DTypeLike = np.float64) -> tuple[Array, Array]:
    """points_i = low + (i + 1/2) (high - low) / n along each axis, w = ((high - low) / n)^D.

    box: (low, high)   n >= 1 cells an axis   D: 1 or 2   returns points (n^D, D), w (n^D,) in `dtype`.
    Raises RangeError, DTypeError.
    """
    check_box(box)
    if box is None:
        raise RangeError("box: expected (low, high), found None")
    check_count("D", D, low=1, high=2)
    check_count("n", n, low=1)
    check_number("n^D", float(n) ** D, low=1, high=MOST_POINTS)
    check_choice("dtype", np.dtype(dtype).name, ("float32", "float64"))
    cell = (float(box[1]) - float(box[0])) / n
    axis = float(box[0]) + (np.arange(n) + 0.5) * cell  # (n,)
    points = np.stack(np.meshgrid(*[axis] * D, indexing="ij"), axis=-1).reshape((n**D, D))  # (n^D, D)
    return points.astype(dtype), np.full(n**D, cell**D, dtype)
