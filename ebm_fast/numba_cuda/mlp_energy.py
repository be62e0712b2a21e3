"""Twin of `mlp_energy`: the multilayer perceptron energy and its gradients, levels 1 and 2 of the protocol.

What differs: a dense layer is a 1x1 convolution of one pixel, layer_norm is group_norm with one group; a launch a
layer and direction, level 2 on jets (`network`). Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.specs import MLPSpec

from .network import Network, Pass, one_pixel


@dataclass(frozen=True)
class MLPEnergy(MLPSpec, Network):
    """E(x) = out(h_L), h_i = act([layer_norm] linear_i(h_{i-1})), h_0 = x flattened. Fields: `MLPSpec`."""

    def input_shape(self) -> tuple[int, int, int]:
        return one_pixel(self.shape)

    def forward(self, P: Pass, x: Any) -> Any:
        for i in range(len(self.hidden)):
            x = P.conv(f"linear{i}", x)
            if self.layer_norm:
                x = P.norm(f"norm{i}", x, 1)
            x = P.act(self.activation, x)
        return P.conv("out", x)

    def backward(self, P: Pass, dE: Any) -> Any:
        dy = P.conv_back("out", dE)
        for i in reversed(range(len(self.hidden))):
            dy = P.act_back(self.activation, dy)
            if self.layer_norm:
                dy = P.norm_back(f"norm{i}", dy, 1)
            dy = P.conv_back(f"linear{i}", dy, first=i == 0)
        return dy
