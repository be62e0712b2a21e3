"""Launches of the small steps of a network: seeds, activations, sums and pools, on jets of one order.

They trust their arguments: arrays of the device, of the shapes named in layers.cu, with one more axis of order + 1
numbers where they hold jets of `order` > 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .activation import activation_code
from .device import blocks, launch
from .source import kernel

THREADS = 256
PIXELS = 16  # that one thread of pool_backward fills, where there are so many
MAX_BLOCKS, MAX_Y = 2**20, 65535  # loops stride over what is beyond


def _over(name: str, n: int, args: tuple[Any, ...], dtype: Any, order: int, rows: int = 1) -> None:
    """A kernel of layers.cu with one thread, in each of `rows` rows of blocks, for each of n elements."""
    grid = min(blocks(n, THREADS), MAX_BLOCKS), rows
    launch(kernel("layers.cu", name, dtype, order), grid, THREADS, args)


def jet_seed(n: int, x: Any, v: Any, y: Any, dtype: Any, order: int) -> None:
    """y = (x, v); None is ones for x, zeros for v. x, v: n numbers; y: n jets."""
    _over("jet_seed", n, (x, v, y, np.int64(n)), dtype, order)


def jet_last(n: int, x: Any, y: Any, dtype: Any, order: int) -> None:
    """y = the coefficient of s^order. x: n jets; y: n numbers."""
    _over("jet_last", n, (x, y, np.int64(n)), dtype, order)


def activation_apply(n: int, x: Any, y: Any, activation: str, dtype: Any, order: int) -> None:
    """y = f(x). x, y: n jets."""
    _over("activation_forward", n, (x, y, np.int64(n), np.int32(activation_code(activation))), dtype, order)


def activation_apply_back(n: int, x: Any, dy: Any, dx: Any, activation: str, dtype: Any, order: int) -> None:
    """dx = f'(x) dy. x, dy, dx: n jets; dx may be dy."""
    _over("activation_backward", n, (x, dy, dx, np.int64(n), np.int32(activation_code(activation))), dtype, order)


def residual_sum(n: int, a: Any, b: Any, y: Any, activation: str | None, dtype: Any, order: int) -> None:
    """y = f(a + b), and a = a + b where there is an f. a, b, y: n jets; y may be a or b."""
    _over("residual_sum", n, (a, b, y, np.int64(n), np.int32(activation_code(activation))), dtype, order)


def pool_apply(N: int, L: int, C: int, x: Any, y: Any, kind: str, dtype: Any, order: int) -> None:
    """y[n, c] = the mean or sum over L pixels of x[n, l, c]. x: (N, L, C), y: (N, C), jets."""
    width = C * (order + 1)
    _over("pool_forward", N * width, (x, y, *_pool(N, L, width, kind, dtype)), dtype, 0)


def pool_apply_back(N: int, L: int, C: int, dy: Any, dx: Any, kind: str, dtype: Any, order: int) -> None:
    """dx[n, l, c] = dy[n, c], over L for a mean. dy: (N, C), dx: (N, L, C), jets."""
    width = C * (order + 1)
    rows = min(blocks(L, PIXELS), MAX_Y)
    _over("pool_backward", N * width, (dy, dx, *_pool(N, L, width, kind, dtype)), dtype, 0, rows)


def _pool(N: int, L: int, width: int, kind: str, dtype: Any) -> tuple[Any, ...]:
    return np.int64(N), np.int64(L), np.int32(width), np.dtype(dtype).type(L if kind == "mean" else 1)
