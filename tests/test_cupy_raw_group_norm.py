"""The CUDA backend's normalisation and activations on jets, run by the host build: no card needed."""

import numpy as np
import pytest
from cuda_layers import BUDGET, BUILD, DTYPES, NORMS, aligned, close, empty, jets, off_by_one, probe, wide

from ebm_fast.cupy_raw import conv2d, group_norm
from ebm_fast.cupy_raw.activation import CODES, activation_code
from ebm_fast.cupy_raw.device import on
from ebm_fast.verify.host_build import host_device
from ebm_ref.contracts import RangeError
from ebm_ref.jet import jet_coefficient, jet_order, jet_seed
from ebm_ref.layers import activations
from ebm_ref.layers.group_norm import group_norm_backward, group_norm_forward
from ebm_ref.specs import ACTIVATIONS


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(conv2d, "EACH", 0)  # the tile follows from the columns alone
    with on(host_device(BUILD)):
        yield


def norm_oracle(name, x, gamma, beta, dy, G):
    """y, dx, dgamma, dbeta of the oracle, through the activation."""
    z = group_norm_forward(x, gamma, beta, G, 1e-3)
    if name is None:
        return (z, *group_norm_backward(x, gamma, dy, G, 1e-3))
    dz = activations.activation_backward(z, dy, name) if jet_order(z) == 0 else activations.BACKWARD[name](z, dy)
    return (activations.FORWARD[name](z), *group_norm_backward(x, gamma, dz, G, 1e-3))


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", (None, *CODES))
@pytest.mark.parametrize("case", NORMS)
def test_norm_apply__matches_ref_on_jets(case, name, dtype, order):
    (N, L, C, G), rng = NORMS[case], np.random.default_rng(2)
    x, x_series = jets(rng, (N, L, C), dtype, order)
    dy, dy_series = jets(rng, (N, L, C), dtype, order)
    gamma, beta = (rng.standard_normal(C).astype(dtype) for _ in range(2))
    wide_params = gamma.astype(np.float64), beta.astype(np.float64)
    y, dx, dgamma, dbeta = norm_oracle(name, wide(x_series), *wide_params, wide(dy_series), G)
    found = empty(x.shape, dtype)
    group_norm.norm_apply(N, L, C, G, x, gamma, beta, found, dtype, order, 1e-3, name)
    roomy = 30.0 if L * C // G < 3 else 1.0  # one or two numbers: the variance may be as small as eps, r as large as 30
    close(found, y, dtype, roomy)
    for component in range(order + 1):
        found, found_gamma, found_beta = empty(x.shape, dtype), empty(C, dtype), empty(C, dtype)
        args = (N, L, C, G, x, gamma, beta, dy, found, found_gamma, found_beta, dtype, order, component, 1e-3, name)
        group_norm.norm_apply_back(*args)
        close(found, dx, dtype, 30 * roomy)
        close(found_gamma[..., None], jet_coefficient(dgamma, component), dtype, 30 * roomy)
        close(found_beta[..., None], jet_coefficient(dbeta, component), dtype)
        there = dy.copy()  # dx where dy lies, with and without the parameters' sums
        group_norm.norm_apply_back(*args[:8], there, *args[9:])
        assert np.array_equal(there, found)
    lone = dy.copy()
    group_norm.norm_apply_back(N, L, C, G, x, gamma, beta, lone, lone, None, None, dtype, order, 0, 1e-3, name)
    close(lone, dx, dtype, 30 * roomy)


@pytest.mark.parametrize("case", ("image", "large"))
def test_norm_apply__gives_the_same_bits_at_any_address(case):
    (N, L, C, G), rng, results = NORMS[case], np.random.default_rng(5), []
    x, dy = (rng.standard_normal((N, L, C)).astype(np.float32) for _ in range(2))
    gamma = rng.standard_normal(C).astype(np.float32)
    for place in (aligned, off_by_one):
        px, pdy, pg = place(x), place(dy), place(gamma)
        y, dx, dgamma, dbeta = (place(np.zeros_like(a)) for a in (x, x, gamma, gamma))
        group_norm.norm_apply(N, L, C, G, px, pg, pg, y, np.float32, 0, 1e-5, "silu")
        args = (px, pg, pg, pdy, dx, dgamma, dbeta, np.float32, 0, 0, 1e-5, "silu")
        group_norm.norm_apply_back(N, L, C, G, *args)
        results.append([a.tobytes() for a in (y, dx, dgamma, dbeta)])
    assert results[0] == results[1]


PROBE = """
#include "activation.cuh"
extern "C" __global__ void probe(int code, const Jet* x, Jet* y, Jet* slope, const real* t, real* u, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = activation_value(code, x[i]);
  slope[i] = activation_slope(code, x[i]);
  u[2 * i] = activation_value(code, t[i]);
  u[2 * i + 1] = activation_slope(code, t[i]);
}
EBM_EXPORT(probe)
"""


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", (None, *CODES))
def test_activation__matches_ref_far_out(name, dtype, order):
    points = [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, np.inf, -np.inf, np.nan, 87.0, -87.0, 1e-4, 20.0, -20.0]
    x = np.concatenate([points, np.random.default_rng(3).standard_normal(200) * 3]).astype(dtype)
    v = np.random.default_rng(4).standard_normal(x.shape).astype(dtype)
    n, series = x.size, wide(jet_seed(x, v, 1) if order else x)
    y, slope, plain = empty((n, order + 1), dtype), empty((n, order + 1), dtype), empty((n, 2), dtype)
    both = np.stack([x, v][: order + 1], axis=-1).copy()
    probe(PROBE, dtype, order, (np.int32(activation_code(name)), both, y, slope, x, plain, np.int32(n)))
    with np.errstate(all="ignore"):
        ones = series * 0 + 1 if name is None else np.ones_like(series)
        want_y = series if name is None else activations.FORWARD[name](series)
        want_slope = ones if name is None else activations.BACKWARD[name](series, ones)
        for found, want in ((y, want_y), (slope, want_slope)):
            for k in range(order + 1):
                expected = jet_coefficient(want, k)
                ordinary = np.isfinite(expected) & (np.abs(x) < 1e20)
                error = np.abs(found[:, k] - expected)[ordinary]
                assert (error <= BUDGET[dtype] * np.maximum(1, np.abs(expected[ordinary]))).all()
                if k == 0 and name is not None:  # NaN and infinities as the oracle has them
                    with np.errstate(over="ignore"):
                        assert np.array_equal(found[:, 0][~ordinary], expected[~ordinary].astype(dtype), equal_nan=True)
    assert np.array_equal(plain, np.stack([y[:, 0], slope[:, 0]], axis=-1), equal_nan=True)


def test_activation_code__knows_every_activation():
    assert sorted(CODES) == sorted(ACTIVATIONS)
    assert activation_code(None) == 0 and len(set(CODES.values())) == len(CODES)
    with pytest.raises(RangeError, match="activation: expected one of silu"):
        activation_code("swish")


@pytest.mark.parametrize("dtype", DTYPES)
def test_activation__keeps_the_digits_of_what_is_nearly_one(dtype):
    x = np.array([3.0, 8.0, 20.0, 60.0, -3.0, -20.0, -60.0], dtype)
    both, plain = np.stack([x, np.ones_like(x)], axis=-1), empty((x.size, 2), dtype)
    y, slope = empty(both.shape, dtype), empty(both.shape, dtype)
    probe(PROBE, dtype, 1, (np.int32(CODES["softplus"]), both, y, slope, x, plain, np.int32(x.size)))
    tail = np.exp(-np.abs(x.astype(np.float64)))  # softplus'' = e^-|x| / (1 + e^-|x|)^2
    assert np.allclose(slope[:, 1], tail / (1 + tail) ** 2, rtol=20 * np.finfo(dtype).eps, atol=0)
