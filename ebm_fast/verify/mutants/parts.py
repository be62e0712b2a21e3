"""What the checks share: Gaussians, data whose moments are exact, the stationary law of one step on a grid.

design      columns of a Hadamard matrix: entries -1 and 1, mean 0, mean x x' = I, columns of two designs unrelated
minimiser   the root of a slope that is linear in a
settled     the stationary variance of x' = m(x) + sigma xi: pi = pi P on a grid, P_ij ~ exp(-(x_j - m_i)^2/(2 sigma^2))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream


def gaussian(a: float, shape: tuple[int, ...] = (1,), dtype: Any = np.float64) -> tuple[Any, Params]:
    """E = a |x|^2 / 2 and its theta."""
    energy = ebm_ref.QuadraticEnergy(shape)
    D = int(np.prod(shape))
    return energy, {"mu": np.zeros(D, dtype), "P": a * np.eye(D, dtype=dtype)}


def design(N: int, first: int, D: int, dtype: Any = np.float64) -> Array:
    """Columns first .. first + D - 1 of the Hadamard matrix of size N, a power of two; first >= 1. (N, D)."""
    H = np.ones((1, 1), dtype)
    while len(H) < N:
        H = np.block([[H, H], [H, -H]])
    return np.ascontiguousarray(H[:, first : first + D])


def normals(seed: int, step: int, N: int, D: int = 1) -> Array:
    """(N, D) standard normals."""
    return ebm_ref.noise_normal(seed, Stream.EVALUATION, step, np.arange(N), D)


def uniforms(seed: int, step: int, N: int) -> Array:
    """(N,) uniforms."""
    return ebm_ref.noise_uniform(seed, Stream.EVALUATION, step, np.arange(N), 1)[:, 0]


def minimiser(slope: Callable[[float], float]) -> float:
    """a with slope(a) = 0, for a slope that is linear in a."""
    at_0, at_1 = float(slope(0.0)), float(slope(1.0))
    return at_0 / (at_0 - at_1)


def trace(grads: Params) -> float:
    """The slope along P = a I."""
    return float(np.trace(grads["P"]))


def settled(move: Callable[[Array], Array], sigma: float, x: Array) -> float:
    """The variance of the stationary law of x' = move(x) + sigma xi, on the grid x."""
    mean = np.asarray(move(x[:, None]), np.float64)[:, 0]
    P = np.exp(-0.5 * ((x[None, :] - mean[:, None]) / sigma) ** 2)
    P /= P.sum(axis=1, keepdims=True)
    system = P.T - np.eye(len(x))
    system[-1] = 1.0  # one equation says nothing new; the mass is 1
    right = np.zeros(len(x))
    right[-1] = 1.0
    pi = np.linalg.solve(system, right)
    return float(pi @ x**2 - (pi @ x) ** 2)
