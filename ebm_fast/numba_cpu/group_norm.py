"""Twin of `group_norm`: normalisation per sample and group, forwards and backwards.

What differs: samples lie in vector lanes, so a group of any size is a plain loop and there is no reduction
across lanes; the variance is taken about the mean in a second pass. Deterministic for any number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import check_array

from ..checks import check_like, check_norm, check_same_dtype, flat
from . import machine as m
from .links import Value
from .program import Program
from .runner import NO_RECORDS


@lru_cache(maxsize=256)
def group_norm_program(pixels: int, C: int, groups: int, dtype: Any, back: bool) -> Program:
    """The program of one direction."""
    program = Program(dtype, params=back)
    x = program.value(pixels, C)
    program.emit(m.LOAD, x.at, 0, x.rows)
    norm = program.norm("norm", x, groups)
    if back:
        dy = Value(program.rows(pixels * C), -1, pixels, C)
        program.emit(m.LOAD, dy.at, 1, dy.rows)
        program.norm_back(norm, dy)
        program.emit(m.STORE, dy.at, dy.rows)
    else:
        program.emit(m.STORE, norm.y.at, norm.y.rows)
    program.freeze()
    return program


def group_norm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, groups: int, eps: float = 1e-5
) -> np.ndarray:
    """y = gamma (x - mean) / sqrt(var + eps) + beta.

    x: (N, ..., C); gamma, beta: (C,); returns like x. Mean and biased variance of each sample and group, over
    all axes but N and the C / groups channels of the group. Raises ShapeError, DTypeError, RangeError.
    Wu & He 2018, eq. 1-7.
    """
    check_norm(x, gamma, groups, eps)
    check_array("beta", beta, shape=gamma.shape)
    check_same_dtype("beta", beta, x)
    program = group_norm_program(prod(x.shape[1:-1]), x.shape[-1], groups, x.dtype, False)
    out = np.empty((x.shape[0], prod(x.shape[1:])), x.dtype)
    W = program.weights({"norm.gamma": gamma, "norm.beta": beta}, eps)
    program.run(W, (flat(x, x.shape[1:]),), out, NO_RECORDS[x.dtype])
    return out.reshape(x.shape)


def group_norm_backward(
    x: np.ndarray, gamma: np.ndarray, dy: np.ndarray, groups: int, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps), g = gamma dy; dgamma = sum dy xhat, dbeta = sum dy.

    x, dy: (N, ..., C); gamma: (C,); returns like x, (C,), (C,). Raises ShapeError, DTypeError, RangeError.
    """
    check_norm(x, gamma, groups, eps)
    check_like("dy", dy, x)
    program = group_norm_program(prod(x.shape[1:-1]), x.shape[-1], groups, x.dtype, True)
    theta = {"norm.gamma": gamma, "norm.beta": np.zeros_like(gamma)}
    inputs = (flat(x, x.shape[1:]), flat(dy, x.shape[1:]))
    dx = np.empty_like(inputs[0])
    strands = program.run(program.weights(theta, eps), inputs, dx, NO_RECORDS[x.dtype])
    grads = program.unpack(strands, theta)
    return dx.reshape(x.shape), grads["norm.gamma"], grads["norm.beta"]
