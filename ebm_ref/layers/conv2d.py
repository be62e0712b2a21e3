"""Two-dimensional convolution (cross-correlation), as a sum over filter taps.

For output pixel (p, q) tap (r, s) reads input pixel (p stride + r - top, q stride + s - left); outside is 0.

    conv2d_forward:   y[n,p,q,:] = b + sum_{r,s} x[n, p stride + r - top, q stride + s - left, :] w[r,s]
    conv2d_backward:  dx[n, p stride + r - top, q stride + s - left, :] += dy[n,p,q,:] w[r,s]'   for all p,q,r,s
                      dw[r,s] = sum_{n,p,q} x[n, p stride + r - top, q stride + s - left, :]' dy[n,p,q,:]
                      db = sum_{n,p,q} dy[n,p,q,:]

    SAME:   P = ceil(H / stride), total = max((P - 1) stride + R - H, 0), top = floor(total / 2)
    VALID:  P = ceil((H - R + 1) / stride), top = 0

Source: LeCun et al. 1998, Gradient-based learning applied to document recognition; the SAME rule is
TensorFlow's (tf.nn.convolution), whose odd pixel of padding goes to the bottom and right.
Works on arrays and, for the energies' levels 2 and 3, on Jets in x and dy.
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

import numpy as np

from ..contracts import Array, RangeError, ShapeError, check_array, check_choice, check_count
from ..specs import PADDINGS


def conv2d_forward(x: Array, w: Array, b: Array, stride: int = 1, padding: str = "SAME") -> Array:
    """y[n,p,q,:] = b + sum_{r,s} x[n, p stride + r - top, q stride + s - left, :] w[r,s].

    x: (N, H, W, C)   w: (R, S, C, O)   b: (O,)   returns y: (N, P, Q, O). Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, w, stride, padding)
    check_array("b", b, shape=(w.shape[3],))
    (N, H, W, _), (R, S, _, O) = x.shape, w.shape
    P, top, bottom = conv2d_extent(H, R, stride, padding)
    Q, left, right = conv2d_extent(W, S, stride, padding)
    x_pad = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))  # (N, H + top + bottom, W + left + right, C)
    y = b
    for r in range(R):
        for s in range(S):
            y = y + _tap(x_pad, r, s, P, Q, stride) @ w[r, s]  # (N P Q, O)
    return y.reshape((N, P, Q, O))  # (N, P, Q, O)


def conv2d_backward(
    x: Array, w: Array, dy: Array, stride: int = 1, padding: str = "SAME"
) -> tuple[Array, Array, Array]:
    """dx = sum_{r,s} scatter_rs(dy w[r,s]'),  dw[r,s] = sum_{n,p,q} tap_rs(x)' dy,  db = sum_{n,p,q} dy.

    x: (N, H, W, C)   w: (R, S, C, O)   dy: (N, P, Q, O)   returns dx (N, H, W, C), dw (R, S, C, O), db (O,).
    Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, w, stride, padding)
    (N, H, W, C), (R, S, _, O) = x.shape, w.shape
    P, top, bottom = conv2d_extent(H, R, stride, padding)
    Q, left, right = conv2d_extent(W, S, stride, padding)
    check_array("dy", dy, shape=(N, P, Q, O))
    x_pad = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))  # (N, H + top + bottom, W + left + right, C)
    dx_pad = np.zeros_like(dy, shape=x_pad.shape)  # (N, H + top + bottom, W + left + right, C)
    dy = dy.reshape((N * P * Q, O))  # (N P Q, O)
    dw = []
    for r in range(R):
        for s in range(S):
            dw.append(_tap(x_pad, r, s, P, Q, stride).T @ dy)  # (C, O)
            dx_tap = (dy @ w[r, s].T).reshape((N, P, Q, C))  # (N, P, Q, C)
            dx_pad[_window(r, s, P, Q, stride)] += dx_tap
    dx = dx_pad[:, top : top + H, left : left + W]  # (N, H, W, C)
    return dx, np.stack(dw).reshape((R, S, C, O)), dy.sum(axis=0)  # (R, S, C, O), (O,)


def conv2d_extent(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int, int]:
    """(output size, padding before, padding after) along one axis, by the SAME or VALID rule above."""
    if padding == "VALID":
        return -(-(size - kernel + 1) // stride), 0, 0
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return out, total // 2, total - total // 2


def _window(r: int, s: int, P: int, Q: int, stride: int) -> tuple[slice, slice, slice]:
    """The pixels of the padded image that tap (r, s) reads for all output pixels (p, q)."""
    return (
        slice(None),
        slice(r, r + (P - 1) * stride + 1, stride),
        slice(s, s + (Q - 1) * stride + 1, stride),
    )


def _tap(x_pad: Array, r: int, s: int, P: int, Q: int, stride: int) -> Array:
    """Row (n, p, q) holds the input pixel under tap (r, s): (N P Q, C)."""
    N, C = x_pad.shape[0], x_pad.shape[3]
    return x_pad[_window(r, s, P, Q, stride)].reshape((N * P * Q, C))  # (N P Q, C)


def _check(x: Array, w: Array, stride: int, padding: str) -> None:
    check_array("w", w, ndim=4)
    check_array("x", x, shape=(None, None, None, w.shape[2]))
    check_count("stride", stride, low=1)
    check_choice("padding", padding, PADDINGS)
    if min(*x.shape[1:], *w.shape) < 1:
        raise ShapeError(f"x, w: expected no empty axis, found {tuple(x.shape)} and {tuple(w.shape)}")
    if padding == "VALID" and (x.shape[1] < w.shape[0] or x.shape[2] < w.shape[1]):
        raise RangeError(f"x: expected at least {w.shape[:2]} pixels (VALID), found {tuple(x.shape[1:3])}")
