"""Twin of `conv2d`: convolution forwards and backwards, any kernel, stride, padding and channel count.

What differs: each output is gathered by one thread, the backward ones too: dx from the outputs that its pixel reaches,
dw from all outputs, samples cut in at most 64 parts that a second launch adds in order. Padding is skipped.
Multiply-adds: N P Q R S C O forwards, twice that backwards; every factor is read from memory. Deterministic.

Activations carry their jets: x is (N, H, W, C, ORDER + 1), coefficients of x + s v. The layer is linear, so each
coefficient goes through alone; dw and db are one coefficient, the highest, of a product of two series.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import check_array

from ..checks import check_conv, check_same_dtype
from .build import ORDER, body
from .device import current, launch

PARTS = 64  # parts of a batch that are summed side by side: depends on nothing, so neither does the result

# ---------------------------------------------------------------------------------- what a thread does


@body
def conv2d_y(i, x, w, b, stride, top, left, y):
    """y[n,p,q,o] = b[o] + sum_{r,s,c} x[n, p stride + r - top, q stride + s - left, c] w[r,s,c,o], one coefficient."""
    _, P, Q, O, J = y.shape
    n, p, q, o, j = i // (J * O * Q * P), i // (J * O * Q) % P, i // (J * O) % Q, i // J % O, i % J
    total = b[o] if j == 0 else 0.0
    for r in range(w.shape[0]):
        h = p * stride + r - top
        if 0 <= h < x.shape[1]:
            for s in range(w.shape[1]):
                v = q * stride + s - left
                if 0 <= v < x.shape[2]:
                    for c in range(w.shape[2]):
                        total += x[n, h, v, c, j] * w[r, s, c, o]
    y[n, p, q, o, j] = total


@body
def conv2d_dx(i, dy, w, stride, top, left, dx):
    """dx[n,h,v,c] = sum_{r,s,o} dy[n,p,q,o] w[r,s,c,o] over p stride + r - top = h, q stride + s - left = v."""
    _, H, W, C, J = dx.shape
    n, h, v, c, j = i // (J * C * W * H), i // (J * C * W) % H, i // (J * C) % W, i // J % C, i % J
    total = 0.0
    for r in range(w.shape[0]):
        p = (h + top - r) // stride
        if p * stride == h + top - r and 0 <= p < dy.shape[1]:
            for s in range(w.shape[1]):
                q = (v + left - s) // stride
                if q * stride == v + left - s and 0 <= q < dy.shape[2]:
                    for o in range(w.shape[3]):
                        total += dy[n, p, q, o, j] * w[r, s, c, o]
    dx[n, h, v, c, j] = total


@body
def conv2d_dw(i, x, dy, stride, top, left, each, dw):
    """dw[t,r,s,c,o] = sum_{n,p,q} x[n, p stride + r - top, q stride + s - left, c] dy[n,p,q,o], n of part t."""
    _, R, S, C, O = dw.shape
    t, r, s, c, o = i // (O * C * S * R), i // (O * C * S) % R, i // (O * C) % S, i // O % C, i % O
    total = 0.0
    for n in range(t * each, min(x.shape[0], (t + 1) * each)):
        for p in range(dy.shape[1]):
            h = p * stride + r - top
            if 0 <= h < x.shape[1]:
                for q in range(dy.shape[2]):
                    v = q * stride + s - left
                    if 0 <= v < x.shape[2]:
                        total += x[n, h, v, c, 0] * dy[n, p, q, o, ORDER]
                        if ORDER == 1:
                            total += x[n, h, v, c, 1] * dy[n, p, q, o, 0]
    dw[t, r, s, c, o] = total


@body
def conv2d_db(i, dy, each, db):
    """db[t,o] = sum_{n,p,q} dy[n,p,q,o], n of part t."""
    O = db.shape[1]
    t, o = i // O, i % O
    total = 0.0
    for n in range(t * each, min(dy.shape[0], (t + 1) * each)):
        for p in range(dy.shape[1]):
            for q in range(dy.shape[2]):
                total += dy[n, p, q, o, ORDER]
    db[t, o] = total


@body
def parts_sum(i, parts, out):
    """out[i] = sum_t parts[t, i], in order."""
    total = 0.0
    for t in range(parts.shape[0]):
        total += parts[t, i]
    out[i] = total


# --------------------------------------------------------------------------------------- launches


def conv2d_extent(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """(output size, padding before) along one axis. SAME puts the odd pixel after, as TensorFlow does."""
    if padding == "VALID":
        return -(-(size - kernel + 1) // stride), 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + kernel - size, 0) // 2


def conv2d_apply(x: Any, w: Any, b: Any, stride: int, padding: str) -> Any:
    """y of jets x (N, H, W, C, J), as (N, P, Q, O, J)."""
    P, top = conv2d_extent(x.shape[1], w.shape[0], stride, padding)
    Q, left = conv2d_extent(x.shape[2], w.shape[1], stride, padding)
    y = current().empty((x.shape[0], P, Q, w.shape[3], x.shape[4]), x.dtype)
    launch(conv2d_y, x.dtype, y.size, x, w, b, stride, top, left, y, order=x.shape[4] - 1)
    return y


def conv2d_apply_dx(x: Any, w: Any, dy: Any, stride: int, padding: str) -> Any:
    """dx, jets like x."""
    _, top = conv2d_extent(x.shape[1], w.shape[0], stride, padding)
    _, left = conv2d_extent(x.shape[2], w.shape[1], stride, padding)
    dx = current().empty(x.shape, x.dtype)
    launch(conv2d_dx, x.dtype, dx.size, dy, w, stride, top, left, dx, order=x.shape[4] - 1)
    return dx


def conv2d_apply_params(x: Any, w: Any, dy: Any, stride: int, padding: str) -> tuple[Any, Any]:
    """dw (R, S, C, O) and db (O,): the highest coefficient of each."""
    _, top = conv2d_extent(x.shape[1], w.shape[0], stride, padding)
    _, left = conv2d_extent(x.shape[2], w.shape[1], stride, padding)
    order, each, T = x.shape[4] - 1, *parts_of(x.shape[0])
    dw = current().empty((T, *w.shape), x.dtype)
    launch(conv2d_dw, x.dtype, dw.size, x, dy, stride, top, left, each, dw, order=order)
    db = current().empty((T, w.shape[3]), x.dtype)
    launch(conv2d_db, x.dtype, db.size, dy, each, db, order=order)
    return add_parts(dw), add_parts(db)


def parts_of(N: int) -> tuple[int, int]:
    """(samples of a part, parts) of a batch."""
    each = max(1, -(-N // PARTS))
    return each, -(-N // each)


def add_parts(parts: Any) -> Any:
    """The sum over the leading axis."""
    shape = parts.shape[1:]
    size = int(np.prod(shape))
    out = current().empty(shape, parts.dtype)
    launch(parts_sum, parts.dtype, size, parts.reshape(parts.shape[0], size), out.reshape(size))
    return out


# --------------------------------------------------------------------------------------- public


def conv2d_forward(x: Any, w: Any, b: Any, stride: int = 1, padding: str = "SAME") -> Any:
    """y[n, p, q, o] = b[o] + sum_{r, s, c} x[n, p stride + r - top, q stride + s - left, c] w[r, s, c, o].

    x: (N, H, W, C); w: (R, S, C, O); b: (O,); returns (N, P, Q, O). SAME: P = ceil(H / stride), zeros around,
    the odd one after (TensorFlow's rule); VALID: P = ceil((H - R + 1) / stride), no zeros.
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x, w, b = dev.array("x", x), dev.array("w", w), dev.array("b", b)
    check_conv(x, w, stride, padding)
    check_array("b", b, shape=(w.shape[3],))
    check_same_dtype("b", b, x)
    y = conv2d_apply(x.reshape(*x.shape, 1), w, b, int(stride), padding)
    return y.reshape(y.shape[:4])


def conv2d_backward(x: Any, w: Any, dy: Any, stride: int = 1, padding: str = "SAME") -> tuple[Any, Any, Any]:
    """dx, dw, db of sum(dy * conv2d_forward(x, w, b)): each tap of y's sum, read from its other two factors.

    x: (N, H, W, C); w: (R, S, C, O); dy: (N, P, Q, O); returns like x, like w, (O,).
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x, w, dy = dev.array("x", x), dev.array("w", w), dev.array("dy", dy)
    check_conv(x, w, stride, padding)
    stride = int(stride)
    P, Q = (conv2d_extent(x.shape[k], w.shape[k - 1], stride, padding)[0] for k in (1, 2))
    check_array("dy", dy, shape=(x.shape[0], P, Q, w.shape[3]))
    check_same_dtype("dy", dy, x)
    jets, dy = x.reshape(*x.shape, 1), dy.reshape(*dy.shape, 1)
    dx = conv2d_apply_dx(jets, w, dy, stride, padding)
    return dx.reshape(x.shape), *conv2d_apply_params(jets, w, dy, stride, padding)
