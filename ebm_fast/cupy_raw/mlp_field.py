"""Twin of `mlp_field`: the multilayer perceptron as a field, its derivatives and those of its parameters.

What differs: a dense layer is a convolution with one pixel and one tap. Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ebm_ref.field_specs import MLPFieldSpec

from .blocks import Affine, Batch, Block, Conv, dense
from .field_network import FieldNetwork


@dataclass(frozen=True)
class MLPField(MLPFieldSpec, FieldNetwork):
    """f(x) = out(h_L), h_i = act(linear_i(h_{i-1})), h_0 = x flattened. Fields: `MLPFieldSpec`."""

    def layers(self, batch: Batch) -> list[Block]:
        layers: list[Block] = []
        C = prod(self.shape)
        for i, O in enumerate(self.hidden):
            layers.append(Affine(batch, f"linear{i}", dense(C, O), None, 1, self.activation))
            C = O
        return layers

    def last(self) -> Conv:
        return Conv("out", dense(self.hidden[-1], prod(self.out_shape)))
