"""Gradient penalty: how steep the energy may be at given points.

    gradient_penalty   P = mean_n (|g_n| - target)^2,  g_n = grad_x E(x_n)
                       grad_theta P = grad_theta sum_n v_n . grad_x E(x_n),  v_n = (2 / N) (1 - target / |g_n|) g_n
        target = 0     P = mean |grad_x E|^2, v_n = 2 g_n / N
        target = 1     P = mean (|grad_x E| - 1)^2: slopes of one

v is a constant: d(|g| - t)^2 = 2 (|g| - t) g^ . dg. Where g = 0 and target > 0 there is no direction, and v is 0.
Add `weight` times P and its gradient to any objective's; the points are the caller's: data, samples, or between them.

Source: Gulrajani et al. 2017, arXiv:1704.00028, eq. 3 (target 1); Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406,
eq. 9 (target 0 on data).
Level: 2. Twins: none; it works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts import Array, Energy2, Params, check_derivatives, check_number, flat_size
from .parts import Info, check_samples


def gradient_penalty(
    energy: Energy2, theta: Params, x: Array, target: float = 0.0, weight: float = 1.0
) -> tuple[Array, Params, Info]:
    """weight P,  P = mean_n (|grad_x E(x_n)| - target)^2, and its gradient in theta.

    x: (N, *shape)   target, weight >= 0   returns loss (), grads like theta, info: grad_norm (mean of |grad_x E|).
    Raises SmoothnessError, BackendError, ShapeError, DTypeError, RangeError.
    """
    check_derivatives("gradient_penalty", energy, "grad_theta_along")
    check_samples("x", x, energy)
    check_number("target", target, low=0.0)
    check_number("weight", weight, low=0.0)
    target, weight, N = float(target), float(weight), x.shape[0]
    g = energy.grad_x(theta, x)  # (N, *shape)
    rows = g.reshape((N, flat_size(x.shape[1:])))  # (N, D)
    norm = np.sqrt(np.sum(rows * rows, axis=1))  # (N,)
    some = norm > 0  # (N,)
    stretch = 1 - target / np.where(some, norm, np.ones_like(norm))  # (N,)
    v = rows * (np.where(some, stretch, np.zeros_like(norm)) * (2 * weight / N))[:, None]  # (N, D)
    grads = energy.grad_theta_along(theta, x, v.reshape(x.shape))
    loss: Any = weight * np.mean((norm - target) ** 2)  # ()
    return loss, grads, {"grad_norm": np.mean(norm)}
