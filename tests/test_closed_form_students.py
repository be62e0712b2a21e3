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
    student_run,
    theta_init,
)


@pytest.mark.parametrize(
    ("lesson", "steps", "bound"), [("trajectory", 200, 0.03), ("lagrangian", 350, 0.06), ("eulerian", 350, 0.06)]
)
def test_distill_step__a_network_learns_the_map(lesson, steps, bound):
    """A small network, a few hundred Adam steps: the root mean square error on fresh starts falls below `bound`."""
    flow_map = FlowMap(MLPField((3,), (32, 32), out_channels=2), 1.6)
    theta = theta_init(flow_map, 3, np.float64)
    state, x = adam_init(theta), normals(74, 200, 2)
    wanted = x @ (gd(16, 0.1) if lesson == "trajectory" else expm(1.6))
    start = rms(flow_map.flow(theta, x, 1.6) - wanted)
    for step in range(steps):
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
