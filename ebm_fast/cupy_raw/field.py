"""Launches of the small steps of a field, and of the head of an energy on one, on jets of one order.

They trust their arguments: arrays of the device, of the shapes named in field.cu, with one more axis of order + 1
numbers where they hold jets of `order` > 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import blocks, launch
from .repulsion import team
from .source import kernel

THREADS = 256
MAX_BLOCKS = 2**20  # loops stride over what is beyond


def _over(name: str, n: int, args: tuple[Any, ...], dtype: Any, order: int) -> None:
    """A kernel of field.cu with one thread for each of n elements."""
    launch(kernel("field.cu", name, dtype, order), min(blocks(n, THREADS), MAX_BLOCKS), THREADS, args)


def jet_parts(n: int, x: Any, y: Any, z: Any, dtype: Any, order: int) -> None:
    """y = the coefficient of s^0, z = that of s^order. x: n jets; y, z: n numbers."""
    _over("jet_parts", n, (x, y, z, np.int64(n)), dtype, order)


def upsample_apply(N: int, H: int, W: int, C: int, x: Any, y: Any, dtype: Any, order: int) -> None:
    """y[n, 2h + a, 2w + b, c] = x[n, h, w, c]. x: (N, H, W, C), y: (N, 2H, 2W, C), jets."""
    width = C * (order + 1)
    _over("upsample_forward", N * H * W * width, (x, y, *_map(N, H, W, width)), dtype, 0)


def upsample_apply_back(N: int, H: int, W: int, C: int, dy: Any, dx: Any, dtype: Any, order: int) -> None:
    """dx[n, h, w, c] = the sum of the four dy. dy: (N, 2H, 2W, C), dx: (N, H, W, C), jets."""
    width = C * (order + 1)
    _over("upsample_backward", N * H * W * width, (dy, dx, *_map(N, H, W, width)), dtype, 0)


def _map(N: int, H: int, W: int, width: int) -> tuple[Any, ...]:
    return np.int64(N * H), np.int64(W), np.int64(width)


def head_dots(N: int, D: int, a: Any, b: Any, E: Any, factor: float, dtype: Any, order: int) -> None:
    """E[n] = factor a_n . b_n. a, b: (N, D), E: (N,), jets."""
    lanes = team(D)
    args = (a, b, E, np.int64(N), np.int64(D), np.dtype(dtype).type(factor), np.int32(lanes))
    _over("head_dots", N * lanes, args, dtype, order)


def head_scale(
    N: int, D: int, a: Any, dE: Any, y: Any, factor: float, dtype: Any, order: int, add: bool = False
) -> None:
    """y_n = (or, with `add`, +=) factor dE_n a_n. a, y: (N, D), dE: (N,), jets; y may be a."""
    args = (a, dE, y, np.int64(N), np.int64(D), np.dtype(dtype).type(factor), np.int32(add))
    _over("head_scale", N * D, args, dtype, order)
