"""Data that begin smoothed and end as they are.

    smoothing_level   s_t = smoothing max(0, 1 - t / (until T)), at step t of T
    smooth_data       x_t = box(x + s_t xi),  xi at (seed, SMOOTHING, step, n, element)

A score sees the slopes of log p, and nothing of how much mass lies in each of several modes with next to no data
between them; chains that cannot cross from one to the other see no more. The modes of x_t are joined while s_t is
large, and their weights are learned then. A network that follows in small steps keeps them, more or less: nothing
corrects them once the modes have parted. Each step learns the density of x_t, the last ones that of the data.

Source: after the noise levels of Song & Ermon 2019, arXiv:1907.05600, section 3.2, in time instead of as an input.
Level: none. Twins: none; it takes the module to draw with.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..contracts import Array, Stream, check_array, check_count, check_number
from ..specs import Box, check_box
from .parts import noised


def smoothing_level(step: int, steps: int, smoothing: float, until: float) -> float:
    """s_t, the standard deviation of the noise at `step` of `steps`.

    smoothing: s_0 >= 0, in the data's unit   until: the part of the steps that has noise, in (0, 1]
    Raises RangeError, DTypeError.
    """
    check_count("step", step, low=0)
    check_count("steps", steps, low=1)
    check_number("smoothing", smoothing, low=0.0)
    check_number("until", until, low=0.0, high=1.0, open_low=True)
    return float(smoothing) * max(0.0, 1.0 - step / (until * steps))


def smooth_data(backend: ModuleType, x: Array, level: float, seed: int, step: int, box: Box | None) -> Array:
    """x_t = box(x + level xi). x: (N, *shape), returns like x; x itself at level 0.

    Raises RangeError, DTypeError, NonFiniteError.
    """
    check_array("x", x, finite=isinstance(x, np.ndarray))
    check_number("level", level, low=0.0)
    check_box(box)
    return noised(backend, x, level, Stream.SMOOTHING, seed, step, box) if level else x
