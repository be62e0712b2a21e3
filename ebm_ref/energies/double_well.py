"""Double well in every coordinate, with a tilt that makes one well deeper.

    forward:   E(x) = sum_d h_d (x_d^2 - 1)^2 + t_d x_d
    backward:  dx_d = dy (4 h_d x_d (x_d^2 - 1) + t_d),  dh_d = sum_n dy_n (x_nd^2 - 1)^2,  dt_d = sum_n dy_n x_nd
    log_z:     log int exp(-E) = sum_d log int exp(-h_d (x^2 - 1)^2 - t_d x) dx

The one-dimensional integrals have no elementary form; the trapezoid rule on a wide interval gives them to rounding,
because its error falls geometrically for an analytic integrand that decays at both ends.

Source: Kramers 1940, Brownian motion in a field of force (the bistable potential); Trefethen & Weideman 2014,
The exponentially convergent trapezoidal rule, section 5.
Level: provides 1, 2 and 3.
Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Params, RangeError, Shapes, check_sizes, flat_size, theta_check
from ..layers import logsumexp_forward
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class DoubleWellEnergy(EnergyBase):
    """E(x) = sum_d h_d (x_d^2 - 1)^2 + t_d x_d, x flattened. theta: `height` h (D,), `tilt` t (D,)."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)

    def theta_shapes(self) -> Shapes:
        D = flat_size(self.shape)
        return {"height": (D,), "tilt": (D,)}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        x = x.reshape((x.shape[0], flat_size(self.shape)))  # (N, D)
        q = x * x - 1
        return (theta["height"] * q * q + theta["tilt"] * x).sum(axis=1), [x]  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        x, dy = tape.pop(), dy[:, None]  # (N, D), (N, 1)
        q = x * x - 1
        dx = dy * (4 * theta["height"] * x * q + theta["tilt"])
        grads = {"height": (dy * q * q).sum(axis=0), "tilt": (dy * x).sum(axis=0)}  # (D,), (D,)
        return dx.reshape((dx.shape[0], *self.shape)), grads  # (N, *shape)

    def log_z(self, theta: Params) -> float:
        """sum_d log int exp(-h_d (x^2 - 1)^2 - t_d x) dx. Raises RangeError unless all h_d > 0."""
        theta_check(self, theta)
        h, t = theta["height"].astype(np.float64), theta["tilt"].astype(np.float64)
        if not (h > 0).all():
            raise RangeError(f"height: expected positive numbers, found {h.min()}")
        # e = end: h (e^2 - 1)^2 >= h (e - 1)^4 >= 40 + |t| (e - 1), so the cut tails are below exp(-40) of the peak;
        # the narrowest peak has a width of at least 1 / sqrt(12 h e^2), and gets four points.
        end = 2 + (40 / h) ** 0.25 + (np.abs(t) / h) ** (1 / 3)  # (D,)
        points = 1001 + int((8 * end * end * np.sqrt(12 * h)).max())
        x = np.linspace(-end, end, points)  # (points, D)
        logs = -h * (x * x - 1) ** 2 - t * x
        return float((logsumexp_forward(logs, axis=0) + np.log(x[1] - x[0])).sum())
