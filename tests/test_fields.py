"""The fields: every product with the Jacobian, and its gradients, against finite differences and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, check_theta_gradient, close, random_theta

from ebm_ref import ConvField, MLPField, layers, theta_init
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError
from ebm_ref.specs import ACTIVATIONS, SMOOTH_ACTIVATIONS

FIELDS = {f"mlp-{name}": MLPField((3,), (5, 4), name) for name in ACTIVATIONS}
FIELDS |= {"mlp-image": MLPField((2, 3, 2), (6,)), "mlp-out": MLPField((2, 3), (6, 5), "tanh", out_channels=1)}
CONV = {"channels": (4, 6), "max_groups": 2}
FIELDS |= {f"conv-{name}": ConvField((4, 2, 2), **CONV, activation=name) for name in ("silu", "softplus", "leaky_relu")}
FIELDS |= {
    "conv-one-level": ConvField((3, 5, 1), (4,), max_groups=1, out_channels=3),
    "conv-three-levels": ConvField((4, 8, 2), (2, 4, 6), kernel=2, max_groups=2, activation="tanh"),
}
SMOOTH = [name for name, field in FIELDS.items() if field.activation in SMOOTH_ACTIVATIONS]
KINKED = [name for name in FIELDS if name not in SMOOTH]


def case(name, N=3, dtype=np.float64):
    """field, theta, x, then v like x, g and h like f."""
    field, rng = FIELDS[name], np.random.default_rng(7)
    theta = random_theta(field, rng, dtype)
    shapes = (field.shape, field.shape, field.out_shape, field.out_shape)
    return (field, theta, *(rng.normal(size=(N, *shape)).astype(dtype) for shape in shapes))


@pytest.mark.parametrize("name", FIELDS)
def test_field_jvp__is_the_derivative(name):
    field, theta, x, v, _, _ = case(name)
    f, jv = field.field_jvp(theta, x, v)
    assert f.shape == (3, *field.out_shape)
    np.testing.assert_array_equal(f, field.field(theta, x))
    close(jv, along(lambda x: field.field(theta, x), x, v))


@pytest.mark.parametrize("name", FIELDS)
def test_field_vjp__is_the_adjoint_of_field_jvp(name):
    """g . (J v) = (J' g) . v, sample by sample."""
    field, theta, x, v, g, _ = case(name)
    _, jv = field.field_jvp(theta, x, v)
    jg = field.field_vjp(theta, x, g)
    assert jg.shape == x.shape
    close((jg * v).reshape(3, -1).sum(1), (g * jv).reshape(3, -1).sum(1), 1e-13)


@pytest.mark.parametrize("name", FIELDS)
def test_field_grad_theta__is_the_derivative(name):
    field, theta, x, _, g, _ = case(name)
    grads = field.field_grad_theta(theta, x, g)
    assert list(grads) == list(field.theta_shapes())
    check_theta_gradient(lambda t: (g * field.field(t, x)).sum(), grads, theta, np.random.default_rng(8), 1e-8)


@pytest.mark.parametrize("name", SMOOTH)
def test_field_grad_theta_along__is_the_derivative(name):
    field, theta, x, v, g, h = case(name)
    grads = field.field_grad_theta_along(theta, x, g, h, v)
    assert list(grads) == list(field.theta_shapes())

    def scalar(t):
        f, jv = field.field_jvp(t, x, v)
        return (g * f).sum() + (h * jv).sum()

    check_theta_gradient(scalar, grads, theta, np.random.default_rng(8), 1e-8)


@pytest.mark.parametrize("name", SMOOTH)
def test_field_grad_theta_along__is_field_grad_theta_where_h_or_v_is_0(name):
    field, theta, x, v, g, h = case(name)
    wanted = field.field_grad_theta(theta, x, g)
    for grads in (
        field.field_grad_theta_along(theta, x, g, 0 * h, v),
        field.field_grad_theta_along(theta, x, g, h, 0 * v),
    ):
        for key in wanted:
            close(grads[key], wanted[key], 1e-13)


@pytest.mark.parametrize("name", SMOOTH)
def test_field_grad_theta_along__is_bilinear_in_h_and_v(name):
    field, theta, x, v, g, h = case(name)
    wanted = field.field_grad_theta_along(theta, x, 0 * g, h, v)
    grads = field.field_grad_theta_along(theta, x, 0 * g, 3 * h, -0.5 * v)
    for key in wanted:
        close(grads[key], -1.5 * wanted[key], 1e-12)


@pytest.mark.parametrize("name", KINKED)
def test_field_grad_theta_along__refuses_a_kinked_network(name):
    field, theta, x, v, g, h = case(name)
    with pytest.raises(SmoothnessError, match=f"field_grad_theta_along .*{field.activation}"):
        field.field_grad_theta_along(theta, x, g, h, v)


@pytest.mark.parametrize("name", FIELDS)
def test_field__keeps_samples_apart(name):
    field, theta, x, v, g, _ = case(name, N=5)
    order = np.random.default_rng(9).permutation(5)
    close(field.field(theta, x[order]), field.field(theta, x)[order], 1e-13)
    close(field.field_vjp(theta, x[order], g[order]), field.field_vjp(theta, x, g)[order], 1e-13)
    whole = field.field_grad_theta(theta, x, g)
    parts = [field.field_grad_theta(theta, x[k], g[k]) for k in (slice(0, 2), slice(2, 5))]
    for key in theta:
        close(parts[0][key] + parts[1][key], whole[key], 1e-12)


@pytest.mark.parametrize("name", FIELDS)
def test_field__keeps_float32_and_accepts_an_empty_batch(name):
    for N in (0, 2):
        field, theta, x, v, g, h = case(name, N, np.float32)
        found = [*field.field_jvp(theta, x, v), field.field_vjp(theta, x, g)]
        found += field.field_grad_theta(theta, x, g).values()
        if name in SMOOTH:
            found += field.field_grad_theta_along(theta, x, g, h, v).values()
        assert {a.dtype for a in found} == {np.dtype(np.float32)}
        assert found[0].shape == found[1].shape == (N, *field.out_shape) and found[2].shape == x.shape


def test_mlp_field__is_the_equation():
    """One hidden layer of tanh: f = tanh(x W + b) W' + b', J v = ((1 - tanh^2) (v W)) W'."""
    field, rng = MLPField((3,), (4,), "tanh", out_channels=2), np.random.default_rng(3)
    theta, x, v = random_theta(field, rng), rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    h = np.tanh(x @ theta["linear0.w"] + theta["linear0.b"])
    f, jv = field.field_jvp(theta, x, v)
    close(f, h @ theta["out.w"] + theta["out.b"], 1e-14)
    close(jv, ((1 - h * h) * (v @ theta["linear0.w"])) @ theta["out.w"], 1e-14)


def test_conv_field__is_the_equation():
    """Three sizes, written out: skips are added where the sizes meet, the top of the way down is the way up's start."""
    field = FIELDS["conv-three-levels"]
    theta, x = random_theta(field, np.random.default_rng(3)), np.random.default_rng(4).normal(size=(2, 4, 8, 2))

    def unit(name, x, stride, groups):
        y = layers.conv2d_forward(x, theta[f"{name}.w"], theta[f"{name}.b"], stride)
        return np.tanh(layers.group_norm_forward(y, theta[f"{name}.gamma"], theta[f"{name}.beta"], groups))

    def twice(x):
        return x.repeat(2, axis=1).repeat(2, axis=2)

    h0 = unit("stem", x, 1, 2)
    h1 = unit("down1", h0, 2, 2)
    h2 = unit("down2", h1, 2, 2)
    assert [h.shape for h in (h0, h1, h2)] == [(2, 4, 8, 2), (2, 2, 4, 4), (2, 1, 2, 6)]
    u1 = unit("up2", twice(h2), 1, 2) + h1
    u0 = unit("up1", twice(u1), 1, 2) + h0
    close(field.field(theta, x), layers.conv2d_forward(u0, theta["out.w"], theta["out.b"]), 1e-13)


def test_conv_field__names_its_parameters_in_the_order_of_use():
    shapes = ConvField((4, 4, 3), (8, 16, 32), kernel=5, out_channels=2).theta_shapes()
    units = ["stem", "down1", "down2", "up1", "up2"]
    assert list(shapes) == [*(f"{u}.{p}" for u in units for p in ("w", "b", "gamma", "beta")), "out.w", "out.b"]
    sizes = {"stem": (3, 8), "down1": (8, 16), "down2": (16, 32), "up1": (16, 8), "up2": (32, 16), "out": (8, 2)}
    for unit, (C, O) in sizes.items():
        assert shapes[f"{unit}.w"] == (5, 5, C, O) and shapes[f"{unit}.b"] == (O,)


def test_theta_init__starts_a_field_at_one_over_fan_in():
    assert (theta_init(ConvField((4, 4, 1)), 0)["up1.gamma"] == 1).all()
    theta = theta_init(MLPField((300,), (200,)), 1, np.float64)
    assert {name for name in theta if name.endswith(".b")} == {"linear0.b", "out.b"}
    assert all((theta[name] == 0).all() for name in ("linear0.b", "out.b"))
    for name, fan_in in (("linear0.w", 300), ("out.w", 200)):
        assert abs(theta[name].std() * fan_in**0.5 - 1) < 0.02  # of 60000 normals: se 0.003


MLP, X = MLPField((3,), (4,), out_channels=2), np.ones((2, 3))
THETA, G = random_theta(MLP, np.random.default_rng(1)), np.ones((2, 2))
REFUSED = {
    "out_channels: .*>= 1, found 0": (RangeError, lambda: MLPField((3,), (4,), out_channels=0)),
    "out_channels: expected an integer": (DTypeError, lambda: MLPField((3,), (4,), out_channels=1.5)),
    "shape: expected multiples of 4 pixels, halved 2 times, found 4x6": (
        ShapeError,
        lambda: ConvField((4, 6, 1), (2, 2, 2)),
    ),
    "shape: expected 3 integers": (ShapeError, lambda: ConvField((4, 4), (2,))),
    "channels: expected a multiple of the 8 groups, found 12": (RangeError, lambda: ConvField((4, 4, 1), (12,))),
    "max_groups: ": (RangeError, lambda: ConvField((4, 4, 1), (8,), max_groups=0)),
    "kernel: ": (RangeError, lambda: ConvField((4, 4, 1), (8,), kernel=0)),
    "hidden: expected a non-empty tuple": (DTypeError, lambda: MLPField((3,), ())),
    "activation: expected one of": (RangeError, lambda: MLPField((3,), (4,), "selu")),
    r"x: expected shape \(any, 3\), found \(2, 4\)": (ShapeError, lambda: MLP.field(THETA, np.ones((2, 4)))),
    "x: expected finite": (NonFiniteError, lambda: MLP.field_jvp(THETA, X * np.nan, X)),
    "v: expected finite": (NonFiniteError, lambda: MLP.field_jvp(THETA, X, X * np.inf)),
    r"v: expected shape \(2, 3\), found \(1, 3\)": (ShapeError, lambda: MLP.field_jvp(THETA, X, X[:1])),
    r"g: expected shape \(2, 2\), found \(2, 3\)": (ShapeError, lambda: MLP.field_vjp(THETA, X, X)),
    r"g: expected shape \(2, 2\), found \(1, 2\)": (ShapeError, lambda: MLP.field_grad_theta(THETA, X, G[:1])),
    "g: expected float64 like x, found float32": (
        DTypeError,
        lambda: MLP.field_grad_theta(THETA, X, G.astype(np.float32)),
    ),
    "h: expected finite": (NonFiniteError, lambda: MLP.field_grad_theta_along(THETA, X, G, G * np.nan, X)),
    r"h: expected shape \(2, 2\)": (ShapeError, lambda: MLP.field_grad_theta_along(THETA, X, G, X, X)),
    r"v: expected shape \(2, 3\), found \(2, 2\)": (
        ShapeError,
        lambda: MLP.field_grad_theta_along(THETA, X, G, G, G),
    ),
    "theta: expected float32 like x": (DTypeError, lambda: MLP.field(THETA, X.astype(np.float32))),
    "theta: missing out.b": (ShapeError, lambda: MLP.field({k: THETA[k] for k in THETA if k != "out.b"}, X)),
    "theta: unknown more": (ShapeError, lambda: MLP.field(THETA | {"more": np.ones(1)}, X)),
    r"theta\['out.b'\]: expected shape \(2\)": (ShapeError, lambda: MLP.field(THETA | {"out.b": np.ones(3)}, X)),
    "theta: expected a dict": (DTypeError, lambda: MLP.field(list(THETA.values()), X)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_field__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=f"^{said}"):
        call()
