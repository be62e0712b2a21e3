"""Twin of `conv2d`: convolution forwards and backwards, any kernel, stride, padding and channel count.

What differs: samples lie in vector lanes, padding is skipped, and 8 outputs x 2 registers stay in registers
(`gather`). Multiply-adds: N pairs C O forwards, twice that backwards, pairs = (output, tap) on the image.
Deterministic for any number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ebm_ref.contracts import check_array

from ..checks import check_conv, check_same_dtype, flat
from . import machine as m
from .links import Value, conv_links
from .program import Program
from .registers import lane_count
from .runner import NO_RECORDS


@lru_cache(maxsize=256)
def conv2d_program(
    image: tuple[int, int, int], filters: tuple[int, ...], stride: int, padding: str, dtype: Any, back: bool
) -> tuple[Program, int, int]:
    """The program of one direction, and P, Q."""
    H, W, C = image
    R, S, _, O = filters
    P, Q, links = conv_links(H, W, R, S, stride, padding)
    program = Program(dtype, params=back, width=lane_count(dtype) * (1 + (H * W == 1)))
    conv = program.linear("w", "b", links, C, O)
    x = program.value(H * W, C)
    program.emit(m.LOAD, x.at, 0, x.rows)
    if back:
        dy, dx = Value(program.rows(P * Q * O), -1, P * Q, O), program.value(H * W, C)
        program.emit(m.LOAD, dy.at, 1, dy.rows)
        program.apply_params(conv, x, dy)
        program.apply_back(conv, dy, dx)
        program.emit(m.STORE, dx.at, dx.rows)
    else:
        y = program.apply(conv, x)
        program.emit(m.STORE, y.at, y.rows)
    program.freeze()
    return program, P, Q


def conv2d_forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int = 1, padding: str = "SAME") -> np.ndarray:
    """y[n, p, q, o] = b[o] + sum_{r, s, c} x[n, p stride + r - top, q stride + s - left, c] w[r, s, c, o].

    x: (N, H, W, C); w: (R, S, C, O); b: (O,); returns (N, P, Q, O). SAME: P = ceil(H / stride), zeros around,
    the odd one after (TensorFlow's rule); VALID: P = ceil((H - R + 1) / stride), no zeros.
    Raises ShapeError, DTypeError, RangeError.
    """
    check_conv(x, w, stride, padding)
    check_array("b", b, shape=(w.shape[3],))
    check_same_dtype("b", b, x)
    program, P, Q = conv2d_program(x.shape[1:], w.shape, stride, padding, x.dtype, False)
    out = np.empty((x.shape[0], P * Q * w.shape[3]), x.dtype)
    program.run(program.weights({"w": w, "b": b}), (flat(x, x.shape[1:]),), out, NO_RECORDS[x.dtype])
    return out.reshape(x.shape[0], P, Q, w.shape[3])


def conv2d_backward(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, stride: int = 1, padding: str = "SAME"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dw, db of sum(dy * conv2d_forward(x, w, b)): each tap of y's sum, read from its other two factors.

    x: (N, H, W, C); w: (R, S, C, O); dy: (N, P, Q, O); returns like x, like w, (O,).
    Raises ShapeError, DTypeError, RangeError.
    """
    check_conv(x, w, stride, padding)
    O = w.shape[3]
    program, P, Q = conv2d_program(x.shape[1:], w.shape, stride, padding, x.dtype, True)
    check_array("dy", dy, shape=(x.shape[0], P, Q, O))
    check_same_dtype("dy", dy, x)
    theta = {"w": w, "b": np.zeros(O, x.dtype)}
    inputs = (flat(x, x.shape[1:]), flat(dy, dy.shape[1:]))
    dx = np.empty_like(inputs[0])
    grads = program.unpack(program.run(program.weights(theta), inputs, dx, NO_RECORDS[x.dtype]), theta)
    return dx.reshape(x.shape), grads["w"], grads["b"]
