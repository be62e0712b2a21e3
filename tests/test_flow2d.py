"""The judges of flow2d against closed forms, and a tiny run of all of it."""

import csv
from itertools import permutations

import numpy as np
import pytest

import ebm_ref
from bench import densities, flow2d, flow2d_train
from ebm_ref.contracts import RangeError, ShapeError

RNG = np.random.default_rng(5)
X, Y, LINES = RNG.normal(size=(6, 2)), RNG.normal(size=(6, 2)) + 1, RNG.normal(size=(3, 2))


# ------------------------------------------------------------------------------- sliced_wasserstein


def test_sliced_wasserstein__on_a_line_is_the_best_of_all_permutations():
    x, y = X[:, :1], Y[:, :1]
    best = min(np.mean((x - y[list(order)]) ** 2) for order in permutations(range(6)))
    assert ebm_ref.sliced_wasserstein(x, y, np.array([[-3.0]])) == pytest.approx(best**0.5, rel=1e-12)


def test_sliced_wasserstein__of_normals_on_a_line_tends_to_the_closed_form():
    x, y = (ebm_ref.noise_normal(seed, ebm_ref.Stream.EVALUATION, 0, np.arange(100_000), 1) for seed in (1, 2))
    want = ((1.5 - 0.5) ** 2 + 0.7**2) ** 0.5  # of N(0, 1.5^2) and N(0.7, 0.5^2): difference of roots, and of means
    assert ebm_ref.sliced_wasserstein(1.5 * x, 0.5 * y + 0.7, np.eye(1)) == pytest.approx(want, abs=0.02)


def test_sliced_wasserstein__of_a_shift_is_its_mean_projection():
    shift = np.array([0.3, -0.4])
    want = np.mean((LINES @ shift) ** 2 / (LINES**2).sum(axis=1)) ** 0.5
    assert ebm_ref.sliced_wasserstein(X, X + shift, LINES) == pytest.approx(want, rel=1e-12)
    even = flow2d.directions(16)  # their mean square is that of the whole circle
    assert ebm_ref.sliced_wasserstein(X, X + shift, even) == pytest.approx(0.5 / 2**0.5, rel=1e-12)


def test_sliced_wasserstein__of_unequal_sizes_is_that_of_repeated_points():
    want = ebm_ref.sliced_wasserstein(np.repeat(X, 2, axis=0), np.repeat(Y[:4], 3, axis=0), LINES)
    assert ebm_ref.sliced_wasserstein(X, Y[:4], LINES) == pytest.approx(want, rel=1e-12)


def test_sliced_wasserstein__keeps_the_order_out_and_the_lengths_of_directions():
    value = ebm_ref.sliced_wasserstein(X, Y, LINES)
    assert ebm_ref.sliced_wasserstein(Y, X[::-1], 1e-200 * LINES) == pytest.approx(value, rel=1e-12)
    assert ebm_ref.sliced_wasserstein(X, X[::-1], LINES) == 0


def test_sliced_wasserstein__refuses_no_direction_and_no_points():
    with pytest.raises(RangeError, match="directions: expected no zero vector, found one in row 1"):
        ebm_ref.sliced_wasserstein(X, Y, np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ShapeError, match="y: expected at least one row"):
        ebm_ref.sliced_wasserstein(X, Y[:0], LINES)


# --------------------------------------------------------------------------------------- two moons


def test_moons_log_density__is_the_mean_over_a_fine_arc():
    points = ebm_ref.toy_sample("two_moons", 50, 3, np.float64)
    a = (np.arange(20_000) + 0.5) * np.pi / 20_000
    square = ((points[:, None] - densities.moon_nodes(a)) ** 2).sum(axis=2)  # (50, 40_000)
    want = np.log(np.exp(-square / (2 * 0.12**2)).mean(axis=1) / (2 * np.pi * 0.12**2))
    assert np.abs(densities.moons_log_density(points) - want).max() < 1e-5


def test_density_target__of_two_moons_has_the_sample_s_moments():
    points, area = densities.density_grid()
    p = np.exp(densities.density_target("two_moons")) * area
    assert p.sum() == pytest.approx(1, abs=1e-12)
    sample = ebm_ref.toy_sample("two_moons", 100_000, 1)
    assert np.abs((p[:, None] * points).sum(axis=0) - sample.mean(axis=0)).max() < 0.02
    assert np.abs(np.einsum("n,ni,nj->ij", p, points, points) - np.cov(sample.T)).max() < 0.02


# ------------------------------------------------------------------------------------- experiment


def test_judge__of_fresh_data_is_near_1_and_of_noise_is_not():
    size = flow2d.Size(samples=500, draws=4)
    data = ebm_ref.toy_sample("two_moons", 2000, 77)
    assert flow2d.judge(data, "two_moons", size)["ratio"] == pytest.approx(1, abs=0.3)
    assert flow2d.judge(flow2d_train.normals(2000, 0), "two_moons", size)["ratio"] > 3


def test_judge__ratio_is_the_quotient_over_the_pairs_of_sets():
    size = flow2d.Size(samples=3, draws=2, directions=4)
    x = flow2d_train.normals(6, 0)
    a, b = ebm_ref.toy_sample("checkerboard", 6, flow2d.FRESH).reshape(2, 3, 2)
    lines = flow2d.directions(4)
    squares = [ebm_ref.sliced_wasserstein(s, d, lines) ** 2 for s in (x[:3], x[3:]) for d in (a, b)]
    made = flow2d.judge(x, "checkerboard", size)
    assert made["sw"] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-12)
    assert made["sw_data"] == pytest.approx(ebm_ref.sliced_wasserstein(a, b, lines), rel=1e-12)
    assert made["ratio"] == made["sw"] / made["sw_data"]


@pytest.mark.parametrize("name", flow2d.DENSITIES)
def test_exact_field__has_the_law_of_the_data(name):
    field = flow2d.exact_field(name)
    sample = ebm_ref.toy_sample(name, 100_000, 1)
    assert np.abs(field.points.mean(axis=0) - sample.mean(axis=0)).max() < 0.03
    spread = np.cov(field.points.T, bias=True) + field.sigma**2 * np.eye(2)
    assert np.abs(spread - np.cov(sample.T)).max() < 0.05


def test_at_data__of_the_exact_minimiser_has_no_error():
    size = flow2d.Size(probes=5)
    made = flow2d.at_data(flow2d.exact_field("eight_gaussians"), {}, "eight_gaussians", size)
    assert made["f_error"] < 1e-4
    assert made["f_data"] == pytest.approx(made["f_exact"], rel=1e-4)
    assert made["f_exact"] > 0.1  # the data are no stationary points


def test_compare_flows__writes_every_row_and_the_same_again(tmp_path, capsys):
    flow2d.compare_flows(["eight_gaussians"], small=True, out=tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["phase"] for row in table] == [*flow2d.PHASES, *["early", "late"] * 3]
    assert all(float(row["sw"]) > 0 and int(row["nfe"]) > 0 for row in table)
    assert "missed: eight_gaussians, energy_matching, contrast: KL" in capsys.readouterr().out
    again = list(flow2d.equilibrium_rows("eight_gaussians", None, flow2d_train.Equilibrium(), flow2d.SMALL))
    for row, first in zip(again, table[3:5], strict=True):
        for name in ("sw", "ratio", "f_data"):
            assert f"{row[name]:.5g}" == first[name]


def test_compare_flows__refuses_another_density():
    with pytest.raises(RangeError, match="density: expected one of eight_gaussians"):
        flow2d.compare_flows(["rings"])
