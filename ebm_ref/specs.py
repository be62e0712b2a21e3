"""Frozen specs: the fields of an energy or of a Langevin update, checked once, with no arithmetic.

An energy class of any backend inherits its spec, so a twin has the oracle's fields, defaults and
parameter names by construction. Reference and twins may both import this file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from .contracts import (
    DTypeError,
    RangeError,
    Shapes,
    SmoothnessError,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_sizes,
    flat_size,
)

SMOOTH_ACTIVATIONS = ("silu", "gelu", "softplus", "tanh")
ACTIVATIONS = (*SMOOTH_ACTIVATIONS, "relu", "leaky_relu")
POOLS = ("mean", "sum")
PADDINGS = ("SAME", "VALID")


@dataclass(frozen=True)
class NetworkSpec(ABC):
    """What every neural energy has: the sample shape and one activation."""

    shape: tuple[int, ...]

    @abstractmethod
    def theta_shapes(self) -> Shapes:
        """Names and shapes of the parameters, in their flat order."""

    def require_smooth(self, what: str) -> None:
        """Raise `SmoothnessError` when `what` needs second derivatives that the network lacks."""
        activation: str = getattr(self, "activation")  # noqa: B009 - every network spec has one
        if activation not in SMOOTH_ACTIVATIONS:
            raise SmoothnessError(
                f"{what} needs a twice differentiable energy; {activation} is only piecewise smooth. "
                f"Use one of {', '.join(SMOOTH_ACTIVATIONS)}."
            )


@dataclass(frozen=True)
class MLPSpec(NetworkSpec):
    """E(x) = out(h_L), h_i = act([layer_norm] linear_i(h_{i-1})), h_0 = x flattened to (N, D).

    theta: `linear{i}.w` (in, out), `linear{i}.b` (out,), with layer_norm also `norm{i}.gamma`,
    `norm{i}.beta` (out,); `out.w` (last, 1), `out.b` (1,).
    """

    hidden: tuple[int, ...] = (128, 128)
    activation: str = "silu"
    layer_norm: bool = False

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        check_sizes("hidden", self.hidden)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_flag("layer_norm", self.layer_norm)

    def theta_shapes(self) -> Shapes:
        shapes: Shapes = {}
        sizes = (flat_size(self.shape), *self.hidden)
        for i, (size_in, size_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            shapes |= {f"linear{i}.w": (size_in, size_out), f"linear{i}.b": (size_out,)}
            if self.layer_norm:
                shapes |= {f"norm{i}.gamma": (size_out,), f"norm{i}.beta": (size_out,)}
        return shapes | {"out.w": (sizes[-1], 1), "out.b": (1,)}


@dataclass(frozen=True)
class ConvSpec(NetworkSpec):
    """Blocks y = act(group_norm(conv2d(x))) [+ skip(x)], global pool, C -> C/2 -> act -> 1.

    The seed text's CNN: kernel 3, stride 2, SAME, G = min(max_groups, C) groups, SiLU, mean pool.
    With `residual`, skip is the identity where shapes agree and a 1x1 convolution of the block's
    stride (SAME) where they do not.
    theta: `conv{i}.w` (R, S, C, O), `conv{i}.b` (O,), `norm{i}.gamma`, `norm{i}.beta` (O,),
    [`skip{i}.w` (1, 1, C, O), `skip{i}.b` (O,)], `head.w` (C, C/2), `head.b`, `out.w` (C/2, 1), `out.b`.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] = (2, 2, 2)
    kernel: int = 3
    padding: str = "SAME"
    activation: str = "silu"
    residual: bool = False
    pool: str = "mean"
    max_groups: int = 32

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape, length=3)
        check_sizes("channels", self.channels)
        check_sizes("strides", self.strides, length=len(self.channels))
        check_count("kernel", self.kernel, low=1)
        check_choice("padding", self.padding, PADDINGS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("pool", self.pool, POOLS)
        check_count("max_groups", self.max_groups, low=1)
        check_groups(self.channels, self.max_groups)
        check_flag("residual", self.residual)
        if self.residual and self.padding != "SAME":
            raise RangeError("residual: expected padding SAME beside it, found VALID")
        size_h, size_w = self.shape[:2]
        for i, stride in enumerate(self.strides):
            if self.padding == "VALID" and min(size_h, size_w) < self.kernel:
                raise RangeError(
                    f"kernel: block {i} sees a {size_h}x{size_w} map, smaller than kernel {self.kernel} (VALID)"
                )
            shrink = 0 if self.padding == "SAME" else self.kernel - 1
            size_h, size_w = (-(-(size - shrink) // stride) for size in (size_h, size_w))

    def groups(self, i: int) -> int:
        """G of block i."""
        return min(self.max_groups, self.channels[i])

    def has_skip_conv(self, i: int) -> bool:
        """Whether block i's skip is a 1x1 convolution."""
        return self.residual and (self.strides[i] != 1 or (self.shape[2], *self.channels)[i] != self.channels[i])

    def theta_shapes(self) -> Shapes:
        shapes: Shapes = {}
        size_in = self.shape[2]
        for i, size_out in enumerate(self.channels):
            shapes |= {f"conv{i}.w": (self.kernel, self.kernel, size_in, size_out), f"conv{i}.b": (size_out,)}
            shapes |= {f"norm{i}.gamma": (size_out,), f"norm{i}.beta": (size_out,)}
            if self.has_skip_conv(i):
                shapes |= {f"skip{i}.w": (1, 1, size_in, size_out), f"skip{i}.b": (size_out,)}
            size_in = size_out
        return shapes | head_shapes(size_in)


@dataclass(frozen=True)
class DeepConvSpec(NetworkSpec):
    """A stem and residual blocks, 8 to 12 convolutions (1x1 skips not counted), pool, head.

    stem: act(group_norm(conv2d(x, stride=stem_stride))), C -> channels[0].
    block: act(group_norm2(conv2(act(group_norm1(conv1(x))))) + skip(x)); stage s has blocks[s] blocks
    of channels[s]; the first block of every stage but the first has stride 2 in conv1 and its skip.
    theta: `stem.w .b .gamma .beta`, `block{i}.conv1.w .b`, `block{i}.norm1.gamma .beta`, the same with 2,
    [`block{i}.skip.w .b`], `head.w .b`, `out.w .b`.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    blocks: tuple[int, ...] = (1, 2, 2)
    stem_stride: int = 2
    activation: str = "silu"
    pool: str = "mean"
    max_groups: int = 32

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape, length=3)
        check_sizes("channels", self.channels)
        check_sizes("blocks", self.blocks, length=len(self.channels))
        check_count("stem_stride", self.stem_stride, low=1)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("pool", self.pool, POOLS)
        check_count("max_groups", self.max_groups, low=1)
        check_groups(self.channels, self.max_groups)

    def block_sizes(self) -> list[tuple[int, int, int]]:
        """(C, O, stride) of each residual block, in order."""
        sizes: list[tuple[int, int, int]] = []
        size_in = self.channels[0]
        for stage, (size_out, count) in enumerate(zip(self.channels, self.blocks, strict=True)):
            for b in range(count):
                sizes.append((size_in, size_out, 2 if stage > 0 and b == 0 else 1))
                size_in = size_out
        return sizes

    def theta_shapes(self) -> Shapes:
        first = self.channels[0]
        shapes: Shapes = {"stem.w": (3, 3, self.shape[2], first), "stem.b": (first,)}
        shapes |= {"stem.gamma": (first,), "stem.beta": (first,)}
        for i, (size_in, size_out, stride) in enumerate(self.block_sizes()):
            for k, size in ((1, size_in), (2, size_out)):
                shapes |= {f"block{i}.conv{k}.w": (3, 3, size, size_out), f"block{i}.conv{k}.b": (size_out,)}
                shapes |= {f"block{i}.norm{k}.gamma": (size_out,), f"block{i}.norm{k}.beta": (size_out,)}
            if stride != 1 or size_in != size_out:
                shapes |= {f"block{i}.skip.w": (1, 1, size_in, size_out), f"block{i}.skip.b": (size_out,)}
        return shapes | head_shapes(self.channels[-1])


@dataclass(frozen=True)
class ClassifierSpec:
    """A network of one of the specs above with `classes` outputs in place of its one.

    theta: the trunk's, but for `out.w` (F, classes), `out.b` (classes,).
    """

    trunk: NetworkSpec
    classes: int

    def __post_init__(self) -> None:
        if not isinstance(self.trunk, (MLPSpec, ConvSpec, DeepConvSpec)):
            raise DTypeError(f"trunk: expected an MLP or convolutional energy, found {type(self.trunk).__name__}")
        check_count("classes", self.classes, low=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.trunk.shape

    def require_smooth(self, what: str) -> None:
        """Raise `SmoothnessError` when `what` needs second derivatives that the trunk lacks."""
        self.trunk.require_smooth(what)

    def theta_shapes(self) -> Shapes:
        shapes = self.trunk.theta_shapes()
        return shapes | {"out.w": (shapes["out.w"][0], self.classes), "out.b": (self.classes,)}


def head_shapes(size_in: int) -> Shapes:
    """Shapes of the head C -> C/2 -> 1 (at least one hidden unit)."""
    half = max(1, size_in // 2)
    return {"head.w": (size_in, half), "head.b": (half,), "out.w": (half, 1), "out.b": (1,)}


def check_groups(channels: tuple[int, ...], max_groups: int) -> None:
    """Raise unless every channel count is a multiple of its number of groups."""
    for size in channels:
        groups = min(max_groups, size)
        if size % groups:
            raise RangeError(f"channels: expected a multiple of the {groups} groups, found {size}; set max_groups")


# -------------------------------------------------------------------------------- Langevin updates

ORDERS = ("gradient_first", "noise_first")
Box = tuple[float, float]


@dataclass(frozen=True)
class ULA:
    """x' = x - (eps_step/2) grad_x E(x) + sqrt(eps_step) xi: calibrated, targets exp(-E) as eps_step -> 0.

    Roberts & Tweedie 1996, eq. 1.4.
    """

    eps_step: float

    def __post_init__(self) -> None:
        check_number("eps_step", self.eps_step, low=0.0)

    clip: ClassVar[None] = None
    clip_norm: ClassVar[None] = None
    box: ClassVar[None] = None
    order: ClassVar[str] = "gradient_first"

    @property
    def eta(self) -> float:
        return self.eps_step / 2

    @property
    def sigma(self) -> float:
        return sqrt(self.eps_step)


@dataclass(frozen=True)
class SGLD:
    """Decoupled step eta and noise sigma; for small eta and no clips it targets exp(-E/T), T = sigma^2/(2 eta).

    gradient_first: x' = box(x - eta clip(g(x)) + sigma xi);
    noise_first: x~ = box(x + sigma xi), x' = box(x~ - eta clip(g(x~))). The two are not equivalent.
    `clip` bounds each element of g to [-clip, clip]; `clip_norm` bounds the 2-norm of each sample's g
    (after `clip`); `box` = (low, high) bounds x. None switches each off.
    """

    eta: float
    sigma: float
    clip: float | None = None
    clip_norm: float | None = None
    box: Box | None = None
    order: str = "gradient_first"

    def __post_init__(self) -> None:
        check_number("eta", self.eta, low=0.0)
        check_number("sigma", self.sigma, low=0.0)
        if self.clip is not None:
            check_number("clip", self.clip, low=0.0, open_low=True)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, low=0.0, open_low=True)
        check_box(self.box)
        check_choice("order", self.order, ORDERS)


Update = ULA | SGLD


def check_box(box: Box | None) -> None:
    """Raise unless `box` is None or (low, high) with low < high, both finite."""
    if box is None:
        return
    if not isinstance(box, tuple) or len(box) != 2:
        raise RangeError(f"box: expected (low, high) or None, found {box!r}")
    for end in box:
        check_number("box", end, low=float("-inf"))
    if not box[0] < box[1]:
        raise RangeError(f"box: expected low < high, found {box!r}")
