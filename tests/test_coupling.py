"""Couplings: sorting, brute force, augmenting paths and SciPy agree; permutations are checked; any array will do."""

from __future__ import annotations

import numpy as np
import pytest
from duck import Duck

from ebm_ref.contracts import DTypeError, RangeError, ShapeError
from ebm_ref.objectives import coupling_assign, coupling_cost, coupling_exact, coupling_permutation, coupling_sort

linear_sum_assignment = pytest.importorskip("scipy.optimize").linear_sum_assignment


def pair(seed, B, *shape, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return tuple((rng.normal(size=(B, *shape)) + shift).astype(dtype) for shift in (0.0, 0.5))


def total(cost, idx):
    return cost[np.arange(len(cost)), idx].sum()


def test_coupling_cost__is_the_equation():
    x0, x1 = pair(1, 5, 2, 3)
    cost = coupling_cost(x0, x1)
    for i in range(5):
        for j in range(5):
            assert cost[i, j] == pytest.approx(((x0[i] - x1[j]) ** 2).sum(), rel=1e-14)


def test_coupling_cost__keeps_small_distances():
    """Far from the origin in float32, where |a|^2 + |b|^2 - 2 a.b has no digit left."""
    x0, _ = pair(1, 4, 3, dtype=np.float32)
    x0 = x0 + np.float32(4096)
    x1 = x0 + np.float32(2**-6)
    cost = coupling_cost(x0, x1)
    assert cost.dtype == np.float32 and (np.diag(cost) == 3 * 2.0**-12).all()


@pytest.mark.parametrize("B", range(1, 8))
@pytest.mark.parametrize("seed", range(4))
def test_coupling_sort__is_exact_in_one_dimension(B, seed):
    x0, x1 = pair(seed, B, 1)
    idx = coupling_sort(x0, x1)
    assert idx.tolist() == coupling_exact(coupling_cost(x0, x1)).tolist()
    order = np.argsort(x0[:, 0])
    assert (np.diff(x1[idx][order, 0]) >= 0).all()


@pytest.mark.parametrize("B", range(1, 8))
@pytest.mark.parametrize("seed", range(4))
def test_coupling_assign__is_brute_force(B, seed):
    cost = coupling_cost(*pair(seed, B, 3))
    assert coupling_assign(cost).tolist() == coupling_exact(cost).tolist()


@pytest.mark.parametrize("B", [2, 6, 7])
@pytest.mark.parametrize("seed", range(6))
def test_coupling_assign__of_equal_costs_is_as_cheap(B, seed):
    """Small integers, negative ones too: many optima, one least sum."""
    cost = np.random.default_rng(seed).integers(-2, 3, (B, B)).astype(float)
    found = coupling_assign(cost)
    assert sorted(found) == list(range(B)) and total(cost, found) == total(cost, coupling_exact(cost))


@pytest.mark.parametrize(("B", "D"), [(33, 2), (64, 1), (90, 20)])
def test_coupling_assign__is_scipy_s(B, D):
    x0, x1 = pair(B, B, D)
    cost = coupling_cost(x0, x1)
    assert coupling_assign(cost).tolist() == linear_sum_assignment(cost)[1].tolist()
    if D == 1:
        assert coupling_sort(x0, x1).tolist() == coupling_assign(cost).tolist()


def test_coupling_permutation__is_cyclically_monotone():
    """No cycle of data, moved on by one, makes the pairs cheaper; the independent pairing fails."""
    x0, x1 = pair(3, 12, 2)
    cost, rng = coupling_cost(x0, x1), np.random.default_rng(0)
    cycles = [rng.permutation(12)[:n] for n in (2, 3, 4, 6) for _ in range(200)]

    def cheaper(idx):
        return sum(cost[c, idx[np.roll(c, 1)]].sum() < cost[c, idx[c]].sum() - 1e-12 for c in cycles)

    assert cheaper(coupling_permutation(coupling_assign, x0, x1)) == 0 < cheaper(np.arange(12))


def test_coupling_permutation__follows_the_order_of_the_batch():
    """Shuffled noise and shuffled data give the same pairs."""
    x0, x1 = pair(4, 20, 3)
    p, q = (np.random.default_rng(i).permutation(20) for i in (1, 2))
    idx = coupling_permutation(coupling_assign, x0, x1)
    again = coupling_permutation(coupling_assign, x0[p], x1[q])
    np.testing.assert_array_equal(x1[q][again], x1[idx][p])


def test_coupling_permutation__takes_rows_and_columns_in_any_order():
    x0, x1 = pair(5, 9, 2)
    want = coupling_permutation(coupling_assign, x0, x1)

    def backwards(cost):
        rows, idx = linear_sum_assignment(cost)
        return rows[::-1], idx[::-1]

    for assign in (linear_sum_assignment, backwards):
        assert coupling_permutation(assign, x0, x1).tolist() == want.tolist()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (np.array([0, 1, 1]), RangeError),
        (np.array([0, 1, 3]), RangeError),
        (np.array([-1, 0, 1]), RangeError),
        (np.array([0, 1]), ShapeError),
        (np.array([0.0, 1, 2]), DTypeError),
        (np.array([True, False, True]), DTypeError),
        ([0, 1, 2], DTypeError),
        (None, DTypeError),
        ((np.array([0, 0, 1]), np.array([0, 1, 2])), RangeError),
    ],
)
def test_coupling_permutation__refuses_what_is_no_permutation(answer, error):
    with pytest.raises(error, match=r"^assign: expected"):
        coupling_permutation(lambda cost: answer, *pair(1, 3, 2))


def test_coupling_permutation__refuses_what_is_no_function_and_unequal_batches():
    x0, x1 = pair(1, 3, 2)
    with pytest.raises(DTypeError, match=r"^assign: expected a function"):
        coupling_permutation("sort", x0, x1)
    for function in (coupling_cost, coupling_sort, lambda a, b: coupling_permutation(coupling_assign, a, b)):
        with pytest.raises(ShapeError, match=r"^x1: expected x0's shape"):
            function(x0[:, :1], x1[:2, :1])


def test_coupling_exact__says_how_many_are_too_many():
    with pytest.raises(RangeError, match=r"^cost: expected B <= 7, found 8"):
        coupling_exact(np.zeros((8, 8)))
    with pytest.raises(ShapeError, match=r"^x0: expected one element a sample"):
        coupling_sort(*pair(1, 3, 2))


def test_coupling__runs_on_any_array_that_answers_numpy():
    x0, x1 = pair(6, 7, 2, 1)
    np.testing.assert_array_equal(coupling_cost(Duck.of(x0), Duck.of(x1)).get(), coupling_cost(x0, x1))
    flat = x0[:, :1, 0], x1[:, :1, 0]
    np.testing.assert_array_equal(coupling_sort(*map(Duck.of, flat)).get(), coupling_sort(*flat))

    def on_the_host(cost):
        return coupling_assign(cost.get())

    idx = coupling_permutation(on_the_host, Duck.of(x0), Duck.of(x1))
    np.testing.assert_array_equal(idx.get(), coupling_permutation(coupling_assign, x0, x1))
