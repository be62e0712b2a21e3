"""The parts of a program: arrays of a tile, which pixels a linear map links, and where its pieces lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Value:
    """Rows of one array (pixels, C) of the tile, and of its tangent."""

    at: int
    at1: int
    pixels: int
    C: int

    @property
    def rows(self) -> int:
        return self.pixels * self.C


@dataclass(frozen=True)
class Links:
    """Which input pixel meets which output pixel through which tap: (input, tap, output) each."""

    pixels_in: int
    pixels_out: int
    taps: int
    pairs: np.ndarray


def conv_links(H: int, W: int, R: int, S: int, stride: int, padding: str) -> tuple[int, int, Links]:
    """P, Q and the links of a convolution; SAME pads by TensorFlow's rule, the odd pixel after."""

    def axis(size: int, kernel: int) -> tuple[int, int]:
        if padding == "VALID":
            return -(-(size - kernel + 1) // stride), 0
        out = -(-size // stride)
        return out, max((out - 1) * stride + kernel - size, 0) // 2

    (P, top), (Q, left) = axis(H, R), axis(W, S)
    p, q, r, s = (a.ravel() for a in np.meshgrid(*(np.arange(n) for n in (P, Q, R, S)), indexing="ij"))
    h, w = p * stride + r - top, q * stride + s - left
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
    pairs = np.stack([h * W + w, r * S + s, p * Q + q], 1)[inside]
    return P, Q, Links(H * W, P * Q, R * S, pairs)


@dataclass(frozen=True)
class Unit:
    """Two registers of the output that `gather` sums together, or one (`to` is -1), in numbers of registers.

    pairs: (src, src of the second, tap) each.
    """

    at: int
    to: int
    pairs: list[tuple[int, int, int]]


def units_of(links: Links, key: int, registers: int, C_in: int, C_out: int) -> list[Unit]:
    """The units of `gather` for the pixels of column `key` of the links (0 input, 2 output).

    Pixel p, channel 0, register j is number p C registers + j. With one register a pixel joins the next one that has
    the same taps.
    """
    other = 2 - key
    taps: dict[int, dict[int, int]] = {p: {} for p in range((links.pixels_in, 0, links.pixels_out)[key])}
    for pair in sorted(links.pairs.tolist(), key=lambda pair: pair[1]):
        taps[pair[key]][pair[1]] = pair[other] * C_in * registers
    units: list[Unit] = []
    waiting: dict[tuple[int, ...], tuple[int, int]] = {}
    for p, mine in taps.items():
        at = p * C_out * registers
        if registers == 2:
            units.append(Unit(at, at + 1, [(q, q + 1, t) for t, q in mine.items()]))
        elif tuple(mine) in waiting:
            place, first = waiting.pop(tuple(mine))
            units[place] = Unit(units[place].at, at, [(q, mine[t], t) for t, q in taps[first].items()])
        else:
            waiting[tuple(mine)] = len(units), p
            units.append(Unit(at, -1, [(q, -1, t) for t, q in mine.items()]))
    return units


def turned_channels(C: int) -> int:
    """Channels of the input whose sums `weight_grad` keeps room for: blocks of 8, or one by one."""
    return C if C < 8 else (C + 7) // 8 * 8


DENSE = Links(1, 1, 1, np.zeros((1, 3), np.int64))


@dataclass(frozen=True)
class Packing:
    """How weights (taps, C, O) are packed: as they are or transposed, and the outputs of each block."""

    shape: tuple[int, int, int]
    transposed: bool
    blocks: list[int]


@dataclass(frozen=True)
class Linear:
    """A linear map in a program: where its tables, packed weights and gradients lie."""

    links: Links
    C: int
    O: int
    tables: tuple[tuple[int, int], ...]  # address and length: units of the output, units of the input, taps
    weights: tuple[int, int]  # address: packed forwards, packed backwards
    bias: int
    grads: tuple[int, int]  # of the weights, of the bias
    lone: tuple[int, ...]  # products a channel, there and back, of pixels that share their weights with none


@dataclass(frozen=True)
class Norm:
    """A normalisation in a program: its results and parameters."""

    z: Value
    y: Value
    rate: Value
    groups: int
    gamma: int
    grads: tuple[int, int]  # of gamma, of beta
    slope: Value | None  # f'(y), where an activation followed
