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
    """One to three registers of the output that `gather` sums together, in numbers of registers.

    sources: for each tap, its registers of the input.
    """

    places: tuple[int, ...]
    sources: dict[int, tuple[int, ...]]


def units_of(links: Links, key: int, registers: int, C_in: int, C_out: int, most: int) -> list[Unit]:
    """The units of `gather`, of `most` registers at most, for pixels of column `key` of the links (0 input, 2 output).

    Pixel p, channel 0, register j is number p C registers + j. Pixels of one register that have the same taps are
    grouped in order, as evenly as can be.
    """
    other = 2 - key
    taps: dict[int, dict[int, int]] = {p: {} for p in range((links.pixels_in, 0, links.pixels_out)[key])}
    for pair in sorted(links.pairs.tolist(), key=lambda pair: pair[1]):
        taps[pair[key]][pair[1]] = pair[other]
    alike: dict[tuple[int, ...], list[int]] = {}
    for p, mine in taps.items():
        alike.setdefault(tuple(mine), []).append(p)
    size = 1 if registers > 1 else most
    groups = [group.tolist() for pixels in alike.values() for group in np.array_split(pixels, -(-len(pixels) // size))]

    def of(p: int, C: int) -> tuple[int, ...]:
        return tuple(p * C * registers + j for j in range(registers))

    def unit(group: list[int]) -> Unit:
        places = tuple(place for p in group for place in of(p, C_out))
        return Unit(places, {t: tuple(place for p in group for place in of(taps[p][t], C_in)) for t in taps[group[0]]})

    return [unit(group) for group in sorted(groups)]


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
