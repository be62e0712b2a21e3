"""Twin of `conv_energy`: the convolutional energy and its gradients, levels 1 and 2 of the protocol.

What differs: group_norm and the activation are one launch, forwards and backwards, and only the raw outputs of the
convolutions are kept between the two. Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebm_ref.specs import ConvSpec

from .blocks import Affine, Batch, Block, Conv, Residual, pool_head
from .conv2d import geometry
from .network import Network


@dataclass(frozen=True)
class ConvEnergy(ConvSpec, Network):
    """E(x): blocks act(group_norm(conv2d(x))) [+ skip], global pool, C -> C/2 -> act -> 1. Fields: `ConvSpec`."""

    def layers(self, batch: Batch) -> list[Block]:
        H, W, C = self.shape
        layers: list[Block] = []
        for i, (O, stride) in enumerate(zip(self.channels, self.strides, strict=True)):
            geo = geometry(H, W, C, self.kernel, self.kernel, O, stride, self.padding)
            block: Block = Affine(batch, f"conv{i}", geo, f"norm{i}", self.groups(i), self.activation)
            if self.residual:
                one = Conv(f"skip{i}", geometry(H, W, C, 1, 1, O, stride, "SAME"))
                block = Residual(batch, [block], one if self.has_skip_conv(i) else None, None)
            layers.append(block)
            H, W, C = geo.P, geo.Q, O
        return [*layers, *pool_head(batch, H * W, C, self.pool, self.activation)]
