"""Ring in the plane.

    forward:       E(x) = (k/2) (q - r^2)^2,  q = |x|^2
    backward:      dx = dy 2 k (q - r^2) x,   dr = -sum_n dy_n 2 k r (q_n - r^2),   dk = sum_n dy_n (q_n - r^2)^2 / 2
    log_z:         int exp(-E) dx = pi int_0^inf exp(-(k/2) (q - r^2)^2) dq = pi sqrt(2 pi / k) Phi(r^2 sqrt k)
    sample_exact:  q is a normal (r^2, 1/k) cut off at 0; with u uniform, P(q > Q) = u gives
                   Q = r^2 - Phi^-1(u Phi(r^2 sqrt k)) / sqrt k;  the angle is uniform

Phi is the normal distribution function. Written in q and not in |x|, E is a polynomial and has every derivative at 0.

Source: polar coordinates, dx = (1/2) dq dphi.
Level: provides 1, 2 and 3.
Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, log, pi, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from ..contracts import Array, Params, RangeError, Shapes, check_array, theta_check
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class RingEnergy(EnergyBase):
    """E(x) = (k/2) (|x|^2 - r^2)^2 for x in the plane. theta: `radius` r (1,), `stiffness` k (1,)."""

    shape = (2,)

    def theta_shapes(self) -> Shapes:
        return {"radius": (1,), "stiffness": (1,)}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        gap = (x * x).sum(axis=1) - theta["radius"] ** 2  # (N,)
        return 0.5 * theta["stiffness"] * gap * gap, [x, gap]  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        gap, x = tape.pop(), tape.pop()
        pull = dy * 2 * theta["stiffness"] * gap  # (N,)
        grads = {
            "radius": -(pull * theta["radius"]).sum(axis=0, keepdims=True),  # (1,)
            "stiffness": (0.5 * dy * gap * gap).sum(axis=0, keepdims=True),  # (1,)
        }
        return pull[:, None] * x, grads  # (N, 2)

    def log_z(self, theta: Params) -> float:
        """log (pi sqrt(2 pi / k) Phi(r^2 sqrt k)). Raises RangeError unless k > 0."""
        r2, k = self._numbers(theta)
        return log(pi) + 0.5 * log(2 * pi / k) + log(_normal_cdf(r2 * sqrt(k)))

    def sample_exact(self, theta: Params, u: Array) -> Array:
        """|x|^2 = r^2 - Phi^-1(u_0 Phi(r^2 sqrt k)) / sqrt k, angle 2 pi u_1: exact draws from exp(-E)/Z.

        u: (N, 2), uniforms in (0, 1)   returns x: (N, 2). Raises ShapeError, DTypeError, RangeError.
        """
        r2, k = self._numbers(theta)
        check_array("u", u, shape=(None, 2))
        if not ((u > 0) & (u < 1)).all():
            raise RangeError("u: expected numbers in (0, 1)")
        top, inverse = _normal_cdf(r2 * sqrt(k)), NormalDist().inv_cdf
        q = np.array([r2 - inverse(top * u0) / sqrt(k) for u0 in u[:, 0].tolist()])  # (N,)
        radius, angle = np.sqrt(np.maximum(q, 0)), 2 * pi * u[:, 1]  # q may round below 0
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(u.dtype)  # (N, 2)

    def _numbers(self, theta: Params) -> tuple[float, float]:
        """r^2 and k > 0."""
        theta_check(self, theta)
        r, k = float(theta["radius"][0]), float(theta["stiffness"][0])
        if not k > 0:
            raise RangeError(f"stiffness: expected a positive number, found {k}")
        return r * r, k


def _normal_cdf(z: float) -> float:
    """Phi(z) = erfc(-z / sqrt 2) / 2."""
    return 0.5 * erfc(-z / sqrt(2))
