"""Noise-conditional energy: one trunk for all noise levels or times t.

    energy     E(x, t) = trunk([x, f(t)]): the feature f(t) is one more channel, the same at every pixel
    feature    log:     f(t) = 2 log(t / low) / log(high / low) - 1     for noise levels sigma > 0
               linear:  f(t) = 2 (t - low) / (high - low) - 1           for times and indices, 0 included
    grad_x     [grad_x E, dE/df] = grad trunk([x, f]), without its last channel
    H v        [H v, *] = (Hessian of trunk) [v, 0], without its last channel; v' H v likewise

f runs from -1 to 1 on [low, high]. p(x | t) = exp(-E(x, t)) / Z(t), and Z depends on t: an objective of grad_x E
alone leaves a free constant at each level, so energies of different levels compare only after an objective that
sees the levels together.

The trunk is any energy of the protocol, of any backend, with one channel more than x; the parameters are its own.
`at(t)` is an ordinary energy of the protocol with t held: every sampler and objective takes it. A group_norm of one
channel a group subtracts a constant channel again, so a trunk that starts with one is refused.

Source: Song & Ermon 2019, arXiv:1907.05600, section 4.2 (one network for all levels, conditioned on sigma);
Song & Ermon 2020, arXiv:2006.09011 (log spacing).
Level: provides 1, 2 and 3, where the trunk does. Twins: none; a fast backend's energy is the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    check_array,
    check_choice,
    check_levels,
    check_number,
)
from ..trunk import OnTrunk

SCALES = ("log", "linear")
Level = float | Array


@dataclass(frozen=True)
class NoiseConditionalEnergy(OnTrunk):
    """E(x, t) = trunk([x, f(t)]); every method takes t after x: one number, or one for each sample, (N,).

    trunk: an energy of shape (..., C + 1)   low, high: the range of t   scale: "log" (low > 0) or "linear"
    Raises DTypeError, ShapeError, RangeError; the methods also what the trunk raises.
    """

    trunk: Any
    low: float
    high: float
    scale: str = "log"

    def __post_init__(self) -> None:
        if not (hasattr(self.trunk, "shape") and hasattr(self.trunk, "grad_x")):
            raise DTypeError(f"trunk: expected an energy, found {type(self.trunk).__name__}")
        if self.trunk.shape[-1] < 2:
            raise ShapeError(f"trunk: expected x's channels and one for the level, found shape {self.trunk.shape}")
        check_choice("scale", self.scale, SCALES)
        check_number("low", self.low, low=0.0 if self.scale == "log" else float("-inf"), open_low=self.scale == "log")
        check_number("high", self.high, low=self.low, open_low=True)
        if hasattr(self.trunk, "max_groups") and self.trunk.channels[0] <= self.trunk.max_groups:
            raise RangeError(
                f"trunk: its first group_norm has one channel a group and would erase the level; expected "
                f"max_groups < channels[0] = {self.trunk.channels[0]}, found {self.trunk.max_groups}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of x: the trunk's, without the feature's channel."""
        return (*self.trunk.shape[:-1], self.trunk.shape[-1] - 1)

    def at(self, t: Level) -> LevelEnergy:
        """x -> E(x, t), an ordinary energy. t: a number in [low, high], or (N,) of x's dtype for batches of N.

        Raises DTypeError, ShapeError, RangeError. An array on a device is not read back to check its range.
        """
        check_levels("t", t, self.low, self.high)
        if not hasattr(t, "shape") or isinstance(t, np.generic):
            part = log(t / self.low) / log(self.high / self.low) if self.scale == "log" else self._part(float(t))
            return LevelEnergy(self, 2 * part - 1)
        if self.scale == "log":
            return LevelEnergy(self, 2 * (np.log(t / float(self.low)) / log(self.high / self.low)) - 1)  # (N,)
        return LevelEnergy(self, 2 * self._part(t) - 1)  # (N,)

    def _part(self, t: Any) -> Any:
        return (t - float(self.low)) / (float(self.high) - float(self.low))

    def energy(self, theta: Params, x: Array, t: Level) -> Array:
        """E(x_n, t_n), (N,)."""
        return self.at(t).energy(theta, x)

    def grad_x(self, theta: Params, x: Array, t: Level) -> Array:
        """grad_x E(x_n, t_n), like x."""
        return self.at(t).grad_x(theta, x)

    def energy_and_grad_x(self, theta: Params, x: Array, t: Level) -> tuple[Array, Array]:
        """E(x_n, t_n), (N,), and grad_x E(x_n, t_n), like x."""
        return self.at(t).energy_and_grad_x(theta, x)

    def grad_theta(self, theta: Params, x: Array, t: Level, w: Array) -> Params:
        """sum_n w_n grad_theta E(x_n, t_n)."""
        return self.at(t).grad_theta(theta, x, w)

    def grad_theta_along(self, theta: Params, x: Array, t: Level, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n, t_n)."""
        return self.at(t).grad_theta_along(theta, x, v)

    def hvp(self, theta: Params, x: Array, t: Level, v: Array) -> Array:
        """H(x_n, t_n) v_n, like x."""
        return self.at(t).hvp(theta, x, v)

    def curvature(self, theta: Params, x: Array, t: Level, v: Array) -> Array:
        """v_n' H(x_n, t_n) v_n, (N,)."""
        return self.at(t).curvature(theta, x, v)

    def grad_theta_curvature(self, theta: Params, x: Array, t: Level, v: Array, w: Array) -> Params:
        """sum_n w_n grad_theta v_n' H(x_n, t_n) v_n."""
        return self.at(t).grad_theta_curvature(theta, x, v, w)


@dataclass(frozen=True, eq=False)
class LevelEnergy(OnTrunk):
    """x -> trunk([x, f]): the noise-conditional energy at held levels; made by `NoiseConditionalEnergy.at`.

    feature: f, a number or (N,)   Every method raises ShapeError, DTypeError, and what the trunk raises.
    """

    conditional: NoiseConditionalEnergy
    feature: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of x."""
        return self.conditional.shape

    @property
    def trunk(self) -> Any:
        """The energy of [x, f]."""
        return self.conditional.trunk

    def of_rows(self, rows: Array) -> LevelEnergy:
        """The same energy of the samples `rows` of a batch."""
        return LevelEnergy(self.conditional, self.feature[rows]) if hasattr(self.feature, "shape") else self

    def energy(self, theta: Params, x: Array) -> Array:
        """E(x_n, t_n), (N,)."""
        y: Array = self.trunk.energy(theta, self._join(x))
        return y

    def grad_x(self, theta: Params, x: Array) -> Array:
        """grad_x E(x_n, t_n), like x."""
        dx: Array = self.trunk.grad_x(theta, self._join(x))[..., :-1]
        return dx

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """E(x_n, t_n), (N,), and grad_x E(x_n, t_n), like x."""
        y, dx = self.trunk.energy_and_grad_x(theta, self._join(x))
        return y, dx[..., :-1]

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta E(x_n, t_n)."""
        grads: Params = self.trunk.grad_theta(theta, self._join(x), w)
        return grads

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x E(x_n, t_n)."""
        grads: Params = self.trunk.grad_theta_along(theta, self._join(x), self._along(v, x))
        return grads

    def hvp(self, theta: Params, x: Array, v: Array) -> Array:
        """H(x_n, t_n) v_n, like x."""
        hv: Array = self.trunk.hvp(theta, self._join(x), self._along(v, x))[..., :-1]
        return hv

    def curvature(self, theta: Params, x: Array, v: Array) -> Array:
        """v_n' H(x_n, t_n) v_n, (N,)."""
        vhv: Array = self.trunk.curvature(theta, self._join(x), self._along(v, x))
        return vhv

    def grad_theta_curvature(self, theta: Params, x: Array, v: Array, w: Array) -> Params:
        """sum_n w_n grad_theta v_n' H(x_n, t_n) v_n."""
        grads: Params = self.trunk.grad_theta_curvature(theta, self._join(x), self._along(v, x), w)
        return grads

    def _join(self, x: Array) -> Array:
        """[x, f], (N, ..., C + 1)."""
        check_array("x", x, shape=(None, *self.shape))
        f = self.feature
        if hasattr(f, "shape"):
            check_array("t", f, shape=(x.shape[0],))
            if f.dtype != x.dtype:
                raise DTypeError(f"t: expected {x.dtype} like x, found {f.dtype}")
            f = f.reshape((x.shape[0],) + (1,) * (x.ndim - 1))  # (N, 1, ...)
        channel = np.zeros_like(x[..., :1]) + f  # (N, ..., 1)
        return np.concatenate([x, channel], axis=-1)  # (N, ..., C + 1)

    def _along(self, v: Array, x: Array) -> Array:
        """[v, 0], (N, ..., C + 1)."""
        check_array("v", v, shape=x.shape)
        return np.concatenate([v, np.zeros_like(v[..., :1])], axis=-1)  # (N, ..., C + 1)
