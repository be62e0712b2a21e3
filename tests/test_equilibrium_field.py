"""EquilibriumField, the best field of known data: brute force, closed forms, a conditional mean, its curl."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
import pytest
from derivatives import along, close, per_sample

import ebm_ref
from ebm_ref import (
    EquilibriumField,
    EquilibriumTarget,
    QuadraticEnergy,
    Stream,
    eqm_implicit,
    eqm_step,
    noise_normal,
    noise_uniform,
)
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError

LINEAR, TRUNCATED = EquilibriumTarget("linear"), EquilibriumTarget()
TARGETS = [LINEAR, TRUNCATED, EquilibriumTarget("piecewise", 0.6, 2.0, 3.0)]
THREE = np.array([[1.0, 0.0], [0.0, 1.5], [-1.0, -0.5]])


def normals(seed, N, D):
    return noise_normal(seed, Stream.TOY, 0, np.arange(N), D)


def uniforms(seed, N):
    return noise_uniform(seed, Stream.TOY, 0, np.arange(N), 1)[:, 0]


def brute(y, centres, s, target, cells=50_000):
    """E[c (e - x) | y] by the midpoint rule, and p(y | gamma, i), E[e - x | y, gamma, i] as Gaussians give them."""
    gamma = (np.arange(cells) + 0.5) / cells
    v, c = gamma**2 * s * s + (1 - gamma) ** 2, target.at(gamma)
    above, below = np.zeros_like(y), 0.0
    for m in centres:
        off = y - gamma[:, None] * m  # (cells, D)
        p = v ** (-len(y) / 2) * np.exp(-0.5 * (off**2).sum(axis=1) / v)
        wanted = -m + (((1 - gamma) - gamma * s * s) / v)[:, None] * off
        above, below = above + (p * c) @ wanted, below + p.sum()
    return above / below


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.kind)
@pytest.mark.parametrize("s", [0.0, 0.4, 1.3])
def test_equilibrium_field__is_the_integral(target, s):
    y = 1.2 * normals(1, 5, 2)
    found = EquilibriumField(THREE, target, s).field({}, y)
    close(found, [brute(one, THREE, s, target) for one in y], 1e-7)
    one = EquilibriumField(THREE[1:2], target, s).field({}, y)
    close(one, [brute(row, THREE[1:2], s, target) for row in y], 1e-7)


def test_equilibrium_field__of_points_and_the_linear_target_in_the_plane():
    """c = scale u: f* = scale (y - sum_i p_i m_i); in two dimensions, with r = |y - m_i| and z = (y - m_i) . m_i / r,
    p_i ~ exp(-(|m_i|^2 - z^2) / 2) erfc((r + z) / sqrt 2) / r."""
    y = normals(2, 20, 2)
    p = np.zeros((20, 3))
    for i, m in enumerate(THREE):
        r = np.linalg.norm(y - m, axis=1)
        z = (y - m) @ m / r
        p[:, i] = np.exp(-0.5 * (m @ m - z**2)) * [erfc(a / sqrt(2)) for a in r + z] / r
    p /= p.sum(axis=1, keepdims=True)
    close(EquilibriumField(THREE, LINEAR).field({}, y), 4 * (y - p @ THREE), 1e-11)
    close(EquilibriumField(THREE[:1], LINEAR).field({}, y), 4 * (y - THREE[0]), 1e-13)


@pytest.mark.parametrize("s", [0.0, 0.7])
def test_equilibrium_field__is_the_conditional_mean(s):
    """What is left of the target is orthogonal to functions of x_g, within 5 standard errors of 4000 draws."""
    N, target = 4000, TRUNCATED
    x = THREE[np.arange(N) % 3] + s * normals(3, N, 2)
    e, gamma = normals(4, N, 2), uniforms(5, N)
    at = gamma[:, None] * x + (1 - gamma)[:, None] * e
    best = EquilibriumField(THREE, target, s, cells=1)
    f = best.field({}, at)
    rest = target.at(gamma)[:, None] * (e - x) - f
    for phi in (f, at, np.ones_like(at), np.sin(3 * at), at[:, ::-1] ** 2):
        term = per_sample(rest, phi)
        assert abs(term.mean()) < 5 * term.std() / sqrt(N)
    loss, _, info = eqm_implicit(best, {}, x, e, gamma, target)
    assert loss == pytest.approx((rest**2).mean(), rel=1e-12)
    slack = per_sample(rest, f).mean()  # zero = loss + mean f*^2 + 2 mean f* rest, means over D = 2
    assert info["zero"] == pytest.approx(loss + (f**2).mean() + slack, rel=1e-12)


TABLE = [  # s, then |f*(x)| / |x| at |x|^2 = D s^2 for D = 2, 100, 3000
    (0.5, (2.885488997510, 1.934821179771, 2.566767716236)),
    (1.0, (0.444317664936, 1.442454907855, 1.897272848493)),
    (2.0, (3.195447667981, 1.082813378506, 0.204448773344)),
]


@pytest.mark.parametrize(("s", "wanted"), TABLE)
def test_equilibrium_field__smooth_data_are_not_stationary(s, wanted):
    """The field on a typical sample of N(0, s^2 I), a = 0.8, scale = 4, is not 0: it tends to 0 for s > 1 alone."""
    for D, ratio in zip((2, 100, 3000), wanted, strict=True):
        f = EquilibriumField(np.zeros((1, D)), TRUNCATED, s, 1 + int(sqrt(D) / 4))
        assert np.abs(f.field({}, np.full((1, D), s)) / s).max() == pytest.approx(ratio, rel=1e-7)


def test_equilibrium_field__of_a_gaussian_in_many_dimensions():
    """gamma is known up to the two roots of v = s^2, each with the weight 1 / |dv/dgamma|, the end points with half of
    it: s = 1: c(0) / 2; s = 1/2: the roots 3/5 and 1, 2/3 c(3/5); s = 2: the root 1 alone, 0."""
    for s, wanted in ((1.0, 2.0), (0.5, 8 / 3), (2.0, 0.0)):
        gaps = []
        for D in (2_500, 40_000):
            f = EquilibriumField(np.zeros((1, D)), TRUNCATED, s, 1 + int(sqrt(D) / 4))
            gaps.append(f.field({}, np.full((1, D), s))[0, 0] / s - wanted)
        assert abs(gaps[1]) < 0.06 and gaps[0] / gaps[1] == pytest.approx(4, rel=0.1)  # as D^(-1/2)


def test_equilibrium_field__points_are_stationary():
    """|f*(m_i + d)| = O(|d|) at sigma = 0; at sigma = 0.3 the same points are not."""
    f = EquilibriumField(THREE, TRUNCATED)
    for size in (1e-2, 1e-4, 1e-6):
        y = THREE + size * np.array([0.6, -0.8])
        assert np.linalg.norm(f.field({}, y), axis=1).max() < 40 * size
    assert np.linalg.norm(EquilibriumField(THREE, TRUNCATED, 0.3).field({}, THREE), axis=1).min() > 0.1


def curl(field, y):
    """d_1 f_2 - d_2 f_1."""
    one, two = np.zeros_like(y), np.zeros_like(y)
    one[:, 0], two[:, 1] = 1, 1
    return field.field_jvp({}, y, one)[1][:, 1] - field.field_jvp({}, y, two)[1][:, 0]


def test_equilibrium_field__is_no_gradient():
    """Three points have a curl; so has one point off the origin, for a target that is not linear; one at 0 has none."""
    y = np.array([[0.7, -0.4], [0.3, 0.2]])
    f = EquilibriumField(THREE, TRUNCATED)
    J = np.stack([along(lambda y: f.field({}, y), y, np.tile(unit, (2, 1))) for unit in np.eye(2)], axis=-1)
    close(curl(f, y), J[:, 1, 0] - J[:, 0, 1], 1e-8)
    close(curl(f, y), CURLS, 1e-7)
    assert np.abs(curl(EquilibriumField(THREE[:1], TRUNCATED), y)).min() > 0.05
    close(curl(EquilibriumField(THREE[:1], LINEAR), y), np.zeros(2), 1e-11)
    close(curl(EquilibriumField(np.zeros((1, 2)), TRUNCATED), y), np.zeros(2), 1e-11)


CURLS = [6.1838322, -0.0242429]


def test_equilibrium_field__jacobian_is_the_derivative():
    for s, shape in ((0.0, (3,)), (0.6, (2, 2, 1))):
        points, D = normals(6, 4, int(np.prod(shape))).reshape(4, *shape), int(np.prod(shape))
        f = EquilibriumField(points, TARGETS[2], s, cells=2)
        y, v, g = (normals(seed, 5, D).reshape(5, *shape) for seed in (7, 8, 9))
        found, f_dot = f.field_jvp({}, y, v)
        close(found, f.field({}, y), 1e-14)
        close(f_dot, along(lambda y, f=f: f.field({}, y), y, v), 1e-7)
        close(per_sample(f.field_vjp({}, y, g), v), per_sample(g, f_dot), 1e-12)
        assert f.field_grad_theta({}, y, g) == {} and f.out_shape == f.shape == shape


def test_equilibrium_field__in_float32_and_with_more_cells():
    y = normals(10, 6, 2)
    want = EquilibriumField(THREE, TRUNCATED, cells=12).field({}, y)
    close(EquilibriumField(THREE, TRUNCATED).field({}, y), want, 1e-11)
    found = EquilibriumField(THREE, TRUNCATED).field({}, y.astype(np.float32))
    assert found.dtype == np.float32
    close(found, want, 1e-5)


def test_eqm_step__mean_gradient_is_that_of_the_distance_to_the_best_field():
    """Of E = x'P x / 2 on one Gaussian: the mean gradient is 2 / D E[(P y - f*(y)) y'], within 5 standard errors."""
    energy, theta = QuadraticEnergy((2,)), {"mu": np.zeros(2), "P": np.diag([0.5, 1.5])}
    s, N, runs = 0.8, 1000, 20
    f = EquilibriumField(np.array([[1.0, -0.5]]), TRUNCATED, s, cells=1)
    gaps = []
    for t in range(runs):
        x = f.points + s * normals(100 + t, N, 2)
        _, grads, _ = eqm_step(ebm_ref, energy, theta, x, TRUNCATED, 3, t)
        e = noise_normal(3, Stream.FLOW_NOISE, t, np.arange(N), 2)
        gamma = noise_uniform(3, Stream.FLOW_TIME, t, np.arange(N), 1)
        y = gamma * x + (1 - gamma) * e
        outer = (y @ theta["P"] - f.field({}, y)).T @ y / N  # (D, D)
        gaps.append(grads["P"] - 0.5 * (outer + outer.T))
    error = np.std(gaps, axis=0, ddof=1) / sqrt(runs)
    assert (np.abs(np.mean(gaps, axis=0)) < 5 * error).all()


@pytest.mark.parametrize(
    ("change", "error", "start"),
    [
        ({"points": THREE.tolist()}, DTypeError, "points"),
        ({"points": np.zeros(3)}, ShapeError, "points"),
        ({"points": THREE[:0]}, ShapeError, "points"),
        ({"points": THREE * np.nan}, NonFiniteError, "points"),
        ({"target": 4.0}, DTypeError, "target"),
        ({"sigma": -0.1}, RangeError, "sigma"),
        ({"cells": 0}, RangeError, "cells"),
    ],
)
def test_equilibrium_field__refuses(change, error, start):
    with pytest.raises(error, match=rf"^{start}\b"):
        EquilibriumField(**({"points": THREE, "target": TRUNCATED} | change))
