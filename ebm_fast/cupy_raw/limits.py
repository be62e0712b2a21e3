"""Sizes that a launch cannot count: refused by their shapes alone, before an array is looked at, copied or allocated.

    an int       a size that a kernel takes as an int is below 2^30, so that it stays one with a stride or a filter
                 added: N, H, W, C, O of a convolution and the numbers of its filters; N, C of a norm; N of a network
    a grid       has 2^31 - 1 blocks along x
    a word       numbers the quads of a sample in the counter of its noise: 2^34 elements

All other sizes are counted in 64 bits.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ebm_ref.contracts import RangeError

from .device import GRID

INT = 2**30 - 1
SAMPLES = 2**31 - 256  # of a launch in which a thread belongs to one sample
THREADS = 256 * GRID[0]  # of a launch of 256 a block
NUMBERS = 4 * THREADS
PIXELS = 64 * GRID[0]  # the narrowest tile of a convolution has 64
ELEMENTS = 2**34  # of a sample with noise


def check_fits(
    name: str,
    x: Any,
    *,
    axes: int | None = None,
    samples: int | None = None,
    channels: int | None = None,
    elements: int | None = None,
    pixels: int | None = None,
    numbers: int | None = None,
) -> None:
    """Raise RangeError where the shape of `x` has more than so many of what is named; `x` may be no array at all.

    axes: the longest axis; samples: the first axis; channels: the last one; elements: all but the first axis; pixels:
    all but the last.
    """
    shape = tuple(getattr(x, "shape", ()))
    found = (
        ("along an axis", axes, max(shape, default=0)),
        ("samples", samples, shape[0] if shape else 0),
        ("channels", channels, shape[-1] if shape else 0),
        ("elements of a sample", elements, prod(shape[1:])),
        ("pixels", pixels, prod(shape[:-1])),
        ("numbers", numbers, prod(shape)),
    )
    for what, most, have in found:
        if most is not None and have > most:
            raise RangeError(f"{name}: expected at most {most} {what}, found {have} in shape {shape}")
