"""A field of x and a time: one trunk for all times, and that field with the time held.

    TimeField       f(x, t) = trunk([x, c(t)]),  c(t) = 2 (t - low) / (high - low) - 1, one more channel, constant
    HeldField       x -> trunk([x, c]), an ordinary field: what `TimeField.at` returns
    field_jvp       J v = (Jacobian of trunk) [v, 0]
    field_dot       J v + d_t f t_dot = (Jacobian of trunk) [v, c'(t) t_dot],  c' = 2 / (high - low)
    field_vjp       J' g = (Jacobian of trunk)' g, without its last channel

c runs from -1 to 1 on [low, high]. The trunk is any field of the protocol, of any backend, with one channel more than
x; the parameters are its own. A group_norm of one channel a group subtracts a constant channel again, so a trunk that
starts with one is refused. A trunk whose f should be like x has out_channels = x's, set by hand.

Source: Lipman et al. 2023, Flow Matching, arXiv:2210.02747, section 2 (a velocity of x and t); the channel as in
Song & Ermon 2020, arXiv:2006.09011, for noise levels.
Level: every method of the protocol, where the trunk has it. Twins: none; a fast backend's field is the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    check_array,
    check_levels,
    check_number,
)
from ..trunk import OnTrunk
from .base import FieldBase, Tape

Time = float | Array


@dataclass(frozen=True)
class TimeField(OnTrunk):
    """f(x, t) = trunk([x, c(t)]); every method takes t after x: one number, or one for each sample, (N,).

    trunk: a field of shape (..., C + 1)   low, high: the range of t
    Raises DTypeError, ShapeError, RangeError; the methods also what the trunk raises.
    """

    trunk: Any
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_trunk(self.trunk, 1)
        check_number("low", self.low, low=float("-inf"))
        check_number("high", self.high, low=self.low, open_low=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of x: the trunk's, without the time's channel."""
        return (*self.trunk.shape[:-1], self.trunk.shape[-1] - 1)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The trunk's."""
        out_shape: tuple[int, ...] = self.trunk.out_shape
        return out_shape

    def at(self, t: Time) -> HeldField:
        """x -> f(x, t), an ordinary field. t: a number in [low, high], or (N,) of x's dtype for batches of N.

        Raises DTypeError, ShapeError, RangeError. An array on a device is not read back to check its range.
        """
        check_levels("t", t, self.low, self.high)
        held = t if hasattr(t, "shape") and not isinstance(t, np.generic) else float(t)
        return HeldField(self.trunk, (self._slope() * (held - float(self.low)) - 1,), "t")

    def field(self, theta: Params, x: Array, t: Time) -> Array:
        """f(x_n, t_n), (N, *out_shape)."""
        return self.at(t).field(theta, x)

    def field_jvp(self, theta: Params, x: Array, t: Time, v: Array) -> tuple[Array, Array]:
        """f(x_n, t_n) and J(x_n, t_n) v_n, J = df/dx."""
        return self.at(t).field_jvp(theta, x, v)

    def field_dot(self, theta: Params, x: Array, t: Time, v: Array, t_dot: Time) -> tuple[Array, Array]:
        """f(x_n, t_n) and d/ds f(x_n + s v_n, t_n + s t_dot_n) at s = 0, from one pass.

        x, v: (N, *shape)   t: a number or (N,)   t_dot: a finite number or (N,)   returns two (N, *out_shape).
        """
        held = self.at(t)
        joined = held.join(x)  # (N, ..., C + 1)
        check_array("v", v, shape=x.shape)
        check_levels("t_dot", t_dot, float("-inf"), float("inf"))
        dot = t_dot if hasattr(t_dot, "shape") and not isinstance(t_dot, np.generic) else float(t_dot)
        along = join(v, (self._slope() * dot,), "t_dot")  # (N, ..., C + 1)
        f, f_dot = self.trunk.field_jvp(theta, joined, along)
        return f, f_dot

    def field_vjp(self, theta: Params, x: Array, t: Time, g: Array) -> Array:
        """J(x_n, t_n)' g_n, like x."""
        return self.at(t).field_vjp(theta, x, g)

    def field_grad_theta(self, theta: Params, x: Array, t: Time, g: Array) -> Params:
        """grad_theta sum_n g_n . f(x_n, t_n)."""
        return self.at(t).field_grad_theta(theta, x, g)

    def field_grad_theta_along(self, theta: Params, x: Array, t: Time, g: Array, h: Array, v: Array) -> Params:
        """grad_theta sum_n [ g_n . f(x_n, t_n) + h_n . (J(x_n, t_n) v_n) ]."""
        return self.at(t).field_grad_theta_along(theta, x, g, h, v)

    def _slope(self) -> float:
        """c'(t)."""
        return 2 / (float(self.high) - float(self.low))


@dataclass(frozen=True, eq=False)
class HeldField(OnTrunk, FieldBase):
    """x -> trunk([x, c_1, .., c_k]), the last channels held; made by `TimeField.at`.

    channels: k of them, each a number or (N,)   name: what an error calls them
    Every method raises ShapeError, DTypeError, and what the trunk raises.
    """

    trunk: Any
    channels: tuple[Any, ...]
    name: str = "channels"

    def __post_init__(self) -> None:
        check_trunk(self.trunk, len(self.channels))

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of x."""
        return (*self.trunk.shape[:-1], self.trunk.shape[-1] - len(self.channels))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The trunk's."""
        out_shape: tuple[int, ...] = self.trunk.out_shape
        return out_shape

    def of_rows(self, rows: Array) -> HeldField:
        """The same field of the samples `rows` of a batch."""
        return type(self)(self.trunk, tuple(c[rows] if hasattr(c, "shape") else c for c in self.channels), self.name)

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        y, tape = self.trunk.forward(theta, self.join(x))
        return y, tape

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        dx, grads = self.trunk.backward(theta, tape, dy)
        return self._part(dx), grads

    def field(self, theta: Params, x: Array) -> Array:
        """f(x_n), (N, *out_shape)."""
        y: Array = self.trunk.field(theta, self.join(x))
        return y

    def field_jvp(self, theta: Params, x: Array, v: Array) -> tuple[Array, Array]:
        """f(x_n) and J(x_n) v_n."""
        f, jv = self.trunk.field_jvp(theta, self.join(x), self._along(v, x))
        return f, jv

    def field_vjp(self, theta: Params, x: Array, g: Array) -> Array:
        """J(x_n)' g_n, like x."""
        dx: Array = self._part(self.trunk.field_vjp(theta, self.join(x), g))
        return dx

    def field_grad_theta(self, theta: Params, x: Array, g: Array) -> Params:
        """grad_theta sum_n g_n . f(x_n)."""
        grads: Params = self.trunk.field_grad_theta(theta, self.join(x), g)
        return grads

    def field_grad_theta_along(self, theta: Params, x: Array, g: Array, h: Array, v: Array) -> Params:
        """grad_theta sum_n [ g_n . f(x_n) + h_n . (J(x_n) v_n) ]."""
        grads: Params = self.trunk.field_grad_theta_along(theta, self.join(x), g, h, self._along(v, x))
        return grads

    def join(self, x: Any) -> Any:
        """[x, c_1, .., c_k], (N, ..., C + k). x: (N, *shape)."""
        check_array("x", x, shape=(None, *self.shape))
        return join(x, self.channels, self.name)

    def _along(self, v: Array, x: Array) -> Array:
        """[v, 0, .., 0], (N, ..., C + k)."""
        check_array("v", v, shape=x.shape)
        joined: Array = join(v, (0.0,) * len(self.channels), "v")
        return joined

    def _part(self, dx: Any) -> Any:
        """dx without the last k channels."""
        return dx[..., : self.shape[-1]]


def join(x: Any, channels: tuple[Any, ...], name: str) -> Any:
    """[x, c_1, .., c_k], each c a number or (N,), the same at every pixel. x: (N, ..., C), an array or a Jet."""
    columns = [x]
    for c in channels:
        if hasattr(c, "shape"):
            check_array(name, c, shape=(x.shape[0],))
            if c.dtype != x.dtype:
                raise DTypeError(f"{name}: expected {x.dtype} like x, found {c.dtype}")
            c = c.reshape((x.shape[0],) + (1,) * (x.ndim - 1))  # (N, 1, ...)
        columns.append(np.zeros_like(x[..., :1]) + c)  # (N, ..., 1)
    return np.concatenate(columns, axis=-1)  # (N, ..., C + k)


def check_trunk(trunk: Any, more: int) -> None:
    """Raise unless `trunk` is a field with `more` channels beside at least one of x, and hears a constant channel."""
    if not (hasattr(trunk, "shape") and hasattr(trunk, "field_vjp")):
        raise DTypeError(f"trunk: expected a field, found {type(trunk).__name__}")
    if trunk.shape[-1] <= more:
        raise ShapeError(f"trunk: expected x's channels and {more} more, found shape {trunk.shape}")
    if hasattr(trunk, "max_groups") and trunk.channels[0] <= trunk.max_groups:
        raise RangeError(
            f"trunk: its first group_norm has one channel a group and would erase a constant channel; expected "
            f"max_groups < channels[0] = {trunk.channels[0]}, found {trunk.max_groups}"
        )
