"""Twin of `mlp_field`: the multilayer perceptron as a field, its derivatives and those of its parameters.

What differs: a dense layer is a 1x1 convolution of one pixel; a launch a layer and direction, derivatives along x on
jets (`field_network`). Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.field_specs import MLPFieldSpec

from .field_network import FieldNetwork
from .network import Pass, one_pixel


@dataclass(frozen=True)
class MLPField(MLPFieldSpec, FieldNetwork):
    """f(x) = out(h_L), h_i = act(linear_i(h_{i-1})), h_0 = x flattened. Fields: `MLPFieldSpec`."""

    def input_shape(self) -> tuple[int, int, int]:
        return one_pixel(self.shape)

    def forward(self, P: Pass, x: Any) -> Any:
        for i in range(len(self.hidden)):
            x = P.act(self.activation, P.conv(f"linear{i}", x))
        return P.conv("out", x)

    def backward(self, P: Pass, dy: Any) -> Any:
        dy = P.conv_back("out", dy)
        for i in reversed(range(len(self.hidden))):
            dy = P.conv_back(f"linear{i}", P.act_back(self.activation, dy), first=i == 0)
        return dy
