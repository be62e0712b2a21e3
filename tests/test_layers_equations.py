"""Layers against their definitions, their stability at the ends of the axis, and what they refuse."""

import numpy as np
import pytest

from ebm_ref import layers
from ebm_ref.contracts import DTypeError, EbmError, RangeError, ShapeError
from ebm_ref.jet import jet_coefficient, jet_seed

RNG = np.random.default_rng(8)


def naive_conv2d(x, w, b, stride, padding):
    """The definition in scalar loops, with zero outside the image and TensorFlow's SAME rule."""
    (N, H, W, C), (R, S, _, O) = x.shape, w.shape
    if padding == "SAME":
        P, Q = -(-H // stride), -(-W // stride)
        top = max((P - 1) * stride + R - H, 0) // 2
        left = max((Q - 1) * stride + S - W, 0) // 2
    else:
        P, Q, top, left = -(-(H - R + 1) // stride), -(-(W - S + 1) // stride), 0, 0
    y = np.zeros((N, P, Q, O))
    for n, p, q, o in np.ndindex(N, P, Q, O):
        y[n, p, q, o] = b[o]
        for r, s, c in np.ndindex(R, S, C):
            i, j = p * stride + r - top, q * stride + s - left
            if 0 <= i < H and 0 <= j < W:
                y[n, p, q, o] += x[n, i, j, c] * w[r, s, c, o]
    return y


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (4, 4)])
@pytest.mark.parametrize("image", [(4, 4, 1), (5, 6, 2), (7, 5, 1)])
def test_conv2d_forward__is_the_equation(image, kernel, stride, padding):
    x, w, b = RNG.normal(size=(2, *image)), RNG.normal(size=(*kernel, image[2], 3)), RNG.normal(size=3)
    wanted = naive_conv2d(x, w, b, stride, padding)
    np.testing.assert_allclose(layers.conv2d_forward(x, w, b, stride, padding), wanted, rtol=0, atol=1e-13)


def test_conv2d_extent__puts_the_odd_pixel_at_the_end():
    assert layers.conv2d_extent(28, 3, 2, "SAME") == (14, 0, 1)
    assert layers.conv2d_extent(7, 3, 2, "SAME") == (4, 1, 1)
    assert layers.conv2d_extent(5, 1, 2, "SAME") == (3, 0, 0)
    assert layers.conv2d_extent(5, 3, 2, "VALID") == (2, 0, 0)


def test_upsample_forward__repeats_each_pixel():
    x = RNG.normal(size=(2, 3, 4, 2))
    y = layers.upsample_forward(x)
    np.testing.assert_array_equal(y, x.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(layers.upsample_backward(y), 4 * x)


def test_group_norm_forward__has_mean_beta_and_deviation_gamma_in_each_group():
    x = 5 + 3 * RNG.normal(size=(2, 4, 3, 6))
    y = layers.group_norm_forward(x, np.full(6, 2.0), np.full(6, 7.0), 2, eps=1e-300)
    grouped = y.reshape(2, 12, 2, 3)
    np.testing.assert_allclose(grouped.mean(axis=(1, 3)), 7.0, rtol=1e-13)
    np.testing.assert_allclose(grouped.std(axis=(1, 3)), 2.0, rtol=1e-13)


def test_layer_norm_forward__is_group_norm_with_one_group():
    x, gamma, beta = RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=5)
    wanted = layers.group_norm_forward(x, gamma, beta, 1)
    np.testing.assert_allclose(layers.layer_norm_forward(x, gamma, beta), wanted, rtol=1e-13)


def test_dropout__keeps_where_u_exceeds_rate_and_is_the_identity_when_deterministic():
    x, u = np.ones((1, 3)), np.array([[0.1, 0.5, 0.9]])
    np.testing.assert_array_equal(layers.dropout_forward(x, u, 0.5, False), [[0.0, 0.0, 2.0]])
    assert layers.dropout_forward(x, u, 0.5, True) is x and layers.dropout_backward(x, u, 0.5, True) is x


EDGES = np.array([-1e4, -750.0, -100.0, -40.0, -1e-30, 0.0, 1e-30, 40.0, 100.0, 750.0, 1e4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations__stay_finite_and_exact_at_the_ends(dtype):
    """Overflow would be a warning, and a warning is an error here."""
    x, one = EDGES.astype(dtype), np.ones(len(EDGES), dtype)
    positive = np.maximum(x, 0)
    for name in ("silu", "gelu", "softplus"):
        y = layers.activation_forward(x, name)
        np.testing.assert_allclose(y[np.abs(x) > 39], positive[np.abs(x) > 39], atol=1e-15, rtol=1e-7)
        slope = layers.activation_backward(x, one, name)
        np.testing.assert_allclose(slope[np.abs(x) > 39], (x > 0)[np.abs(x) > 39], atol=1e-15, rtol=1e-7)
    tail = x[x < -39].astype(np.float64)
    for found in (layers.sigmoid(x), layers.softplus_forward(x)):
        np.testing.assert_allclose(found[x < -39], np.exp(tail), rtol=1e-6, atol=1e-44)
    np.testing.assert_allclose(layers.softplus_forward(x[5]), np.log(2), rtol=1e-7)
    assert layers.tanh_backward(x, one)[0] == 0


@pytest.mark.parametrize("name", ["silu", "gelu", "softplus", "tanh"])
def test_activations__have_finite_series_at_the_ends_and_exact_ones_at_zero(name):
    y = layers.activation_forward(jet_seed(EDGES, np.ones_like(EDGES), 2), name)
    assert all(np.isfinite(jet_coefficient(y, k)).all() for k in range(3))
    # phi(s) = phi(0) + phi'(0) s + phi''(0) s^2 / 2, from the series of the textbook
    wanted = {
        "silu": (0, 1 / 2, 1 / 4),
        "gelu": (0, 1 / 2, 1 / np.sqrt(2 * np.pi)),
        "softplus": (np.log(2), 1 / 2, 1 / 8),
        "tanh": (0, 1, 0),
    }[name]
    np.testing.assert_allclose([jet_coefficient(y, k)[5] for k in range(3)], wanted, rtol=1e-15)


def test_logsumexp__does_not_overflow():
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(layers.logsumexp_forward(x), [1e4 + np.log(2), -1e4 + np.log(3)])
    np.testing.assert_allclose(layers.logsumexp_backward(x, np.ones(2)), [[1 / 2, 1 / 2, 0], [1 / 3] * 3])


X, W4 = np.ones((2, 5, 4, 3)), np.ones((3, 3, 3, 2))
REFUSED = {
    "conv2d rank": (ShapeError, "x", lambda: layers.conv2d_forward(X[0], W4, np.ones(2))),
    "conv2d channels": (ShapeError, "x", lambda: layers.conv2d_forward(X[..., :2], W4, np.ones(2))),
    "conv2d bias": (ShapeError, "b", lambda: layers.conv2d_forward(X, W4, np.ones(3))),
    "conv2d stride": (RangeError, "stride", lambda: layers.conv2d_forward(X, W4, np.ones(2), 0)),
    "conv2d padding": (RangeError, "padding", lambda: layers.conv2d_forward(X, W4, np.ones(2), 1, "same")),
    "conv2d too small": (RangeError, "VALID", lambda: layers.conv2d_forward(X[:, :2], W4, np.ones(2), 1, "VALID")),
    "conv2d dy": (ShapeError, "dy", lambda: layers.conv2d_backward(X, W4, X)),
    "conv2d dtype": (DTypeError, "x", lambda: layers.conv2d_forward(X.astype(int), W4, np.ones(2))),
    "group_norm groups": (RangeError, "groups", lambda: layers.group_norm_forward(X, np.ones(3), np.ones(3), 2)),
    "group_norm rank": (ShapeError, "x", lambda: layers.group_norm_forward(X[0, 0, 0], np.ones(3), np.ones(3), 1)),
    "group_norm eps": (RangeError, "eps", lambda: layers.group_norm_backward(X, np.ones(3), X, 1, -1.0)),
    "layer_norm rank": (ShapeError, "x", lambda: layers.layer_norm_forward(X, np.ones(3), np.ones(3))),
    "linear sizes": (ShapeError, "x", lambda: layers.linear_forward(np.ones((2, 3)), np.ones((4, 5)), np.ones(5))),
    "linear dy": (ShapeError, "dy", lambda: layers.linear_backward(np.ones((2, 3)), np.ones((3, 5)), np.ones((2, 3)))),
    "activation name": (RangeError, "name", lambda: layers.activation_forward(X, "swish")),
    "activation dy": (ShapeError, "dy", lambda: layers.activation_backward(X, X[0], "silu")),
    "pool kind": (RangeError, "kind", lambda: layers.pool_forward(X, "max")),
    "pool rank": (ShapeError, "x", lambda: layers.pool_forward(X[0], "mean")),
    "pool dy": (ShapeError, "dy", lambda: layers.pool_backward(X, X, "sum")),
    "dropout rate": (RangeError, "rate", lambda: layers.dropout_forward(X, X, 1.0, False)),
    "dropout u": (ShapeError, "u", lambda: layers.dropout_forward(X, X[0], 0.5, False)),
    "upsample rank": (ShapeError, "x", lambda: layers.upsample_forward(X[0])),
    "upsample type": (DTypeError, "x", lambda: layers.upsample_forward(np.ones((1, 2, 2, 1), int))),
    "upsample dy odd": (ShapeError, "dy", lambda: layers.upsample_backward(np.ones((1, 3, 2, 1)))),
    "upsample dy odd columns": (ShapeError, "dy", lambda: layers.upsample_backward(np.ones((1, 2, 3, 1)))),
    "residual": (ShapeError, "skip", lambda: layers.residual_forward(X, X[0])),
    "logsumexp dy": (ShapeError, "dy", lambda: layers.logsumexp_backward(X, X)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers__refuse_bad_input_by_name(name):
    error, said, call = REFUSED[name]
    with pytest.raises(error, match=said) as caught:
        call()
    assert isinstance(caught.value, EbmError)
