"""Logarithm of a sum of exponentials.

    logsumexp_forward:   y = log sum_i e^{x_i} = m + log sum_i e^{x_i - m},  m = max_i x_i
    logsumexp_backward:  dx_i = dy e^{x_i} / sum_j e^{x_j} = dy e^{x_i - y}

The identity holds for every constant m, so m may be taken from order 0 of a series; with the maximum no
exponential exceeds 1 and their sum is at least 1.

Source: Blanchard, Higham & Higham 2021, Accurately computing the log-sum-exp and softmax functions, eq. 1.3.
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: none of its own (inside the fast energies).
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, check_array
from ..jet import jet_coefficient


def logsumexp_forward(x: Array, axis: int = -1) -> Array:
    """y = log sum_i e^{x_i} along `axis`.

    x: any shape, finite   returns y: x without that axis. Raises DTypeError.
    """
    check_array("x", x)
    m = jet_coefficient(x, 0).max(axis=axis, keepdims=True)  # x with size 1 along axis
    total = np.sum(np.exp(x - m), axis=axis)  # x without axis
    y: Array = np.log(total) + m.squeeze(axis)
    return y


def logsumexp_backward(x: Array, dy: Array, axis: int = -1) -> Array:
    """dx_i = dy e^{x_i - y}.

    x: any shape, finite   dy: x without `axis`   returns dx like x. Raises ShapeError, DTypeError.
    """
    y = logsumexp_forward(x, axis)
    check_array("dy", dy, shape=y.shape)
    softmax = np.exp(x - np.expand_dims(y, axis))  # like x
    dx: Array = np.expand_dims(dy, axis) * softmax
    return dx
