"""LabelField, GuidedField, SumField: their equations, derivatives, rows of a batch, backends, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, check_level_1, check_level_2, check_theta_gradient, close, per_sample, random_theta
from duck import Duck

from ebm_ref import (
    ConvField,
    FieldEnergy,
    GradientDescent,
    GuidedField,
    HeldField,
    LabelField,
    MLPEnergy,
    MLPField,
    QuadraticEnergy,
    SumEnergy,
    SumField,
    TimeField,
    descent_run,
    theta_init,
)
from ebm_ref.contracts import DTypeError, RangeError, ShapeError, SmoothnessError

LABELS = {
    "mlp": LabelField(MLPField((5,), (5, 4), out_channels=3), 2),
    "image": LabelField(MLPField((2, 2, 4), (5,), "tanh", out_channels=1), 3),
    "conv": LabelField(ConvField((2, 2, 3), (4,), max_groups=2, out_channels=1), 2),
}
PLAIN = MLPField((3,), (4,))
Y = np.array([0, -1, 1, 0])
COMPOSED = {f"labels-{name}": field.at(Y) for name, field in LABELS.items()}
COMPOSED |= {f"class-{name}": field.at(1) for name, field in LABELS.items()}
COMPOSED |= {f"guided-{name}": GuidedField(field, np.array([0, 1, 1, 0]), 1.7) for name, field in LABELS.items()}
COMPOSED["sum"] = SumField((PLAIN, LABELS["mlp"].at(Y), MLPField((3,), (2,), "tanh")), (0.5, -2.0, 1.0))
COMPOSED["sum of guided"] = SumField((GuidedField(LABELS["mlp"], 1, 3.0), PLAIN), (0.7, 1.0))


def case(name, dtype=np.float64):
    field, rng = COMPOSED[name], np.random.default_rng(3)
    theta = random_theta(field, rng, dtype)
    x, v = (rng.normal(size=(4, *field.shape)).astype(dtype) for _ in range(2))
    g, h = (rng.normal(size=(4, *field.out_shape)).astype(dtype) for _ in range(2))
    return field, theta, x, v, g, h, rng


@pytest.mark.parametrize("name", COMPOSED)
def test_fields__every_method_is_the_derivative(name):
    field, theta, x, v, g, h, rng = case(name)
    f, f_dot = field.field_jvp(theta, x, v)
    close(f, field.field(theta, x), 1e-13)
    close(f, field.forward(theta, x)[0], 1e-13)
    close(f_dot, along(lambda x: field.field(theta, x), x, v), 1e-8)
    close(per_sample(field.field_vjp(theta, x, g), v), per_sample(g, f_dot), 1e-12)
    close(field.field_vjp(theta, x, g), field.backward(theta, field.forward(theta, x)[1], g)[0], 1e-13)
    grads = field.field_grad_theta(theta, x, g)
    assert list(grads) == list(field.theta_shapes())
    check_theta_gradient(lambda t: (g * field.field(t, x)).sum(), grads, theta, rng, 1e-7)
    grads = field.field_grad_theta_along(theta, x, g, h, v)
    assert list(grads) == list(field.theta_shapes())
    scalar = lambda t: (g * field.field(t, x) + h * field.field_jvp(t, x, v)[1]).sum()  # noqa: E731
    check_theta_gradient(scalar, grads, theta, rng, 1e-7)


@pytest.mark.parametrize("name", ["labels-mlp", "guided-mlp", "sum of guided"])
def test_fields__are_the_fields_of_energies(name):
    field, theta, x, _, _, _, rng = case(name)
    for head in ("dot", "norm"):
        check_level_1(FieldEnergy(field, head), theta, x, rng)
        check_level_2(FieldEnergy(field, head), theta, x, rng)


@pytest.mark.parametrize("name", LABELS)
def test_label_field__is_the_trunk_with_the_label_in_its_channels(name):
    labels = LABELS[name]
    _, theta, x, _, _, _, _ = case(f"labels-{name}")
    hot = np.array([[y == c for c in range(labels.classes)] for y in Y], float)
    hot = np.broadcast_to(hot.reshape((4,) + (1,) * (x.ndim - 2) + (-1,)), (*x.shape[:-1], labels.classes))
    close(labels.at(Y).field(theta, x), labels.trunk.field(theta, np.concatenate([x, hot], axis=-1)), 1e-13)
    for n, y in enumerate(Y):
        close(labels.at(int(y)).field(theta, x)[n], labels.at(Y).field(theta, x)[n], 1e-13)
    assert labels.shape == x.shape[1:] and labels.out_shape == labels.trunk.out_shape
    assert labels.theta_shapes() == labels.trunk.theta_shapes()


@pytest.mark.parametrize("name", LABELS)
def test_guided_field__is_between_and_beyond(name):
    labels, y = LABELS[name], np.array([0, 1, 1, 0])
    _, theta, x, _, _, _, _ = case(f"guided-{name}")
    none, given = labels.at(-1).field(theta, x), labels.at(y).field(theta, x)
    assert np.abs(given - none).max() > 0.1
    assert (GuidedField(labels, y, 1.0).field(theta, x) == given).all()
    assert (GuidedField(labels, y, 0).field(theta, x) == none).all()
    close(GuidedField(labels, y, 4.0).field(theta, x), none + 4 * (given - none), 1e-12)
    assert GuidedField(labels, y, 4.0).theta_shapes() == labels.theta_shapes()


def test_sum_field__is_the_sum_in_any_order():
    a, b = PLAIN, LABELS["mlp"].at(1)
    rng = np.random.default_rng(5)
    theta_a, theta_b, x = random_theta(a, rng), random_theta(b, rng), rng.normal(size=(4, 3))
    both = {f"0.{k}": t for k, t in theta_a.items()} | {f"1.{k}": t for k, t in theta_b.items()}
    swapped = {f"1.{k}": t for k, t in theta_a.items()} | {f"0.{k}": t for k, t in theta_b.items()}
    found = SumField((a, b), (2.0, -1.0)).field(both, x)
    close(found, 2 * a.field(theta_a, x) - b.field(theta_b, x), 1e-13)
    close(SumField((b, a), (-1.0, 2.0)).field(swapped, x), found, 1e-13)
    copies = SumField((a,) * 3, (1.0,) * 3)
    shared = {f"{i}.{k}": t for i in range(3) for k, t in theta_a.items()}
    close(copies.field(shared, x), 3 * a.field(theta_a, x), 1e-13)


def test_sum_field__of_gradients_is_the_gradient_of_the_sum():
    """Descent on SumEnergy of two quadratics is descent on SumField of their gradients."""
    energies, rng = (QuadraticEnergy((2,)), QuadraticEnergy((2,))), np.random.default_rng(2)
    theta = {"0.mu": np.array([1.0, 0.0]), "1.mu": np.array([0.0, -1.0]), "0.P": np.eye(2), "1.P": np.diag([1.0, 3.0])}
    x0 = rng.normal(size=(5, 2))
    x, _, _ = descent_run(SumEnergy(energies, (0.5, 2.0)), theta, x0, 7, GradientDescent(0.1))
    y, _, info = descent_run(SumField(tuple(map(Gradient, energies)), (0.5, 2.0)), theta, x0, 7, GradientDescent(0.1))
    close(x, y, 1e-13)
    assert info.energy.shape == (0, 5)


class Gradient:
    """f = grad_x E: what a field of another backend shows, no more."""

    def __init__(self, energy):
        self.energy_of, self.shape, self.out_shape = energy, energy.shape, energy.shape
        self.theta_shapes = energy.theta_shapes

    def field(self, theta, x):
        return self.energy_of.grad_x(theta, x)


@pytest.mark.parametrize("name", COMPOSED)
def test_fields__of_rows_are_rows_of_the_field(name):
    field, theta, x, _, _, _, _ = case(name)
    rows = np.array([3, 1])
    part = field.of_rows(rows)
    close(part.field(theta, x[rows]), field.field(theta, x)[rows], 1e-13)
    assert isinstance(part, type(field))


def test_held_field__of_rows_holds_their_times():
    field, rng = TimeField(MLPField((4,), (5,), out_channels=3)), np.random.default_rng(3)
    theta, x, t = random_theta(field, rng), rng.normal(size=(4, 3)), np.linspace(0, 1, 4)
    rows = np.array([2, 0])
    close(field.at(t).of_rows(rows).field(theta, x[rows]), field.field(theta, x, t)[rows], 1e-13)
    assert field.at(0.5).of_rows(rows).channels == field.at(0.5).channels


@pytest.mark.parametrize("name", COMPOSED)
def test_fields__keep_float32(name):
    field, theta, x, v, g, h, _ = case(name, np.float32)
    arrays = [field.field(theta, x), *field.field_jvp(theta, x, v), field.field_vjp(theta, x, g)]
    arrays += [*field.field_grad_theta(theta, x, g).values()]
    arrays += [*field.field_grad_theta_along(theta, x, g, h, v).values()]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


class Shown:
    """A field of another backend: f = (x + sum of the label's channels) w on arrays of its own, no passes."""

    shape, out_shape = (5,), (3,)

    def theta_shapes(self):
        return {"w": (5, 3)}

    def field(self, theta, x):
        return x @ theta["w"]

    def field_vjp(self, theta, x, g):
        return np.matmul(g, np.transpose(theta["w"]))


def test_guided_field__of_another_backend_stays_on_its_device():
    labels, rng = LabelField(Shown(), 2), np.random.default_rng(4)
    theta, x, g, y = {"w": rng.normal(size=(5, 3))}, rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), np.array([1, 0])
    guided, duck = GuidedField(labels, y, 2.0), {"w": Duck.of(theta["w"])}
    want = x @ theta["w"][:3] + 2 * theta["w"][3:][y]
    close(guided.field(duck, Duck.of(x)).get(), want, 1e-13)
    close(guided.field_vjp(duck, Duck.of(x), Duck.of(g)).get(), g @ theta["w"][:3].T, 1e-13)
    both = SumField((guided, labels.at(y)), (1.0, -1.0))
    found = both.field({"0.w": duck["w"], "1.w": duck["w"]}, Duck.of(x)).get()
    close(found, want - x @ theta["w"][:3] - theta["w"][3:][y], 1e-13)


MLP = LABELS["mlp"]
X = np.ones((4, 3))
THETA = theta_init(MLP, 1, np.float64)
REFUSED = {
    "network: expected a LabelField, found MLPField": (DTypeError, lambda: GuidedField(PLAIN, 0, 2.0)),
    "network: expected a LabelField, found HeldField": (DTypeError, lambda: GuidedField(MLP.at(1), 0, 2.0)),
    r"y: expected classes in \[0, 2\), found -1 to 1": (RangeError, lambda: GuidedField(MLP, Y, 2.0)),
    r"y: expected an integer in \[0, 1\], found -1": (RangeError, lambda: GuidedField(MLP, -1, 2.0)),
    "y: expected an integer, found None": (DTypeError, lambda: GuidedField(MLP, None, 2.0)),
    "w: expected a finite number": (RangeError, lambda: GuidedField(MLP, 0, float("inf"))),
    "classes: .*>= 1, found 0": (RangeError, lambda: LabelField(PLAIN, 0)),
    "trunk: expected x's channels and 3 more": (ShapeError, lambda: LabelField(PLAIN, 3)),
    "trunk: expected a field, found MLPEnergy": (DTypeError, lambda: LabelField(MLPEnergy((5,)), 2)),
    r"trunk: .*max_groups < channels\[0\]": (RangeError, lambda: LabelField(ConvField((2, 2, 3), (4,)), 2)),
    "y: expected -1 or classes below 2, found 0 to 2": (RangeError, lambda: MLP.at(Y + 1)),
    "y: expected -1 or classes below 2, found -2": (RangeError, lambda: MLP.at(Y - 1)),
    r"y: expected an integer in \[-1, 1\], found 2": (RangeError, lambda: MLP.at(2)),
    "y: expected signed integers, found float64": (DTypeError, lambda: MLP.at(Y.astype(float))),
    "y: expected signed integers, found uint8": (DTypeError, lambda: MLP.at(np.zeros(4, np.uint8))),
    r"y: expected shape \(N,\), found \(4, 1\)": (ShapeError, lambda: MLP.at(Y[:, None])),
    r"y: expected shape \(4\), found \(3,\)": (ShapeError, lambda: MLP.at(Y[:3]).field(THETA, X)),
    "weights: expected one for each of >= 1 terms, found 0": (ShapeError, lambda: SumField((), ())),
    "weights: expected one for each of >= 1 terms, found 2": (ShapeError, lambda: SumField((PLAIN,), (1.0, 1.0))),
    r"terms\[1\]: expected a field, found MLPEnergy": (
        DTypeError,
        lambda: SumField((PLAIN, MLPEnergy((3,))), (1.0, 1.0)),
    ),
    r"terms\[1\]: expected \(3,\) -> \(3,\), found \(5,\)": (
        ShapeError,
        lambda: SumField((PLAIN, MLP.trunk), (1.0, 1.0)),
    ),
    r"weights\[0\]: expected a finite number": (RangeError, lambda: SumField((PLAIN,), (float("nan"),))),
    "theta: missing 0.linear0.w": (ShapeError, lambda: SumField((PLAIN,), (1.0,)).field({}, X)),
    "the thing": (
        SmoothnessError,
        lambda: SumField((PLAIN, MLPField((3,), (4,), "relu")), (1.0, 1.0)).require_smooth("the thing"),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_fields__refuse(message):
    error, call = REFUSED[message]
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_labelled_field__is_a_held_field():
    assert isinstance(MLP.at(Y), HeldField) and isinstance(MLP.at(0), HeldField)
