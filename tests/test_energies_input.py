"""What an energy refuses, by name and type; and the start values of theta."""

import numpy as np
import pytest

from ebm_ref.contracts import DTypeError, EbmError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.energies import (
    ConvEnergy,
    DeepConvEnergy,
    DoubleWellEnergy,
    GaussianMixtureEnergy,
    MLPEnergy,
    QuadraticEnergy,
    RingEnergy,
    SumEnergy,
    theta_check,
    theta_init,
)
from ebm_ref.noise import noise_normal

ENERGY = ConvEnergy((6, 5, 3), channels=(4, 4), strides=(2, 1), max_groups=2)
THETA = theta_init(ENERGY, 0, np.float64)
X, W = np.zeros((2, 6, 5, 3)), np.ones(2)
NAN = np.where(np.arange(5)[:, None] == 3, np.nan, X)

REFUSED = {
    "x: .*shape .any, 6, 5, 3.": (ShapeError, lambda: ENERGY.energy(THETA, X[0])),
    r"x: .*\(2, 6, 5, 2\)": (ShapeError, lambda: ENERGY.energy(THETA, X[..., :2])),
    "x: .*int64": (DTypeError, lambda: ENERGY.energy(THETA, X.astype(np.int64))),
    "x: .*float16": (DTypeError, lambda: ENERGY.grad_x(THETA, X.astype(np.float16))),
    "x: .*list": (DTypeError, lambda: ENERGY.grad_x(THETA, X.tolist())),
    "x: .*6 NaN or inf of 180": (
        NonFiniteError,
        lambda: ENERGY.energy_and_grad_x(THETA, np.broadcast_to(NAN, X.shape)),
    ),
    "x: .*1 NaN or inf of 180": (
        NonFiniteError,
        lambda: ENERGY.grad_theta(THETA, np.where(np.arange(180) == 7, np.inf, 0.0).reshape(X.shape), W),
    ),
    "theta: expected float32 like x": (DTypeError, lambda: ENERGY.energy(THETA, X.astype(np.float32))),
    "w: expected shape": (ShapeError, lambda: ENERGY.grad_theta(THETA, X, np.ones(3))),
    "w: expected float64 like x": (DTypeError, lambda: ENERGY.grad_theta(THETA, X, W.astype(np.float32))),
    "v: expected shape": (ShapeError, lambda: ENERGY.hvp(THETA, X, X[:1])),
    "v: expected float64 like x": (DTypeError, lambda: ENERGY.grad_theta_along(THETA, X, X.astype(np.float32))),
    "v: .*180 NaN": (NonFiniteError, lambda: ENERGY.curvature(THETA, X, X + np.nan)),
    "w: .*2 NaN": (NonFiniteError, lambda: ENERGY.grad_theta_curvature(THETA, X, X, W * np.inf)),
    "theta: missing conv1.w, out.b$": (ShapeError, lambda: ENERGY.energy(without("conv1.w", "out.b"), X)),
    "theta: unknown conv2.w$": (ShapeError, lambda: ENERGY.energy(THETA | {"conv2.w": X}, X)),
    "missing out.b; unknown bias": (ShapeError, lambda: ENERGY.energy(without("out.b") | {"bias": W}, X)),
    r"theta\['conv0.b'\]: .*\(4\), found \(2,\)": (ShapeError, lambda: ENERGY.energy(THETA | {"conv0.b": W}, X)),
    r"theta\['out.b'\]: .*int64": (DTypeError, lambda: ENERGY.energy(THETA | {"out.b": np.zeros(1, np.int64)}, X)),
    "theta: expected one dtype": (
        DTypeError,
        lambda: ENERGY.energy(THETA | {"out.b": np.zeros(1, np.float32)}, X),
    ),
    "layer_norm: expected True or False, found 'no'": (DTypeError, lambda: MLPEnergy((2,), layer_norm="no")),
    "residual: expected True or False, found 1": (DTypeError, lambda: ConvEnergy((4, 4, 1), residual=1)),
    "theta: expected a dict": (DTypeError, lambda: theta_check(ENERGY, list(THETA.values()))),
}


def without(*names):
    return {name: value for name, value in THETA.items() if name not in names}


@pytest.mark.parametrize("said", REFUSED)
def test_energy__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said) as caught:
        call()
    assert isinstance(caught.value, EbmError)


def test_energy__leaves_its_arguments_alone():
    rng = np.random.default_rng(0)
    x, v, w = rng.normal(size=X.shape), rng.normal(size=X.shape), rng.normal(size=2)
    arrays = [x, v, w, *THETA.values()]
    before = [a.copy() for a in arrays]
    ENERGY.energy_and_grad_x(THETA, x)
    ENERGY.grad_theta_curvature(THETA, x, v, w)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


ANY = [
    ENERGY,
    MLPEnergy((2,), layer_norm=True),
    DeepConvEnergy((8, 8, 1), channels=(4, 8), blocks=(1, 1)),
    QuadraticEnergy((3,)),
    GaussianMixtureEnergy((2,), 3),
    DoubleWellEnergy((2,)),
    RingEnergy(),
    SumEnergy((QuadraticEnergy((2,)), MLPEnergy((2,))), (1.0, 0.5)),
]


@pytest.mark.parametrize("energy", ANY, ids=lambda energy: type(energy).__name__)
def test_theta_init__starts_every_energy_at_a_finite_value(energy):
    theta = theta_init(energy, 2**64 - 1)
    assert list(theta) == list(energy.theta_shapes())
    assert theta_check(energy, theta) == np.float32
    assert np.isfinite(energy.energy(theta, np.zeros((2, *energy.shape), np.float32))).all()


def test_theta_init__is_the_equation():
    names = list(ENERGY.theta_shapes())
    normals = noise_normal(0, Stream.PARAMS_INIT, 0, np.array([names.index("conv1.w")]), 3 * 3 * 4 * 4)
    np.testing.assert_array_equal(THETA["conv1.w"].ravel(), normals[0] / 6)  # fan-in 3 * 3 * 4
    for name, value in THETA.items():
        kind = name.rsplit(".")[-1]
        assert kind == "w" or (value == (1.0 if kind == "gamma" else 0.0)).all()
    small = theta_init(ENERGY, 0, np.float32)
    for name, value in THETA.items():
        np.testing.assert_array_equal(small[name], value.astype(np.float32))
    assert (theta_init(ENERGY, 1)["conv0.w"] != small["conv0.w"]).all()


def test_theta_init__keeps_the_variance_of_a_layer_near_one():
    theta = theta_init(MLPEnergy((200,), hidden=(300,)), 5, np.float64)
    x = np.random.default_rng(1).normal(size=(50, 200))
    assert (x @ theta["linear0.w"]).std() == pytest.approx(1.0, abs=0.05)


def test_theta_init__refuses_bad_arguments():
    with pytest.raises(RangeError, match="seed"):
        theta_init(ENERGY, -1)
    with pytest.raises(RangeError, match="dtype"):
        theta_init(ENERGY, 0, np.int32)

    class Odd(RingEnergy):
        def theta_shapes(self):
            return {"colour": (1,)}

    with pytest.raises(RangeError, match="colour"):
        theta_init(Odd(), 0)
