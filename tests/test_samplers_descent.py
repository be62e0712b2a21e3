"""Descent on x, sample by sample: the early stop and its ledger, and adaptation's input checks."""

from __future__ import annotations

import numpy as np
import pytest
from duck import Duck
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import MLPEnergy
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.noise import noise_normal
from ebm_ref.samplers import (
    AdamDescent,
    AdaptationState,
    Band,
    GradientDescent,
    LookAheadDescent,
    Multiplicative,
    NesterovDescent,
    RobbinsMonro,
    adaptation_start,
    adaptation_step,
    descent_point,
    descent_run,
    descent_start,
    descent_step,
    energy_target,
)

RULES = [GradientDescent(0.2), NesterovDescent(0.1, 0.6), LookAheadDescent(0.15, 0.3), AdamDescent(0.05)]
SHAPE, LAM = (2, 2), (0.5, 1.0, 2.0, 4.0)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


def starts(N=7, dtype=np.float64):
    return 2 * noise_normal(43, Stream.SAMPLE_START, 0, np.arange(N), 4, dtype).reshape(N, *SHAPE)


def norms(x, theta):
    g = Bowl(SHAPE).grad_x(theta, x)
    return np.sqrt((g**2).sum(axis=(1, 2)))


def states_equal(a, b):
    return set(a) == set(b) and all((a[name] == b[name]).all() for name in a)


@each_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_descent_run__without_a_stop_is_the_loop_and_splits_to_the_bit(rule, dtype):
    energy, theta, x0 = Bowl(SHAPE), bowl_theta(*LAM, dtype=dtype), starts(dtype=dtype)
    whole, end, info = descent_run(energy, theta, x0, 9, rule)
    want, state = x0, descent_start(rule, x0)
    for k in range(9):
        E, g = energy.energy_and_grad_x(theta, descent_point(rule, want, state))
        assert (info.energy[k] == E).all()
        want, state = descent_step(rule, want, g, state)
    assert (whole == want).all() and states_equal(end, state) and whole.dtype == info.energy.dtype == dtype
    half, middle, _ = descent_run(energy, theta, x0, 4, rule)
    kept = {name: value.copy() for name, value in middle.items()}
    rest, last, _ = descent_run(energy, theta, half, 5, rule, state=middle)
    assert (rest == whole).all() and states_equal(last, end) and states_equal(middle, kept)
    assert (info.extra["nfe"] == 9).all() and not info.extra["stopped"].any() and info.alive.all()


@each_rule
def test_descent_run__stops_each_sample_where_its_gradient_is_small(rule):
    theta, x0, g_min = bowl_theta(*LAM), starts(), 0.4
    x, state, info = descent_run(Bowl(SHAPE), theta, x0, 400, rule, g_min)
    assert info.extra["stopped"].all() and (norms(x, theta) < g_min).all()
    nfe = info.extra["nfe"]
    assert len(set(nfe)) > 3 and nfe.max() < 400
    for n, count in enumerate(nfe):  # it did not stop before, and what is shown is where it stopped
        early = descent_run(Bowl(SHAPE), theta, x0[n : n + 1], count - 1, rule, g_min)[2]
        assert not early.extra["stopped"].any()
        assert (info.grad_norm[: count - 1, n] >= g_min).all()
        assert (info.energy[count - 1 :, n] == Bowl(SHAPE).energy(theta, x[n : n + 1])).all()
        alone, _, one = descent_run(Bowl(SHAPE), theta, x0[n : n + 1], 400, rule, g_min)
        assert (alone == x[n]).all() and one.extra["nfe"] == count
    again, _, info = descent_run(Bowl(SHAPE), theta, x, 400, rule, g_min)
    assert (again == x).all() and (info.extra["nfe"] == 1).all()
    again, _, info = descent_run(Bowl(SHAPE), theta, x, 400, rule, g_min, state)
    assert (again == x).all() and (info.extra["nfe"] == 1).all()


@each_rule
def test_descent_run__splits_with_a_stop(rule):
    theta, x0, g_min = bowl_theta(*LAM), starts(), 0.4
    whole, _, info = descent_run(Bowl(SHAPE), theta, x0, 400, rule, g_min)
    K = int(np.median(info.extra["nfe"]))
    half, state, first = descent_run(Bowl(SHAPE), theta, x0, K, rule, g_min)
    rest, _, second = descent_run(Bowl(SHAPE), theta, half, 400 - K, rule, g_min, state)
    assert (rest == whole).all() and 0 < first.extra["stopped"].sum() < 7
    twice = first.extra["stopped"].astype(int)  # asked once more, to stop at once
    assert (first.extra["nfe"] + second.extra["nfe"] - twice == info.extra["nfe"]).all()


def test_descent_run__asks_only_for_the_samples_that_still_move():
    class Counting(Bowl):
        asked = []

        def energy_and_grad_x(self, theta, x):
            self.asked.append(len(x))
            return super().energy_and_grad_x(theta, x)

    _, _, info = descent_run(Counting(SHAPE), bowl_theta(*LAM), starts(), 400, GradientDescent(0.2), 0.4)
    assert sum(Counting.asked) == info.extra["nfe"].sum() and len(Counting.asked) == info.extra["nfe"].max()
    assert Counting.asked == sorted(Counting.asked, reverse=True) and Counting.asked[-1] < 7


@each_rule
def test_descent_run__is_the_same_alone_and_in_a_batch_of_a_network(rule):
    energy = MLPEnergy((4,), (8, 8))
    theta, x0 = ebm_ref.theta_init(energy, 1, np.float64), starts().reshape(7, 4)
    x, _, info = descent_run(energy, theta, x0, 30, rule, 0.02)
    for n in range(7):
        alone, _, one = descent_run(energy, theta, x0[n : n + 1], 30, rule, 0.02)
        assert np.allclose(alone[0], x[n], rtol=0, atol=1e-11) and one.extra["nfe"] == info.extra["nfe"][n]


@each_rule
def test_descent_run__stops_where_a_number_is_not_finite(rule):
    class Cliff(Bowl):
        def energy_and_grad_x(self, theta, x):
            assert np.isfinite(x).all()
            E, g = super().energy_and_grad_x(theta, x)
            return np.where(x[:, 0] < 1, np.nan, E), g

    x, _, info = descent_run(Cliff(), bowl_theta(1.0), np.array([[3.0], [2.0], [0.5]]), 500, rule)
    assert (x[:2] < 1.2).all() and x[2] == 0.5 and info.nonfinite == 3 and not info.alive.any()
    assert info.extra["nfe"][2] == 1 and (x[:2] > 0).all()
    x0 = np.full((2, 1), 1e38, np.float32)
    if not isinstance(rule, AdamDescent):
        up = type(rule)(30.0)
        x, _, info = descent_run(Bowl(), bowl_theta(1.0, dtype=np.float32), x0, 3, up)
        assert (x == x0).all() and info.nonfinite == 2 and np.isfinite(x).all()


@pytest.mark.parametrize("rule", RULES[1:3], ids=["Nesterov", "LookAhead"])
def test_descent_run__stops_where_the_point_ahead_overflows(rule):
    class Even(Bowl):
        def energy_and_grad_x(self, theta, x):
            assert np.isfinite(x).all()
            return np.zeros_like(x[:, 0]), np.ones_like(x)

    x0, state = np.full((2, 1), 3e38, np.float32), {"velocity": np.array([[3e38], [0.0]], np.float32)}
    x, after, info = descent_run(Even(), {}, x0, 2, rule, 1e-3, state)
    assert (x == x0).all() and info.alive.tolist() == [False, True] and info.nonfinite == 1


def test_descent_step__adam_is_the_optimiser_s():
    rule, x0, theta = AdamDescent(0.05, 0.8, 0.95, 1e-3), starts(), bowl_theta(*LAM)
    x, state = x0, descent_start(rule, x0)
    moved, moments = {"x": x0}, ebm_ref.adam_init({"x": x0})
    for _ in range(8):
        g = Bowl(SHAPE).grad_x(theta, x)
        x, state = descent_step(rule, x, g, state)
        moved, moments = ebm_ref.adam_step(moved, {"x": g}, moments, 0.05, 0.8, 0.95, 1e-3)
        assert np.allclose(x, moved["x"], rtol=0, atol=1e-14)
    assert state["t"] == 8


@each_rule
def test_descent_run__works_on_any_array_that_answers_numpy(rule):
    theta, x0 = bowl_theta(*LAM), starts()
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    want, state, info = descent_run(Bowl(SHAPE), theta, x0, 40, rule, 0.4)
    x, found_state, found = descent_run(Bowl(SHAPE), ducks, Duck.of(x0), 40, rule, 0.4)
    assert (x.get() == want).all() and (found.extra["nfe"].get() == info.extra["nfe"]).all()
    assert all((found_state[name].get() == state[name]).all() for name in state if name != "t")


@each_rule
def test_descent_run__of_no_steps_returns_copies(rule):
    x0 = starts()
    before = x0.copy()
    x, state, info = descent_run(Bowl(SHAPE), bowl_theta(*LAM), x0, 0, rule)
    assert (x == x0).all() and not np.shares_memory(x, x0) and info.energy.shape == (0, 7)
    descent_run(Bowl(SHAPE), bowl_theta(*LAM), x0, 3, rule, 0.1)
    assert (x0 == before).all() and states_equal(state, descent_start(rule, x0))
    x, _, info = descent_run(Bowl(SHAPE), bowl_theta(*LAM), x0[:0], 2, rule)
    assert x.shape == (0, 2, 2) and info.nonfinite == 0


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"K": -1}, RangeError, "K"),
        ({"g_min": -0.1}, RangeError, "g_min"),
        ({"rule": 0.1}, DTypeError, "rule"),
        ({"x0": np.zeros((3, 2))}, ShapeError, "x0"),
        ({"x0": np.full((3, 1), np.nan)}, NonFiniteError, "x0"),
        ({"state": {"velocity": np.zeros((3, 1))}}, ShapeError, "state"),
        ({"rule": NesterovDescent(0.1), "state": {"velocity": np.zeros((2, 1))}}, ShapeError, "state"),
    ],
)
def test_descent_run__refuses_wrong_arguments(change, error, name):
    args = {"energy": Bowl(), "theta": bowl_theta(1.0), "x0": np.zeros((3, 1)), "K": 1, "rule": GradientDescent(0.1)}
    with pytest.raises(error, match=name):
        descent_run(**(args | change))


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda: GradientDescent(-1.0), RangeError, "eta"),
        (lambda: NesterovDescent(0.1, 1.0), RangeError, "mu"),
        (lambda: LookAheadDescent(0.1, -0.1), RangeError, "mu"),
        (lambda: AdamDescent(0.1, beta2=1.0), RangeError, "beta2"),
        (lambda: AdamDescent(0.1, eps=0.0), RangeError, "eps"),
        (lambda: RobbinsMonro(1.0), RangeError, "target"),
        (lambda: RobbinsMonro(0.5, c=0.0), RangeError, "c"),
        (lambda: RobbinsMonro(0.5, kappa=0.5), RangeError, "kappa"),
        (lambda: Multiplicative(decay=1.0), RangeError, "decay"),
        (lambda: Multiplicative(low=1.0), RangeError, "high"),
        (lambda: Band(every=0), RangeError, "every"),
        (lambda: Band(low_rate=0.9), RangeError, "high_rate"),
        (lambda: adaptation_start(0.0), RangeError, "eps_step"),
        (lambda: AdaptationState(0.1, -1), RangeError, "n"),
        (lambda: adaptation_step(Band(), adaptation_start(0.1), 1.1), RangeError, "rate"),
        (lambda: adaptation_step(0.5, adaptation_start(0.1), 0.5), DTypeError, "rule"),
        (lambda: energy_target(0.1, np.nan, 0.1, 0.01, 1.0), RangeError, "gap"),
        (lambda: energy_target(0.1, 1.0, 0.1, 1.0, 0.01), RangeError, "high"),
    ],
)
def test_rules__refuse_wrong_numbers(make, error, name):
    with pytest.raises(error, match=name):
        make()


def test_energy_target__follows_the_sign_of_the_gap_within_its_range():
    assert np.isclose(energy_target(0.1, 3.0, 0.5, 0.01, 1.0), 0.1 * np.exp(0.5))
    assert np.isclose(energy_target(0.1, -3.0, 0.5, 0.01, 1.0), 0.1 * np.exp(-0.5))
    assert energy_target(0.1, 0.0, 0.5, 0.01, 1.0) == 0.1
    assert energy_target(0.9, 1.0, 0.5, 0.01, 1.0) == 1.0 and energy_target(0.011, -1.0, 0.5, 0.01, 1.0) == 0.01
