"""The functions that each machine computes in its own way.

Bodies call these. On a CPU they are what is written here, `math`'s, which Numba compiles in the type of the
argument; on a card they are libdevice's, single or double: `math.cos` would bring in a slow path in double precision.

    sincospi    (sin, cos)(pi t)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

PI = math.pi


def exp(x):
    return math.exp(x)


def log(x):
    return math.log(x)


def log1p(x):
    return math.log1p(x)


def sqrt(x):
    return math.sqrt(x)


def tanh(x):
    return math.tanh(x)


def erf(x):
    return math.erf(x)


def sincospi(t):
    """t less the nearest half, which is exact, then the pair turned by as many quarters: no digit of pi t is lost."""
    quarters = np.floor(2.0 * t + 0.5)  # in the type of t, where math.floor gives an integer
    a = PI * (t - 0.5 * quarters)  # [-pi/4, pi/4]
    sin, cos = math.sin(a), math.cos(a)
    turn = int(quarters) & 3
    if turn & 1:
        sin, cos = cos, -sin
    if turn & 2:
        sin, cos = -sin, -cos
    return sin, cos


def on_a_card(libdevice: Any, dtype: np.dtype) -> dict[Any, Any]:
    """Each function above and its counterpart among libdevice's."""
    end = "f" if dtype == np.float32 else ""
    return {f: getattr(libdevice, f.__name__ + end) for f in (exp, log, log1p, sqrt, tanh, erf, sincospi)}
