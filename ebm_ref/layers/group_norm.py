"""Group normalisation.

Over the L pixels and C/G channels of one sample's group, m = L C/G numbers:

    group_norm_forward:   mean = (1/m) sum x,  var = (1/m) sum (x - mean)^2,  r = 1 / sqrt(var + eps)
                          x_hat = (x - mean) r,   y = gamma x_hat + beta
    group_norm_backward:  dx_hat = dy gamma
                          dx = r (dx_hat - (1/m) sum dx_hat - x_hat (1/m) sum dx_hat x_hat)
                          dgamma = sum_{n,l} dy x_hat,   dbeta = sum_{n,l} dy

dx, in steps: dvar = sum dx_hat (x - mean) (-r^3/2);  dmean = -r sum dx_hat (the var term of dmean is 0, since
sum (x - mean) = 0);  dx = r dx_hat + dvar 2 (x - mean)/m + dmean/m.

Source: Wu & He 2018, Group Normalization, eqs. 1, 2, 6, 7. The variance is biased (divides by m).
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..contracts import Array, RangeError, ShapeError, check_array, check_count, check_number


def group_norm_forward(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> Array:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, mean and var per sample and group.

    x: (N, ..., C)   gamma, beta: (C,)   groups: G, divides C   returns y like x.
    Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, gamma, groups, eps)
    check_array("beta", beta, shape=gamma.shape)
    x_hat, _ = _normalise(x, groups, eps)  # (N, L, G, C/G)
    return gamma * x_hat.reshape(x.shape) + beta  # (N, ..., C)


def group_norm_backward(
    x: Array, gamma: Array, dy: Array, groups: int, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """dx = r (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)),  dgamma = sum dy x_hat,  dbeta = sum dy.

    x: (N, ..., C)   gamma: (C,)   dy: like x   returns dx like x, dgamma (C,), dbeta (C,).
    Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, gamma, groups, eps)
    check_array("dy", dy, shape=x.shape)
    pixels = tuple(range(x.ndim - 1))
    x_hat, r = _normalise(x, groups, eps)  # (N, L, G, C/G), (N, 1, G, 1)
    dgamma = (dy * x_hat.reshape(x.shape)).sum(axis=pixels)  # (C,)
    dbeta = dy.sum(axis=pixels)  # (C,)
    dx_hat = (dy * gamma).reshape(x_hat.shape)  # (N, L, G, C/G)
    mean = np.mean(dx_hat, axis=(1, 3), keepdims=True)  # (N, 1, G, 1)
    slope = np.mean(dx_hat * x_hat, axis=(1, 3), keepdims=True)  # (N, 1, G, 1)
    dx = r * (dx_hat - mean - x_hat * slope)
    return dx.reshape(x.shape), dgamma, dbeta  # (N, ..., C)


def _normalise(x: Array, groups: int, eps: float) -> tuple[Array, Array]:
    """x_hat = (x - mean) r, (N, L, G, C/G), and r = 1/sqrt(var + eps), (N, 1, G, 1)."""
    N, L, C = x.shape[0], prod(x.shape[1:-1]), x.shape[-1]
    x = x.reshape((N, L, groups, C // groups))  # (N, L, G, C/G)
    centred = x - np.mean(x, axis=(1, 3), keepdims=True)
    var = np.mean(centred * centred, axis=(1, 3), keepdims=True)  # (N, 1, G, 1)
    r = 1 / np.sqrt(var + eps)
    return centred * r, r


def _check(x: Array, gamma: Array, groups: int, eps: float) -> None:
    check_array("x", x)
    if x.ndim < 2 or min(x.shape[1:]) < 1:
        raise ShapeError(f"x: expected shape (N, ..., C), found {tuple(x.shape)}")
    check_array("gamma", gamma, shape=(x.shape[-1],))
    check_count("groups", groups, low=1)
    check_number("eps", eps, low=0.0, open_low=True)
    if x.shape[-1] % groups:
        raise RangeError(f"groups: expected a divisor of the {x.shape[-1]} channels, found {groups}")
