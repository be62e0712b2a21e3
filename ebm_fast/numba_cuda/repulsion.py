"""Twin of `repulsion`: copies that push each other apart, energy and gradient.

What differs: a thread an element of a group's mean, then a thread an element of the gradient, then a thread a group for
W, which adds up copy by copy. Bytes: x three times, the gradient once. Deterministic.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ebm_ref.contracts import ShapeError, check_array, check_number

from .build import body, real
from .device import current, launch

# ---------------------------------------------------------------------------------- what a thread does


@body
def group_mean(i, x, mean):
    """mean[n, d] = sum_c x[n, c, d] / C, thread (n, d)."""
    _, C, D = x.shape
    n, d = i // D, i % D
    total = 0.0
    for c in range(C):
        total += x[n, c, d]
    mean[n, d] = total / real(C)


@body
def group_push(i, x, mean, strength, push):
    """push = -2 strength (x - mean), thread (n, c, d)."""
    _, C, D = x.shape
    n, c, d = i // (C * D), i // D % C, i % D
    push[n, c, d] = -2.0 * strength * (x[n, c, d] - mean[n, d])


@body
def group_energy(n, x, mean, strength, W):
    """W[n] = -strength sum_{c,d} (x[n, c, d] - mean[n, d])^2."""
    _, C, D = x.shape
    total = 0.0
    for c in range(C):
        part = 0.0
        for d in range(D):
            v = x[n, c, d] - mean[n, d]
            part += v * v
        total += part
    W[n] = -strength * total


# --------------------------------------------------------------------------------------- public


def repulsion(x: Any, tau: float, sigma: float) -> tuple[Any, Any]:
    """W = -(tau / sigma^2) sum_{i<j} |x_i - x_j|^2 and its gradient -(2 tau C / sigma^2) (x_i - m), of each group.

    x: (N, C, *shape), N groups of C >= 1 copies   tau >= 0   sigma > 0   returns W (N,) and the gradient, like x.
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x = dev.array("x", x)
    check_array("x", x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ShapeError(f"x: expected (N, C, *shape) with C >= 1, found {tuple(x.shape)}")
    check_number("tau", tau, low=0.0)
    check_number("sigma", sigma, low=0.0, open_low=True)
    N, C = x.shape[:2]
    flat, strength = x.reshape((N, C, prod(x.shape[2:]))), float(tau) * C / float(sigma) ** 2
    D = flat.shape[2]
    mean, W, push = dev.empty((N, D), x.dtype), dev.empty((N,), x.dtype), dev.empty((N, C, D), x.dtype)
    launch(group_mean, x.dtype, N * D, flat, mean)
    launch(group_push, x.dtype, N * C * D, flat, mean, strength, push)
    launch(group_energy, x.dtype, N, flat, mean, strength, W)
    return W, push.reshape(x.shape)
