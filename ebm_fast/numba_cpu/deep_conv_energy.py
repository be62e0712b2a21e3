"""Twin of `deep_conv_energy`: the deep residual energy and its gradients, levels 1 and 2 of the protocol.

What differs: a tile of samples goes through the stem, all blocks and back in one compiled call (`machine`); a chain's
K steps are one such call. A block's input becomes its cotangent where it lies, once the parameters have read it.
Deterministic for any number of threads. Operations: those of the convolutions that do not fall on
padding, twice (forward, backward in x), once more for the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ebm_ref.specs import DeepConvSpec

from . import machine as m
from . import tile
from .head import emit_head
from .links import Linear, Norm, Value, conv_links
from .network import Network
from .program import Program
from .tops import Scalar, Top

SCALAR = Scalar()
Size = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """A block in a program: h = act(norm2(conv2(act(norm1(conv1(below))))) + skip(below)), slope = act' of the sum."""

    below: Value
    convs: tuple[Linear, Linear]
    norms: tuple[Norm, Norm]
    skip: Linear | None  # None is the identity
    h: Value
    slope: Value


@dataclass(frozen=True)
class DeepConvEnergy(DeepConvSpec, Network):
    """E(x): stem, residual blocks act(f_i(h) + skip(h)), global pool, C -> C/2 -> act -> 1. Fields: `DeepConvSpec`."""

    image: ClassVar[bool] = True

    def emit(self, P: Program, x: Value, backward: str | None, top: Top | None = SCALAR) -> tuple[Value, Value]:
        """Emit E (and, backwards, what `backward` names) from the input rows x; return (E, dx)."""
        H, W, C = self.shape
        stem, size = self._conv(P, "stem", (H, W), C, self.channels[0], self.stem_stride)
        norm = self._norm(P, "stem", P.apply(stem, x), self.activation)
        h, blocks = norm.y, []
        for i, (C, O, stride) in enumerate(self.block_sizes()):
            block, size = self._block(P, f"block{i}", h, size, C, O, stride)
            blocks.append(block)
            h = block.h
        head = emit_head(P, h, None if top is None else top.outputs, self.pool, self.activation)
        if top is None:
            return head.F, head.F
        E = top.energy(P, head.F)
        if backward is None:
            return E, E
        head.back(P, top.cotangent(P, head.F, backward == "params"))
        for block in reversed(blocks):
            self._block_back(P, block)
        dy, dx = norm.slope, x
        P.norm_back(norm, dy, norm.y)
        P.apply_params(stem, x, dy)
        if backward == "x":
            dx = P.value(x.pixels, x.C)
            P.apply_back(stem, dy, dx)
        return E, dx

    def _block(
        self, P: Program, name: str, below: Value, size: Size, C: int, O: int, stride: int
    ) -> tuple[Block, Size]:
        """Emit one block from the map `below`, of `size` (H, W); return it and the size of its output."""
        conv1, inner = self._conv(P, f"{name}.conv1", size, C, O, stride)
        norm1 = self._norm(P, f"{name}.norm1", P.apply(conv1, below), self.activation)
        conv2, _ = self._conv(P, f"{name}.conv2", inner, O, O, 1)
        norm2 = self._norm(P, f"{name}.norm2", P.apply(conv2, norm1.y))
        h, skip = norm2.y, None
        if stride != 1 or C != O:
            skip, _ = self._conv(P, f"{name}.skip", size, C, O, stride, kernel=1)
            P.apply(skip, below, h)
        else:
            P.both(tile.add_rows, h, below, h.rows)
        slope = P.activate(h, self.activation)
        return Block(below, (conv1, conv2), (norm1, norm2), skip, h, slope), inner

    def _block_back(self, P: Program, block: Block) -> None:
        """With dh in block.h, `below` becomes its cotangent: what comes through f, then what the skip passes."""
        below, h, (conv1, conv2), (norm1, norm2) = block.below, block.h, block.convs, block.norms
        dy = P.activate_back(block.slope, h)
        P.both(m.COPY, h, dy, h.rows)  # the skip's; the norms take dy to pieces
        P.norm_back(norm2, dy)
        P.apply_params(conv2, norm1.y, dy)
        P.apply_back(conv2, dy, norm1.y)
        dy = norm1.slope
        P.norm_back(norm1, dy, norm1.y)
        P.apply_params(conv1, below, dy)
        if block.skip is not None:
            P.apply_params(block.skip, below, h)
        P.apply_back(conv1, dy, below)
        if block.skip is not None:
            P.apply_back(block.skip, h, below, add=True)
        else:
            P.both(tile.add_rows, below, h, below.rows)

    def _conv(
        self, P: Program, name: str, size: Size, C: int, O: int, stride: int, kernel: int = 3
    ) -> tuple[Linear, Size]:
        """Declare a convolution, SAME, C -> O channels; return it and the size of its output."""
        H, W, links = conv_links(*size, kernel, kernel, stride, "SAME")
        return P.linear(f"{name}.w", f"{name}.b", links, C, O), (H, W)

    def _norm(self, P: Program, name: str, z: Value, kind: str | None = None) -> Norm:
        """Emit the group norm of z, with an activation where one is named."""
        return P.norm(name, z, min(self.max_groups, z.C), kind)
