"""TimeField and HeldField: their equation, the derivative in x and in t, fields at held times, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, check_level_1, check_level_2, check_level_3, check_theta_gradient, close, random_theta
from duck import Duck

from ebm_ref import ConvField, FieldEnergy, HeldField, MLPEnergy, MLPField, TimeField, theta_init
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError

FIELDS = {
    "mlp": TimeField(MLPField((4,), (5, 4), out_channels=3)),
    "mlp-image": TimeField(MLPField((2, 3), (5,), "tanh", out_channels=2), -1.0, 3.0),
    "conv": TimeField(ConvField((4, 2, 3), (4, 6), max_groups=2, out_channels=2), 0.0, 2.0),
}


def case(name, N=4, dtype=np.float64):
    """field, theta, x, t in [0.1, 0.9], then v like x, g and h like f."""
    field, rng = FIELDS[name], np.random.default_rng(7)
    theta, t = random_theta(field, rng, dtype), np.linspace(0.1, 0.9, N).astype(dtype)
    x, v = (rng.normal(size=(N, *field.shape)).astype(dtype) for _ in range(2))
    g, h = (rng.normal(size=(N, *field.out_shape)).astype(dtype) for _ in range(2))
    return field, theta, x, t, v, g, h


@pytest.mark.parametrize("name", FIELDS)
def test_time_field__is_the_trunk_with_one_more_channel(name):
    field, theta, x, t, _, _, _ = case(name)
    c = 2 * (t - field.low) / (field.high - field.low) - 1
    channel = np.broadcast_to(c.reshape((4,) + (1,) * (x.ndim - 1)), (*x.shape[:-1], 1))
    joined = np.concatenate([x, channel], axis=-1)
    assert field.shape == (*field.trunk.shape[:-1], field.trunk.shape[-1] - 1)
    close(field.field(theta, x, t), field.trunk.field(theta, joined), 1e-13)


def test_time_field__channel_runs_from_minus_one_to_one():
    field = TimeField(MLPField((3,)), 0.0, 6.0)
    assert [field.at(t).channels for t in (0, 3, 6)] == [(-1,), (0,), (1,)]
    np.testing.assert_array_equal(field.at(np.array([0.0, 3.0, 6.0])).channels[0], [-1, 0, 1])
    ends = np.array([0.01, 0.3], np.float32)  # 0.01 rounds below 0.01, 0.3 above 0.3
    channel = TimeField(MLPField((3,)), 0.01, 0.3).at(ends).channels[0]
    np.testing.assert_allclose(channel, [-1, 1], atol=1e-6)
    assert channel.dtype == np.float32


@pytest.mark.parametrize("name", FIELDS)
def test_time_field__dot_is_the_derivative_in_x_and_t(name):
    field, theta, x, t, v, _, _ = case(name)
    t_dot = np.array([1.0, -0.5, 0.0, 2.0])
    f, f_dot = field.field_dot(theta, x, t, v, t_dot)
    np.testing.assert_array_equal(f, field.field(theta, x, t))
    wanted = along(lambda s: field.field(theta, x + s * v, t + s * t_dot), 0.0, 1.0)
    close(f_dot, wanted, 1e-9)
    slopes = along(lambda t: field.field(theta, x, t), t, np.ones_like(t))
    assert (np.abs(slopes).reshape(4, -1).max(axis=1) > 1e-3).all()  # f moves with t at all
    close(field.field_dot(theta, x, 0.4, v, 1.5)[1], field.field_dot(theta, x, 0 * t + 0.4, v, 0 * t + 1.5)[1], 1e-13)


@pytest.mark.parametrize("name", FIELDS)
def test_time_field__dot_is_field_jvp_where_time_stands(name):
    field, theta, x, t, v, _, _ = case(name)
    close(field.field_dot(theta, x, t, v, 0.0)[1], field.field_jvp(theta, x, t, v)[1], 1e-13)


@pytest.mark.parametrize("name", FIELDS)
def test_held_field__products_are_the_derivatives(name):
    field, theta, x, t, v, g, h = case(name)
    rng = np.random.default_rng(8)
    for held in (field.at(0.7), field.at(t)):
        assert held.shape == field.shape and held.out_shape == field.out_shape
        f, jv = held.field_jvp(theta, x, v)
        np.testing.assert_array_equal(f, held.field(theta, x))
        close(jv, along(lambda x, held=held: held.field(theta, x), x, v))
        jg = held.field_vjp(theta, x, g)
        assert jg.shape == x.shape
        close((jg * v).sum(), (g * jv).sum(), 1e-12)
        grads = held.field_grad_theta(theta, x, g)
        check_theta_gradient(lambda p, held=held: (g * held.field(p, x)).sum(), grads, theta, rng, 1e-8)
        grads = held.field_grad_theta_along(theta, x, g, h, v)

        def scalar(p, held=held):
            f, jv = held.field_jvp(p, x, v)
            return (g * f).sum() + (h * jv).sum()

        check_theta_gradient(scalar, grads, theta, rng, 1e-8)


@pytest.mark.parametrize("name", FIELDS)
def test_time_field__methods_are_those_at_the_times(name):
    """And the time of a sample is its own: one call with (N,) times is N calls with one."""
    field, theta, x, t, v, g, h = case(name)
    held = field.at(t)
    pairs = [
        (field.field(theta, x, t), held.field(theta, x)),
        (field.field_jvp(theta, x, t, v)[1], held.field_jvp(theta, x, v)[1]),
        (field.field_vjp(theta, x, t, g), held.field_vjp(theta, x, g)),
        *zip(field.field_grad_theta(theta, x, t, g).values(), held.field_grad_theta(theta, x, g).values(), strict=True),
        *zip(
            field.field_grad_theta_along(theta, x, t, g, h, v).values(),
            held.field_grad_theta_along(theta, x, g, h, v).values(),
            strict=True,
        ),
    ]
    for found, wanted in pairs:
        np.testing.assert_array_equal(found, wanted)
    for n in range(4):
        part = slice(n, n + 1)
        close(pairs[0][0][part], field.field(theta, x[part], float(t[n])), 1e-12)
        close(pairs[2][0][part], field.field_vjp(theta, x[part], float(t[n]), g[part]), 1e-12)


@pytest.mark.parametrize("name", FIELDS)
def test_held_field__carries_an_energy_head(name):
    """Its passes take Jets: an explicit energy at a held time has every level."""
    field, theta, x, t, _, _, _ = case(name)
    for held in (field.at(0.7), field.at(t)):
        energy, rng = FieldEnergy(held, "dot"), np.random.default_rng(8)
        close(energy.energy(theta, x), (x * held.field(theta, x)).reshape(4, -1).sum(1), 1e-13)
        check_level_1(energy, theta, x, rng)
        check_level_2(energy, theta, x, rng)
        check_level_3(energy, theta, x, rng, 1e-7)


def test_held_field__holds_several_channels():
    trunk, rng = MLPField((5,), (4,)), np.random.default_rng(2)
    theta, x, c = random_theta(trunk, rng), rng.normal(size=(3, 3)), rng.normal(size=3)
    held = HeldField(trunk, (c, 0.5))
    joined = np.column_stack([x, c, np.full(3, 0.5)])
    assert held.shape == (3,)
    np.testing.assert_array_equal(held.field(theta, x), trunk.field(theta, joined))
    np.testing.assert_array_equal(held.field_vjp(theta, x, joined), trunk.field_vjp(theta, joined, joined)[:, :3])


class OnDevice:
    """A device's field, f = x without its last channel: what it is fed stays on the device."""

    shape, out_shape = (4,), (3,)

    def field(self, theta, x):
        assert isinstance(x, Duck)
        return x[..., :-1]

    def field_jvp(self, theta, x, v):
        return self.field(theta, x), v[..., :]

    def field_vjp(self, theta, x, g):
        return x


def test_time_field__leaves_arrays_on_their_device():
    field, x, t = TimeField(OnDevice()), np.ones((2, 3)), np.array([0.25, 1.0])
    for times in (Duck.of(t), 0.25):
        assert field.field({}, Duck.of(x), times).get().shape == (2, 3)
        _, along = field.field_dot({}, Duck.of(x), times, Duck.of(3 * x), Duck.of(t))
        np.testing.assert_array_equal(along.get(), [[3, 3, 3, 0.5], [3, 3, 3, 2]])
        assert field.field_vjp({}, Duck.of(x), times, Duck.of(x)).get().shape == (2, 3)


@pytest.mark.parametrize("name", FIELDS)
def test_time_field__keeps_float32_and_accepts_an_empty_batch(name):
    for N in (0, 3):
        field, theta, x, t, v, g, h = case(name, N, np.float32)
        found = [*field.field_dot(theta, x, t, v, t), *field.field_dot(theta, x, 0.5, v, 1.0)]
        found += [field.field_vjp(theta, x, t, g), *field.field_grad_theta_along(theta, x, t, g, h, v).values()]
        assert {a.dtype for a in found} == {np.dtype(np.float32)}


def test_time_field__lets_theta_init_in():
    theta = theta_init(FIELDS["conv"], 0)
    assert list(theta) == list(FIELDS["conv"].trunk.theta_shapes())


MLP = FIELDS["mlp"]
THETA, X, T = random_theta(MLP, np.random.default_rng(1)), np.ones((2, 3)), np.ones(2)
KINKED = TimeField(MLPField((4,), (5, 4), "relu", out_channels=3))
REFUSED = {
    "trunk: expected a field, found str": (DTypeError, lambda: TimeField("net")),
    "trunk: expected a field, found MLPEnergy": (DTypeError, lambda: TimeField(MLPEnergy((3,)))),
    "trunk: expected x's channels and 1 more, found shape": (ShapeError, lambda: TimeField(MLPField((1,)))),
    "trunk: expected x's channels and 3 more": (ShapeError, lambda: HeldField(MLPField((3,)), (0.0, 0.0, 1.0))),
    "trunk: its first group_norm .* channels.0. = 8, found 8": (
        RangeError,
        lambda: TimeField(ConvField((4, 4, 2), (8,))),
    ),
    "low: .*found nan": (RangeError, lambda: TimeField(MLP.trunk, float("nan"))),
    r"high: .*\(1.0, inf\], found 1.0": (RangeError, lambda: TimeField(MLP.trunk, 1.0, 1.0)),
    r"t: expected a finite number in \[0.0, 1.0\], found 1.5": (RangeError, lambda: MLP.at(1.5)),
    r"t: expected levels in \[0.0, 1.0\], found 3.0": (RangeError, lambda: MLP.field(THETA, X, T * [1, 3])),
    "t: expected levels in .* found nan": (RangeError, lambda: MLP.field(THETA, X, T * np.nan)),
    r"t: expected shape \(2\), found \(3,\)": (ShapeError, lambda: MLP.field(THETA, X, np.ones(3))),
    "t: expected 1 axes": (ShapeError, lambda: MLP.at(np.ones((2, 1)))),
    "t: expected float64 like x": (DTypeError, lambda: MLP.field(THETA, X, T.astype(np.float32))),
    "t: expected float32 or float64": (DTypeError, lambda: MLP.at(np.ones(2, int))),
    "t: expected a real number": (DTypeError, lambda: MLP.at("1.0")),
    "t_dot: expected a finite number": (RangeError, lambda: MLP.field_dot(THETA, X, T, X, float("inf"))),
    r"t_dot: expected levels in \[-inf, inf\], found nan": (
        RangeError,
        lambda: MLP.field_dot(THETA, X, T, X, T * np.nan),
    ),
    r"t_dot: expected levels in \[-inf, inf\], found inf": (
        RangeError,
        lambda: MLP.field_dot(THETA, X, T, X, T * np.inf),
    ),
    r"t_dot: expected shape \(2\)": (ShapeError, lambda: MLP.field_dot(THETA, X, T, X, np.ones(3))),
    r"x: expected shape \(any, 3\)": (ShapeError, lambda: MLP.field(THETA, np.ones((2, 4)), T)),
    "x: expected finite": (NonFiniteError, lambda: MLP.field(THETA, X * np.nan, T)),
    r"v: expected shape \(2, 3\)": (ShapeError, lambda: MLP.field_jvp(THETA, X, T, np.ones((2, 4)))),
    r"v: expected shape \(2, 3\), found \(1": (ShapeError, lambda: MLP.field_dot(THETA, X, T, X[:1], 0.0)),
    "field_grad_theta_along needs a twice": (
        SmoothnessError,
        lambda: KINKED.field_grad_theta_along(THETA, X, T, X, X, X),
    ),
    "the thing needs": (SmoothnessError, lambda: KINKED.at(1.0).require_smooth("the thing")),
    "field: expected one with forward and backward": (DTypeError, lambda: FieldEnergy(MLP)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_time_field__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=f"^{said}"):
        call()
