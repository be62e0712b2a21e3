"""Small operations on shared memory, of which the persistent chain (chain.cu) makes a network.

    Plan      operations in order, where each value lies in a chain's piece of shared memory, how parameters are packed

A value is an array (pixels, C) of one chain; its place is found by first fit over the operations during which it is
needed, so that gradients take the room of activations that nobody reads again. A convolution keeps its output only
where the norm behind it needs it backwards (there the norm leaves x_hat), and the activated copy lives no longer than
the next convolution. Nothing here depends on how many chains a block holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

# The table starts with these numbers, in the order of struct ChainHead in chain_op.cuh.
HEAD = ("ops", "x", "at", "E", "g", "C", "pitch", "D", "stride", "zeros", "slices", "each", "lanes")
# One operation is a row of these numbers, in the order of struct ChainOp in chain_op.cuh. KINDS: its `kind`.
FIELDS = (
    "kind", "src", "src_pitch", "src_h", "src_w", "dst", "dst_pitch", "dst_h", "dst_w", "C", "O", "kernel", "stride",
    "top", "left", "back", "w", "b", "lanes", "padded", "add", "pixels", "groups", "code", "gamma", "beta", "r",
    "keep", "parts", "divisor",
)  # fmt: skip
KINDS = ("LINEAR", "PARTIAL", "REDUCE", "FILL", "POOL", "POOL_BACK", "ACT", "ACT_BACK", "NORM", "NORM_BACK")
NONE = -1  # an offset that is not there

QUAD_LANES = 8  # lanes of a warp along output channels, at most: 8 quads, 32 channels
THIN = 8  # outputs below which a dense layer splits its sum over threads instead
PARTS = 16  # pieces of such a sum, at most
SLICES = 8  # pieces of a chain that the update deals to warps, at most


@dataclass
class Value:
    """An array (pixels, C) of one chain, needed from operation `first` to operation `last`."""

    pixels: int
    C: int
    first: int
    last: int
    offset: int = NONE

    @property
    def pitch(self) -> int:
        """From pixel to pixel: C, from C = 4 on an odd number of quads, so that neighbours lie in other banks."""
        if self.pixels == 1 or self.C < 4:
            return self.C
        return 4 * (-(-self.C // 4) | 1)

    @property
    def size(self) -> int:
        """Numbers taken, whole quads."""
        return -(-self.pixels * self.pitch // 4) * 4


@dataclass
class Packed:
    """One parameter as the chain reads it: (taps, C, O padded), or turned round (taps, O, C padded)."""

    name: str
    taps: int
    C: int
    O: int
    turned: bool
    padded: int
    offset: int

    @property
    def size(self) -> int:
        return self.taps * (self.O if self.turned else self.C) * self.padded


@dataclass
class Plan:
    """Operations, values and parameters of one network."""

    ops: list[dict[str, Any]] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    packed: dict[tuple[str, bool], Packed] = field(default_factory=dict)
    params: int = 0  # numbers of all packed parameters
    zeros: int = 4  # numbers of the row of zeros that stands for pixels outside the image
    x: Any = None  # the state; at: where energy and gradient are taken; E, g: the two
    at: Any = None
    E: Any = None
    g: Any = None
    stride: int = 0  # numbers of one chain

    # ------------------------------------------------------------------------------------------ building

    def value(self, pixels: int, C: int) -> Value:
        """A new value, needed from the next operation on."""
        made = Value(pixels, C, len(self.ops), len(self.ops))
        self.values.append(made)
        return made

    def op(self, kind: str, **numbers: Any) -> None:
        """One more operation; a Value among its numbers is needed until then, a Packed stands for its offset."""
        for number in numbers.values():
            if isinstance(number, Value):
                number.last = len(self.ops)
        self.ops.append({"kind": KINDS.index(kind), **numbers})

    def pack(self, name: str, taps: int, C: int, O: int, turned: bool = False, to: int = 4) -> Packed:
        """The parameter `name`, its rows padded with zeros to a multiple of `to`."""
        key = (name, turned)
        if key not in self.packed:
            padded = -(-(C if turned else O) // to) * to
            self.packed[key] = made = Packed(name, taps, C, O, turned, padded, self.params)
            self.params += made.size
        return self.packed[key]

    def linear(
        self, name: str, size: tuple[int, int], conv: tuple[int, int, str], C: int, O: int,
        src: Value, dst: Value, back: bool = False, add: bool = False,
    ) -> None:  # fmt: skip
        """dst (+)= conv2d(src) + b, or, back, its adjoint in x. size: H, W of x; conv: R, stride, padding."""
        (H, W), (R, stride, padding) = size, conv
        stride = min(stride, max(H, W))  # beyond the image a longer stride changes nothing but the number of classes
        (P, top), (Q, left) = extent(H, R, stride, padding), extent(W, R, stride, padding)
        many, few = (O, C) if back else (C, O)  # channels read, channels made
        lanes = min(QUAD_LANES, 1 << (-(-few // 4) - 1).bit_length())
        w = self.pack(f"{name}.w", R * R, C, O, back, 4 * lanes)
        b = self.pack(f"{name}.b", 1, 1, O, False, 4 * QUAD_LANES) if not back else NONE
        (src_h, src_w), (dst_h, dst_w) = ((P, Q), (H, W)) if back else ((H, W), (P, Q))
        self.zeros = max(self.zeros, -(-many // 4) * 4)
        self.op(
            "LINEAR", src=src, src_pitch=src.pitch, src_h=src_h, src_w=src_w, dst=dst, dst_pitch=dst.pitch,
            dst_h=dst_h, dst_w=dst_w, C=many, O=few, kernel=R, stride=stride, top=top, left=left, back=int(back),
            w=w, b=b, lanes=lanes, padded=w.padded, add=int(add),
        )  # fmt: skip

    def dense(self, name: str, C: int, O: int, src: Value, back: bool = False, thin: bool = True) -> Value:
        """src w + b (or, back, src w') as a new value; thin: the sum over channels split over threads."""
        many, few = (O, C) if back else (C, O)
        dst = self.value(1, few)
        if not thin and few >= THIN:
            self.linear(name, (1, 1), (1, 1, "SAME"), C, O, src, dst, back)
            return dst
        w = self.pack(f"{name}.w", 1, C, O, back)
        b = NONE if back else self.pack(f"{name}.b", 1, 1, O, False, 4 * QUAD_LANES)
        quads = w.padded // 4
        parts = min(PARTS, many, 1 << max(0, (256 // quads).bit_length() - 1))
        sums = self.value(parts, w.padded)
        self.op("PARTIAL", src=src, dst=sums, C=many, O=few, w=w, padded=w.padded, parts=parts, dst_pitch=sums.pitch)
        self.op("REDUCE", src=sums, src_pitch=sums.pitch, dst=dst, O=few, b=b, parts=parts)
        return dst

    def norm(self, name: str, y: Value, groups: int, code: int, dst: Value, add: Value | None) -> dict[str, Any]:
        """dst = act(norm(y)) [+ add], y = x_hat; returns what the way back needs."""
        gamma, beta = (self.pack(f"{name}.{part}", 1, 1, y.C, False, 4) for part in ("gamma", "beta"))
        per_group = y.C // groups
        lanes = next(n for n in (4, 8, 16, 32) if n * y.pixels >= 32 or n == 32)  # along channels; the rest: pixels
        within = per_group if per_group < lanes and per_group & (per_group - 1) == 0 else lanes
        numbers = {
            "src_pitch": y.pitch, "dst_pitch": dst.pitch, "pixels": y.pixels, "C": y.C, "groups": groups,
            "lanes": lanes, "parts": within, "code": code, "gamma": gamma, "beta": beta, "r": self.value(1, groups),
        }  # fmt: skip
        self.op("NORM", src=y, dst=dst, add=NONE if add is None else add, **numbers)
        return numbers

    def norm_back(self, numbers: dict[str, Any], y: Value, dy: Value, keep: bool = False) -> None:
        """y = the gradient before the norm; dy is used up unless `keep`."""
        self.op("NORM_BACK", **{**numbers, "dst_pitch": dy.pitch}, src=y, dst=dy, keep=int(keep))

    # ------------------------------------------------------------------------------------------ finishing

    def freeze(self) -> Plan:
        """Give every value its place."""
        for kept in (self.x, self.at, self.E, self.g):
            kept.last = len(self.ops)
        for kept in (self.x, self.at):
            kept.first = 0
        placed: list[Value] = []
        for value in sorted(self.values, key=lambda v: -v.size):
            near = [v for v in placed if v.first <= value.last and value.first <= v.last]
            offset = 0
            for other in sorted(near, key=lambda v: v.offset):
                if offset + value.size <= other.offset:
                    break
                offset = max(offset, other.offset + other.size)
            value.offset = offset
            placed.append(value)
        top = max(v.offset + v.size for v in placed)
        self.stride = 4 * (top // 4 | 1)  # an odd number of quads, for layers of which a chain is one row
        return self

    @property
    def slices(self) -> int:
        """Pieces into which the update cuts a chain: 32 quads each, or an eighth of them."""
        return min(SLICES, -(-self.quads // 32))

    @property
    def quads(self) -> int:
        return int(-(-self.x.pixels * self.x.C // 4))

    def table(self) -> np.ndarray:
        """HEAD, then a row of FIELDS for each operation, int32."""
        each = -(-self.quads // self.slices)
        lanes = min(32, 1 << (each - 1).bit_length())
        head = (len(self.ops), self.x, self.at, self.E, self.g, self.x.C, self.x.pitch, self.x.pixels * self.x.C,
                self.stride, self.zeros, self.slices, each, lanes)  # fmt: skip
        rows = [place(op.get(name, 0)) for op in self.ops for name in FIELDS]
        return np.array([*map(place, head), *rows], np.int32)

    def recipe(self) -> np.ndarray:
        """How chain_pack fills the packed parameters: (taps, C, O, turned, padded, to) of each, int32."""
        rows = [(p.taps, p.C, p.O, int(p.turned), p.padded, p.offset) for p in self.packed.values()]
        return np.array(rows, np.int32)


def place(number: Any) -> int:
    """The number that stands in the table."""
    return number.offset if isinstance(number, (Value, Packed)) else int(number)


def extent(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """(output size, padding before) along one axis."""
    if padding == "VALID":
        return -(-(size - kernel + 1) // stride), 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + kernel - size, 0) // 2
