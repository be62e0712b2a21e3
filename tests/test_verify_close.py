"""Budgets are neither blind nor jumpy, and the comparison draws the line at them."""

from dataclasses import replace

import numpy as np
import pytest

from ebm_fast.verify import problems
from ebm_fast.verify.case import Case
from ebm_fast.verify.close import EXACT, MULTIPLES, Failure, compare, references


def one_conv(dtype):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 5, 5, 3)), rng.standard_normal((3, 3, 3, 4))
    args = {"x": x.astype(dtype), "w": w.astype(dtype), "b": np.zeros(4, dtype)}
    return Case("conv2d_forward", args, {"stride": 2, "padding": "SAME"})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_close__budget_is_a_few_roundings(dtype):
    """A budget is above a rounding of the result and far below what a wrong term would do."""
    want, budget = references(one_conv(dtype), dtype)
    relative = budget["result"] / np.abs(want["result"]).max()
    unit = np.finfo(dtype).eps
    assert relative.min() > unit and relative.max() < 300 * unit


def test_close__budget_follows_cancellation():
    """Terms of 1e6 that cancel may leave an error of their size; without them the same error is a failure."""
    case = one_conv(np.float32)
    loud = case.args["x"].copy()
    loud[..., 0] *= 1e6
    _, budget = references(replace(case, args=case.args | {"x": loud}), np.float32)
    _, quiet = references(case, np.float32)
    assert (budget["result"] > 1e3 * quiet["result"]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compare__draws_the_line_at_the_budget(dtype):
    want, budget = np.array([1.0, -2.0]), np.array([1e-3, 1e-3])
    assert compare("y", np.array([1.0005, -2.0], dtype), want, budget, dtype) == pytest.approx(0.5, rel=1e-3)
    with pytest.raises(Failure, match=r"y\[1\].*budget 0.001") as raised:
        compare("y", np.array([1.0005, -2.002], dtype), want, budget, dtype)
    assert raised.value.ratio == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (np.array([1.0, np.nan]), r"y\[1\]"),
        (np.array([1.0, np.inf]), r"y\[1\]"),
        (np.array([1.0, 2.0], np.float32), "dtype float32"),
        (np.array([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (3.0, "expected shape"),
        (None, "expected shape"),
    ],
)
def test_compare__refuses(got, said):
    with pytest.raises(Failure, match=said):
        compare("y", got, np.array([1.0, 2.0]), np.array([9.0, 9.0]))


def test_compare__decisions_are_exact():
    with pytest.raises(Failure, match="exactly"):
        compare("idx", np.array([3, 4]), np.array([3, 5]), None)
    with pytest.raises(Failure):
        compare("filled", 3, 4, None)
    assert compare("mask", np.array([True]), np.array([True]), None) == 0
    nan = np.array([np.nan, np.inf])
    assert compare("x0", nan.copy(), nan, None) == 0


def test_multiples__each_says_what_it_was_measured_on():
    assert {*MULTIPLES} == {*problems.PROBLEMS} - {*EXACT}
    assert all(len(multiple.measured) > 20 for multiple in MULTIPLES.values())
