"""Short numbers: rounding to the bit, at random, and to integers with a scale."""

from __future__ import annotations

import numpy as np
import pytest

from ebm_ref import FORMATS, PrecisionPolicy
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError
from ebm_ref.noise import noise_uniform
from ebm_ref.precision import precision_quantise, precision_round, precision_round_randomly, precision_spacing

RNG = np.random.default_rng(3)


def every_float16():
    return np.arange(2**16, dtype=np.uint16).view(np.float16)


def bits_of_bf16(x):
    """The upper half of a float32, rounded to nearest even by an addition to its bits; x has no NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = bits + 0x7FFF + (bits >> 16 & 1)
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32)


def spread(dtype, n=20000):
    """Numbers of every size, both signs, with zeros, subnormals and infinities."""
    x = (RNG.uniform(-1, 1, n) * 2.0 ** RNG.integers(-150, 128, n)).astype(dtype)
    return np.concatenate([x, np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38], dtype)])


def same_bits(a, b):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


# ------------------------------------------------------------------------------------------- rounding


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_round__fp16_is_numpy_s_float16_to_the_bit(dtype):
    with np.errstate(over="ignore"):
        halves = spread(dtype) * dtype(2.0**-5), np.float64(1) * (RNG.uniform(-1, 1, 20000) * 70000)
        edges = every_float16()[np.isfinite(every_float16())].astype(np.float64)
        between = 0.5 * (edges[:-1] + edges[1:])  # every tie
        for x in (*halves, edges, between, np.nextafter(between, 9e9), np.array([65519.9, 65520.0, -65520.0])):
            x = x.astype(dtype)
            same_bits(precision_round(x, "fp16"), x.astype(np.float16).astype(dtype))


def test_precision_round__bf16_is_the_upper_half_of_float32_to_the_bit():
    x = spread(np.float32)
    finite = x[np.isfinite(x)]
    ties = (bits_of_bf16(finite).view(np.uint32) + np.uint32(0x8000)).view(np.float32)
    for y in (x, ties[np.isfinite(ties)]):
        same_bits(precision_round(y, "bf16"), bits_of_bf16(y))


def test_precision_round__of_float64_rounds_once():
    """1 + 2^-8 + 2^-40 lies above bf16's tie at 1 + 2^-8, which float32 on the way would not know."""
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8])
    assert precision_round(x, "bf16").tolist() == [1 + 2.0**-7, 1.0]
    assert precision_round(x.astype(np.float32), "bf16").tolist() == [1.0, 1.0]


@pytest.mark.parametrize("form", FORMATS)
def test_precision_round__keeps_what_is_in_the_format(form):
    y = precision_round(spread(np.float64), form)
    same_bits(precision_round(y, form), y)
    assert np.isnan(precision_round(np.array([np.nan]), form)).all()
    same_bits(precision_round(-y, form), -y)


@pytest.mark.parametrize("form", FORMATS)
def test_precision_spacing__is_the_gap_to_the_next_number(form):
    x = np.abs(precision_round(RNG.uniform(0.01, 100, 500), form))
    q = precision_spacing(x, form)
    same_bits(precision_round(x + q, form), x + q)
    same_bits(precision_round(x + 0.49 * q, form), x)


def test_precision_spacing__of_the_formats():
    """bf16: 2^-7 at 1 and 4 at 1000; fp16: 2^-10 and 0.5."""
    x = np.array([1.0, 1000.0])
    assert precision_spacing(x, "bf16").tolist() == [2.0**-7, 4.0]
    assert precision_spacing(x, "fp16").tolist() == [2.0**-10, 0.5]


@pytest.mark.parametrize("form", ["fp16", "bf16"])
def test_precision_round_randomly__has_the_mean_of_x_and_its_variance(form):
    """E y = x and Var y = q^2 f (1 - f), within 5 standard errors; a number of the format stays."""
    for x in (1.5004, -0.301, 300.7):
        many = np.full(40000, x)
        u = noise_uniform(3, 30, 0, np.arange(40000), 1)[:, 0]
        y = precision_round_randomly(many, form, u)
        q = precision_spacing(many[:1], form)[0]
        f = x / q - np.floor(x / q)
        assert set(np.unique(y)) == {np.floor(x / q) * q, np.floor(x / q) * q + q}
        assert abs(y.mean() - x) < 5 * q * np.sqrt(f * (1 - f) / 40000)
        assert y.var() == pytest.approx(q * q * f * (1 - f), rel=0.1)
    held = precision_round(RNG.normal(size=1000), form)
    for u in (np.ones(1000), np.full(1000, 2.0**-33)):
        same_bits(precision_round_randomly(held, form, u), held)


def test_precision_quantise__is_integers_and_one_scale():
    x = RNG.normal(size=(5, 7))
    n, scale = precision_quantise(x)
    assert (n == np.rint(n)).all() and np.abs(n).max() == 127
    assert np.abs(n * scale - x).max() <= 0.5 * scale * (1 + 1e-12)
    n, scale = precision_quantise(np.zeros(3))
    assert n.tolist() == [0, 0, 0] and scale == 1


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: precision_round([1.0], "fp16"), DTypeError, "x: "),
        (lambda: precision_round(np.ones(2, np.float16), "fp16"), DTypeError, "x: "),
        (lambda: precision_round(np.ones(2), "fp8"), RangeError, "form: "),
        (lambda: precision_spacing(np.array([np.inf]), "fp16"), NonFiniteError, "x: "),
        (lambda: precision_round_randomly(np.ones(2), "fp16", np.ones(3)), ShapeError, "u: "),
        (lambda: precision_round_randomly(np.ones(2), "fp16", np.ones(2, np.float32)), DTypeError, "u: "),
        (lambda: precision_round_randomly(np.ones(2), "fp16", np.array([0.5, 0.0])), RangeError, "u: "),
        (lambda: precision_round_randomly(np.ones(2), "fp16", np.array([0.5, np.nan])), RangeError, "u: "),
        (lambda: precision_quantise(np.ones(0)), ShapeError, "x: "),
        (lambda: precision_quantise(np.array([np.nan])), NonFiniteError, "x: "),
        (lambda: PrecisionPolicy("fp8"), RangeError, "forward: "),
        (lambda: PrecisionPolicy("fp16", "int8"), RangeError, "backward: "),
        (lambda: PrecisionPolicy(accumulate="fp16"), RangeError, "accumulate: "),
        (lambda: PrecisionPolicy(overflow="wrap"), RangeError, "overflow: "),
    ],
)
def test_precision__refuses_by_name(call, error, said):
    with pytest.raises(error, match=said):
        call()
