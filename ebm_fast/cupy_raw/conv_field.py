"""Twin of `conv_field`: the convolutional field, down and up again, its derivatives and those of its parameters.

What differs: a level is a residual block whose body goes down, through the smaller levels and up again, so that every
cotangent lies over the array that it is of. group_norm and the activation are one launch, forwards and backwards.
Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.field_specs import ConvFieldSpec

from .blocks import Affine, Batch, Block, Conv, Pass, Residual
from .conv2d import geometry
from .field import upsample_apply, upsample_apply_back
from .field_network import FieldNetwork


class Upsample:
    """y = x with each pixel twice in both directions."""

    def __init__(self, batch: Batch, H: int, W: int, C: int) -> None:
        self.sizes, self.y = (batch.N, H, W, C), batch.empty(2 * H, 2 * W, C)

    def forward(self, p: Pass, x: Any) -> Any:
        upsample_apply(*self.sizes, x, self.y, p.batch.dtype, p.batch.order)
        return self.y

    def backward(self, p: Pass, x: Any, dy: Any, dx: Any) -> None:
        upsample_apply_back(*self.sizes, dy, dx, p.batch.dtype, p.batch.order)


@dataclass(frozen=True)
class ConvField(ConvFieldSpec, FieldNetwork):
    """f(x): units down by stride 2, up by repeated pixels, skips; then a convolution. Fields: `ConvFieldSpec`."""

    def layers(self, batch: Batch) -> list[Block]:
        return [self._unit(batch, "stem", 0, self.shape[2], 0, 1), *self._level(batch, 0)]

    def last(self) -> Conv:
        H, W, _ = self.shape
        return Conv("out", geometry(H, W, self.channels[0], self.kernel, self.kernel, self.out_shape[-1], 1, "SAME"))

    def _level(self, batch: Batch, i: int) -> list[Block]:
        """u_i of h_i: nothing at the smallest size, else h_i and what came down and up again, added."""
        if i + 1 == len(self.channels):
            return []
        C, under = self.channels[i], self.channels[i + 1]
        H, W = (size >> (i + 1) for size in self.shape[:2])
        down = self._unit(batch, f"down{i + 1}", i, C, i + 1, 2)
        up = self._unit(batch, f"up{i + 1}", i, under, i, 1)
        body = [down, *self._level(batch, i + 1), Upsample(batch, H, W, under), up]
        return [Residual(batch, body, None, None)]

    def _unit(self, batch: Batch, name: str, at: int, C: int, to: int, stride: int) -> Block:
        """act(group_norm(conv2d(x))) of a map of size `at` with C channels, to channels[to]."""
        H, W = (size >> at for size in self.shape[:2])
        geo = geometry(H, W, C, self.kernel, self.kernel, self.channels[to], stride, "SAME")
        return Affine(batch, name, geo, name, self.groups(to), self.activation)
