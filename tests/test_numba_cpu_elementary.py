"""exp, log, sine, sigmoid, tanh, the normal distribution and 1 / x of a register, against the C library in float64."""

from functools import cache

import numpy as np
import pytest
from scipy import special

from ebm_fast.numba_cpu import build
from ebm_fast.numba_cpu.elementary import exp32, log32, normal32, sigmoid32, sincos32, tanh32
from ebm_fast.numba_cpu.lanes import vcount, vload, vreciprocal, vstore
from ebm_fast.numba_cpu.registers import HalfArray, lane_count

pytestmark = pytest.mark.skipif(not build.JIT, reason="there is no compiler")


@build.inner
def reciprocal(x):
    return vreciprocal(x)


@build.inner
def cdf32(x):
    return normal32(x)[0]


@build.inner
def density32(x):
    return normal32(x)[1]


@build.inner
def sin32(x):
    return sincos32(x)[0]


@build.inner
def cos32(x):
    return sincos32(x)[1]


@cache
def by_registers(function):
    """y = function(x) of whole arrays."""

    @build.numba.njit(error_model="numpy", fastmath=build.FASTMATH)
    def run(x, y):
        for i in range(0, x.size, vcount(x)):
            vstore(y, i, function(vload(x, i)))

    return run


def values(function, x, kind=np.ndarray):
    """function(x), x float32 of any length, in registers or half registers."""
    lanes = lane_count(np.float32)
    padded = np.concatenate([x, np.ones(-len(x) % lanes, np.float32)])
    y = np.empty_like(padded)
    by_registers(function)(padded.view(kind), y.view(kind))
    return y[: len(x)]


FUNCTIONS = {
    "exp": (exp32, np.exp, (-87, 88)),
    "sigmoid": (sigmoid32, special.expit, (-87, 100)),
    "tanh": (tanh32, np.tanh, (-30, 30)),
    "cdf": (cdf32, special.ndtr, (-12.9, 13)),
    "density": (density32, lambda x: np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi), (-13, 13)),
}
LARGE = np.array([-np.inf, -3e38, -1e30, -1e5, -200, 200, 1e5, 1e30, 3e38, np.inf], np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary__has_the_precision_it_promises(name):
    function, exact, (low, high) = FUNCTIONS[name]
    small = np.geomspace(1e-30, 1, 2000)
    x = np.concatenate([np.linspace(low, high, 400_001), small, -small]).astype(np.float32)
    wide = x.astype(np.float64)
    error = np.abs(values(function, x) - exact(wide))
    allowed = 7e-7 + 6e-8 * wide**2 if name in ("cdf", "density") else 4e-7  # x^2 / 2 itself is rounded
    assert np.all(error <= allowed * np.abs(exact(wide)) + 1e-38)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary__at_the_ends_and_at_nan(name):
    function, exact, _ = FUNCTIONS[name]
    with np.errstate(over="ignore"):
        assert np.array_equal(values(function, LARGE), exact(LARGE.astype(np.float64)).astype(np.float32))
    assert np.isnan(values(function, np.float32([np.nan]))).all()


@pytest.mark.parametrize("name", ["log", "sin", "cos"])
def test_elementary__where_normals_come_from(name):
    one = np.arange(-(1 << 16), 1 << 16, dtype=np.int32) + np.float32(1).view(np.int32)  # all neighbours of 1
    positive = np.concatenate([np.geomspace(1.2e-38, 3e38, 400_001).astype(np.float32), one.view(np.float32)])
    angle = np.linspace(-np.pi / 4, np.pi / 4, 400_001).astype(np.float32)
    function, exact, x = {
        "log": (log32, np.log, positive),
        "sin": (sin32, np.sin, angle),
        "cos": (cos32, np.cos, angle),
    }[name]
    wanted = exact(x.astype(np.float64))
    assert np.all(np.abs(values(function, x) - wanted) <= 1.5e-7 * np.abs(wanted))


def test_sigmoid__vanishes_so_fast_that_silu_does():
    x = -np.geomspace(80, 3e38, 10_000).astype(np.float32)
    silu = x * values(sigmoid32, x)
    assert np.all(np.abs(silu) < 2e-33) and np.all(silu[x < -88] == 0)


@pytest.mark.parametrize("kind", [np.ndarray, HalfArray])
def test_reciprocal__is_a_division_to_the_bit(kind):
    mantissas = (np.arange(1 << 23, dtype=np.uint32) + 0x3F800000).view(np.float32)  # all of them
    rng = np.random.default_rng(0)
    for x in (mantissas, mantissas * np.float32(2) ** rng.integers(0, 126, mantissas.size).astype(np.float32)):
        found, exact = values(reciprocal, x, kind), np.float32(1) / x
        assert np.array_equal(found[:-1], exact[:-1])
        assert abs(found[-1] / exact[-1] - 1) < 2**-22  # all bits 1: halfway between two numbers


def test_half_registers__have_the_bits_of_whole_ones():
    x = np.linspace(-90, 90, 10_001, dtype=np.float32)
    for function in (exp32, sigmoid32, tanh32, cdf32):
        assert np.array_equal(values(function, x, HalfArray), values(function, x))
