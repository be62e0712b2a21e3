"""The blocks that networks are made of, each with both directions of its pass side by side.

    Conv       y = conv2d(x) + b                                  a dense layer is one pixel and one tap
    Affine     y = f(norm(conv2d(x) + b)), norm and f where given
    Residual   y = f(body(x) + skip(x))
    Pool       y = mean or sum over the pixels of x

A pass goes forward block by block, each into its own array y, and back again from last to first. On the way back an
array that is not read any more takes the cotangent: `backward` is handed dy, which may lie in the block's y, and writes
dx, which may lie over x, for whatever reads x (the gradient of a filter) is launched before what writes dx. So no block
needs scratch, and no pass allocates but for the sums over samples of parameter gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from ebm_ref.contracts import Params

from .conv2d import Geometry, conv2d_apply, conv2d_apply_dw, conv2d_apply_dx, geometry
from .device import current
from .group_norm import norm_apply, norm_apply_back
from .layers import activation_apply, activation_apply_back, pool_apply, pool_apply_back, residual_sum

NORM_EPS = 1e-5  # of group_norm and layer_norm in the oracle's networks


@dataclass(frozen=True)
class Batch:
    """N samples as jets of one order."""

    N: int
    dtype: Any
    order: int

    def empty(self, *shape: int) -> Any:
        """An array for (N, *shape) jets."""
        return current().empty((self.N, *shape, *(self.order + 1,) * (self.order > 0)), self.dtype)


@dataclass(frozen=True)
class Pass:
    """What a pass carries through the blocks: parameters, and where their gradients go (None: not wanted)."""

    batch: Batch
    theta: Params
    grads: Params | None = None

    def grad(self, name: str) -> Any:
        return None if self.grads is None else self.grads[name]


class Block(Protocol):
    """y (N, *) of x; `y` is the block's own array."""

    y: Any

    def forward(self, p: Pass, x: Any) -> Any: ...

    def backward(self, p: Pass, x: Any, dy: Any, dx: Any) -> None:
        """The gradients of parameters that `p` wants, then dx where it is not None."""


def dense(C: int, O: int) -> Geometry:
    """The geometry of a dense layer C -> O."""
    return geometry(1, 1, C, 1, 1, O, 1, "VALID")


@dataclass(frozen=True)
class Conv:
    """y = conv2d(x) + b, without an array of its own. Parameters `name`.w, `name`.b."""

    name: str
    geo: Geometry

    def forward(self, p: Pass, x: Any, y: Any) -> None:
        b = p.batch
        w, bias = p.theta[f"{self.name}.w"], p.theta[f"{self.name}.b"]
        conv2d_apply(self.geo, b.N, x, w, bias, y, b.dtype, b.order)

    def backward_theta(self, p: Pass, x: Any, dy: Any) -> None:
        b = p.batch
        if p.grads is not None:
            dw, db = p.grads[f"{self.name}.w"], p.grads[f"{self.name}.b"]
            conv2d_apply_dw(self.geo, b.N, x, dy, dw, db, b.dtype, b.order, b.order)

    def backward_x(self, p: Pass, dy: Any, dx: Any, add: bool = False) -> None:
        b = p.batch
        if dx is not None:
            conv2d_apply_dx(self.geo, b.N, dy, p.theta[f"{self.name}.w"], dx, b.dtype, b.order, add)


class Affine:
    """y = f(norm(conv2d(x) + b)). Parameters `conv`.w .b and, with a norm of G groups, `norm`.gamma .beta.

    Keeps h = conv2d(x) + b; the way back computes the norm and the slope of f again from it.
    """

    def __init__(
        self, batch: Batch, conv: str, geo: Geometry, norm: str | None, G: int, activation: str | None
    ) -> None:
        self.conv, self.norm, self.G, self.activation = Conv(conv, geo), norm, G, activation
        self.L, self.C = geo.P * geo.Q, geo.O
        self.h, self.y = (batch.empty(geo.P, geo.Q, geo.O) for _ in range(2))

    def forward(self, p: Pass, x: Any) -> Any:
        b, norm = p.batch, self.norm
        self.conv.forward(p, x, self.h)
        if norm is None:
            activation_apply(b.N * self.L * self.C, self.h, self.y, self.activation, b.dtype, b.order)
        else:
            gamma, beta = p.theta[f"{norm}.gamma"], p.theta[f"{norm}.beta"]
            sizes = b.N, self.L, self.C, self.G
            norm_apply(*sizes, self.h, gamma, beta, self.y, b.dtype, b.order, NORM_EPS, self.activation)
        return self.y

    def backward(self, p: Pass, x: Any, dy: Any, dx: Any) -> None:
        b, norm, dh = p.batch, self.norm, self.y
        if norm is None:
            activation_apply_back(b.N * self.L * self.C, self.h, dy, dh, self.activation, b.dtype, b.order)
        else:
            gamma, beta = p.theta[f"{norm}.gamma"], p.theta[f"{norm}.beta"]
            dgamma, dbeta = p.grad(f"{norm}.gamma"), p.grad(f"{norm}.beta")
            norm_apply_back(
                b.N, self.L, self.C, self.G, self.h, gamma, beta, dy, dh, dgamma, dbeta,
                b.dtype, b.order, b.order, NORM_EPS, self.activation,
            )  # fmt: skip
        self.conv.backward_theta(p, x, dh)
        self.conv.backward_x(p, dh, dx)


class Residual:
    """y = f(body(x) + skip(x)); without a `skip` convolution it is x that is added.

    With an f the last array of the body keeps the sum, where the slope of f is taken.
    """

    def __init__(self, batch: Batch, body: list[Block], skip: Conv | None, activation: str | None) -> None:
        self.body, self.skip, self.activation = body, skip, activation
        last = body[-1].y
        self.size = prod(last.shape[1:4])  # without the axis of coefficients
        self.y = batch.empty(*last.shape[1:4])

    def forward(self, p: Pass, x: Any) -> Any:
        b, a = p.batch, x
        for block in self.body:
            a = block.forward(p, a)
        if self.skip is not None:
            self.skip.forward(p, x, self.y)
        beside = x if self.skip is None else self.y
        residual_sum(b.N * self.size, a, beside, self.y, self.activation, b.dtype, b.order)
        return self.y

    def backward(self, p: Pass, x: Any, dy: Any, dx: Any) -> None:
        b = p.batch
        if self.activation is not None:
            activation_apply_back(b.N * self.size, self.body[-1].y, dy, dy, self.activation, b.dtype, b.order)
        if self.skip is not None:
            self.skip.backward_theta(p, x, dy)  # before the body writes dx over x
        backward(p, self.body, x, dy, dx)
        if self.skip is not None:
            self.skip.backward_x(p, dy, dx, add=True)
        elif dx is not None:
            residual_sum(b.N * self.size, dx, dy, dx, None, b.dtype, b.order)


class Pool:
    """y = the mean or sum of x over its H W pixels."""

    def __init__(self, batch: Batch, L: int, C: int, kind: str) -> None:
        self.L, self.C, self.kind, self.y = L, C, kind, batch.empty(1, 1, C)

    def forward(self, p: Pass, x: Any) -> Any:
        b = p.batch
        pool_apply(b.N, self.L, self.C, x, self.y, self.kind, b.dtype, b.order)
        return self.y

    def backward(self, p: Pass, x: Any, dy: Any, dx: Any) -> None:
        b = p.batch
        pool_apply_back(b.N, self.L, self.C, dy, dx, self.kind, b.dtype, b.order)


def pool_head(batch: Batch, L: int, C: int, pool: str, activation: str) -> list[Block]:
    """Global pool, C -> C/2, f: what lies between the last map and `out`."""
    return [Pool(batch, L, C, pool), Affine(batch, "head", dense(C, max(1, C // 2)), None, 1, activation)]


def backward(p: Pass, blocks: list[Block], x: Any, dy: Any, dx: Any) -> None:
    """Back through `blocks`, last to first; the cotangent of each input lies over the array below."""
    below = [x, *(block.y for block in blocks[:-1])]
    for i, block in reversed(list(enumerate(blocks))):
        block.backward(p, below[i], dy, below[i] if i > 0 else dx)
        dy = below[i]


@dataclass(frozen=True)
class Stack:
    """y = out(block_L(... block_1(x))), `out` without an array of its own: a pass of all layers, both ways."""

    blocks: list[Block]
    out: Conv

    def forward(self, p: Pass, x: Any, y: Any) -> None:
        a = x
        for block in self.blocks:
            a = block.forward(p, a)
        self.out.forward(p, a, y)

    def backward(self, p: Pass, x: Any, dy: Any, dx: Any) -> None:
        """After `forward`: the gradients of parameters that `p` wants, then dx where it is not None; dy is left."""
        last = self.blocks[-1].y
        self.out.backward_theta(p, last, dy)
        self.out.backward_x(p, dy, last)
        backward(p, self.blocks, x, last, dx)
