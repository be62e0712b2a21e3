"""Twin of `deep_conv_energy`: the deep residual energy and its gradients, levels 1 and 2 of the protocol.

What differs: a launch a layer and direction, every value of a pass in memory; level 2 on jets (`network`).
Deterministic. Operations: those of the convolutions, twice (forward, backward in x), once more for the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.specs import DeepConvSpec

from .network import Network, Pass


@dataclass(frozen=True)
class DeepConvEnergy(DeepConvSpec, Network):
    """E(x): stem, residual blocks act(f_i(h) + skip(h)), global pool, C -> C/2 -> act -> 1. Fields: `DeepConvSpec`."""

    def input_shape(self) -> tuple[int, int, int]:
        H, W, C = self.shape
        return H, W, C

    def forward(self, P: Pass, x: Any) -> Any:
        x = P.norm("stem", P.conv("stem", x, self.stem_stride), self.groups(self.channels[0]))
        x = P.act(self.activation, x)
        for i, (C, O, stride) in enumerate(self.block_sizes()):
            y = P.norm(f"block{i}.norm1", P.conv(f"block{i}.conv1", x, stride), self.groups(O))
            y = P.act(self.activation, y)
            y = P.norm(f"block{i}.norm2", P.conv(f"block{i}.conv2", y), self.groups(O))
            y = P.add(P.conv(f"block{i}.skip", x, stride) if stride != 1 or C != O else x, y)
            x = P.act(self.activation, y)
        x = P.act(self.activation, P.conv("head", P.pool(self.pool, x)))
        return P.conv("out", x)

    def backward(self, P: Pass, dE: Any) -> Any:
        dy = P.conv_back("head", P.act_back(self.activation, P.conv_back("out", dE)))
        dy = P.pool_back(self.pool, dy)
        for i, (C, O, stride) in reversed(list(enumerate(self.block_sizes()))):
            dy = skip = P.act_back(self.activation, dy)
            if stride != 1 or C != O:
                skip = P.conv_back(f"block{i}.skip", dy, stride)
            dy = P.conv_back(f"block{i}.conv2", P.norm_back(f"block{i}.norm2", dy, self.groups(O)))
            dy = P.act_back(self.activation, dy)
            dy = P.conv_back(f"block{i}.conv1", P.norm_back(f"block{i}.norm1", dy, self.groups(O)), stride)
            dy = P.add(skip, dy)
        dy = P.norm_back("stem", P.act_back(self.activation, dy), self.groups(self.channels[0]))
        return P.conv_back("stem", dy, self.stem_stride, first=True)

    def groups(self, O: int) -> int:
        """G of a norm of O channels."""
        return min(self.max_groups, O)
