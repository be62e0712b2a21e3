"""Twin of `conv_energy`: the convolutional energy and its gradients, levels 1 and 2 of the protocol.

What differs: a launch a layer and direction, every value of a pass in memory; level 2 on jets (`network`).
Deterministic. Operations: those of the convolutions, twice (forward, backward in x), once more for the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.specs import ConvSpec

from .network import Network, Pass


@dataclass(frozen=True)
class ConvEnergy(ConvSpec, Network):
    """E(x): blocks act(group_norm(conv2d(x))) [+ skip], global pool, C -> C/2 -> act -> 1. Fields: `ConvSpec`."""

    def input_shape(self) -> tuple[int, int, int]:
        H, W, C = self.shape
        return H, W, C

    def forward(self, P: Pass, x: Any) -> Any:
        for i, stride in enumerate(self.strides):
            y = P.norm(f"norm{i}", P.conv(f"conv{i}", x, stride, self.padding), self.groups(i))
            y = P.act(self.activation, y)
            if self.has_skip_conv(i):
                y = P.add(P.conv(f"skip{i}", x, stride), y)
            elif self.residual:
                y = P.add(x, y)
            x = y
        x = P.act(self.activation, P.conv("head", P.pool(self.pool, x)))
        return P.conv("out", x)

    def backward(self, P: Pass, dE: Any) -> Any:
        dy = P.conv_back("head", P.act_back(self.activation, P.conv_back("out", dE)))
        dy = P.pool_back(self.pool, dy)
        for i, stride in reversed(list(enumerate(self.strides))):
            skip = dy if self.residual else None
            if self.has_skip_conv(i):
                skip = P.conv_back(f"skip{i}", dy, stride, first=i == 0)
            dy = P.norm_back(f"norm{i}", P.act_back(self.activation, dy), self.groups(i))
            dy = P.conv_back(f"conv{i}", dy, stride, self.padding, first=i == 0)
            if skip is not None and dy is not None:
                dy = P.add(skip, dy)
        return dy
