"""toys: densities integrate to 1 and agree with the samples, cell by cell."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError
from ebm_ref.toys import TOYS, TOYS_WITH_DENSITY, toy_log_density, toy_sample

SIDE, FINE = 16, 25  # cells a side, quadrature points a side of a cell


def cell_probabilities(name):
    """Midpoint rule over [-4, 4]^2, summed by cell: (SIDE, SIDE)."""
    n = SIDE * FINE
    h = 8 / n
    axis = -4 + h * (np.arange(n) + 0.5)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    p = np.exp(toy_log_density(name, grid)) * h * h
    return p.reshape(SIDE, FINE, SIDE, FINE).sum(axis=(1, 3))


@pytest.mark.parametrize("name", TOYS_WITH_DENSITY)
def test_toy_log_density__integrates_to_one(name):
    tolerance = 0.02 if name == "checkerboard" else 1e-3  # the squares' edges are not on the grid
    assert abs(cell_probabilities(name).sum() - 1) < tolerance


@pytest.mark.parametrize("name", TOYS_WITH_DENSITY)
def test_toy_sample__has_its_density(name):
    """Chi-square over cells of 20 expected points or more, the others pooled."""
    n = 20_000
    x = toy_sample(name, n, seed=3, dtype=np.float64)
    if name == "checkerboard":  # its squares, of which each holds one eighth; none outside
        assert (toy_log_density(name, x) == -np.log(8 * 1.5**2)).all()
        cells = np.floor(x / 0.75).astype(int) + 4  # quarters of squares: (8, 8), half of them empty
        counts = np.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64)
        expected = np.full(32, n / 32)
        counts = counts[counts > 0]
        assert counts.size == 32
    else:
        cells = np.clip(np.floor((x + 4) / 8 * SIDE).astype(int), 0, SIDE - 1)
        counts = np.bincount(cells[:, 0] * SIDE + cells[:, 1], minlength=SIDE * SIDE).astype(float)
        expected = n * cell_probabilities(name).ravel()
        big = expected >= 20
        counts = np.append(counts[big], counts[~big].sum())
        expected = np.append(expected[big], n - expected[big].sum())
    dof = counts.size - 1
    limit = dof * (1 - 2 / (9 * dof) + 3.3 * sqrt(2 / (9 * dof))) ** 3  # Wilson & Hilferty, probability 0.0005
    assert ((counts - expected) ** 2 / expected).sum() < limit


@pytest.mark.parametrize("name", TOYS)
def test_toy_sample__depends_on_seed_and_place_alone(name):
    x = toy_sample(name, 500, seed=8, dtype=np.float64)
    assert x.shape == (500, 2) and x.dtype == np.float64
    assert (toy_sample(name, 40, seed=8, dtype=np.float64) == x[:40]).all()
    assert not (toy_sample(name, 40, seed=9, dtype=np.float64) == x[:40]).any()
    single = toy_sample(name, 500, seed=8)
    assert single.dtype == np.float32 and (single == x.astype(np.float32)).all()
    assert (toy_sample(name, 40, seed=8, dtype="float32") == single[:40]).all()


@pytest.mark.parametrize("name", TOYS)
def test_toy_sample__lies_in_the_window_and_fills_it(name):
    x = toy_sample(name, 50_000, seed=1)
    assert np.abs(x).max() < 4
    assert (np.abs(x.mean(axis=0)) < 0.6).all() and (0.4 < x.std(axis=0)).all()


def test_toy_log_density__keeps_the_dtype_and_its_argument():
    x = toy_sample("rings", 10, seed=0)
    before = x.copy()
    assert toy_log_density("rings", x).dtype == np.float32 and (x == before).all()
    far = np.array([[3.9, 3.9], [0.1, 2.0]])
    assert toy_log_density("checkerboard", far)[0] == -np.inf


def test_toy_sample__takes_any_integers():
    for kind in (np.uint8, np.int32, np.uint64):
        np.testing.assert_array_equal(toy_sample("rings", kind(5), kind(1)), toy_sample("rings", 5, 1))


def test_toys__refuse_wrong_arguments():
    with pytest.raises(RangeError, match="two_moons"):
        toy_sample("moons", 5, seed=0)
    with pytest.raises(RangeError, match="closed form"):
        toy_log_density("two_moons", np.zeros((1, 2)))
    with pytest.raises(RangeError, match="n:"):
        toy_sample("rings", 0, seed=0)
    with pytest.raises(DTypeError, match="dtype"):
        toy_sample("rings", 5, seed=0, dtype=np.int64)
    with pytest.raises(ShapeError, match="x"):
        toy_log_density("rings", np.zeros((1, 3)))
    with pytest.raises(NonFiniteError, match="x"):
        toy_log_density("rings", np.full((1, 2), np.nan))
