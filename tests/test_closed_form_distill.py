"""FlowMap and distillation on linear teachers v(x) = -A x, where every map is known in closed form."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from derivatives import along, close, random_theta
from flow_cases import AffineField, ExactMap, normals, quadratic_minimum, rms
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    SGLD,
    FlowMap,
    MLPField,
    QuadraticEnergy,
    distill_step,
    eulerian,
    lagrangian,
    progressive,
    student_draw,
    student_pairs,
    student_run,
    teacher_run,
    teacher_velocity,
    trajectory_regression,
    trajectory_step,
)
from ebm_ref.contracts import DTypeError, RangeError, ShapeError

A = np.array([[1.2, 0.4], [0.4, 0.5]])
LAM, Q = np.linalg.eigh(A)
MAP = FlowMap(MLPField((3,), (6, 5), out_channels=2), 2.0)
AFFINE = FlowMap(AffineField((3,), 2), 2.0)
X, H = normals(70, 6, 2), np.array([0.0, 0.3, 0.7, 1.1, 1.6, 2.0])


def velocity(x):
    return -x @ A


def expm(h):
    """exp(-A h)."""
    return Q @ np.diag(np.exp(-LAM * h)) @ Q.T


def gd(N, eta):
    """(I - eta A)^N."""
    return np.linalg.matrix_power(np.eye(2) - eta * A, N)


def theta_of(flow_map, seed=1):
    return random_theta(flow_map, np.random.default_rng(seed))


# ---------------------------------------------------------------------------------------------- the map


def test_flow_map__is_x_plus_h_u():
    theta = theta_of(MAP)
    close(MAP.flow(theta, X, H), X + H[:, None] * MAP.u(theta, X, H), 1e-14)
    np.testing.assert_array_equal(MAP.flow(theta, X, 0.0), X)
    close(MAP.flow(theta, X, 0.7), MAP.flow(theta, X, np.full(6, 0.7)), 1e-14)


def test_flow_map__u_dot_is_the_derivative_in_x_and_h():
    theta, v, rate = theta_of(MAP), normals(71, 6, 2), np.array([0.3, -1.0, 1.0, 0.5, -0.2, -1.0])
    h = np.linspace(0.2, 1.8, 6)
    joint = np.concatenate([X, h[:, None]], axis=1), np.concatenate([v, rate[:, None]], axis=1)
    wanted = along(lambda y: MAP.u(theta, np.ascontiguousarray(y[:, :2]), y[:, 2].copy()), *joint)
    u, u_dot = MAP.u_dot(theta, X, h, v, rate)
    close(u, MAP.u(theta, X, h), 1e-14)
    close(u_dot, wanted, 1e-8)


def test_exact_map__is_the_flow():
    """The tests' own oracle: the matrix exponential, its slope in h by differences, and u(x, 0) = v(x)."""
    exact, theta = ExactMap(2), {"A": A}
    for h in (1e-7, 0.3, 2.0):
        close(exact.flow(theta, X, h), X @ expm(h), 1e-12)
    close(exact.u(theta, X, 0.0), velocity(X), 1e-14)
    slope = along(lambda h: exact.u(theta, X, float(h)), np.array(0.7), 1.0)
    close(exact.u_dot(theta, X, 0.7, np.zeros_like(X), 1.0)[1], slope, 1e-9)


# ----------------------------------------------------------------- trajectories and progressive distillation


def test_teacher_run__is_the_matrix_power():
    close(teacher_run(velocity, X, 0.2, 7), X @ gd(7, 0.2), 1e-14)
    np.testing.assert_array_equal(teacher_run(velocity, X, 0.2, 0), X)
    theta = {"mu": np.zeros(2), "P": A}
    close(teacher_velocity(QuadraticEnergy((2,)), theta)(X), velocity(X), 1e-14)
    field = AffineField((2,), 2)
    close(teacher_velocity(field, {"w": A, "b": np.zeros(2)})(X), velocity(X), 1e-14)  # f = A x, descent -f


def test_trajectory_regression__minimum_is_the_matrix_power():
    """On more samples than dimensions: Phi(x, N eta) = (I - eta A)^N x, J = 0, to 1e-12."""
    N, eta = 8, 0.2
    end = teacher_run(velocity, X, eta, N)
    best = quadratic_minimum(lambda theta: trajectory_regression(AFFINE, theta, X, end, N * eta)[1], theta_of(AFFINE))
    other = normals(72, 9, 2)
    close(AFFINE.flow(best, other, N * eta), other @ gd(N, eta), 1e-12)
    assert trajectory_regression(AFFINE, best, X, end, N * eta)[0] < 1e-26
    assert rms(AFFINE.flow(best, other, N * eta) - other @ expm(N * eta)) > 0.01  # the steps, not the flow


def test_progressive__composes_exactly():
    """Level k learns (I - eta A)^(2^k) from level k - 1 alone: 16 steps in 5 levels, to 1e-12."""
    eta, theta = 0.1, theta_of(AFFINE)
    other = normals(72, 9, 2)
    for level in range(5):
        held = theta
        theta = quadratic_minimum(
            lambda p, held=held, level=level: progressive(AFFINE, p, held, velocity, X, eta, level)[1], theta
        )
        close(AFFINE.flow(theta, other, eta * 2**level), other @ gd(2**level, eta), 1e-12)
        assert progressive(AFFINE, theta, held, velocity, X, eta, level)[0] < 1e-26


def test_progressive__error_grows_by_one_plus_lipschitz():
    """Of a target that errs by e: |Phi'(Phi'(x)) - Phi(Phi(x))| <= (1 + Lip) e, Lip of the map."""
    eta = 0.1
    held = quadratic_minimum(lambda p: progressive(AFFINE, p, p, velocity, X, eta, 0)[1], theta_of(AFFINE))
    held = held | {"b": held["b"] + 0.05}
    e = np.linalg.norm(AFFINE.flow(held, X, eta) - X @ gd(1, eta), axis=1).max()
    twice = AFFINE.flow(held, AFFINE.flow(held, X, eta), eta)
    found = np.linalg.norm(twice - X @ gd(2, eta), axis=1).max()
    lip = np.linalg.norm(gd(1, eta), 2)
    assert e == pytest.approx(0.005 * sqrt(2), rel=1e-9)
    assert e < found <= (1 + lip) * e


# ---------------------------------------------------------------------------------------- the two identities


@pytest.mark.parametrize("loss", [eulerian, lagrangian])
def test_identity__the_flow_is_its_fixed_point(loss):
    """u = ((exp(-A h) - I) / h) x leaves J = 0 (below 1e-26), for h one number and for h of each sample."""
    exact, theta = ExactMap(2), {"A": A}
    for h in (0.0, 0.7, H):
        assert loss(exact, theta, velocity, X, h)[0] < 1e-26
    assert loss(exact, {"A": 1.1 * A}, velocity, X, H)[0] > 1e-3
    assert loss(exact, theta, lambda x: 1.1 * velocity(x), X, H)[0] > 1e-3


@pytest.mark.parametrize("loss", [eulerian, lagrangian])
def test_identity__at_no_time_is_regression_on_the_velocity(loss):
    """h = 0: J = mean |u(x, 0) - v(x)|^2."""
    theta = theta_of(MAP)
    wanted = ((MAP.u(theta, X, 0.0) - velocity(X)) ** 2).mean()
    assert loss(MAP, theta, velocity, X, 0.0)[0] == pytest.approx(wanted, rel=1e-13)


def target_of(loss, theta, v, x, h):
    column = h[:, None]
    along_x = 1.0 if loss is eulerian else 0.0
    _, in_x = MAP.u_dot(theta, x, h, v(x), 0.0)
    u, in_h = MAP.u_dot(theta, x, h, np.zeros_like(x), 1.0)
    return (v(x) if loss is eulerian else v(x + column * u)) + column * (along_x * in_x - in_h)


@pytest.mark.parametrize("loss", [eulerian, lagrangian])
def test_identity__gradient_holds_the_target(loss):
    """The gradient of mean |u - target|^2 with the target of theta held, by differences; not the whole derivative."""
    theta, rng, teacher = theta_of(MAP), np.random.default_rng(5), lambda x: np.sin(x) - x
    h = np.linspace(0.1, 1.9, 6)
    J, grads, info = loss(MAP, theta, teacher, X, h)
    target = target_of(loss, theta, teacher, X, h)
    assert J == pytest.approx(((MAP.u(theta, X, h) - target) ** 2).mean(), rel=1e-12)
    close(info["losses"], ((MAP.u(theta, X, h) - target) ** 2).mean(axis=1), 1e-12)
    free = []
    for name, value in theta.items():
        u = rng.normal(size=value.shape)
        wanted = along(lambda p, name=name: ((MAP.u(theta | {name: p}, X, h) - target) ** 2).mean(), value, u)
        close((grads[name] * u).sum(), wanted, 1e-8)
        whole = along(lambda p, name=name: loss(MAP, theta | {name: p}, teacher, X, h)[0], value, u)
        free.append(abs(whole - wanted))
    assert max(free) > 1e-3


@pytest.mark.parametrize("kind", ["trajectory", "progressive"])
def test_map_regression__gradient_is_the_derivative(kind):
    theta, held, rng, end = theta_of(MAP), theta_of(MAP, 2), np.random.default_rng(5), normals(73, 6, 2)

    def call(p):
        if kind == "trajectory":
            return trajectory_regression(MAP, p, X, end, H)
        return progressive(MAP, p, held, velocity, X, 0.2, 3)

    J, grads, _ = call(theta)
    wanted = end if kind == "trajectory" else MAP.flow(held, MAP.flow(held, X, 0.8), 0.8)
    found = MAP.flow(theta, X, H if kind == "trajectory" else 1.6)
    assert J == pytest.approx(((found - wanted) ** 2).mean(), rel=1e-12)
    for name, value in theta.items():
        u = rng.normal(size=value.shape)
        close((grads[name] * u).sum(), along(lambda p, n=name: call(theta | {n: p})[0], value, u), 1e-8)


# ------------------------------------------------------------------------------------------- refusals


def bowl(D):
    return Bowl((D,)), bowl_theta(*[1.0] * D)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: FlowMap(MLPField((3,), (4,)), 1.0), ShapeError, "trunk: "),
        (lambda t: FlowMap(MLPField((3,), (4,), out_channels=2), 0.0), RangeError, "h_max: "),
        (lambda t: FlowMap(object(), 1.0), DTypeError, "trunk: "),
        (lambda t: MAP.flow(t, X, 2.1), RangeError, "h: "),
        (lambda t: MAP.flow(t, X, np.full(6, 2.1)), RangeError, "h: "),
        (lambda t: MAP.flow(t, X, np.ones(5)), ShapeError, "t: |h: "),
        (lambda t: trajectory_regression(MAP, t, X, X, 2.1), RangeError, "h: "),
        (lambda t: progressive(MAP, t, t, velocity, X, 0.3, 3), RangeError, "level: .*horizon"),
        (lambda t: progressive(MAP, t, t, velocity, X, 2.1, 0), RangeError, "eta: "),
        (lambda t: eulerian(MAP, t, velocity, X, 2.1), RangeError, "h: "),
        (lambda t: lagrangian(MAP, t, velocity, X, 2.1), RangeError, "h: "),
        (lambda t: lagrangian(MAP, t, lambda x: x[:, :1], X, 1.0), ShapeError, "velocity: "),
        (lambda t: eulerian(MAP, t, lambda x: x.astype(np.float32), X, 1.0), DTypeError, "velocity: "),
        (lambda t: eulerian(MLPField((2,), (3,)), t, velocity, X, 1.0), DTypeError, "flow_map: "),
        (lambda t: distill_step(ebm_ref, MAP, t, velocity, 4, "nothing", 0.1, 1, 1), RangeError, "lesson: "),
        (lambda t: distill_step(ebm_ref, MAP, t, velocity, 4, "trajectory", 0.1, 1, 1), RangeError, "lesson: "),
        (lambda t: distill_step(ebm_ref, MAP, t, velocity, 4, "eulerian", 2.1, 1, 1), RangeError, "eta: "),
        (lambda t: student_pairs(ebm_ref, MAP, velocity, 4, 2.1, 1), RangeError, "eta: "),
        (lambda t: student_pairs(ebm_ref, MAP, velocity, 0, 0.1, 1), RangeError, "N: "),
        (lambda t: teacher_run(velocity, X, 0.1, 1, (1.0, -1.0)), RangeError, "box"),
        (lambda t: trajectory_step(ebm_ref, MAP, t, (X, X[1:]), 4, 1, 1), ShapeError, r"pairs\[1\]: "),
        (lambda t: trajectory_step(ebm_ref, MAP, t, (X[:, :1], X), 4, 1, 1), ShapeError, r"pairs\[0\]: "),
        (lambda t: student_draw(ebm_ref, MAP, 4, 1, 1, 1.0), RangeError, "still: "),
        (
            lambda t: student_run(ebm_ref, MAP, t, *bowl(2), X, 2.1, 1, SGLD(1.0, 0.1), 1),
            RangeError,
            "h: ",
        ),
        (
            lambda t: student_run(ebm_ref, MAP, t, *bowl(3), X, 1.0, 1, SGLD(1.0, 0.1), 1),
            ShapeError,
            "flow_map: ",
        ),
        (lambda t: teacher_velocity(ebm_ref.TimeField(MLPField((3,), (4,))), t), DTypeError, "teacher: "),
    ],
)
def test_distill__refuses_by_name(call, error, said):
    with pytest.raises(error, match=said):
        call(theta_of(MAP))
