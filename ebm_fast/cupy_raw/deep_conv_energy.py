"""Twin of `deep_conv_energy`: the deep residual energy and its gradients, levels 1 and 2 of the protocol.

What differs: group_norm and the activation are one launch, forwards and backwards, as are the sum of a residual block
and its activation. Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebm_ref.specs import DeepConvSpec

from .blocks import Affine, Batch, Block, Conv, Residual, pool_head
from .conv2d import geometry
from .network import Network


@dataclass(frozen=True)
class DeepConvEnergy(DeepConvSpec, Network):
    """E(x) = head(pool(h_L)), h_{i+1} = act(f_i(h_i) + skip(h_i)). Fields: `DeepConvSpec`."""

    def layers(self, batch: Batch) -> list[Block]:
        H, W, C = self.shape
        geo = geometry(H, W, C, 3, 3, self.channels[0], self.stem_stride, "SAME")
        layers: list[Block] = [Affine(batch, "stem", geo, "stem", self._groups(geo.O), self.activation)]
        for i, (C, O, stride) in enumerate(self.block_sizes()):
            H, W, G = geo.P, geo.Q, self._groups(O)
            one = Conv(f"block{i}.skip", geometry(H, W, C, 1, 1, O, stride, "SAME"))
            geo = geometry(H, W, C, 3, 3, O, stride, "SAME")
            same = geometry(geo.P, geo.Q, O, 3, 3, O, 1, "SAME")
            body: list[Block] = [
                Affine(batch, f"block{i}.conv1", geo, f"block{i}.norm1", G, self.activation),
                Affine(batch, f"block{i}.conv2", same, f"block{i}.norm2", G, None),
            ]
            has_skip = stride != 1 or C != O
            layers.append(Residual(batch, body, one if has_skip else None, self.activation))
        return [*layers, *pool_head(batch, geo.P * geo.Q, geo.O, self.pool, self.activation)]

    def _groups(self, size: int) -> int:
        return min(self.max_groups, size)
