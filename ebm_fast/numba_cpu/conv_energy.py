"""Twin of `conv_energy`: the convolutional energy and its gradients, levels 1 and 2 of the protocol.

What differs: a tile of samples goes through all blocks and back in one compiled call (`machine`), its
activations in the second-level cache; group_norm and the activation keep what their derivatives need.
Deterministic for any number of threads. Operations: those of the convolutions that do not fall on
padding, twice (forward, backward in x), once more for the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ebm_ref.specs import ConvSpec

from . import tile
from .head import emit_head
from .links import Value, conv_links
from .network import Network
from .program import Program
from .tops import Scalar, Top

SCALAR = Scalar()


@dataclass(frozen=True)
class ConvEnergy(ConvSpec, Network):
    """E(x): blocks act(group_norm(conv2d(x))) [+ skip], global pool, C -> C/2 -> act -> 1. Fields: `ConvSpec`."""

    image: ClassVar[bool] = True

    def emit(self, P: Program, x: Value, backward: str | None, top: Top | None = SCALAR) -> tuple[Value, Value]:
        """Emit E (and, backwards, what `backward` names) from the input rows x; return (E, dx): h, h without a top."""
        H, W, C = self.shape
        h, blocks = x, []
        for i, (O, stride) in enumerate(zip(self.channels, self.strides, strict=True)):
            below, size = h, (H, W)
            H, W, links = conv_links(*size, self.kernel, self.kernel, stride, self.padding)
            conv = P.linear(f"conv{i}.w", f"conv{i}.b", links, C, O)
            norm = P.norm(f"norm{i}", P.apply(conv, below), self.groups(i), self.activation)
            h = norm.y
            skip = None
            if self.has_skip_conv(i):
                skip = P.linear(f"skip{i}.w", f"skip{i}.b", conv_links(*size, 1, 1, stride, "SAME")[2], C, O)
                P.apply(skip, below, h)
            elif self.residual:
                P.both(tile.add_rows, h, below, h.rows)
            blocks.append((below, conv, norm, skip, h))
            C = O
        head = emit_head(P, h, None if top is None else top.outputs, self.pool, self.activation)
        if top is None:
            return head.F, head.F
        E = top.energy(P, head.F)
        if backward is None:
            return E, E
        dx = x
        head.back(P, top.cotangent(P, head.F, backward == "params"))
        for i, (below, conv, norm, skip, h) in reversed(list(enumerate(blocks))):
            dy = norm.slope
            P.norm_back(norm, dy, h)
            P.apply_params(conv, below, dy)
            if skip is not None:
                P.apply_params(skip, below, h)
            if i == 0 and backward == "params":
                break
            dx = P.value(x.pixels, x.C) if i == 0 else below
            P.apply_back(conv, dy, dx)
            if skip is not None:
                P.apply_back(skip, h, dx, add=True)
            elif self.residual:
                P.both(tile.add_rows, dx, h, dx.rows)
        return E, dx
