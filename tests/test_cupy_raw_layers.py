"""The CUDA backend's convolution, normalisation and activations on jets, run by the host build: no card needed."""

import mmap
import os

import numpy as np
import pytest

from ebm_fast.cupy_raw import conv2d, group_norm, tree
from ebm_fast.cupy_raw.activation import CODES, activation_code
from ebm_fast.cupy_raw.device import launch, on
from ebm_fast.cupy_raw.source import Kernel, build_defines, kernel_names
from ebm_fast.verify.host_build import host_device
from ebm_fast.verify.host_device import launched
from ebm_ref.contracts import RangeError
from ebm_ref.jet import jet_coefficient, jet_order, jet_seed
from ebm_ref.layers import activations
from ebm_ref.layers.conv2d import conv2d_backward, conv2d_forward
from ebm_ref.layers.group_norm import group_norm_backward, group_norm_forward
from ebm_ref.specs import ACTIVATIONS

DTYPES = (np.float32, np.float64)
BUDGET = {np.float32: 2e-5, np.float64: 2e-14}  # of the largest number that a sum of these tests holds
# N, H, W, C, R, S, O, stride, padding: every tile of every kernel, forwards and back
CONVS = {
    "one number": (1, 1, 1, 1, 1, 1, 1, 1, "SAME"),
    "grey image, wide": (3, 7, 5, 1, 3, 3, 40, 1, "SAME"),
    "colour image, slim": (2, 9, 8, 3, 3, 3, 12, 2, "SAME"),
    "wide both ways": (2, 6, 6, 20, 3, 3, 70, 2, "SAME"),
    "middle both ways": (2, 7, 6, 20, 3, 3, 28, 1, "VALID"),
    "narrow out": (3, 5, 6, 37, 3, 2, 1, 1, "VALID"),
    "narrow both ways": (9, 6, 5, 2, 2, 3, 4, 3, "SAME"),
    "dense": (19, 1, 1, 50, 1, 1, 33, 1, "SAME"),
    "dense head": (17, 1, 1, 300, 1, 1, 1, 1, "SAME"),
    "kernel larger than the image": (2, 2, 3, 5, 5, 7, 6, 2, "SAME"),
    "stride longer than the kernel": (2, 9, 10, 3, 2, 1, 17, 4, "VALID"),
    "stride longer than the image": (2, 4, 3, 6, 3, 3, 5, 2**40, "SAME"),
}
# N, L, C, G: teams of 1, 2, 32 lanes with gaps, 32 lanes several times over, and a block
NORMS = {
    "groups of one number": (5, 1, 6, 6),
    "groups of two": (3, 2, 4, 4),
    "layer": (7, 1, 50, 1),
    "uneven channels": (2, 11, 15, 3),
    "image": (3, 49, 16, 4),
    "large": (2, 700, 6, 2),
}


BUILD = os.environ.get("EBM_HOST_BUILD", "fast")


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(conv2d, "FEW", 0)  # the tile follows from the columns alone
    with on(host_device(BUILD)):
        yield


def jets(rng, shape, dtype, order):
    """An array of jets, and what the oracle calls it."""
    parts = [rng.standard_normal(shape).astype(dtype) for _ in range(order + 1)]
    series = jet_seed(*parts, 1) if order else parts[0]
    return np.ascontiguousarray(np.stack(parts, axis=-1)), series


def wide(series):
    """The oracle's argument in float64."""
    if jet_order(series) == 0:
        return series.astype(np.float64)
    return jet_seed(*(c.astype(np.float64) for c in series.coefficients), 1)


def empty(shape, dtype):
    return np.full(shape, np.nan, dtype)


def close(found, series, dtype, terms=1.0):
    """Every coefficient of `found` is that of the oracle's `series`."""
    for k in range(jet_order(series) + 1):
        want = jet_coefficient(series, k)
        error = np.abs(found[..., k].reshape(want.shape) - want).max(initial=0.0)
        assert error <= BUDGET[dtype] * max(terms, np.abs(want).max(initial=0.0)), f"coefficient {k}"


def conv_problem(case, dtype, order, seed=0):
    N, H, W, C, R, S, O, stride, padding = CONVS[case]
    rng = np.random.default_rng(seed)
    geo = conv2d.geometry(H, W, C, R, S, O, stride, padding)
    x, x_series = jets(rng, (N, H, W, C), dtype, order)
    dy, dy_series = jets(rng, (N, geo.P, geo.Q, O), dtype, order)
    w = rng.standard_normal((R, S, C, O)).astype(dtype)
    b = rng.standard_normal(O).astype(dtype)
    return geo, N, x, x_series, dy, dy_series, w, b, (stride, padding)


# ------------------------------------------------------------------------------------------ convolution


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVS)
def test_conv2d_apply__matches_ref_on_jets(case, dtype, order):
    geo, N, x, x_series, _, _, w, b, how = conv_problem(case, dtype, order)
    y = empty((N, geo.P, geo.Q, geo.O, order + 1), dtype)
    for bias in (b, None):
        conv2d.conv2d_apply(geo, N, x, w, bias, y, dtype, order)
        offset = np.zeros(geo.O) if bias is None else b.astype(np.float64)
        close(y, conv2d_forward(wide(x_series), w.astype(np.float64), offset, *how), dtype)


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVS)
def test_conv2d_apply_dx__matches_ref_on_jets_and_adds(case, dtype, order):
    geo, N, x, x_series, dy, dy_series, w, _, how = conv_problem(case, dtype, order)
    dx = empty(x.shape, dtype)
    conv2d.conv2d_apply_dx(geo, N, dy, w, dx, dtype, order, False)
    want, _, _ = conv2d_backward(wide(x_series), w.astype(np.float64), wide(dy_series), *how)
    close(dx, want, dtype)
    once = dx.copy()
    conv2d.conv2d_apply_dx(geo, N, dy, w, dx, dtype, order, True)
    assert np.array_equal(dx, once + once)


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONVS)
def test_conv2d_apply_dw__matches_ref_on_jets(case, dtype, order):
    geo, N, x, x_series, dy, dy_series, w, b, how = conv_problem(case, dtype, order)
    _, want_w, want_b = conv2d_backward(wide(x_series), w.astype(np.float64), wide(dy_series), *how)
    for component in range(order + 1):
        dw, db = empty(w.shape, dtype), empty(b.shape, dtype)
        conv2d.conv2d_apply_dw(geo, N, x, dy, dw, db, dtype, order, component)
        close(dw[..., None], jet_coefficient(want_w, component), dtype)
        close(db[..., None], jet_coefficient(want_b, component), dtype)
        alone = empty(w.shape, dtype)
        conv2d.conv2d_apply_dw(geo, N, x, dy, alone, None, dtype, order, component)
        assert np.array_equal(alone, dw)


def test_conv2d_apply_dx__writes_what_no_tap_reaches():
    geo = conv2d.geometry(7, 7, 2, 1, 1, 3, 3, "SAME")  # a third of the pixels, in each direction, has a tap
    dy, w = np.ones((1, geo.P, geo.Q, 3)), np.ones((1, 1, 2, 3))
    dx = empty((1, 7, 7, 2), np.float64)
    conv2d.conv2d_apply_dx(geo, 1, dy, w, dx, np.float64, 0, False)
    assert np.count_nonzero(dx) == geo.P * geo.Q * 2 and np.isfinite(dx).all()


def test_conv2d_forward__keeps_what_is_not_finite():
    x, w = np.zeros((1, 5, 5, 2)), np.ones((3, 3, 2, 8))
    x[0, 2, 2, 0], x[0, 0, 0, 1] = np.nan, np.inf
    geo, y = conv2d.geometry(5, 5, 2, 3, 3, 8, 1, "SAME"), empty((1, 5, 5, 8), np.float64)
    conv2d.conv2d_apply(geo, 1, x, w, None, y, np.float64, 0)
    want = conv2d_forward(x, w, np.zeros(8))
    assert np.array_equal(y, want, equal_nan=True) and np.isnan(y).sum() == 9 * 8 and np.isinf(y).sum() == 3 * 8


# ---------------------------------------------------------------------------------- sums over samples


def pairs(parts):
    """((0 + 1) + (2 + 3)) + ...; of an odd number the last waits for the next level."""
    while len(parts) > 1:
        sums = [a + b for a, b in zip(parts[0::2], parts[1::2], strict=False)]
        parts = sums + parts[len(sums) * 2 :]
    return parts[0]


@pytest.mark.parametrize("n", (1, 2, 3, 15, 16, 17, 31, 33, 257))
def test_tree_sum__is_the_tree_to_the_bit(n):
    parts = np.random.default_rng(n).standard_normal((n, 7)).astype(np.float32)
    out, rest = empty(5, np.float32), empty(2, np.float32)
    tree.tree_sum(parts, n, 7, out, rest, 5, np.float32)
    assert np.array_equal(np.concatenate([out, rest]), pairs(list(parts)))
    assert n < 15 or not np.array_equal(np.concatenate([out, rest]), np.cumsum(parts, axis=0)[-1])


@pytest.mark.parametrize("case", ("grey image, wide", "wide both ways", "narrow both ways"))
def test_conv2d_apply_dw__is_chunks_of_eight_then_the_tree(case):
    geo, _, _, _, _, _, w, b, how = conv_problem(case, np.float32, 0)
    N, rng = 37, np.random.default_rng(1)
    x = rng.standard_normal((N, geo.H, geo.W, geo.C)).astype(np.float32)
    dy = rng.standard_normal((N, geo.P, geo.Q, geo.O)).astype(np.float32)
    dw, db = np.empty_like(w), np.empty_like(b)
    conv2d.conv2d_apply_dw(geo, N, x, dy, dw, db, np.float32, 0, 0)
    chunk = [slice(n, n + tree.CHUNK) for n in range(0, N, tree.CHUNK)]
    wide_x, wide_w, wide_dy = (a.astype(np.float64) for a in (x, w, dy))
    exact = [conv2d_backward(wide_x[c], wide_w, wide_dy[c], *how) for c in chunk]
    for found, place in ((dw, 1), (db, 2)):
        want = pairs([part[place].astype(np.float32) for part in exact])
        assert np.abs(found - want).max() <= 2e-6 * np.abs(want).max()
    grads = [np.empty_like(w) for _ in chunk]
    for c, grad in zip(chunk, grads, strict=True):  # each chunk alone, added in pairs by hand: the same bits
        conv2d.conv2d_apply_dw(geo, len(x[c]), x[c], dy[c], grad, None, np.float32, 0, 0)
    assert np.array_equal(dw, pairs(grads))


def both_grads(order_of_threads, seed):
    geo, N, x, _, dy, _, w, b, _ = conv_problem("wide both ways", np.float32, 1)
    x, dy = (np.ascontiguousarray(np.concatenate([a] * 20)) for a in (x, dy))
    dw, db, (N, L, C, G) = np.empty_like(w), np.empty_like(b), (20 * N, 36, 20, 4)
    gamma, dx, dgamma, dbeta = np.ones(C, np.float32), np.empty_like(x), np.empty(C, "f4"), np.empty(C, "f4")
    with on(host_device(BUILD, order_of_threads, seed)):
        conv2d.conv2d_apply_dw(geo, N, x, dy, dw, db, np.float32, 1, 1)
        sizes, arrays = (N, L, C, G), (x, gamma, gamma, x[::-1].copy(), dx, dgamma, dbeta)
        group_norm.norm_apply_back(*sizes, *arrays, np.float32, 1, 1, 1e-5, "silu")
    return [a.tobytes() for a in (dw, db, dx, dgamma, dbeta)]


def test_gradients_of_parameters__repeat_to_the_bit_in_any_order_of_threads_and_blocks():
    want = both_grads("forward", 0)
    for order, seed in (("reverse", 0), ("random", 1), ("random", 2)):
        assert both_grads(order, seed) == want


def test_gradients_of_parameters__do_not_depend_on_grid_or_memory(monkeypatch):
    want = both_grads("forward", 0)
    monkeypatch.setattr(tree, "SLAB_BYTES", 0)  # slabs as small as they get
    for module in (tree, conv2d, group_norm):
        monkeypatch.setattr(module, "MAX_Y", 2)
    monkeypatch.setattr(group_norm, "MAX_BLOCKS", 3)
    assert both_grads("forward", 0) == want


def test_slab_chunks__bounds_the_memory_by_whole_subtrees():
    assert tree.slab_chunks(5, 10, 4) == 5
    slab = tree.slab_chunks(10_000, 10**6, 4)  # 40 GB of partial sums at once
    assert slab == 256 and (slab + 10_000 // slab) * 4 * 10**6 < 2**31


# ------------------------------------------------------------------------------------- normalisation


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


def probe(source, dtype, order, args, threads=256):
    with on(host_device(BUILD, sources={"probe.cu": source})):
        launch(Kernel("probe.cu", "probe", build_defines(np.dtype(dtype).name, order)), 1, threads, args)


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


# ----------------------------------------------------------------------------------- sizes and places


def off_by_one(x):
    """The same numbers, at an address that is no multiple of 16."""
    room = np.empty(x.size + 8, x.dtype)
    start = (-room.ctypes.data // x.itemsize) % (16 // x.itemsize) + 1
    moved = room[start : start + x.size].reshape(x.shape)
    moved[...] = x
    assert moved.ctypes.data % 16
    return moved


def aligned(x):
    room = np.empty(x.size + 8, x.dtype)
    start = (-room.ctypes.data // x.itemsize) % (16 // x.itemsize)
    moved = room[start : start + x.size].reshape(x.shape)
    moved[...] = x
    assert moved.ctypes.data % 16 == 0
    return moved


@pytest.mark.parametrize("order", (0, 1))
@pytest.mark.parametrize("case", ("wide both ways", "colour image, slim", "dense"))
def test_conv2d__gives_the_same_bits_at_any_address(case, order):
    geo, N, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, order)
    results = []
    for place in (aligned, off_by_one):
        px, pdy, pw, pb = (place(a) for a in (x, dy, w, b))
        y, dx, dw, db = (place(np.zeros_like(a)) for a in (dy, x, w, b))
        conv2d.conv2d_apply(geo, N, px, pw, pb, y, np.float32, order)
        conv2d.conv2d_apply_dx(geo, N, pdy, pw, dx, np.float32, order, False)
        conv2d.conv2d_apply_dw(geo, N, px, pdy, dw, db, np.float32, order, 0)
        results.append([a.tobytes() for a in (y, dx, dw, db)])
    assert results[0] == results[1]


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


@pytest.mark.parametrize("case", ("wide both ways", "narrow both ways", "grey image, wide"))
def test_layers__take_no_samples(case):
    geo, _, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, 1)
    y, dx, dw, db = dy[:0].copy(), x[:0].copy(), empty(w.shape, np.float32), empty(b.shape, np.float32)
    conv2d.conv2d_apply(geo, 0, x[:0], w, b, y, np.float32, 1)
    conv2d.conv2d_apply_dx(geo, 0, dy[:0], w, dx, np.float32, 1, False)
    conv2d.conv2d_apply_dw(geo, 0, x[:0], dy[:0], dw, db, np.float32, 1, 1)
    assert not dw.any() and not db.any()
    gamma, dgamma, dbeta = np.ones(geo.C, np.float32), empty(geo.C, np.float32), empty(geo.C, np.float32)
    none = x[:0]
    group_norm.norm_apply(0, geo.H * geo.W, geo.C, 1, none, gamma, gamma, dx, np.float32, 1, 1e-5, "silu")
    args = (none, gamma, gamma, none, dx, dgamma, dbeta, np.float32, 1, 1, 1e-5, "silu")
    group_norm.norm_apply_back(0, geo.H * geo.W, geo.C, 1, *args)
    assert not dgamma.any() and not dbeta.any()


def test_layers__take_more_samples_than_a_grid_has_rows():
    N, rng = 70_001, np.random.default_rng(6)
    geo = conv2d.geometry(1, 1, 2, 1, 1, 1, 1, "SAME")
    x, w, b = rng.standard_normal((N, 1, 1, 2)), rng.standard_normal((1, 1, 2, 1)), rng.standard_normal(1)
    y, dw, db = empty((N, 1, 1, 1), np.float64), empty(w.shape, np.float64), empty(1, np.float64)
    conv2d.conv2d_apply(geo, N, x, w, b, y, np.float64, 0)
    assert np.allclose(y, conv2d_forward(x, w, b), rtol=1e-14, atol=1e-14)
    conv2d.conv2d_apply_dw(geo, N, x, y, dw, db, np.float64, 0, 0)
    _, want_w, want_b = conv2d_backward(x, w, y)
    assert np.allclose(dw, want_w, rtol=1e-12) and np.allclose(db, want_b, rtol=1e-12)
    gamma, z = np.ones(2), empty((N, 1, 2), np.float64)
    group_norm.norm_apply(N, 1, 2, 1, x, gamma, gamma, z, np.float64, 0, 1e-3, None)
    assert np.allclose(z, group_norm_forward(x.reshape(N, 1, 2), gamma, gamma, 1, 1e-3), rtol=1e-12, atol=1e-12)


def test_layers__do_not_depend_on_the_grid(monkeypatch):
    def run():
        found = []
        for case in ("wide both ways", "narrow both ways", "narrow out", "stride longer than the kernel"):
            geo, N, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, 1)
            y, dx = np.empty_like(dy), np.empty_like(x)
            conv2d.conv2d_apply(geo, N, x, w, b, y, np.float32, 1)
            conv2d.conv2d_apply_dx(geo, N, dy, w, dx, np.float32, 1, False)
            gamma, z = np.ones(geo.C, np.float32), np.empty_like(x)
            group_norm.norm_apply(N, geo.H * geo.W, geo.C, geo.C, x, gamma, gamma, z, np.float32, 1, 1e-3, "gelu")
            found += [y.tobytes(), dx.tobytes(), z.tobytes()]
        return found

    want = run()
    for module, name, limit in ((conv2d, "MAX_Y", 1), (conv2d, "MAX_BLOCKS", 1), (group_norm, "MAX_BLOCKS", 1)):
        monkeypatch.setattr(module, name, limit)
    assert run() == want


@pytest.mark.parametrize("order", (0, 1))
def test_conv2d__gives_the_same_bits_with_any_tile(order, monkeypatch):
    geo, N, x, _, dy, _, w, b, _ = conv_problem("wide both ways", np.float32, order)
    results = []
    for few in (0, 10**9):
        monkeypatch.setattr(conv2d, "FEW", few)
        y, dx = np.empty_like(dy), np.empty_like(x)
        conv2d.conv2d_apply(geo, N, x, w, b, y, np.float32, order)
        conv2d.conv2d_apply_dx(geo, N, dy, w, dx, np.float32, order, False)
        results.append([y.tobytes(), dx.tobytes()])
    assert results[0] == results[1]


def test_conv2d__reads_beyond_two_to_the_31_numbers():
    W, C = 2**30, 3  # 3.2e9 numbers, of which two pixels are read: the memory is reserved, not used
    try:
        reserve = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        memory = mmap.mmap(-1, W * C * 4, flags=reserve)
    except OSError:
        pytest.skip("this machine reserves no 13 GB of addresses")
    x = np.frombuffer(memory, np.float32).reshape(1, 1, W, C)
    x[0, 0, 0], x[0, 0, W - 1] = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    for O in (1, 5, 20):
        w = np.arange(3 * O, dtype=np.float32).reshape(1, 1, 3, O)
        geo = conv2d.geometry(1, W, C, 1, 1, O, W - 1, "SAME")
        y, dw, db = empty((1, 1, 2, O), np.float32), empty(w.shape, np.float32), empty(O, np.float32)
        with on(host_device()):  # the fast build: the others keep a record of every number
            conv2d.conv2d_apply(geo, 1, x, w, None, y, np.float32, 0)
            conv2d.conv2d_apply_dw(geo, 1, x, y, dw, db, np.float32, 0, 0)
        ends = x[0, 0, [0, W - 1]]
        assert geo.left == 0 and np.allclose(y[0, 0], ends @ w[0, 0])
        assert np.allclose(dw[0, 0], ends.T @ y[0, 0])


PLACES = """
#include "conv2d.cuh"
extern "C" __global__ void probe(i64* out, i64 m) {
  const Jet* none = nullptr;
  const Gather f = forward_gather(none, nullptr, nullptr, nullptr, 4, 40000, 40000, 2, 1, 1, 1, 1, 40000, 40000, 0, 0);
  const Pixel at = pixel_at(f, m);
  out[0] = gather_pixels(f), out[1] = at.src, out[2] = at.out, out[3] = at.y, out[4] = at.x;
  const Gather g = back_gather(nullptr, nullptr, nullptr, 0, 4, 40000, 40000, 2, 2, 2, 1, 2, 20000, 20000, 0, 0, 3);
  const Pixel back = pixel_at(g, gather_pixels(g) - 1);
  out[5] = back.src, out[6] = back.out;
}
EBM_EXPORT(probe)
"""


def test_conv2d__places_beyond_two_to_the_31():
    out = np.zeros(7, np.int64)
    side = 40_000
    probe(PLACES, np.float32, 0, (out, np.int64(4 * side * side - 1)), threads=1)
    last = 4 * side * side
    assert out.tolist()[:5] == [last, 3 * side * side, last - 1, side - 1, side - 1]
    assert out.tolist()[5:] == [3 * side * side // 4, last - 1]


def test_geometry__refuses_filters_that_an_int_cannot_count():
    with pytest.raises(RangeError, match=r"w: expected fewer than 2\^30 numbers"):
        conv2d.geometry(1, 1, 2**15, 1, 1, 2**15, 1, "SAME")


def run_the_problems_above():
    for case in CONVS:
        for order in (0, 1):
            geo, N, x, _, dy, _, w, b, _ = conv_problem(case, np.float32, order)
            conv2d.conv2d_apply(geo, N, x, w, b, dy.copy(), np.float32, order)
            conv2d.conv2d_apply_dx(geo, N, dy, w, x.copy(), np.float32, order, False)
            conv2d.conv2d_apply_dw(geo, N, x, dy, w.copy(), b.copy(), np.float32, order, order)
    for N, L, C, G in NORMS.values():
        for order in (0, 1):
            x, gamma = np.ones((N, L, C, order + 1), np.float32), np.ones(C, np.float32)
            group_norm.norm_apply(N, L, C, G, x, gamma, gamma, x.copy(), np.float32, order, 1e-3, "tanh")
            args = (x, gamma, gamma, x, x.copy(), gamma.copy(), gamma.copy(), np.float32, order, order, 1e-3, "tanh")
            group_norm.norm_apply_back(N, L, C, G, *args)


@pytest.mark.parametrize("build", sorted({BUILD, "race"}))
def test_problems_above__run_every_kernel_and_race_in_none(build):
    before = launched()
    with on(host_device(build)):
        run_the_problems_above()
    after = launched()
    files = ("conv2d.cu", "conv2d_dw.cu", "group_norm.cu", "tree.cu")
    idle = [n for f in files for n in kernel_names(f) if after.get((f, n), 0) == before.get((f, n), 0)]
    assert idle == []
    assert {group_norm.team(L * C // G) for _, L, C, G in NORMS.values()} >= {1, 2, 32, 256}
