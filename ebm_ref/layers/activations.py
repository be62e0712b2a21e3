"""Activations, element by element: y = phi(x), dx = dy phi'(x).

    relu:        phi = max(x, 0)                       phi' = [x > 0]
    leaky_relu:  phi = x if x > 0 else slope x         phi' = 1 if x > 0 else slope
    silu:        phi = x sigma(x)                      phi' = sigma (1 + x (1 - sigma))
    gelu:        phi = x Phi(x)                        phi' = Phi + x exp(-x^2/2) / sqrt(2 pi)
    softplus:    phi = log(1 + e^x)                    phi' = sigma
    tanh:        phi = tanh x                          phi' = 1 - tanh^2 x

with sigma(x) = 1 / (1 + e^-x) and Phi(x) = (1 + erf(x / sqrt 2)) / 2. No exponential of a positive number is
taken, so none overflows:
    sigma(x) = (1 if x >= 0 else e^-|x|) / (1 + e^-|x|),   softplus(x) = max(x, 0) + log(1 + e^-|x|).

Source: Hendrycks & Gimpel 2016 (gelu, silu); Maas et al. 2013 (leaky_relu); Dugas et al. 2001 (softplus).
Works on arrays and, for the energies' levels 2 and 3, on Jets: there relu and leaky_relu take the branch of the
point, which is why energies refuse them above level 1.
Twins: none of their own (inside the fast energies).
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ..contracts import Array, check_array, check_choice
from ..jet import erf
from ..specs import ACTIVATIONS


def sigmoid(x: Array) -> Array:
    """sigma(x) = 1 / (1 + e^-x), to full relative precision on both sides."""
    tail = np.exp(-np.abs(x))
    y: Array = np.where(x >= 0, np.ones_like(tail), tail) / (1 + tail)
    return y


def relu_forward(x: Array) -> Array:
    """y = max(x, 0)."""
    return np.where(x > 0, x, np.zeros_like(x))


def relu_backward(x: Array, dy: Array) -> Array:
    """dx = dy [x > 0]."""
    return np.where(x > 0, dy, np.zeros_like(dy))


def leaky_relu_forward(x: Array, slope: float = 0.2) -> Array:
    """y = x if x > 0 else slope x."""
    return np.where(x > 0, x, slope * x)


def leaky_relu_backward(x: Array, dy: Array, slope: float = 0.2) -> Array:
    """dx = dy if x > 0 else slope dy."""
    return np.where(x > 0, dy, slope * dy)


def silu_forward(x: Array) -> Array:
    """y = x sigma(x)."""
    return x * sigmoid(x)


def silu_backward(x: Array, dy: Array) -> Array:
    """dx = dy sigma (1 + x (1 - sigma))."""
    s = sigmoid(x)
    dx: Array = dy * s * (1 + x * (1 - s))
    return dx


def gelu_forward(x: Array) -> Array:
    """y = x Phi(x), with the exact erf."""
    y: Array = x * (0.5 * (1 + erf(x / sqrt(2))))
    return y


def gelu_backward(x: Array, dy: Array) -> Array:
    """dx = dy (Phi(x) + x exp(-x^2/2) / sqrt(2 pi))."""
    bell = np.exp(-0.5 * x * x) / sqrt(2 * pi)
    dx: Array = dy * (0.5 * (1 + erf(x / sqrt(2))) + x * bell)
    return dx


def softplus_forward(x: Array) -> Array:
    """y = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return np.where(x >= 0, x, np.zeros_like(x)) + np.log1p(np.exp(-np.abs(x)))


def softplus_backward(x: Array, dy: Array) -> Array:
    """dx = dy sigma(x)."""
    return dy * sigmoid(x)


def tanh_forward(x: Array) -> Array:
    """y = tanh x."""
    return np.tanh(x)


def tanh_backward(x: Array, dy: Array) -> Array:
    """dx = dy (1 - tanh^2 x)."""
    y = np.tanh(x)
    dx: Array = dy * (1 - y * y)
    return dx


FORWARD = {
    "relu": relu_forward,
    "leaky_relu": leaky_relu_forward,
    "silu": silu_forward,
    "gelu": gelu_forward,
    "softplus": softplus_forward,
    "tanh": tanh_forward,
}
BACKWARD = {
    "relu": relu_backward,
    "leaky_relu": leaky_relu_backward,
    "silu": silu_backward,
    "gelu": gelu_backward,
    "softplus": softplus_backward,
    "tanh": tanh_backward,
}


def activation_forward(x: Array, name: str) -> Array:
    """y = phi(x), phi by name.

    x: any shape   name: one of specs.ACTIVATIONS   returns y like x. Raises DTypeError, RangeError.
    """
    check_choice("name", name, ACTIVATIONS)
    check_array("x", x)
    return FORWARD[name](x)


def activation_backward(x: Array, dy: Array, name: str) -> Array:
    """dx = dy phi'(x), phi by name.

    x, dy: one shape   name: one of specs.ACTIVATIONS   returns dx like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_choice("name", name, ACTIVATIONS)
    check_array("x", x)
    check_array("dy", dy, shape=x.shape)
    return BACKWARD[name](x, dy)
