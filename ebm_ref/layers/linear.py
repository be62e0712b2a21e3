"""Linear layer.

    linear_forward:   y = x w + b
    linear_backward:  dx = dy w',   dw = x' dy,   db = sum_n dy_n

Source: Rumelhart, Hinton & Williams 1986, Learning representations by back-propagating errors.
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: none of its own (inside the fast energies).
"""

from __future__ import annotations

from ..contracts import Array, check_array


def linear_forward(x: Array, w: Array, b: Array) -> Array:
    """y = x w + b.

    x: (N, I)   w: (I, O)   b: (O,)   returns y: (N, O). Raises ShapeError, DTypeError.
    """
    _check(x, w)
    check_array("b", b, shape=(w.shape[1],))
    return x @ w + b  # (N, O)


def linear_backward(x: Array, w: Array, dy: Array) -> tuple[Array, Array, Array]:
    """dx = dy w',  dw = x' dy,  db = sum_n dy_n.

    x: (N, I)   w: (I, O)   dy: (N, O)   returns dx (N, I), dw (I, O), db (O,). Raises ShapeError, DTypeError.
    """
    _check(x, w)
    check_array("dy", dy, shape=(x.shape[0], w.shape[1]))
    dx = dy @ w.T  # (N, I)
    dw = x.T @ dy  # (I, O)
    db = dy.sum(axis=0)  # (O,)
    return dx, dw, db


def _check(x: Array, w: Array) -> None:
    check_array("w", w, ndim=2)
    check_array("x", x, shape=(None, w.shape[0]))
