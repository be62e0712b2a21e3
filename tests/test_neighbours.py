"""nearest_neighbour, neighbour_spread, neighbour_entropy: by loops, derivatives, devices, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, close
from duck import Duck

from ebm_ref import (
    ShapeError,
    nearest_neighbour,
    neighbour_entropy,
    neighbour_spread,
)


def test_nearest_neighbour__is_the_smallest_distance():
    rng = np.random.default_rng(3)
    x, reference = rng.normal(size=(7, 2, 3)), rng.normal(size=(9, 2, 3))
    rho, nearest = nearest_neighbour(x, reference)
    for n in range(7):
        distances = [np.linalg.norm(x[n] - c) for c in reference]
        assert rho[n] == pytest.approx(min(distances), rel=1e-14)
        np.testing.assert_array_equal(nearest[n], reference[int(np.argmin(distances))])


def test_nearest_neighbour__leaves_out_the_query_itself():
    x = np.array([[0.0], [1.0], [5.0]])
    rho, _ = nearest_neighbour(x, x)
    np.testing.assert_array_equal(rho, [0, 0, 0])
    rho, nearest = nearest_neighbour(x, x, np.eye(3, dtype=bool))
    np.testing.assert_array_equal(rho, [1, 1, 4])
    np.testing.assert_array_equal(nearest[:, 0], [1, 0, 1])
    assert np.isinf(nearest_neighbour(x[:1], x[:1], np.ones((1, 1), bool))[0]).all()


@pytest.mark.parametrize("shape", [(3,), (2, 2, 1)])
def test_neighbour_spread__is_the_derivative(shape):
    rng = np.random.default_rng(3)
    x, reference, v = (rng.normal(size=(5, *shape)) for _ in range(3))
    same = rng.uniform(size=(5, 5)) < 0.3
    floor = float(np.median(nearest_neighbour(x, reference, same)[0])) + 0.01
    _, away = neighbour_spread(x, reference, floor, same)
    wanted = along(lambda x: neighbour_spread(x, reference, floor, same)[0], x, v)
    close((away * v).sum(), wanted, 1e-9)
    assert (away == 0).reshape(5, -1).all(axis=1).sum() == 3  # below the floor; the others are above it


def test_neighbour_spread__has_a_floor_where_a_neighbour_is_on_top():
    x = np.array([[0.5], [2.0]])
    spread, away = neighbour_spread(x, np.array([[0.5]]), 1e-3)
    assert spread == pytest.approx((np.log(1e-3) + np.log(1.5)) / 2) and away[0] == 0 and away[1] > 0


def test_neighbours__run_on_any_array_that_answers_numpy():
    rng = np.random.default_rng(3)
    x, reference = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    spread, away = neighbour_spread(Duck.of(x), Duck.of(reference), 0.5, Duck.of(np.zeros((5, 4), bool)))
    want = neighbour_spread(x, reference, 0.5)
    assert spread.get() == want[0] and (away.get() == want[1]).all()
    assert neighbour_entropy(Duck.of(x)).get() == neighbour_entropy(x)


REFUSED = {
    "two samples": (ShapeError, lambda: neighbour_entropy(np.zeros((1, 3)))),
}


@pytest.mark.parametrize("said", REFUSED)
def test_neighbours__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
