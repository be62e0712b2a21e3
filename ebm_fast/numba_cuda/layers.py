"""Activations, pools, upsampling and jets: the layers between convolutions, a thread an element.

    activation   y = phi(x), dx = dy phi'(x): of jets, y_1 = phi' x_1 and dx_1 = dy_1 phi' + dy_0 phi'' x_1
    pool         y[n, c] = (1 / count) sum over the pixels; its backward spreads dy / count
    upsample     y[n, p, q, c] = x[n, p // 2, q // 2, c]; its backward adds the four pixels that one became
    jets         x + s v as [x, v] on a last axis; a cotangent [w, 0]

Bytes: each element read once, written once. Deterministic.
"""

from __future__ import annotations

from ebm_ref.specs import ACTIVATIONS

from ..scalar import (
    INV_SQRT_2,
    INV_SQRT_2PI,
    LEAK,
    gelu,
    gelu_bend,
    gelu_slope,
    silu,
    silu_bend,
    silu_slope,
    softplus_bend,
    tanh_bend,
    tanh_slope,
)
from .build import ORDER, body
from .maths import erf, exp, log1p, tanh

SILU, GELU, SOFTPLUS, TANH, RELU = (ACTIVATIONS.index(k) for k in ("silu", "gelu", "softplus", "tanh", "relu"))


def activation_of(kind, x):
    """phi, phi' and phi'' at x; an exponential is of a negative number, so none overflows."""
    if kind == SILU or kind == SOFTPLUS:
        tail = exp(-abs(x))
        s = (1.0 if x >= 0.0 else tail) / (1.0 + tail)
        if kind == SILU:
            return silu(x, s), silu_slope(x, s), silu_bend(x, s)
        return (x if x >= 0.0 else 0.0) + log1p(tail), s, softplus_bend(s)
    if kind == GELU:
        c, p = 0.5 * (1.0 + erf(x * INV_SQRT_2)), exp(-0.5 * x * x) * INV_SQRT_2PI
        return gelu(x, c), gelu_slope(x, c, p), gelu_bend(x, p) if p > 0.0 else 0.0
    if kind == TANH:
        t = tanh(x)
        return t, tanh_slope(t), tanh_bend(t)
    leak = 0.0 if kind == RELU else LEAK
    if x > 0.0:
        return x, 1.0, 0.0
    return leak * x, leak, 0.0


@body
def activation_y(i, kind, x, y):
    """y = phi(x). x, y: (T, ORDER + 1)."""
    value, slope, _ = activation_of(kind, x[i, 0])
    y[i, 0] = value
    if ORDER == 1:
        y[i, 1] = slope * x[i, 1]


@body
def activation_dx(i, kind, x, dy, dx):
    """dx = dy phi'(x). x, dy, dx: (T, ORDER + 1)."""
    _, slope, bend = activation_of(kind, x[i, 0])
    dx[i, 0] = dy[i, 0] * slope
    if ORDER == 1:
        dx[i, 1] = dy[i, 1] * slope + dy[i, 0] * bend * x[i, 1]


@body
def pool_y(i, x, count, y):
    """y[n, e] = (1 / count) sum_l x[n, l, e], thread (n, e): e is a channel and a coefficient."""
    E = y.shape[1]
    n, e = i // E, i % E
    total = 0.0
    for l in range(x.shape[1]):
        total += x[n, l, e]
    y[n, e] = total / count


@body
def pool_dx(i, dy, count, dx):
    """dx[n, l, e] = dy[n, e] / count, thread (n, l, e)."""
    _, L, E = dx.shape
    n, l, e = i // (E * L), i // E % L, i % E
    dx[n, l, e] = dy[n, e] / count


@body
def upsample_y(i, x, y):
    """y[n, p, q, e] = x[n, p // 2, q // 2, e], thread (n, p, q, e): e is a channel and a coefficient."""
    _, P, Q, E = y.shape
    n, p, q, e = i // (E * Q * P), i // (E * Q) % P, i // E % Q, i % E
    y[n, p, q, e] = x[n, p // 2, q // 2, e]


@body
def upsample_dx(i, dy, dx):
    """dx[n, h, w, e] = sum_{a,b} dy[n, 2h + a, 2w + b, e], a, b = 0, 1, thread (n, h, w, e)."""
    _, H, W, E = dx.shape
    n, h, w, e = i // (E * W * H), i // (E * W) % H, i // E % W, i % E
    upper = dy[n, 2 * h, 2 * w, e] + dy[n, 2 * h, 2 * w + 1, e]
    lower = dy[n, 2 * h + 1, 2 * w, e] + dy[n, 2 * h + 1, 2 * w + 1, e]
    dx[n, h, w, e] = upper + lower


@body
def add_to(i, x, y):
    """y += x."""
    y[i] += x[i]


@body
def jet_pair(i, x, v, jets):
    """jets[i] = [x, v]."""
    jets[i, 0] = x[i]
    jets[i, 1] = v[i]


@body
def jet_value(i, jets, out):
    """out[i] = coefficient 0."""
    out[i] = jets[i, 0]


@body
def jet_tangent(i, jets, out):
    """out[i] = coefficient 1."""
    out[i] = jets[i, 1]


@body
def jet_ones(i, jets):
    """jets[i] = [1] or [1, 0]."""
    jets[i, 0] = 1.0
    if ORDER == 1:
        jets[i, 1] = 0.0
