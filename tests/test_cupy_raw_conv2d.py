"""The CUDA backend's convolution on jets, run by the host build: no card needed."""

import mmap

import numpy as np
import pytest
from cuda_layers import BUILD, CONVS, DTYPES, aligned, close, conv_problem, empty, off_by_one, probe, wide

from ebm_fast.cupy_raw import conv2d
from ebm_fast.cupy_raw.device import on
from ebm_fast.verify.host_build import host_device
from ebm_ref.contracts import RangeError
from ebm_ref.jet import jet_coefficient
from ebm_ref.layers.conv2d import conv2d_backward, conv2d_forward


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(conv2d, "EACH", 0)  # the tile follows from the columns alone
    with on(host_device(BUILD)):
        yield


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


@pytest.mark.parametrize("order", (0, 1))
def test_conv2d__gives_the_same_bits_with_any_tile(order, monkeypatch):
    geo, N, x, _, dy, _, w, b, _ = conv_problem("wide both ways", np.float32, order)
    results = []
    for each in (0, 10**9):
        monkeypatch.setattr(conv2d, "EACH", each)
        y, dx = np.empty_like(dy), np.empty_like(x)
        conv2d.conv2d_apply(geo, N, x, w, b, y, np.float32, order)
        conv2d.conv2d_apply_dx(geo, N, dy, w, dx, np.float32, order, False)
        results.append([y.tobytes(), dx.tobytes()])
    assert results[0] == results[1]


def test_conv2d__reads_beyond_two_to_the_31_numbers():
    W, C = 2**30 - 1, 3  # 3.2e9 numbers, of which two pixels are read: the memory is reserved, not used
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
