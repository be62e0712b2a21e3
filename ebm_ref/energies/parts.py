"""The parts that the convolutional energies share, each a forward and a backward over the tape.

    conv_norm:  group_norm(conv2d(x))
    skip:       x, or a 1x1 convolution of x where theta holds one
    head:       act(linear(pool(x))), C -> C/2, under the layer `out` of network.py

Source: the layers' own files. Level: serves 1, 2 and 3. Twins: none of their own (inside the fast energies).
"""

from __future__ import annotations

from typing import Any

from ..contracts import Params
from ..layers import (
    activation_backward,
    activation_forward,
    conv2d_backward,
    conv2d_forward,
    group_norm_backward,
    group_norm_forward,
    linear_backward,
    linear_forward,
    pool_backward,
    pool_forward,
)
from .base import Tape
from .network import Grads


def conv_norm_forward(
    theta: Params, conv: str, norm: str, tape: Tape, x: Any, *, stride: int, padding: str, groups: int
) -> Any:
    """group_norm(conv2d(x)) with parameters `conv`.w .b and `norm`.gamma .beta. x: (N, H, W, C) -> (N, P, Q, O)."""
    tape.append(x)
    h = conv2d_forward(x, theta[f"{conv}.w"], theta[f"{conv}.b"], stride, padding)  # (N, P, Q, O)
    tape.append(h)
    return group_norm_forward(h, theta[f"{norm}.gamma"], theta[f"{norm}.beta"], groups)


def conv_norm_backward(
    theta: Params, conv: str, norm: str, tape: Tape, grads: Grads, dy: Any, *, stride: int, padding: str, groups: int
) -> Any:
    """dx of group_norm(conv2d(x)). dy: (N, P, Q, O) -> (N, H, W, C)."""
    gamma, w = theta[f"{norm}.gamma"], theta[f"{conv}.w"]
    dh, grads[f"{norm}.gamma"], grads[f"{norm}.beta"] = group_norm_backward(tape.pop(), gamma, dy, groups)
    dx, grads[f"{conv}.w"], grads[f"{conv}.b"] = conv2d_backward(tape.pop(), w, dh, stride, padding)  # (N, H, W, C)
    return dx


def skip_forward(theta: Params, name: str, tape: Tape, x: Any, *, stride: int) -> Any:
    """x, or conv2d(x) with `name`.w (1, 1, C, O). x: (N, H, W, C) -> (N, P, Q, O)."""
    if f"{name}.w" not in theta:
        return x
    tape.append(x)
    return conv2d_forward(x, theta[f"{name}.w"], theta[f"{name}.b"], stride)  # (N, P, Q, O)


def skip_backward(theta: Params, name: str, tape: Tape, grads: Grads, dy: Any, *, stride: int) -> Any:
    """dx of the skip. dy: (N, P, Q, O) -> (N, H, W, C)."""
    if f"{name}.w" not in theta:
        return dy
    dx, grads[f"{name}.w"], grads[f"{name}.b"] = conv2d_backward(tape.pop(), theta[f"{name}.w"], dy, stride)
    return dx  # (N, H, W, C)


def head_forward(theta: Params, tape: Tape, x: Any, *, pool: str, activation: str) -> Any:
    """act(linear(pool(x))). x: (N, P, Q, C) -> (N, C/2)."""
    tape.append(x)
    h = pool_forward(x, pool)  # (N, C)
    tape.append(h)
    h = linear_forward(h, theta["head.w"], theta["head.b"])  # (N, C/2)
    tape.append(h)
    return activation_forward(h, activation)  # (N, C/2)


def head_backward(theta: Params, tape: Tape, grads: Grads, dy: Any, *, pool: str, activation: str) -> Any:
    """dx of the head. dy: (N, C/2) -> (N, P, Q, C)."""
    dh = activation_backward(tape.pop(), dy, activation)
    dh, grads["head.w"], grads["head.b"] = linear_backward(tape.pop(), theta["head.w"], dh)  # (N, C)
    return pool_backward(tape.pop(), dh, pool)  # (N, P, Q, C)
