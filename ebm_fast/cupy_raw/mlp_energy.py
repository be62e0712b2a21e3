"""Twin of `mlp_energy`: the multilayer perceptron energy and its gradients, levels 1 and 2 of the protocol.

What differs: a dense layer is a convolution with one pixel and one tap, layer_norm is group_norm with one group, in one
launch with the activation. Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ebm_ref.specs import MLPSpec

from .blocks import Affine, Batch, Block, dense
from .network import Network


@dataclass(frozen=True)
class MLPEnergy(MLPSpec, Network):
    """E(x) = out(h_L), h_i = act([layer_norm] linear_i(h_{i-1})), h_0 = x flattened. Fields: `MLPSpec`."""

    def layers(self, batch: Batch) -> list[Block]:
        layers: list[Block] = []
        C = prod(self.shape)
        for i, O in enumerate(self.hidden):
            norm = f"norm{i}" if self.layer_norm else None
            layers.append(Affine(batch, f"linear{i}", dense(C, O), norm, 1, self.activation))
            C = O
        return layers
