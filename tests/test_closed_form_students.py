"""Students that are trained on drawn starts, and a few Langevin steps after them, against closed forms."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np
import pytest
from flow_cases import AffineField, ExactMap, normals, rms
from gaussian import Bowl, bowl_theta
from test_closed_form_distill import MAP, X, expm, gd, theta_of, velocity

import ebm_ref
from ebm_ref import (
    SGLD,
    FlowMap,
    MLPField,
    adam_init,
    adam_step,
    distill_step,
    student_draw,
    student_pairs,
    student_run,
    teacher_run,
    theta_init,
    trajectory_regression,
    trajectory_step,
)
from ebm_ref.contracts import NonFiniteError, Stream


@pytest.mark.parametrize(
    ("lesson", "steps", "bound"), [("trajectory", 200, 0.03), ("lagrangian", 350, 0.06), ("eulerian", 350, 0.06)]
)
def test_student__a_network_learns_the_map(lesson, steps, bound):
    """A small network, a few hundred Adam steps: the root mean square error on fresh starts falls below `bound`."""
    flow_map = FlowMap(MLPField((3,), (32, 32), out_channels=2), 1.6)
    theta = theta_init(flow_map, 3, np.float64)
    state, x = adam_init(theta), normals(74, 200, 2)
    wanted = x @ (gd(16, 0.1) if lesson == "trajectory" else expm(1.6))
    start = rms(flow_map.flow(theta, x, 1.6) - wanted)
    pairs = student_pairs(ebm_ref, flow_map, velocity, 1000, 0.1, 9, np.float64)
    for step in range(steps):
        if lesson == "trajectory":
            _, grads, _ = trajectory_step(ebm_ref, flow_map, theta, pairs, 64, 9, step)
        else:
            _, grads, _ = distill_step(ebm_ref, flow_map, theta, velocity, 64, lesson, 0.1, 9, step, 0.25)
        theta, state = adam_step(theta, grads, state, 1e-2 * (1 - step / steps))
    found = rms(flow_map.flow(theta, x, 1.6) - wanted)
    assert found < bound < start / 5


def test_student_draw__has_the_law_it_says():
    N, still = 40000, 0.75
    x0, h = student_draw(ebm_ref, MAP, N, 3, 1, still, np.float64)
    assert x0.shape == (N, 2) and abs((h == 0).mean() - still) < 5 * sqrt(still * (1 - still) / N)
    rest = np.sort(h[h > 0]) / 2.0
    assert np.abs(rest - np.arange(1, len(rest) + 1) / len(rest)).max() < 1.95 / sqrt(len(rest)) and h.max() <= 2.0
    radius = np.sort((x0**2).sum(axis=1))
    assert np.abs(1 - np.exp(-radius / 2) - np.arange(1, N + 1) / N).max() < 1.95 / sqrt(N)
    for y in (x0[:, 0], (x0**2).sum(axis=1)):  # no address serves both: a radius is of one uniform
        assert abs(np.corrcoef(y, h)[0, 1]) < 5 / sqrt(N)


def test_distill_step__eulerian_states_are_the_teacher_s():
    """x of a step is (I - eta A)^k x0 for k uniform over 0 ... 4."""
    flow_map = FlowMap(AffineField((3,), 2), 0.8)
    theta = theta_of(flow_map)
    _, _, info = distill_step(ebm_ref, flow_map, theta, velocity, 2000, "eulerian", 0.2, 3, 1)
    x0, h = student_draw(ebm_ref, flow_map, 2000, 3, 1, dtype=np.float64)
    np.testing.assert_array_equal(info["h"], h)
    found = np.stack([np.abs(info["x"] - x0 @ gd(k, 0.2)).max(axis=1) < 1e-12 for k in range(5)])
    assert (found.sum(axis=0) == 1).all()
    assert (np.abs(found.mean(axis=1) - 0.2) < 5 * sqrt(0.16 / 2000)).all()


@pytest.mark.parametrize(("eta", "steps"), [(0.2, 8), (0.1, 16), (0.11, 15), (1.6, 1)])
@pytest.mark.parametrize("N", [5, 300])  # less than a block, and more
def test_student_pairs__end_where_the_teacher_is_at_the_horizon(eta, steps, N):
    """x_end = (I - (h_max / N) A)^N x0 for the least N of steps no longer than eta; x0 is of N(0, I), by address."""
    flow_map = FlowMap(AffineField((3,), 2), 1.6)
    x0, x_end = student_pairs(ebm_ref, flow_map, velocity, N, eta, 4, np.float64)
    wanted = ebm_ref.noise_normal(4, Stream.STUDENT, 2**32 - 1, np.arange(N), 2, np.float64)
    np.testing.assert_array_equal(x0, wanted)
    np.testing.assert_allclose(x_end, x0 @ gd(steps, 1.6 / steps), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(x_end, teacher_run(velocity, x0, 1.6 / steps, steps))


def test_student_pairs__stay_in_the_teacher_s_box():
    """v = -x from outside a box: the first step ends at its wall, the rest shrink by 1 - eta each."""
    box, eta = (-0.25, 0.5), 0.1
    x0, x_end = student_pairs(ebm_ref, FlowMap(AffineField((3,), 2), 0.3), np.negative, 50, eta, 4, np.float64, box)
    wanted = np.clip(x0 * (1 - eta), *box) * (1 - eta) ** 2
    assert np.abs(x0).max() > 1
    np.testing.assert_allclose(x_end, wanted, rtol=0, atol=1e-15)


def test_student_pairs__of_a_teacher_that_diverges():
    with pytest.raises(NonFiniteError, match="x_end"), np.errstate(all="ignore"):
        student_pairs(ebm_ref, MAP, lambda x: 1e300 * x**3, 3, 0.5, 4, np.float64)


def test_trajectory_step__is_the_regression_of_pairs_that_are_drawn():
    """Each of the pairs as often as the others, at addresses of the step; the loss is that of those rows."""
    theta, n = theta_of(MAP), 8
    pairs = student_pairs(ebm_ref, MAP, velocity, n, 0.2, 4, np.float64)
    counts, draws = np.zeros(n), []
    for step in range(40):
        loss, grads, info = trajectory_step(ebm_ref, MAP, theta, pairs, 100, 4, step)
        idx = info["idx"]
        wanted = trajectory_regression(MAP, theta, pairs[0][idx], pairs[1][idx], 2.0)
        assert loss == wanted[0] and all(np.array_equal(grads[name], wanted[1][name]) for name in theta)
        counts += np.bincount(idx, minlength=n)
        draws.append(idx)
    assert (np.abs(counts - 500) < 5 * sqrt(500 * (1 - 1 / n))).all()
    assert not np.array_equal(draws[0], draws[1])


# ------------------------------------------------------------------------------- a few Langevin steps after


def test_student_run__variance_is_the_recursion():
    """On E = |x|^2/2: exp(-2 h) at first, then s' = a^2 s + sigma^2; within 5 standard errors, here 1.7 % of s."""
    eta, sigma, h, N = 0.1, sqrt(0.2), 0.9, 40000
    energy, theta = Bowl((1,)), bowl_theta(1.0)
    x0 = normals(75, N, 1)
    for K in (0, 1, 4, 40):
        x, info = student_run(ebm_ref, ExactMap(1), {"A": np.eye(1)}, energy, theta, x0, h, K, SGLD(eta, sigma), 5)
        a = 1 - eta
        s = a ** (2 * K) * exp(-2 * h) + sigma**2 * (1 - a ** (2 * K)) / (1 - a * a)
        assert abs(x.var() / s - 1) < 5 * sqrt(2 / N) and info.energy.shape == (K, N)
    assert s == pytest.approx(1 / (1 - eta / 2), rel=1e-3)  # the chain's own variance, not 1


def test_student_run__is_the_map_and_then_the_chain():
    energy, theta, student = Bowl((2,)), bowl_theta(1.0, 2.0), theta_of(MAP)
    x, info = student_run(ebm_ref, MAP, student, energy, theta, X, 0.5, 3, SGLD(0.1, 0.2), 5, 7, np.arange(6) + 2)
    want, notes = ebm_ref.langevin_run(
        energy, theta, MAP.flow(student, X, 0.5), 3, SGLD(0.1, 0.2), 5, step=7, chains=np.arange(6) + 2
    )
    np.testing.assert_array_equal(x, want)
    np.testing.assert_array_equal(info.energy, notes.energy)
