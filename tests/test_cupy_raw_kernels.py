"""Kernels that the kit's problems do not launch: the widest convolution tiles, and the draws that are whole numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ebm_ref
from ebm_fast.cupy_raw import conv2d
from ebm_fast.verify import host_build
from ebm_fast.verify.case import Case
from ebm_fast.verify.judge import judge

CASES = settings(max_examples=200)
SEEDS = st.integers(0, 2**64 - 1)
WORDS = st.integers(0, 2**32 - 1)

if host_build.why_not():
    pytest.skip(host_build.why_not(), allow_module_level=True)


def runs_of(name):
    """How often a kernel ran in this process."""
    return sum(count for (_, kernel), count in host_build.launched().items() if kernel == name)


def words(seed, shape):
    return np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32)


@pytest.fixture(scope="module")
def wide_tiles():
    """As on a large image, where there are tiles enough for a large card."""
    few, conv2d.FEW = conv2d.FEW, 0
    yield
    conv2d.FEW = few


def normal(seed, shape, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@CASES
@given(SEEDS, st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.integers(33, 150), st.integers(1, 3))
def test_conv2d_forward__matches_ref_by_the_widest_tile(wide_tiles, dtype, seed, N, H, C, O, R):
    before = runs_of("conv2d_forward_wide")
    x, w, b = normal(seed, (N, H, H + 1, C), dtype), normal(seed + 1, (R, R, C, O), dtype), normal(seed, O, dtype)
    case = Case("conv2d_forward", {"x": x, "w": w, "b": b}, {"stride": 1 + N % 2, "padding": "SAME"})
    assert judge(case, host_build.conv2d_forward, host_build, dtype) <= 1
    assert runs_of("conv2d_forward_wide") > before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@CASES
@given(SEEDS, st.integers(1, 3), st.integers(1, 6), st.integers(33, 150), st.integers(1, 3), st.integers(1, 3))
def test_conv2d_backward__matches_ref_by_the_widest_tile(wide_tiles, dtype, seed, N, H, C, O, R):
    before = runs_of("conv2d_backward_dx_wide")
    x, w = normal(seed, (N, H, H + 1, C), dtype), normal(seed + 1, (R, R, C, O), dtype)
    stride = 1 + N % 2
    dy = normal(seed, (N, -(-H // stride), -(-(H + 1) // stride), O), dtype)
    case = Case("conv2d_backward", {"x": x, "w": w, "dy": dy}, {"stride": stride, "padding": "SAME"})
    assert judge(case, host_build.conv2d_backward, host_build, dtype) <= 1
    assert runs_of("conv2d_backward_dx_wide") > before


@CASES
@given(SEEDS, st.integers(1, 70), st.integers(1, 3), st.booleans())
def test_noise_philox__matches_ref(seed, n, axes, aligned):
    shape, offset = (*(1,) * (axes - 1), n, 4), 0 if aligned else 1
    counter, key = words(seed, 4 * n + offset)[offset:].reshape(shape), words(seed + 1, 2)
    assert np.array_equal(host_build.noise_philox(counter, key), ebm_ref.noise_philox(counter, key))


@CASES
@given(SEEDS, st.integers(0, 300), st.integers(1, 2**32))
def test_noise_index__matches_ref(seed, size, n):
    bits = words(seed, size)
    found, wanted = host_build.noise_index(bits, n), ebm_ref.noise_index(bits, n)
    assert found.dtype == wanted.dtype and np.array_equal(found, wanted)


@CASES
@given(SEEDS, WORDS, WORDS, st.integers(0, 700))
def test_noise_permutation__matches_ref(seed, stream, step, n):
    found, wanted = (module.noise_permutation(seed, stream, step, n) for module in (host_build, ebm_ref))
    assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
