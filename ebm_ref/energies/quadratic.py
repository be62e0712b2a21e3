"""Quadratic energy: an unnormalised Gaussian.

    forward:       E(x) = (1/2) d' P d,  d = x - mu
    backward:      dx = dy (P + P') d / 2,  dmu = -sum_n dx_n,  dP = sum_n dy_n d_n d_n' / 2
    log_z:         log int exp(-E) = (D/2) log 2 pi - (1/2) log det P        (P symmetric positive definite)
    sample_exact:  x = mu + L'^-1 xi,  P = L L'

Source: Murphy 2022, Probabilistic Machine Learning: An Introduction, section 3.2.
Level: provides 1, 2 and 3.
Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np

from ..contracts import Array, Params, RangeError, Shapes, check_array, check_sizes, flat_size, theta_check
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class QuadraticEnergy(EnergyBase):
    """E(x) = (1/2) (x - mu)' P (x - mu), x flattened. theta: `mu` (D,), `P` (D, D)."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)

    def theta_shapes(self) -> Shapes:
        D = flat_size(self.shape)
        return {"mu": (D,), "P": (D, D)}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        d = x.reshape((x.shape[0], flat_size(self.shape))) - theta["mu"]  # (N, D)
        return 0.5 * ((d @ theta["P"]) * d).sum(axis=1), [d]  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        d, P = tape.pop(), theta["P"]
        d_dy = d * dy[:, None]  # (N, D)
        dx = d_dy @ (0.5 * (P + P.T))
        grads = {"mu": -dx.sum(axis=0), "P": 0.5 * (d_dy.T @ d)}  # (D,), (D, D)
        return dx.reshape((dx.shape[0], *self.shape)), grads  # (N, *shape)

    def log_z(self, theta: Params) -> float:
        """log int exp(-E(x)) dx = (D/2) log 2 pi - (1/2) log det P. Raises RangeError unless P is positive definite."""
        L = self._cholesky(theta)
        return 0.5 * flat_size(self.shape) * log(2 * pi) - float(np.log(np.diag(L)).sum())

    def sample_exact(self, theta: Params, xi: Array) -> Array:
        """x = mu + L'^-1 xi, P = L L': exact draws from exp(-E)/Z.

        xi: (N, D), standard normals   returns x: (N, *shape). Raises ShapeError, DTypeError, RangeError.
        """
        L = self._cholesky(theta)
        check_array("xi", xi, shape=(None, L.shape[0]))
        x: Array = theta["mu"] + np.linalg.solve(L.T, xi.T).T  # (N, D)
        return x.reshape((xi.shape[0], *self.shape)).astype(xi.dtype)  # (N, *shape)

    def _cholesky(self, theta: Params) -> Array:
        """L, lower triangular in float64, with P = L L'."""
        theta_check(self, theta)
        P = theta["P"].astype(np.float64)
        if not np.array_equal(P, P.T) or np.linalg.eigvalsh(P)[0] <= 0:
            raise RangeError("P: expected a symmetric positive definite matrix")
        return np.linalg.cholesky(P)
