"""The judges of flow2d against closed forms, and a tiny run of all of it."""

import csv
from dataclasses import dataclass, replace
from itertools import pairwise, permutations

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
    size = flow2d.Size(samples=3, draws=2, sets=3, directions=4)
    x = flow2d_train.normals(6, 0)
    data = ebm_ref.toy_sample("checkerboard", 9, flow2d.FRESH).reshape(3, 3, 2)
    lines = flow2d.directions(4)
    squares = [ebm_ref.sliced_wasserstein(s, d, lines) ** 2 for s in (x[:3], x[3:]) for d in data]
    between = [ebm_ref.sliced_wasserstein(data[i], data[j], lines) ** 2 for i, j in ((0, 1), (0, 2), (1, 2))]
    made = flow2d.judge(x, "checkerboard", size)
    assert made["sw"] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-12)
    assert made["sw_data"] == pytest.approx(np.mean(between) ** 0.5, rel=1e-12)
    assert made["ratio"] == made["sw"] / made["sw_data"]


@pytest.mark.parametrize("name", flow2d.DENSITIES)
def test_exact_field__has_the_law_of_the_data(name):
    field = flow2d.exact_field(name, flow2d_train.PLANE.target)
    sample = ebm_ref.toy_sample(name, 100_000, 1)
    assert np.abs(field.points.mean(axis=0) - sample.mean(axis=0)).max() < 0.03
    spread = np.cov(field.points.T, bias=True) + field.sigma**2 * np.eye(2)
    assert np.abs(spread - np.cov(sample.T)).max() < 0.05


def test_at_data__of_the_exact_minimiser_has_no_error():
    size, plan = flow2d.Size(probes=5), replace(flow2d_train.PLANE, spread=1.0)
    field = flow2d.exact_field("eight_gaussians", plan.target)
    made = flow2d.at_data(field, {}, "eight_gaussians", plan, size)
    assert made["f_error"] < 1e-4
    assert made["f_data"] == pytest.approx(made["f_exact"], rel=1e-4)
    assert made["f_exact"] > 0.1  # the data are no stationary points


@dataclass(frozen=True)
class Lifted:
    """f = c(gamma) / (1 - gamma) (y - E[x given y, gamma]), x ~ N(0, deviation^2 I) so high that gamma is known."""

    height: float
    deviation: float
    shape: tuple[int, ...] = (3,)
    out_shape: tuple[int, ...] = (3,)

    def field(self, theta, y):
        gamma, variance = np.clip(y[:, 2:] / self.height, 0, 1), self.deviation**2
        share = gamma * variance / (gamma**2 * variance + (1 - gamma) ** 2)
        rate = 1 / np.maximum(1 - gamma, 0.2)  # of truncated c, a = 0.8
        return rate * np.concatenate([y[:, :2] * (1 - share), y[:, 2:] - self.height], axis=1)


@pytest.mark.parametrize(("deviation", "off"), [(0.12, 0.03), (1.7, 0.01)])  # without look-ahead 0.017 and 0.027
def test_equilibrium_path__with_the_exact_field_ends_at_the_law_of_the_data_and_rests(deviation, off):
    plan = flow2d_train.EQUILIBRIUM
    path = flow2d_train.equilibrium_path(ebm_ref, Lifted(plan.height, deviation), {}, plan, 500, draw=0)
    found = {nfe: x.std() / flow2d_train.normals(500, 0, plan.seed, 3)[:, :2].std() for nfe, x in path}
    for nfe in (80, 120, plan.stops[-1]):
        assert found[nfe] == pytest.approx(deviation, rel=off)


def test_equilibrium__plans_lift_the_toy_and_lower_it_again():
    for plan in (flow2d_train.EQUILIBRIUM, flow2d_train.PLANE):
        assert plan.lift(X).shape == (6, *plan.shape)
        assert plan.lower(plan.lift(X)) == pytest.approx(X)
    assert (flow2d_train.EQUILIBRIUM.lift(X)[:, 2] == flow2d_train.EQUILIBRIUM.height).all()


def test_equilibrium_start__sees_no_height_at_the_data():
    plan = flow2d_train.EQUILIBRIUM
    theta = ebm_ref.theta_init(flow2d_train.equilibrium_model(ebm_ref, "norm", plan), plan.seed)
    start = flow2d_train.equilibrium_start(flow2d_train.equilibrium_model(ebm_ref, "norm", plan), plan)
    lifted = plan.lift(X.astype(np.float32)) @ start["linear0.w"] + start["linear0.b"]
    assert lifted == pytest.approx(X @ theta["linear0.w"][:2], abs=1e-4)
    moved = plan.lift(X.astype(np.float32)) - np.float32([0, 0, plan.height])  # down where the noise is
    below = moved @ start["linear0.w"] + start["linear0.b"]
    assert below == pytest.approx(X @ theta["linear0.w"][:2] - 3 * theta["linear0.w"][2], abs=1e-4)


WELLS = ebm_ref.GaussianMixtureEnergy((2,), 2)  # 2 apart, with 0.8 and 0.2 of the mass
TWO = {"logit": np.log([0.8, 0.2]), "mu": np.array([[-1.0, 0], [1, 0]]), "log_sigma": np.log([0.5, 0.5])}


def test_walk_run__from_one_well_finds_the_masses_and_the_widths_at_the_temperature():
    x = flow2d_train.walk_run(ebm_ref, WELLS, TWO, np.tile([1.0, 0.0], (2000, 1)), 1000, 0.5, seed=3, step=0)
    left = x[:, 0] < 0
    assert left.mean() == pytest.approx(0.8**2 / (0.8**2 + 0.2**2), abs=0.021)  # 4 standard errors
    assert x[left].var(axis=0) == pytest.approx([0.125, 0.125], rel=0.14)  # tau 0.5^2, at tau = 1/2
    assert x[left].mean(axis=0) == pytest.approx([-1, 0], abs=0.035)


def test_walk_run__of_a_flat_potential_is_even_on_the_box():
    flat = {**TWO, "log_sigma": np.full(2, 30.0)}
    x = flow2d_train.walk_run(ebm_ref, WELLS, flat, np.full((4000, 2), 4.5), 200, 1.0, seed=4, step=0)
    assert np.abs(x).max() <= 4.5
    inner = np.abs(x) < 3
    assert inner.mean(axis=0) == pytest.approx([2 / 3, 2 / 3], abs=0.03)


def test_walk_run__in_pieces_is_one_run():
    start = flow2d_train.normals(50, 1).astype(np.float64)
    whole = flow2d_train.walk_run(ebm_ref, WELLS, TWO, start, 11, 1.0, seed=5, step=2)
    part = flow2d_train.walk_run(ebm_ref, WELLS, TWO, start, 5, 1.0, seed=5, step=2)
    assert np.array_equal(whole, flow2d_train.walk_run(ebm_ref, WELLS, TWO, part, 6, 1.0, seed=5, step=7))


def short_plan(*steps, **changes):
    plan = flow2d_train.MATCHING["two_moons"]
    phases = [replace(phase, steps=n) for phase, n in zip(plan.phases, steps, strict=True)]
    return replace(plan, phases=tuple(phases), walkers=512, hidden=(32, 32), **changes)


def test_matching_train__the_last_phase_brings_the_law():
    made = [
        row["kl"]
        for row in flow2d.matching_rows("two_moons", short_plan(60, 10, 300), replace(flow2d.SMALL, most=None))
    ]
    assert made[2] < made[1] / 2 < made[0] / 2


def test_matching_train__walkers_start_at_data_and_go_on_from_step_to_step(monkeypatch):
    calls, walk = [], flow2d_train.walk_run

    def spy(module, energy, theta, x, K, tau, seed, step):
        calls.append((x, walk(module, energy, theta, x, K, tau, seed, step), range(step, step + K), tau))
        return calls[-1][1]

    monkeypatch.setattr(flow2d_train, "walk_run", spy)
    plan = short_plan(1, 1, 3, seed=1)
    assert [stage for stage, _ in flow2d_train.matching_train(ebm_ref, "two_moons", plan)] == list(flow2d.PHASES)
    assert np.array_equal(calls[0][0], ebm_ref.toy_sample("two_moons", 512, flow2d_train.POOL_SEED))
    for (_, end, steps, _), (start, _, following, _) in pairwise(calls):
        assert start is end and following[0] == steps[-1] + 1
    assert len(calls) == 3 and {tau for *_, tau in calls} == {plan.terms.tau}
    assert not np.array_equal(calls[0][1], calls[1][1])


def test_at_data__at_a_height_counts_from_0():
    plan, size = flow2d_train.EQUILIBRIUM, flow2d.Size(probes=5)
    made = flow2d.at_data(Lifted(plan.height, 1.0), {}, "two_moons", plan, size)
    assert made["f_exact"] == 0 and made["f_data"] == pytest.approx(0, abs=1e-6)
    made = flow2d.at_data(Lifted(2 * plan.height, 1.0), {}, "two_moons", plan, size)
    assert made["f_data"] > plan.height / 4


def test_compare_flows__writes_every_row_and_the_same_again(tmp_path, capsys):
    flow2d.compare_flows(["eight_gaussians"], small=True, out=tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["phase"] for row in table] == [*flow2d.PHASES, *["early", "late"] * 4]
    assert all(float(row["sw"]) > 0 and int(row["nfe"]) > 0 for row in table)
    assert "missed: eight_gaussians, energy_matching, contrast, seed 0: KL" in capsys.readouterr().out
    again = list(flow2d.equilibrium_rows("eight_gaussians", None, flow2d_train.EQUILIBRIUM, flow2d.SMALL))
    for row, first in zip(again, table[3:5], strict=True):
        for name in ("sw", "ratio", "f_data"):
            assert f"{row[name]:.5g}" == first[name]


def test_compare_flows__refuses_another_density():
    with pytest.raises(RangeError, match="density: expected one of eight_gaussians"):
        flow2d.compare_flows(["rings"])
