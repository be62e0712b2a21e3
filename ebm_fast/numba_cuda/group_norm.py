"""Twin of `group_norm`: normalisation per sample and group, forwards and backwards.

What differs: a thread a group for the statistics (mean and r = 1 / sqrt(var + eps), the variance about the mean in
a second pass), then a thread an element; dgamma and dbeta by a thread a channel and part of the batch, parts added
in order. Bytes: x read three times and y written once forwards. Deterministic.

Activations carry their jets: x is (N, L, C, ORDER + 1), coefficients of x + s v, and so do the statistics.
With a = x - mean and m numbers in a group, the first coefficients are
    mean_1 = sum x_1 / m,  var_1 = sum 2 a_0 a_1 / m,  r_1 = -r_0^3 var_1 / 2,  x_hat_1 = a_1 r_0 + a_0 r_1.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ebm_ref.contracts import check_array

from ..checks import check_like, check_norm, check_same_dtype
from .build import ORDER, body, real
from .conv2d import add_parts, parts_of
from .device import current, launch
from .maths import sqrt


def hat(x, stats, n, l, c):
    """x_hat = (x - mean) r at (n, l, c): two coefficients, the second 0 for ORDER 0."""
    g = c // (x.shape[2] // stats.shape[1])
    a, r = x[n, l, c, 0] - stats[n, g, 0, 0], stats[n, g, 1, 0]
    if ORDER == 1:
        return a * r, (x[n, l, c, 1] - stats[n, g, 0, 1]) * r + a * stats[n, g, 1, 1]
    return a * r, 0.0


# ---------------------------------------------------------------------------------- what a thread does


@body
def norm_stats(i, x, eps, stats):
    """stats[n, g] = mean and r of group g of sample n. stats: (N, G, 2, ORDER + 1)."""
    _, L, C, _ = x.shape
    G = stats.shape[1]
    n, g = i // G, i % G
    first, last, m = g * (C // G), (g + 1) * (C // G), real(L * (C // G))
    mean, mean_1 = 0.0, 0.0
    for l in range(L):
        for c in range(first, last):
            mean += x[n, l, c, 0]
            if ORDER == 1:
                mean_1 += x[n, l, c, 1]
    mean, mean_1 = mean / m, mean_1 / m
    var, var_1 = 0.0, 0.0
    for l in range(L):
        for c in range(first, last):
            a = x[n, l, c, 0] - mean
            var += a * a
            if ORDER == 1:
                var_1 += 2.0 * a * (x[n, l, c, 1] - mean_1)
    r = 1.0 / sqrt(var / m + eps)
    stats[n, g, 0, 0], stats[n, g, 1, 0] = mean, r
    if ORDER == 1:
        stats[n, g, 0, 1], stats[n, g, 1, 1] = mean_1, -0.5 * r * r * r * (var_1 / m)


@body
def norm_y(i, x, stats, gamma, beta, y):
    """y = gamma x_hat + beta, thread (n, l, c)."""
    _, L, C, _ = x.shape
    n, l, c = i // (C * L), i // C % L, i % C
    x_hat, x_hat_1 = hat(x, stats, n, l, c)
    y[n, l, c, 0] = gamma[c] * x_hat + beta[c]
    if ORDER == 1:
        y[n, l, c, 1] = gamma[c] * x_hat_1


@body
def norm_sums(i, x, stats, gamma, dy, sums):
    """sums[n, g] = mean of d and of d x_hat over group g of sample n, with d = gamma dy. sums: like stats."""
    _, L, C, _ = x.shape
    G = stats.shape[1]
    n, g = i // G, i % G
    first, last, m = g * (C // G), (g + 1) * (C // G), real(L * (C // G))
    mean, mean_1, slope, slope_1 = 0.0, 0.0, 0.0, 0.0
    for l in range(L):
        for c in range(first, last):
            x_hat, x_hat_1 = hat(x, stats, n, l, c)
            d = gamma[c] * dy[n, l, c, 0]
            mean += d
            slope += d * x_hat
            if ORDER == 1:
                d_1 = gamma[c] * dy[n, l, c, 1]
                mean_1 += d_1
                slope_1 += d_1 * x_hat + d * x_hat_1
    sums[n, g, 0, 0], sums[n, g, 1, 0] = mean / m, slope / m
    if ORDER == 1:
        sums[n, g, 0, 1], sums[n, g, 1, 1] = mean_1 / m, slope_1 / m


@body
def norm_dx(i, x, stats, gamma, dy, sums, dx):
    """dx = r (d - mean(d) - x_hat mean(d x_hat)), d = gamma dy, thread (n, l, c)."""
    _, L, C, _ = x.shape
    n, l, c = i // (C * L), i // C % L, i % C
    g = c // (C // stats.shape[1])
    x_hat, x_hat_1 = hat(x, stats, n, l, c)
    r, slope = stats[n, g, 1, 0], sums[n, g, 1, 0]
    d = gamma[c] * dy[n, l, c, 0] - sums[n, g, 0, 0] - x_hat * slope
    dx[n, l, c, 0] = r * d
    if ORDER == 1:
        d_1 = gamma[c] * dy[n, l, c, 1] - sums[n, g, 0, 1] - x_hat_1 * slope - x_hat * sums[n, g, 1, 1]
        dx[n, l, c, 1] = r * d_1 + stats[n, g, 1, 1] * d


@body
def norm_params(i, x, stats, dy, each, parts):
    """parts[t, 0, c] = sum dy x_hat, parts[t, 1, c] = sum dy over part t: the highest coefficients."""
    C = x.shape[2]
    t, c = i // C, i % C
    dgamma, dbeta = 0.0, 0.0
    for n in range(t * each, min(x.shape[0], (t + 1) * each)):
        for l in range(x.shape[1]):
            x_hat, x_hat_1 = hat(x, stats, n, l, c)
            dgamma += dy[n, l, c, ORDER] * x_hat
            if ORDER == 1:
                dgamma += dy[n, l, c, 0] * x_hat_1
            dbeta += dy[n, l, c, ORDER]
    parts[t, 0, c], parts[t, 1, c] = dgamma, dbeta


# --------------------------------------------------------------------------------------- launches


def norm_apply_stats(x: Any, G: int, eps: float) -> Any:
    """Statistics of jets x (N, L, C, J), as (N, G, 2, J)."""
    stats = current().empty((x.shape[0], G, 2, x.shape[3]), x.dtype)
    launch(norm_stats, x.dtype, x.shape[0] * G, x, float(eps), stats, order=x.shape[3] - 1)
    return stats


def norm_apply(x: Any, gamma: Any, beta: Any, G: int, eps: float) -> Any:
    """y, jets like x (N, L, C, J)."""
    stats, y = norm_apply_stats(x, G, eps), current().empty(x.shape, x.dtype)
    launch(norm_y, x.dtype, x.size // x.shape[3], x, stats, gamma, beta, y, order=x.shape[3] - 1)
    return y


def norm_apply_back(x: Any, gamma: Any, dy: Any, G: int, eps: float, params: bool) -> tuple[Any, Any]:
    """dx, jets like x, and (2, C): the highest coefficients of dgamma and dbeta, None unless `params`."""
    stats, order = norm_apply_stats(x, G, eps), x.shape[3] - 1
    sums, dx = current().empty(stats.shape, x.dtype), current().empty(x.shape, x.dtype)
    launch(norm_sums, x.dtype, x.shape[0] * G, x, stats, gamma, dy, sums, order=order)
    launch(norm_dx, x.dtype, x.size // x.shape[3], x, stats, gamma, dy, sums, dx, order=order)
    if not params:
        return dx, None
    each, T = parts_of(x.shape[0])
    parts = current().empty((T, 2, x.shape[2]), x.dtype)
    launch(norm_params, x.dtype, T * x.shape[2], x, stats, dy, each, parts, order=order)
    return dx, add_parts(parts)


# --------------------------------------------------------------------------------------- public


def pixels(x: Any) -> Any:
    """(N, ..., C) as jets (N, L, C, 1)."""
    return x.reshape(x.shape[0], prod(x.shape[1:-1]), x.shape[-1], 1)


def group_norm_forward(x: Any, gamma: Any, beta: Any, groups: int, eps: float = 1e-5) -> Any:
    """y = gamma (x - mean) / sqrt(var + eps) + beta.

    x: (N, ..., C); gamma, beta: (C,); returns like x. Mean and biased variance of each sample and group, over
    all axes but N and the C / groups channels of the group. Raises ShapeError, DTypeError, RangeError.
    Wu & He 2018, eq. 1-7.
    """
    dev = current()
    x, gamma, beta = dev.array("x", x), dev.array("gamma", gamma), dev.array("beta", beta)
    check_norm(x, gamma, groups, eps)
    check_array("beta", beta, shape=gamma.shape)
    check_same_dtype("beta", beta, x)
    return norm_apply(pixels(x), gamma, beta, int(groups), eps).reshape(x.shape)


def group_norm_backward(x: Any, gamma: Any, dy: Any, groups: int, eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps), g = gamma dy; dgamma = sum dy xhat, dbeta = sum dy.

    x, dy: (N, ..., C); gamma: (C,); returns like x, (C,), (C,). Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x, gamma, dy = dev.array("x", x), dev.array("gamma", gamma), dev.array("dy", dy)
    check_norm(x, gamma, groups, eps)
    check_like("dy", dy, x)
    dx, params = norm_apply_back(pixels(x), gamma, pixels(dy), int(groups), eps, params=True)
    return dx.reshape(x.shape), params[0], params[1]
