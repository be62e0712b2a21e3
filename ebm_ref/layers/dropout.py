"""Inverted dropout, with the uniforms as an argument.

    dropout_forward:   y = x [u > rate] / (1 - rate)      (deterministic: y = x)
    dropout_backward:  dx = dy [u > rate] / (1 - rate)    (deterministic: dx = dy)

P(u > rate) = 1 - rate, so E[y] = x and nothing changes when the layer is switched to deterministic.

Source: Srivastava et al. 2014, Dropout, section 10 (scaling at training time).
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: none.
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, RangeError, check_array, check_number


def dropout_forward(x: Array, u: Array, rate: float, deterministic: bool) -> Array:
    """y = x [u > rate] / (1 - rate), or x when deterministic.

    x, u: one shape   rate: in [0, 1)   returns y like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    check_array("u", u, shape=x.shape)
    check_number("rate", rate, low=0.0, high=1.0)
    if rate == 1:
        raise RangeError("rate: expected a number in [0, 1), found 1")
    if deterministic:
        return x
    return np.where(u > rate, x / (1 - rate), np.zeros_like(x))


def dropout_backward(dy: Array, u: Array, rate: float, deterministic: bool) -> Array:
    """dx = dy [u > rate] / (1 - rate), or dy when deterministic: the layer is linear and its own transpose.

    dy, u: one shape   rate: in [0, 1)   returns dx like dy. Raises ShapeError, DTypeError, RangeError.
    """
    return dropout_forward(dy, u, rate, deterministic)
