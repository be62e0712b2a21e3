"""Global pooling over the pixels of each channel.

    mean_pool_forward:   y[n,c] = (1 / (H W)) sum_{h,w} x[n,h,w,c]
    mean_pool_backward:  dx[n,h,w,c] = dy[n,c] / (H W)
    sum_pool_forward:    y[n,c] = sum_{h,w} x[n,h,w,c]
    sum_pool_backward:   dx[n,h,w,c] = dy[n,c]

Source: Lin, Chen & Yan 2014, Network In Network, section 3.2 (mean); the sum makes an energy extensive in the pixels.
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: none of their own (inside the fast energies).
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, check_array, check_choice
from ..specs import POOLS


def mean_pool_forward(x: Array) -> Array:
    """y[n,c] = (1 / (H W)) sum_{h,w} x[n,h,w,c].

    x: (N, H, W, C)   returns y: (N, C). Raises ShapeError, DTypeError.
    """
    check_array("x", x, ndim=4)
    y: Array = x.mean(axis=(1, 2))  # (N, C)
    return y


def mean_pool_backward(x: Array, dy: Array) -> Array:
    """dx[n,h,w,c] = dy[n,c] / (H W).

    x: (N, H, W, C)   dy: (N, C)   returns dx: (N, H, W, C). Raises ShapeError, DTypeError.
    """
    return sum_pool_backward(x, dy / (x.shape[1] * x.shape[2]))


def sum_pool_forward(x: Array) -> Array:
    """y[n,c] = sum_{h,w} x[n,h,w,c].

    x: (N, H, W, C)   returns y: (N, C). Raises ShapeError, DTypeError.
    """
    check_array("x", x, ndim=4)
    y: Array = x.sum(axis=(1, 2))  # (N, C)
    return y


def sum_pool_backward(x: Array, dy: Array) -> Array:
    """dx[n,h,w,c] = dy[n,c].

    x: (N, H, W, C)   dy: (N, C)   returns dx: (N, H, W, C). Raises ShapeError, DTypeError.
    """
    check_array("x", x, ndim=4)
    check_array("dy", dy, shape=(x.shape[0], x.shape[3]))
    return np.broadcast_to(dy[:, None, None, :], x.shape)  # (N, H, W, C)


def pool_forward(x: Array, kind: str) -> Array:
    """The pool named `kind`: "mean" or "sum". x: (N, H, W, C), returns (N, C). Raises also RangeError."""
    check_choice("kind", kind, POOLS)
    return mean_pool_forward(x) if kind == "mean" else sum_pool_forward(x)


def pool_backward(x: Array, dy: Array, kind: str) -> Array:
    """Backward of the pool named `kind`. x: (N, H, W, C), dy: (N, C), returns like x. Raises also RangeError."""
    check_choice("kind", kind, POOLS)
    return mean_pool_backward(x, dy) if kind == "mean" else sum_pool_backward(x, dy)
