"""Jet: every known operation against differences of the plain one, and every unknown one refused by name."""

import numpy as np
import pytest

from ebm_ref.contracts import DTypeError, JetError, RangeError, ShapeError
from ebm_ref.jet import FUNCTIONS, LINEAR, POINTWISE, RULES, Jet, erf, jet_coefficient, jet_order, jet_seed

RNG = np.random.default_rng(11)
C = RNG.uniform(0.5, 1.5, (3, 4))  # a constant operand, away from zero
MASK = RNG.uniform(size=(3, 4)) > 0.5

# name -> f(a, b, c); a and b are series of shape (3, 4) with values in (0.5, 1.5), c is the constant C.
CASES = {
    "add": lambda a, b, c: a + b,
    "add-constant": lambda a, b, c: c + a + 1,
    "add-broadcast": lambda a, b, c: a[0] + c,
    "subtract": lambda a, b, c: a - b,
    "subtract-constant": lambda a, b, c: 1 - a,
    "negative": lambda a, b, c: -a,
    "multiply": lambda a, b, c: a * b,
    "multiply-constant": lambda a, b, c: c * a * 2,
    "divide": lambda a, b, c: a / b,
    "divide-by-constant": lambda a, b, c: a / c,
    "divide-constant": lambda a, b, c: 1 / a,
    "divide-array": lambda a, b, c: c / a,
    "matmul": lambda a, b, c: a @ b.T,
    "matmul-constant": lambda a, b, c: c.T @ a @ c.T,
    "power-2": lambda a, b, c: a**2,
    "power-3": lambda a, b, c: a**3,
    "power-half": lambda a, b, c: a**-1.5,
    "power-1": lambda a, b, c: (a - a) ** 1,
    "power-0": lambda a, b, c: (a - a) ** 0,
    "absolute": lambda a, b, c: np.abs(np.where(MASK, a, -b)),
    "maximum": lambda a, b, c: np.maximum(a, np.where(MASK, b - 1, b + 1)),
    "maximum-constant": lambda a, b, c: np.maximum(1.0, np.where(MASK, b - 1, b + 1)),
    "exp": lambda a, b, c: np.exp(a),
    "log": lambda a, b, c: np.log(a),
    "log1p": lambda a, b, c: np.log1p(a),
    "sqrt": lambda a, b, c: np.sqrt(a),
    "tanh": lambda a, b, c: np.tanh(a),
    "erf": lambda a, b, c: erf(a),
    "sum": lambda a, b, c: np.sum(a, axis=1),
    "sum-method": lambda a, b, c: a.sum(),
    "mean": lambda a, b, c: a.mean(axis=0, keepdims=True),
    "reshape": lambda a, b, c: np.reshape(a.reshape((2, 6)), (12,)),
    "transpose": lambda a, b, c: np.transpose(a.T.reshape(2, 2, 3), (2, 0, 1)),
    "moveaxis": lambda a, b, c: np.moveaxis(a, 0, 1),
    "swapaxes": lambda a, b, c: np.swapaxes(a, 0, 1),
    "expand_dims": lambda a, b, c: np.expand_dims(a, 1),
    "squeeze": lambda a, b, c: np.squeeze(a[:1]),
    "broadcast_to": lambda a, b, c: np.broadcast_to(a[:, None], (3, 5, 4)),
    "zeros_like": lambda a, b, c: a[1] + np.zeros_like(a),
    "ones_like": lambda a, b, c: a[1] + np.ones_like(a),
    "where": lambda a, b, c: np.where(MASK, a, b),
    "where-constant": lambda a, b, c: np.where(MASK, 0.0, np.where(MASK[0], a[0], c)),
    "pad": lambda a, b, c: np.pad(a, ((1, 0), (0, 2))),
    "stack": lambda a, b, c: np.stack([a, c, b], axis=1),
    "concatenate": lambda a, b, c: np.concatenate([a, c, b], axis=1),
    "getitem": lambda a, b, c: a[[0, 2, 0], 1:] * b[:, None, 0],
    "chain": lambda a, b, c: np.log(np.exp(a * b) + np.tanh(a) ** 2) / np.sqrt(b),
}


def series(order, dtype=np.float64, seed=5):
    """Two curves a(s), b(s) with non-zero coefficients throughout."""
    rng = np.random.default_rng(seed)
    a, b = ([rng.uniform(0.5, 1.5, (3, 4)).astype(dtype) for _ in range(order + 1)] for _ in "ab")
    return a, b


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_jet__is_the_derivative(name, order):
    f, (a, b), h = CASES[name], series(order), 2e-3
    found = f(Jet(*a), Jet(*b), C)
    assert found.order == order

    def at(s):
        return f(*(sum(c * s**k for k, c in enumerate(curve)) for curve in (a, b)), C)

    np.testing.assert_allclose(jet_coefficient(found, 0), at(0.0), rtol=1e-14, atol=1e-14)
    first = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    np.testing.assert_allclose(jet_coefficient(found, 1), first, rtol=1e-8, atol=1e-8)
    if order == 2:
        second = (16 * (at(h) + at(-h)) - (at(2 * h) + at(-2 * h)) - 30 * at(0.0)) / (12 * h * h)
        np.testing.assert_allclose(jet_coefficient(found, 2), second / 2, rtol=1e-7, atol=1e-7)


def test_jet__every_known_operation_has_a_case():
    known = {f.__name__ for f in (*POINTWISE, *RULES, *LINEAR, *FUNCTIONS)}
    assert known <= {name.split("-")[0] for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_jet__keeps_float32(name):
    a, b = series(2, np.float32)
    assert CASES[name](Jet(*a), Jet(*b), C.astype(np.float32)).dtype == np.float32


def test_jet__promotes_all_coefficients_together():
    a, _ = series(2, np.float32)
    for found in (Jet(*a) + C, Jet(*a) * C, C / Jet(*a), Jet(*a) + np.float64(1)):
        assert {c.dtype for c in found.coefficients} == {np.dtype(np.float64)}


UNKNOWN = {
    "sin": lambda y: np.sin(y),
    "arctan2": lambda y: np.arctan2(y, 1.0),
    "add.reduce": lambda y: np.add.reduce(y),
    "power": lambda y: 2.0**y,
    "cumsum": lambda y: np.cumsum(y),
    "median": lambda y: np.median(y),
    "pad": lambda y: np.pad(y, 1, mode="edge"),
    "where": lambda y: np.where(y, 1.0, 2.0),
    "asarray": lambda y: np.asarray(y),
    "multiply": lambda y: np.multiply(C, y, out=np.zeros((3, 4))),
    "exp": lambda y: np.exp(y, where=MASK),
    "sum": lambda y: np.sum(y, where=MASK),
    "mode edge": lambda y: np.pad(y, 1, "edge"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_jet__refuses_unknown_operations_by_name(name):
    a, _ = series(2)
    with pytest.raises(JetError, match=name.replace(".", r"\.")):
        UNKNOWN[name](Jet(*a))


def test_jet__refuses_to_sink_into_a_plain_array():
    a, _ = series(1)
    plain = np.zeros((3, 4))
    with pytest.raises(JetError, match="plain array"):
        plain += Jet(*a)
    with pytest.raises(JetError, match="not an array"):
        plain[...] = Jet(*a)


def test_jet__refuses_mixed_orders():
    one, two = Jet(*series(1)[0]), Jet(*series(2)[0])
    calls = (
        lambda: one * two,
        lambda: np.where(MASK, one, two),
        lambda: np.stack([one, two]),
        lambda: one.__setitem__(0, two[0]),
        lambda: one / two,
    )
    for call in calls:
        with pytest.raises(JetError, match="orders 1 and 2"):
            call()


def test_jet__setitem_and_in_place_addition_write_through_slices():
    a, b = series(2)
    y, x = Jet(*(c.copy() for c in a)), Jet(*b)
    y[1:, ::2] += x[1:, ::2]
    y[0] = 2.0
    for k in range(3):
        wanted = a[k].copy()
        wanted[1:, ::2] += b[k][1:, ::2]
        wanted[0] = 2.0 if k == 0 else 0.0
        np.testing.assert_array_equal(y.coefficients[k], wanted)


def test_jet__comparisons_decide_on_order_0():
    a, b = series(2)
    np.testing.assert_array_equal(Jet(*a) > Jet(*b), a[0] > b[0])
    np.testing.assert_array_equal(1.0 <= Jet(*a), a[0] >= 1.0)
    np.testing.assert_array_equal(Jet(*a) == Jet(a[0], b[1], b[2]), np.ones((3, 4), bool))
    assert not Jet(0.0, 1.0) and Jet(2.0, 0.0)


def test_jet__has_the_attributes_of_its_point():
    y = Jet(*series(2, np.float32)[0])
    assert (y.shape, y.ndim, y.dtype, len(y), y.T.shape) == ((3, 4), 2, np.float32, 3, (4, 3))
    assert repr(y) == "Jet(order 2, float32, shape (3, 4))"


def test_jet_coefficient__knows_constants_and_its_own_order():
    a, _ = series(1)
    assert jet_coefficient(C, 0) is C and jet_order(C) == 0 and jet_order(Jet(*a)) == 1
    np.testing.assert_array_equal(jet_coefficient(C, 2), np.zeros_like(C))
    with pytest.raises(JetError, match=r"order 1 .* s\^2"):
        jet_coefficient(Jet(*a), 2)


def test_jet_seed__refuses_bad_seeds():
    x = np.ones((2, 3))
    with pytest.raises(RangeError, match="order"):
        jet_seed(x, x, 3)
    with pytest.raises(ShapeError, match="v"):
        jet_seed(x, x[0], 1)
    with pytest.raises(DTypeError, match="x"):
        jet_seed([1.0], x, 1)  # type: ignore[arg-type]
    with pytest.raises(JetError, match="float32"):
        jet_seed(x, x.astype(np.float32), 1)
    with pytest.raises(JetError, match="2 or 3"):
        Jet(x)


def test_jet__a_maximum_with_nan_is_nan():
    for order in (1, 2):
        a = jet_seed(np.array([np.nan, 1.0, -1.0]), np.ones(3), order)
        for y in (np.maximum(a, 0.0), np.maximum(0.0, a)):
            assert np.isnan(jet_coefficient(y, 0)[0]) and jet_coefficient(y, 0)[1:].tolist() == [1, 0]
            assert jet_coefficient(y, 1)[1:].tolist() == [1, 0]
