"""Arrays that round every result, and energies that run on them."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import random_theta
from test_energies import ALL
from test_precision import same_bits

from ebm_ref import GaussianMixtureEnergy, MLPEnergy, PrecisionEnergy, PrecisionPolicy, QuadraticEnergy
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError
from ebm_ref.precision import precision_quantise, precision_round
from ebm_ref.rounded import MOVES, SUMS, Rounded, rounded_array

RNG = np.random.default_rng(3)

# ------------------------------------------------------------------------- arrays whose results are rounded

C = rounded_array(RNG.uniform(0.5, 1.5, (3, 4)).astype(np.float32), "fp16")
OPS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a, b: -a,
    "absolute": lambda a, b: np.abs(a),
    "sqrt": lambda a, b: np.sqrt(a),
    "where": lambda a, b: np.where(a > b, a, b),
    "maximum": lambda a, b: np.maximum(a, b),
    "in place": lambda a, b: _added(a, b),
}


def _added(a, b):
    y = np.zeros_like(a)
    y[1:] += b[1:]
    return y


@pytest.mark.parametrize("name", OPS)
def test_rounded__is_float16_arithmetic_to_the_bit(name):
    """NumPy's float16 computes each operation in float32 and rounds its result."""
    a, b = (RNG.uniform(0.5, 1500, (3, 4)).astype(np.float16) for _ in "ab")
    a[0, 0] = -a[0, 0] if name not in ("sqrt",) else a[0, 0]
    found = OPS[name](*(rounded_array(x.astype(np.float32), "fp16", "inf") for x in (a, b)))
    with np.errstate(over="ignore"):
        same_bits(found.values, OPS[name](a, b).astype(np.float32))


def test_rounded__adds_up_wide_and_rounds_once():
    """2048 ones and a half in fp16: added one by one they would stop at 2048."""
    ones = rounded_array(np.ones((1, 4096), np.float32), "fp16")
    assert ones.sum().values == 4096 and (ones @ ones.T).values == 4096
    total = np.float16(0)
    for one in np.ones(4096, np.float16):
        total += one
    assert total == 2048


def test_rounded__int8_product_is_of_integers():
    a, b = RNG.normal(size=(4, 6)).astype(np.float32), RNG.normal(size=(6, 5)).astype(np.float32)
    (n_a, s_a), (n_b, s_b) = precision_quantise(a), precision_quantise(b)
    wanted = (n_a.astype(np.int64) @ n_b.astype(np.int64)).astype(np.float64) * (s_a * s_b)
    found = rounded_array(a, "int8") @ rounded_array(b, "int8")
    same_bits(found.values, wanted.astype(np.float32))
    same_bits((rounded_array(a, "int8") * 2 + 1).values, a * 2 + 1)


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("multiply", lambda y: y * y),
        ("exp", lambda y: np.exp(y)),
        ("sum", lambda y: y.sum()),
        ("matmul", lambda y: y[None] @ y[:, None]),
        ("divide", lambda y: y / (y - y)),
    ],
)
def test_rounded__names_the_operation_that_overflows(name, operation):
    y = np.full(3, 3e4, np.float32)
    with pytest.raises(NonFiniteError, match=f"{name}: expected finite numbers of fp16 .largest 65504."):
        operation(rounded_array(y, "fp16"))
    assert not np.isfinite(operation(rounded_array(y, "fp16", "inf")).values).any()
    if name not in ("exp", "divide"):
        assert np.isfinite(operation(rounded_array(y, "bf16")).values).all()


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("cumsum", lambda y: np.cumsum(y)),
        ("add.reduce", lambda y: np.add.reduce(y)),
        ("exp", lambda y: np.exp(y, where=np.ones(3, bool))),
        ("frexp", lambda y: np.frexp(y)),
        ("asarray", lambda y: np.asarray(y)),
        ("multiply", lambda y: np.multiply(y, y, out=np.zeros(3, np.float32))),
        ("add", lambda y: y + rounded_array(np.ones(3, np.float32), "bf16")),
        ("add", lambda y: y + rounded_array(np.ones(3), "fp16")),
    ],
)
def test_rounded__refuses_by_name(name, operation):
    with pytest.raises(DTypeError, match=name):
        operation(rounded_array(np.ones(3, np.float32), "fp16"))


def test_rounded__rounds_a_plain_array_that_it_meets():
    y = rounded_array(-np.ones(1, np.float32), "bf16") + np.array([1 + 2.0**-9], np.float32)
    assert y.values == 0  # and not 2^-9, a number of the format
    assert (rounded_array(np.ones(1, np.float32), "bf16") * (1 + 2.0**-9)).values == 1  # the product is rounded


@pytest.mark.parametrize("function", sorted([*SUMS, *MOVES], key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_rounded__knows_every_function_of_its_lists(function):
    args = {
        np.reshape: ((4, 3),), np.moveaxis: (0, 1), np.swapaxes: (0, 1), np.expand_dims: (0,),
        np.broadcast_to: ((2, 3, 4),), np.pad: (((1, 0), (0, 2)),),
    }.get(function, ())  # fmt: skip
    first = (
        [[C, C]] if function in (np.stack, np.concatenate) else [C.values > 1, C, C] if function is np.where else [C]
    )
    found = function(*first, *args)
    plain = (
        [[part.values for part in first[0]]] if isinstance(first[0], list) else [getattr(f, "values", f) for f in first]
    )
    assert isinstance(found, Rounded) and found.form == "fp16"
    same_bits(found.values, precision_round(np.asarray(function(*plain, *args)), "fp16"))


# ------------------------------------------------------------------------------- energies in short numbers

POLICIES = {
    "float32": (PrecisionPolicy("float32"), 1e-6),
    "fp16": (PrecisionPolicy("fp16"), 0.02),
    "bf16": (PrecisionPolicy("bf16"), 0.15),
    "bf16, wide back": (PrecisionPolicy("bf16", "float32"), 0.15),
    "int8": (PrecisionPolicy("int8"), 0.15),
    "int8, fp16 back": (PrecisionPolicy("int8", "fp16"), 0.15),
}
SOME = ["mlp-silu", "mlp-gelu", "mlp-layer_norm", "conv-softplus", "conv-residual", "deep_conv-tanh", "mlp-leaky_relu"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_energy__is_the_energy_up_to_its_format(name, policy, dtype):
    energy, (policy, tolerance) = ALL[name], POLICIES[policy]
    theta = {key: 0.7 * value for key, value in random_theta(energy, np.random.default_rng(7), dtype).items()}
    x, w = (np.random.default_rng(8).normal(size=s).astype(dtype) for s in ((3, *energy.shape), 3))
    short = PrecisionEnergy(energy, policy)
    E, g = short.energy_and_grad_x(theta, x)
    E_wide, g_wide = energy.energy_and_grad_x(theta, x)
    assert E.dtype == g.dtype == dtype and g.shape == x.shape
    assert np.abs(E - E_wide).max() <= tolerance * np.abs(E_wide).max()
    assert np.abs(g - g_wide).max() <= tolerance * np.abs(g_wide).max()
    np.testing.assert_array_equal(short.energy(theta, x), E)
    np.testing.assert_array_equal(short.grad_x(theta, x), g)
    grads, wide = short.grad_theta(theta, x, w), energy.grad_theta(theta, x, w)
    assert list(grads) == list(wide)
    for key, value in wide.items():
        assert grads[key].dtype == dtype
        assert np.abs(grads[key] - value).max() <= 2 * tolerance * max(1, np.abs(value).max())


def test_precision_energy__gives_numbers_of_its_format():
    energy, theta = MLPEnergy((2,), (8,)), random_theta(MLPEnergy((2,), (8,)), RNG)
    x = RNG.normal(size=(5, 2))
    for form in ("fp16", "bf16"):
        E, g = PrecisionEnergy(energy, PrecisionPolicy(form)).energy_and_grad_x(theta, x)
        same_bits(precision_round(E, form), E)
        same_bits(precision_round(g, form), g)


def test_precision_energy__names_where_a_large_energy_overflows():
    """E of 1.25e5 is beyond fp16 and no trouble to bf16; so is a parameter of 1e5."""
    energy, x = QuadraticEnergy((1,)), np.array([[500.0]], np.float32)
    theta = {"mu": np.zeros(1, np.float32), "P": np.ones((1, 1), np.float32)}
    with pytest.raises(NonFiniteError, match="multiply: expected finite numbers of fp16"):
        PrecisionEnergy(energy, PrecisionPolicy("fp16")).energy(theta, x)
    assert np.isinf(PrecisionEnergy(energy, PrecisionPolicy("fp16", overflow="inf")).energy(theta, x)).all()
    assert PrecisionEnergy(energy).energy(theta, x) == pytest.approx(1.25e5, rel=0.01)
    with pytest.raises(NonFiniteError, match=r"theta\['P'\]: expected finite numbers of fp16"):
        PrecisionEnergy(energy, PrecisionPolicy("fp16")).energy(theta | {"P": np.full((1, 1), 1e5, np.float32)}, x)


def test_precision_energy__of_int8_forgets_that_samples_are_separate():
    """One scale an array: an outlier in the batch coarsens everybody else."""
    energy, theta = MLPEnergy((2,), (8,)), random_theta(MLPEnergy((2,), (8,)), np.random.default_rng(1))
    x = np.random.default_rng(2).normal(size=(2, 2))
    crowd = np.concatenate([x, [[50.0, -80.0]]])
    for form, apart in (("bf16", True), ("int8", False)):
        short = PrecisionEnergy(energy, PrecisionPolicy(form))
        assert np.array_equal(short.energy(theta, crowd)[:2], short.energy(theta, x)) is apart


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: rounded_array(np.array([1e6]), "fp16"), NonFiniteError, "x: "),
        (lambda: rounded_array(np.ones(2), "fp16", "wrap"), RangeError, "overflow: "),
        (lambda: Rounded(np.ones(2), "fp8"), RangeError, "form: "),
        (lambda: Rounded(np.ones(2, int), "fp16"), DTypeError, "values: "),
        (lambda: PrecisionEnergy(object()), DTypeError, "trunk: "),
        (lambda: PrecisionEnergy(QuadraticEnergy((2,)), "bf16"), DTypeError, "policy: "),
    ],
)
def test_rounded__refuses_bad_input(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_precision_energy__refuses_what_the_energy_refuses():
    short = PrecisionEnergy(GaussianMixtureEnergy((2,), 2))
    theta = random_theta(short, RNG)
    for args, error, said in (
        ((theta, np.ones((3, 3))), ShapeError, "x: "),
        ((theta, np.full((3, 2), np.nan)), NonFiniteError, "x: "),
        ((theta, np.ones((3, 2), np.float32)), DTypeError, "theta: "),
        (({}, np.ones((3, 2))), ShapeError, "theta: "),
    ):
        for method in (short.energy, short.grad_x, short.energy_and_grad_x):
            with pytest.raises(error, match=said):
                method(*args)
    with pytest.raises(ShapeError, match="w: "):
        short.grad_theta(theta, np.ones((3, 2)), np.ones(2))
