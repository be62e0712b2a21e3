"""The flow map of an autonomous velocity, as a network: where x is after a time h, in one evaluation.

    FlowMap      Phi(x, h) = x + h u(x, h),   u a TimeField of h in [0, h_max]
    u            the mean velocity over [0, h]; u(x, 0) = v(x) of the map of x' = v(x)
    u_dot        d/ds u(x + s v, h + s h_dot) at s = 0

A map of x' = v(x) composes, Phi(Phi(x, h), h') = Phi(x, h + h'), and obeys two equations in u alone:
    Eulerian      d_h Phi = J_Phi v(x):     u = v(x) + h (J_u v(x) - d_h u)
    Lagrangian    d_h Phi = v(Phi):         u = v(x + h u) - h d_h u
Phi(x, 0) = x whatever theta is. Phi has no density: a student of an energy's descent has no energy, and it lands where
its teacher lands, the teacher's faults included. There is no such map of x alone for a teacher with momentum.

Source: Boffi, Albergo & Vanden-Eijnden 2024, Flow Map Matching, arXiv:2406.07507; Geng et al. 2025, Mean Flows,
arXiv:2505.13447, eq. 6 (the mean velocity, there of a velocity that depends on time).
Level: every method of the field protocol for x -> u(x, h), where the trunk has it. Twins: none; a fast backend's field
is the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Array, Params, ShapeError, check_array, check_levels, check_number
from ..trunk import OnTrunk
from .held_field import HeldField, Time, TimeField


@dataclass(frozen=True)
class FlowMap(OnTrunk):
    """Phi(x, h) = x + h u(x, h), u(x, h) = trunk([x, c(h)]); h: one number, or one for each sample, (N,).

    trunk: a field of shape (..., C + 1) and out_shape (..., C)   h_max > 0: the horizon, the longest time
    Raises DTypeError, ShapeError, RangeError; the methods also what the trunk raises, and RangeError for h > h_max.
    """

    trunk: Any
    h_max: float

    def __post_init__(self) -> None:
        check_number("h_max", self.h_max, low=0.0, open_low=True)
        u = self._u()
        if u.out_shape != u.shape:
            raise ShapeError(f"trunk: expected fields of shape {u.shape} like x, found {u.out_shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of x: the trunk's, without the time's channel."""
        return self._u().shape

    def at(self, h: Time) -> HeldField:
        """x -> u(x, h), an ordinary field. h: a number in [0, h_max], or (N,) of x's dtype for batches of N.

        Raises DTypeError, ShapeError, RangeError. An array on a device is not read back to check its range.
        """
        check_levels("h", h, 0.0, float(self.h_max))
        return self._u().at(h)

    def u(self, theta: Params, x: Array, h: Time) -> Array:
        """u(x_n, h_n), the mean velocity, like x."""
        return self.at(h).field(theta, x)

    def u_dot(self, theta: Params, x: Array, h: Time, v: Array, h_dot: Time) -> tuple[Array, Array]:
        """u(x_n, h_n) and J_u v_n + d_h u h_dot_n, from one pass. x, v: (N, *shape), returns two like x."""
        check_levels("h", h, 0.0, float(self.h_max))
        check_levels("h_dot", h_dot, float("-inf"), float("inf"))
        return self._u().field_dot(theta, x, h, v, h_dot)

    def flow(self, theta: Params, x: Array, h: Time) -> Array:
        """Phi(x_n, h_n) = x_n + h_n u(x_n, h_n), like x."""
        phi: Array = x + _time(h, x) * self.u(theta, x, h)
        return phi

    def u_grad_theta(self, theta: Params, x: Array, h: Time, g: Array) -> Params:
        """grad_theta sum_n g_n . u(x_n, h_n). g: like x, returns like theta."""
        return self.at(h).field_grad_theta(theta, x, g)

    def _u(self) -> TimeField:
        return TimeField(self.trunk, 0.0, float(self.h_max))


def _time(h: Any, x: Array) -> Any:
    """h, to multiply x with: a number, or (N, 1, ..., 1). Raises ShapeError, DTypeError."""
    if not hasattr(h, "shape") or isinstance(h, np.generic):
        return float(h)
    check_array("h", h, shape=(x.shape[0],))
    return h.reshape((x.shape[0],) + (1,) * (x.ndim - 1))  # (N, 1, ...)
