"""Twin of `conv_field`: the convolutional field, down and up again, its derivatives and those of its parameters.

What differs: a launch a layer and direction, every value of a pass in memory, the repeated pixels of an upsampling
too; derivatives along x on jets (`field_network`). Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.field_specs import ConvFieldSpec

from .field_network import FieldNetwork
from .network import Pass


@dataclass(frozen=True)
class ConvField(ConvFieldSpec, FieldNetwork):
    """f(x): units down by stride 2, up by repeated pixels, skips; then a convolution. Fields: `ConvFieldSpec`."""

    def input_shape(self) -> tuple[int, int, int]:
        H, W, C = self.shape
        return H, W, C

    def forward(self, P: Pass, x: Any) -> Any:
        levels = range(1, len(self.channels))
        skips = [self._unit(P, "stem", x, 0)]
        for i in levels:
            skips.append(self._unit(P, f"down{i}", skips[-1], i, stride=2))
        u = skips.pop()
        for i in reversed(levels):
            u = P.add(skips.pop(), self._unit(P, f"up{i}", P.upsample(u), i - 1))
        return P.conv("out", u)

    def backward(self, P: Pass, dy: Any) -> Any:
        levels = range(1, len(self.channels))
        du, dskips = P.conv_back("out", dy), []
        for i in levels:
            dskips.append(du)
            du = P.upsample_back(self._unit_back(P, f"up{i}", du, i - 1))
        for i in reversed(levels):
            du = P.add(dskips.pop(), self._unit_back(P, f"down{i}", du, i, stride=2))
        return self._unit_back(P, "stem", du, 0, first=True)

    def _unit(self, P: Pass, name: str, x: Any, size: int, stride: int = 1) -> Any:
        """act(group_norm(conv2d(x))), with channels[size] channels."""
        return P.act(self.activation, P.norm(name, P.conv(name, x, stride), self.groups(size)))

    def _unit_back(self, P: Pass, name: str, dy: Any, size: int, stride: int = 1, first: bool = False) -> Any:
        """dx of the unit."""
        dy = P.norm_back(name, P.act_back(self.activation, dy), self.groups(size))
        return P.conv_back(name, dy, stride, first=first)
