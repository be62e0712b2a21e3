"""Frozen specs of the field networks f: R^D -> R^D' and of an energy on top, checked once, with no arithmetic.

As in specs.py, a class of any backend inherits its spec, and reference and twins may both import this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .contracts import (
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    Shapes,
    check_choice,
    check_count,
    check_sizes,
    flat_size,
)
from .specs import ACTIVATIONS, NetworkSpec, check_groups

HEADS = ("dot", "norm", "norm_below")


@dataclass(frozen=True)
class MLPFieldSpec(NetworkSpec):
    """f(x) = out(h_L), h_i = act(linear_i(h_{i-1})), h_0 = x flattened to (N, D), f shaped (N, *out_shape).

    theta: `linear{i}.w` (in, out), `linear{i}.b` (out,), `out.w` (last, D'), `out.b` (D',), D' = prod(out_shape).
    out_channels: the last axis of out_shape; None: x's.
    """

    hidden: tuple[int, ...] = (128, 128)
    activation: str = "silu"
    out_channels: int | None = None

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        check_sizes("hidden", self.hidden)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_out_channels(self.out_channels)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one f(x)."""
        return (*self.shape[:-1], self.out_channels or self.shape[-1])

    def theta_shapes(self) -> Shapes:
        shapes: Shapes = {}
        sizes = (flat_size(self.shape), *self.hidden)
        for i, (size_in, size_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            shapes |= {f"linear{i}.w": (size_in, size_out), f"linear{i}.b": (size_out,)}
        out = flat_size(self.out_shape)
        return shapes | {"out.w": (sizes[-1], out), "out.b": (out,)}


@dataclass(frozen=True)
class ConvFieldSpec(NetworkSpec):
    """Down by strided convolutions, up again with a skip at every size; unit = act(group_norm(conv2d(.))), all SAME.

    h_0 = unit_stem(x), stride 1, C -> channels[0]
    h_i = unit_down{i}(h_{i-1}), stride 2, channels[i-1] -> channels[i]               i = 1 .. L-1
    u_{L-1} = h_{L-1},  u_{i-1} = unit_up{i}(upsample(u_i)) + h_{i-1}                 i = L-1 .. 1
    f = conv2d(u_0; out), stride 1, channels[0] -> out_channels (None: C), with no norm and no activation

    upsample repeats each pixel in both directions; unit_up{i} maps channels[i] -> channels[i-1]; a norm over O channels
    has min(max_groups, O) groups. H and W are multiples of 2^(L-1).
    theta: `stem.w .b .gamma .beta`, the same for down1 .. down{L-1}, for up1 .. up{L-1}, then `out.w`, `out.b`;
    every w is (kernel, kernel, C, O).
    """

    channels: tuple[int, ...] = (32, 64)
    kernel: int = 3
    activation: str = "silu"
    max_groups: int = 8
    out_channels: int | None = None

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape, length=3)
        check_sizes("channels", self.channels)
        check_count("kernel", self.kernel, low=1)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_count("max_groups", self.max_groups, low=1)
        check_groups(self.channels, self.max_groups)
        check_out_channels(self.out_channels)
        factor = 2 ** (len(self.channels) - 1)
        if self.shape[0] % factor or self.shape[1] % factor:
            raise ShapeError(
                f"shape: expected multiples of {factor} pixels, halved {len(self.channels) - 1} times, "
                f"found {self.shape[0]}x{self.shape[1]}"
            )

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one f(x)."""
        return (*self.shape[:-1], self.out_channels or self.shape[-1])

    def groups(self, i: int) -> int:
        """G over channels[i]."""
        return min(self.max_groups, self.channels[i])

    def theta_shapes(self) -> Shapes:
        first, levels = self.channels[0], range(1, len(self.channels))
        units = [("stem", self.shape[2], first)]
        units += [(f"down{i}", self.channels[i - 1], self.channels[i]) for i in levels]
        units += [(f"up{i}", self.channels[i], self.channels[i - 1]) for i in levels]
        shapes: Shapes = {}
        for name, size_in, size_out in units:
            shapes |= {f"{name}.w": (self.kernel, self.kernel, size_in, size_out), f"{name}.b": (size_out,)}
            shapes |= {f"{name}.gamma": (size_out,), f"{name}.beta": (size_out,)}
        out = self.out_shape[-1]
        return shapes | {"out.w": (self.kernel, self.kernel, first, out), "out.b": (out,)}


@dataclass(frozen=True)
class FieldEnergySpec:
    """E(x) = x . f(x) (dot), +f.f / 2 (norm) or -f.f / 2 (norm_below) of a field f; theta is the field's.

    field: a field of the backend   head: "dot", "norm" or "norm_below"
    Raises DTypeError, RangeError, and ShapeError where a dot head's f is not like x.
    """

    field: Any
    head: str = "dot"

    def __post_init__(self) -> None:
        if not (hasattr(self.field, "out_shape") and hasattr(self.field, "field_vjp")):
            raise DTypeError(f"field: expected a field, found {type(self.field).__name__}")
        check_choice("head", self.head, HEADS)
        if self.head == "dot" and self.field.out_shape != self.field.shape:
            raise ShapeError(f"field: expected f like x, {self.field.shape}, found {self.field.out_shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x."""
        shape: tuple[int, ...] = self.field.shape
        return shape

    def theta_shapes(self) -> Shapes:
        """The field's."""
        shapes: Shapes = self.field.theta_shapes()
        return shapes

    def require_smooth(self, what: str) -> None:
        """Raise `SmoothnessError` where the field does."""
        if hasattr(self.field, "require_smooth"):
            self.field.require_smooth(what)

    def check_live(self, theta: Params) -> None:
        """Raise `RangeError` for a norm head whose `out.w` and `out.b` are all 0: no loss of grad_x E moves it."""
        last = [name for name in ("out.w", "out.b") if name in theta]
        if self.head != "dot" and last and not any(bool(np.any(theta[name] != 0)) for name in last):
            raise RangeError(
                f"theta: expected a last layer out.w, out.b that is not all 0 under the head {self.head}, found one "
                "where f = 0: every gradient of a loss of grad_x E is exactly 0"
            )


def check_out_channels(out_channels: int | None) -> None:
    """Raise unless `out_channels` is None or a positive integer."""
    if out_channels is not None:
        check_count("out_channels", out_channels, low=1)
