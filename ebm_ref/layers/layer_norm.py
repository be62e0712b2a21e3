"""Layer normalisation over the D features of each sample.

    layer_norm_forward:   mean = (1/D) sum x,  var = (1/D) sum (x - mean)^2,  r = 1 / sqrt(var + eps)
                          x_hat = (x - mean) r,   y = gamma x_hat + beta
    layer_norm_backward:  dx_hat = dy gamma
                          dx = r (dx_hat - (1/D) sum dx_hat - x_hat (1/D) sum dx_hat x_hat)
                          dgamma = sum_n dy x_hat,   dbeta = sum_n dy

The derivation of dx is group_norm's, with one group of D numbers.

Source: Ba, Kiros & Hinton 2016, Layer Normalization, eq. 3. The variance is biased (divides by D).
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: none of its own (inside the fast energies).
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, check_array, check_number


def layer_norm_forward(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> Array:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, mean and var per sample.

    x: (N, D)   gamma, beta: (D,)   returns y: (N, D). Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, gamma, eps)
    check_array("beta", beta, shape=gamma.shape)
    x_hat, _ = _normalise(x, eps)
    return gamma * x_hat + beta


def layer_norm_backward(x: Array, gamma: Array, dy: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """dx = r (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)),  dgamma = sum dy x_hat,  dbeta = sum dy.

    x, dy: (N, D)   gamma: (D,)   returns dx (N, D), dgamma (D,), dbeta (D,). Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, gamma, eps)
    check_array("dy", dy, shape=x.shape)
    x_hat, r = _normalise(x, eps)
    dgamma = (dy * x_hat).sum(axis=0)  # (D,)
    dbeta = dy.sum(axis=0)  # (D,)
    dx_hat = dy * gamma
    mean = np.mean(dx_hat, axis=1, keepdims=True)  # (N, 1)
    slope = np.mean(dx_hat * x_hat, axis=1, keepdims=True)  # (N, 1)
    dx = r * (dx_hat - mean - x_hat * slope)
    return dx, dgamma, dbeta


def _normalise(x: Array, eps: float) -> tuple[Array, Array]:
    """x_hat = (x - mean) r, (N, D), and r = 1/sqrt(var + eps), (N, 1)."""
    centred = x - np.mean(x, axis=1, keepdims=True)
    var = np.mean(centred * centred, axis=1, keepdims=True)  # (N, 1)
    r = 1 / np.sqrt(var + eps)
    return centred * r, r


def _check(x: Array, gamma: Array, eps: float) -> None:
    check_array("x", x, ndim=2)
    check_array("gamma", gamma, shape=(x.shape[1],))
    check_number("eps", eps, low=0.0, open_low=True)
