"""Twin of `group_norm`: normalisation per sample and group, forwards and backwards.

What differs: a group's sums are made by a team of threads, in an order that depends on the shape alone, and the teams
of narrow groups lie side by side, so that a warp reads whole sectors; the activation that follows in a network may be
taken in the same pass; the backward pass computes mean and variance again instead of reading them back. Deterministic.
Not yet measured on a GPU.

The functions named `apply` trust their arguments; they serve the network energies and work on jets of `order`, whose
arrays have one more axis of order + 1 numbers.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import check_array

from ..checks import check_like, check_norm, check_same_dtype
from .activation import activation_code
from .device import blocks, current, launch
from .limits import INT, check_fits
from .source import kernel
from .tree import CHUNK, MAX_Y, tree_sum

THREADS = 256
ALONE = 512  # groups side by side with more numbers than this have a whole block, ones with fewer at most a warp
SIDE = 8  # channels side by side, at most: the floats of a sector, the 32 bytes that memory moves at a time
MAX_BLOCKS = 2**20


def team(L: int, C: int, G: int) -> tuple[int, int]:
    """(lanes, side): the threads that share one group of L C / G numbers, and how many groups lie side by side.

    side: a power of two that divides G, 1 unless the C / G channels are a power of two below SIDE. lanes * side: a
    power of two up to 32, or a block.
    """
    width, side = C // G, 1
    while width & (width - 1) == 0 and 2 * side * width <= SIDE and G % (2 * side) == 0:
        side *= 2
    numbers = L * width * side
    return (THREADS if numbers > ALONE else min(32, 1 << (numbers - 1).bit_length())) // side, side


def norm_apply(
    N: int, L: int, C: int, G: int, x: Any, gamma: Any, beta: Any, y: Any, dtype: Any, order: int, eps: float,
    activation: str | None,
) -> None:  # fmt: skip
    """y = f(gamma (x - mean) / sqrt(var + eps) + beta), f the activation or, for None, the identity.

    x, y: (N, L, C), jets of `order`, may be one array; gamma, beta: (C,), plain. Mean and var over L and C / G
    channels.
    """
    lanes, side = team(L, C, G)
    args = (x, gamma, beta, y, *_sizes(N, L, C, G), np.dtype(dtype).type(eps))
    args += (np.int32(activation_code(activation)), np.int32(lanes), np.int32(side))
    grid = min(blocks(N * G * lanes, THREADS), MAX_BLOCKS)
    launch(kernel("group_norm.cu", "group_norm_forward", dtype, order), grid, THREADS, args)


def norm_apply_back(
    N: int, L: int, C: int, G: int, x: Any, gamma: Any, beta: Any, dy: Any, dx: Any, dgamma: Any, dbeta: Any,
    dtype: Any, order: int, component: int, eps: float, activation: str | None,
) -> None:  # fmt: skip
    """dx, and where they are not None dgamma and dbeta (both: the coefficient `component`), of sum(dy * norm_apply).

    x, dy, dx: (N, L, C), jets of `order`; dx may be dy but not x. gamma, beta, dgamma, dbeta: (C,), plain.
    """
    (lanes, side), dev = team(L, C, G), current()
    grid = min(blocks(N * G * lanes, THREADS), MAX_BLOCKS)
    sizes, eps_ = _sizes(N, L, C, G), np.dtype(dtype).type(eps)
    code = np.int32(activation_code(activation))
    moments = None
    if dgamma is not None:
        moments = dev.empty((N * G, 2, order + 1), dtype)  # mean and 1 / sqrt(var + eps) of each group
        args = (x, moments, *sizes, eps_, np.int32(lanes), np.int32(side))
        launch(kernel("group_norm.cu", "group_norm_moments", dtype, order), grid, THREADS, args)
        samples = CHUNK if L < CHUNK * CHUNK else 1  # of one partial sum: as many as keep its block busy
        chunks, columns = max(blocks(N, samples), 1), min(32, 1 << (C - 1).bit_length())
        parts = dev.empty((chunks, 2 * C), dtype)
        args = (x, gamma, beta, dy, moments, parts, *sizes, code, np.int32(component))
        args += (np.int32(samples), np.int32(chunks), np.int32(columns))
        params = kernel("group_norm.cu", "group_norm_backward_params", dtype, order)
        launch(params, (min(chunks, MAX_BLOCKS), min(blocks(C, columns), MAX_Y)), THREADS, args)
        tree_sum(parts, chunks, 2 * C, dgamma, dbeta, C, dtype)
    args = (x, gamma, beta, dy, moments, dx, *sizes, eps_, code, np.int32(lanes), np.int32(side))
    launch(kernel("group_norm.cu", "group_norm_backward_dx", dtype, order), grid, THREADS, args)


def _sizes(N: int, L: int, C: int, G: int) -> tuple[Any, ...]:
    return np.int32(N), np.int64(L), np.int32(C), np.int32(G)


# ------------------------------------------------------------------------------------------ public twins


def group_norm_forward(x: Any, gamma: Any, beta: Any, groups: int, eps: float = 1e-5) -> Any:
    """y = gamma (x - mean) / sqrt(var + eps) + beta.

    x: (N, ..., C); gamma, beta: (C,); returns like x. Mean and biased variance of each sample and group, over
    all axes but N and the C / groups channels of the group. Raises ShapeError, DTypeError, RangeError.
    Wu & He 2018, eq. 1-7.
    """
    dev = current()
    for name, a in (("x", x), ("gamma", gamma), ("beta", beta)):
        check_fits(name, a, samples=INT, channels=INT)
    x, gamma, beta = dev.array("x", x), dev.array("gamma", gamma), dev.array("beta", beta)
    check_norm(x, gamma, groups, eps)
    check_array("beta", beta, shape=gamma.shape)
    check_same_dtype("beta", beta, x)
    N, *pixels, C = x.shape
    y = dev.empty(x.shape, x.dtype)
    norm_apply(N, prod(pixels), C, int(groups), x, gamma, beta, y, x.dtype, 0, eps, None)
    return y


def group_norm_backward(x: Any, gamma: Any, dy: Any, groups: int, eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps), g = gamma dy; dgamma = sum dy xhat, dbeta = sum dy.

    x, dy: (N, ..., C); gamma: (C,); returns like x, (C,), (C,). Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    for name, a in (("x", x), ("gamma", gamma), ("dy", dy)):
        check_fits(name, a, samples=INT, channels=INT)
    x, gamma, dy = dev.array("x", x), dev.array("gamma", gamma), dev.array("dy", dy)
    check_norm(x, gamma, groups, eps)
    check_like("dy", dy, x)
    N, *pixels, C = x.shape
    dx, dgamma, dbeta = (dev.empty(shape, x.dtype) for shape in (x.shape, gamma.shape, gamma.shape))
    arrays = x, gamma, gamma, dy, dx, dgamma, dbeta  # beta moves no derivative here
    norm_apply_back(N, prod(pixels), C, int(groups), *arrays, x.dtype, 0, 0, eps, None)
    return dx, dgamma, dbeta
