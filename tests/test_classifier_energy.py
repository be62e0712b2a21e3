"""ClassifierEnergy: derivatives of every order, logits and features, class energies, and what is refused."""

import numpy as np
import pytest
from derivatives import check_level_1, check_level_2, check_level_3, check_theta_gradient, close, random_theta

import ebm_ref
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError
from ebm_ref.energies import ClassifierEnergy, ConvEnergy, DeepConvEnergy, MLPEnergy, QuadraticEnergy, theta_init
from ebm_ref.specs import SGLD, ClassifierSpec, MLPSpec

TRUNKS = {
    "mlp": MLPEnergy((3,), (5, 4)),
    "mlp-layer_norm": MLPEnergy((2, 3), (6, 5), layer_norm=True),
    "conv": ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2, residual=True),
    "deep_conv": DeepConvEnergy((4, 4, 1), channels=(2, 4), blocks=(1, 1), max_groups=2, stem_stride=1),
}
Y = np.array([2, 0, 3])
KINDS = ["marginal", "one class", "a class each"]
ENERGY = ClassifierEnergy(TRUNKS["mlp"], 4)
THETA = random_theta(ENERGY, np.random.default_rng(1))
X = np.random.default_rng(2).normal(size=(3, 3))


def case(name, kind, dtype=np.float64):
    classifier, rng = ClassifierEnergy(TRUNKS[name], 4), np.random.default_rng(5)
    energy = {"marginal": classifier, "one class": classifier.given(2), "a class each": classifier.given(Y)}[kind]
    return energy, random_theta(energy, rng, dtype), rng.normal(size=(3, *energy.shape)).astype(dtype), rng


@pytest.mark.parametrize("name", TRUNKS)
def test_classifier_energy__level_1_is_the_derivative(name):
    check_level_1(*case(name, "marginal"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["mlp", "mlp-layer_norm", "conv"])
def test_classifier_energy__has_its_derivatives_of_every_order(name, kind):
    check_level_1(*case(name, kind))
    check_level_2(*case(name, kind))
    check_level_3(*case(name, kind))


@pytest.mark.parametrize("name", TRUNKS)
def test_classifier_energy__is_the_equation(name):
    energy, theta, x, _ = case(name, "marginal")
    F = energy.logits(theta, x)
    close(energy.energy(theta, x), -np.log(np.exp(F).sum(axis=1)), 1e-13)
    for c in range(4):
        np.testing.assert_array_equal(energy.given(c).energy(theta, x), -F[:, c])
    np.testing.assert_array_equal(energy.given(Y).energy(theta, x), -F[np.arange(3), Y])
    close(energy.features(theta, x) @ theta["out.w"] + theta["out.b"], F, 1e-14)


@pytest.mark.parametrize("name", TRUNKS)
def test_classifier_energy__logits_are_the_trunk_s_energy_with_each_column(name):
    energy, theta, x, _ = case(name, "marginal")
    F = energy.logits(theta, x)
    for c in range(4):
        one = theta | {"out.w": theta["out.w"][:, c : c + 1], "out.b": theta["out.b"][c : c + 1]}
        close(energy.trunk.energy(one, x), F[:, c], 1e-14)


@pytest.mark.parametrize("name", TRUNKS)
def test_logits_backward__is_the_derivative(name):
    energy, theta, x, rng = case(name, "marginal")
    dy, v = rng.normal(size=(3, 4)), rng.normal(size=x.shape)
    dx, grads = energy.logits_backward(theta, x, dy)
    h = 1e-5
    slope = (dy * (energy.logits(theta, x + h * v) - energy.logits(theta, x - h * v))).sum() / (2 * h)
    close((dx * v).sum(), slope, 1e-8)
    check_theta_gradient(lambda t: (dy * energy.logits(t, x)).sum(), grads, theta, rng, 1e-8)
    np.testing.assert_array_equal(energy.logits_grad_x(theta, x, dy), dx)
    again = energy.logits_grad_theta(theta, x, dy)
    assert list(again) == list(energy.theta_shapes()) and all((again[k] == grads[k]).all() for k in grads)


def test_classifier_energy__stays_finite_where_one_logit_towers():
    theta = THETA | {"out.b": np.array([0.0, 800.0, 0.0, 0.0])}
    y, dx = ENERGY.energy_and_grad_x(theta, X)
    assert np.isfinite(y).all() and np.isfinite(dx).all() and np.abs(y + 800).max() < 50


@pytest.mark.parametrize("kind", KINDS)
def test_classifier_energy__keeps_float32(kind):
    energy, theta, x, _ = case("conv", kind, np.float32)
    found = [*energy.energy_and_grad_x(theta, x), *energy.grad_theta(theta, x, np.ones(3, np.float32)).values()]
    found += [energy.hvp(theta, x, x), energy.curvature(theta, x, x)]
    if kind == "marginal":
        found += [energy.logits(theta, x), energy.features(theta, x)]
        dx, grads = energy.logits_backward(theta, x, np.ones((3, 4), np.float32))
        found += [dx, *grads.values()]
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


def test_classifier_energy__has_a_start_and_a_spec():
    theta = theta_init(ENERGY, 3)
    assert theta["out.w"].shape == (4, 4) and (theta["out.b"] == 0).all() and list(theta)[-2:] == ["out.w", "out.b"]
    assert isinstance(ENERGY, ClassifierSpec) and ENERGY == ClassifierEnergy(MLPEnergy((3,), (5, 4)), 4)
    assert ClassifierSpec(MLPSpec((3,), (5, 4)), 4).theta_shapes() == ENERGY.theta_shapes()


def test_class_energy__runs_chains_of_its_classes():
    """Chains on E(x, y) end where F_y is high: higher than where the chains on E(x) end, whatever their class."""
    energy = ClassifierEnergy(MLPEnergy((2,), (16,)), 3)
    theta = theta_init(energy, 1, np.float64)
    theta["out.w"] = 8 * theta["out.w"]
    y = np.arange(60) % 3
    update = SGLD(0.02, 0.2, box=(-2.0, 2.0))
    x, info = ebm_ref.langevin_run(energy.given(y), theta, np.zeros((60, 2)), 60, update, 3)
    anywhere, _ = ebm_ref.langevin_run(energy, theta, np.zeros((60, 2)), 60, update, 3)
    own, other = (energy.logits(theta, s)[np.arange(60), y] for s in (x, anywhere))
    assert info.nonfinite == 0 and own.mean() > other.mean() + 5 * (own - other).std() / 60**0.5


def test_classifier_energy__refuses_second_derivatives_of_a_kinked_trunk():
    energy = ClassifierEnergy(MLPEnergy((3,), (5,), "relu"), 2)
    theta = theta_init(energy, 0, np.float64)
    for each in (energy, energy.given(1)):
        with pytest.raises(SmoothnessError, match="hvp .*relu"):
            each.hvp(theta, X, X)


REFUSED = {
    "trunk: .*QuadraticEnergy": (DTypeError, lambda: ClassifierEnergy(QuadraticEnergy((2,)), 2)),
    "trunk: expected a neural energy, found MLPSpec": (DTypeError, lambda: ClassifierEnergy(MLPSpec((2,)), 2)),
    "classes: .*>= 1, found 0": (RangeError, lambda: ClassifierEnergy(TRUNKS["mlp"], 0)),
    "classes: .*integer, found 2.0": (DTypeError, lambda: ClassifierEnergy(TRUNKS["mlp"], 2.0)),
    r"y: .*\[0, 3\], found 4": (RangeError, lambda: ENERGY.given(4)),
    r"y: .*\[0, 3\], found -1": (RangeError, lambda: ENERGY.given(-1)),
    r"y: .*\[0, 4\), found 0 to 4": (RangeError, lambda: ENERGY.given(np.array([0, 4]))),
    r"y: .*\[0, 4\), found -1 to 2": (RangeError, lambda: ENERGY.given(np.array([-1, 2]))),
    "y: .*float64": (DTypeError, lambda: ENERGY.given(np.zeros(3))),
    "y: .*bool": (DTypeError, lambda: ENERGY.given(np.zeros(3, bool))),
    "y: .*integer, found .0, 1.": (DTypeError, lambda: ENERGY.given([0, 1])),
    r"y: expected shape .N,., found \(3, 1\)": (ShapeError, lambda: ENERGY.given(Y[:, None])),
    "x: expected 2 samples, one a label, found 3": (ShapeError, lambda: ENERGY.given(Y[:2]).energy(THETA, X)),
    r"dy: .*\(3, 4\), found \(3, 3\)": (ShapeError, lambda: ENERGY.logits_backward(THETA, X, X)),
    "dy: expected float64 like x": (
        DTypeError,
        lambda: ENERGY.logits_backward(THETA, X, np.ones((3, 4), np.float32)),
    ),
    "dy: .*1 NaN": (NonFiniteError, lambda: ENERGY.logits_backward(THETA, X, np.diag([np.nan, 1, 1, 1])[:3])),
    "x: .*NaN": (NonFiniteError, lambda: ENERGY.logits(THETA, X * np.nan)),
    "x: .*shape .any, 3.": (ShapeError, lambda: ENERGY.features(THETA, X[:, :2])),
    r"theta\['out.w'\]: .*\(4, 4\)": (
        ShapeError,
        lambda: ENERGY.logits(theta_init(TRUNKS["mlp"], 0, np.float64), X),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_classifier_energy__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
