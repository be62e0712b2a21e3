"""Low precision, emulated: numbers of a short format, held in float32 or float64, which have room for all of them.

    precision_spacing         q(x) = 2^(max(floor(log2 |x|), emin) - p + 1), the gap between neighbours at x
    precision_round           y = q rint(x / q), ties to even; beyond the largest number: infinity, as IEEE 754 says
    precision_round_randomly  y = q (floor(x / q) + [u <= frac(x / q)]):  E y = x,  Var y = q^2 frac (1 - frac)
    precision_quantise        scale = max |x| / 127,  n = rint(x / scale) in -127 ... 127: one scale an array
    PrecisionPolicy           which format the forward and the backward pass of a network have (rounded.py runs them)

    format    p    emin   largest      spacing at 1     at 1000
    float32   24   -126   3.4e38       1.2e-7           6.1e-5
    fp16      11   -14    65504        9.8e-4           0.5
    bf16       8   -126   3.39e38      7.8e-3           4
    int8      no exponent: a matrix product of integers, everything around it in float32

What does not survive: a step below half a gap. In bf16 1.5 + 0.00204 is 1.5, and of Langevin noise of sigma = 0.005
a coordinate at 0.75, 1.5, 3 does not notice 30 %, 56 %, 88 %. So a chain keeps its state, its noise, its sums and its
energy differences in float32 or better; only the network may be short. Rounding at random is right on average, yet
each step adds up to q^2 / 4 of variance that does not fall with the step size.

Source: IEEE 754-2019, section 4.3.1 (to nearest, ties to even); Kalamkar et al. 2019, arXiv:1905.12322 (bf16);
Jacob et al. 2018, arXiv:1712.05877 (int8 with a scale); Zhang et al. 2022, arXiv:2206.09909 (rounding in SGLD).
Level: none. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .contracts import Array, DTypeError, RangeError, ShapeError, check_array, check_choice


@dataclass(frozen=True)
class Format:
    """A binary format: p bits of significand (the leading 1 included), smallest normal exponent, largest number."""

    p: int
    emin: int
    largest: float


FORMATS = {
    "float32": Format(24, -126, float(np.finfo(np.float32).max)),
    "fp16": Format(11, -14, 65504.0),
    "bf16": Format(8, -126, (2 - 2.0**-7) * 2.0**127),
}
PASSES = (*FORMATS, "int8")  # what a pass of a network may have; int8 is not a format of single numbers


@dataclass(frozen=True)
class PrecisionPolicy:
    """Formats of the two passes of a network.

    forward: "float32", "fp16", "bf16" or "int8"   backward: one of the first three; None: the same, or
    float32 for int8
    accumulate: "float32" or "float64", in which an operation is carried out before its result is rounded once
    overflow: "raise": NonFiniteError with the operation's name, or "inf": IEEE 754's infinity goes on
    """

    forward: str = "bf16"
    backward: str | None = None
    accumulate: str = "float32"
    overflow: str = "raise"

    def __post_init__(self) -> None:
        check_choice("forward", self.forward, PASSES)
        if self.backward is not None:
            check_choice("backward", self.backward, tuple(FORMATS))
        check_choice("accumulate", self.accumulate, ("float32", "float64"))
        check_choice("overflow", self.overflow, ("raise", "inf"))

    @property
    def backward_form(self) -> str:
        """The backward pass's format."""
        if self.backward is not None:
            return self.backward
        return "float32" if self.forward == "int8" else self.forward


def precision_spacing(x: Array, form: str) -> Array:
    """q(x) = 2^(max(floor(log2 |x|), emin) - p + 1); at 0 the smallest subnormal.

    x: any shape, finite   form: "float32", "fp16" or "bf16"   returns like x.
    Raises DTypeError, RangeError, NonFiniteError.
    """
    _check(x, form, finite=True)
    q: Array = np.ldexp(np.ones_like(x), _exponent(x, FORMATS[form]))
    return q


def precision_round(x: Array, form: str) -> Array:
    """y = q rint(x / q), the nearest number of the format, ties to even; |y| above the largest becomes infinity.

    x: any shape   form: "float32", "fp16" or "bf16"   returns like x. NaN stays NaN. Raises DTypeError, RangeError.
    """
    _check(x, form)
    if form == "float32" and x.dtype == np.float32:
        return x
    e = _exponent(x, FORMATS[form])
    with np.errstate(over="ignore"):  # beyond the largest is infinity
        y = np.ldexp(np.rint(np.ldexp(x, -e)), e)
    return _bounded(y, form)


def precision_round_randomly(x: Array, form: str, u: Array) -> Array:
    """y = q (floor(x / q) + [u <= x / q - floor(x / q)]): to one of the two neighbours, with E y = x.

    x: any shape   form: "float32", "fp16" or "bf16"   u: like x, uniforms in (0, 1], of Stream.ROUNDING
    returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    _check(x, form)
    check_array("u", u, shape=x.shape)
    if u.dtype != x.dtype:
        raise DTypeError(f"u: expected {x.dtype} like x, found {u.dtype}")
    outside = ~((u > 0) & (u <= 1))
    if outside.any():
        raise RangeError(f"u: expected uniforms in (0, 1], found {u[outside].flat[0]}")
    e = _exponent(x, FORMATS[form])
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf: the fraction of infinity is NaN, and takes no step
        z = np.ldexp(x, -e)
        low = np.floor(z)
        y = np.ldexp(low + (u <= z - low), e)
    return _bounded(y, form)


def precision_quantise(x: Array) -> tuple[Array, Array]:
    """n = rint(x / scale), integers from -127 to 127, and scale = max |x| / 127 (1 where x is 0 throughout).

    x: any shape, at least one number, finite   returns n like x, scale (). Raises as its checks: ShapeError,
    DTypeError, NonFiniteError.
    """
    check_array("x", x, finite=True)
    if x.size == 0:
        raise ShapeError(f"x: expected at least one number, found shape {x.shape}")
    top = np.max(np.abs(x))  # ()
    scale: Any = np.where(top > 0, np.maximum(top / 127, np.finfo(x.dtype).tiny), 1).astype(x.dtype)  # ()
    return np.rint(x / scale), scale


def _exponent(x: Array, f: Format) -> Array:
    """e of q = 2^e: |x| = m 2^E with m in [1/2, 1), so that floor(log2 |x|) is E - 1."""
    e: Array = np.maximum(np.frexp(x)[1], f.emin + 1) - f.p
    return e


def _bounded(y: Array, form: str) -> Array:
    beyond = np.abs(y) > FORMATS[form].largest
    bounded: Array = np.where(beyond, np.copysign(y.dtype.type(np.inf), y), y)
    return bounded


def _check(x: Array, form: str, finite: bool = False) -> None:
    check_array("x", x, finite=finite)
    check_choice("form", form, tuple(FORMATS))
