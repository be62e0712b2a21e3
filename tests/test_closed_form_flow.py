"""flow_matching and flow_run against closed forms: Gaussians, a mixture's quantiles, factors of a step."""

from __future__ import annotations

from functools import lru_cache
from math import erf, sqrt

import numpy as np
import pytest
from derivatives import along, close, random_theta
from flow_cases import AffineField, ExactFlow, gaussian_flow, normals, quadratic_minimum, two_by_two

import ebm_ref
from ebm_ref import MLPField, Stream, TimeField, flow_draw, flow_matching, flow_run, flow_step
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError

MLP = TimeField(MLPField((4,), (6, 5), out_channels=3))


def test_flow_matching__is_the_equation():
    """J = mean_n mean_d (v((1 - t) x0 + t x1, t) - (x1 - x0))^2, written out."""
    theta, x0, x1 = random_theta(MLP, np.random.default_rng(1)), normals(50, 5, 3), normals(51, 5, 3)
    t = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    loss, _, info = flow_matching(MLP, theta, x0, x1, t)
    losses = []
    for n in range(5):
        at = (1 - t[n]) * x0[n] + t[n] * x1[n]
        v = MLP.field(theta, at[None], float(t[n]))[0]
        losses.append(((v - x1[n] + x0[n]) ** 2).sum() / 3)
    close(info["losses"], np.array(losses), 1e-13)
    assert loss == pytest.approx(np.mean(losses), rel=1e-13)


def test_flow_matching__gradient_is_the_derivative():
    rng = np.random.default_rng(2)
    theta, x0, x1, t = random_theta(MLP, rng), normals(50, 5, 3), normals(51, 5, 3), rng.uniform(size=5)
    grads = flow_matching(MLP, theta, x0, x1, t)[1]
    for name, value in theta.items():
        u = rng.normal(size=value.shape)
        wanted = along(lambda p, name=name: flow_matching(MLP, theta | {name: p}, x0, x1, t)[0], value, u)
        close((grads[name] * u).sum(), wanted, 1e-8)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_flow_matching__minimum_of_gaussians(t):
    """v* = m + (t s^2 - (1 - t)) (x - t m) / q and J = s^2 / q, q = t^2 s^2 + (1 - t)^2, to 1e-12."""
    m, s = 0.7, 0.4
    field = TimeField(AffineField((2,), 1))
    x0, x1 = two_by_two(m, s)
    start, times = random_theta(field, np.random.default_rng(3)), np.full(4, t)
    best = quadratic_minimum(lambda theta: flow_matching(field, theta, x0, x1, times)[1], start)
    x, q = np.linspace(-2, 2, 9)[:, None], t * t * s * s + (1 - t) ** 2
    close(field.field(best, x, t), m + (t * s * s - (1 - t)) * (x - t * m) / q, 1e-12)
    close(field.field(best, x, t), gaussian_flow([m], s).velocity(x, t), 1e-12)
    assert flow_matching(field, best, x0, x1, times)[0] == pytest.approx(s * s / q, rel=1e-12)


def test_flow_step__is_flow_matching_on_its_own_draws():
    theta, x = random_theta(MLP, np.random.default_rng(1)), normals(51, 6, 3)
    loss, grads, info = flow_step(ebm_ref, MLP, theta, x, 5, 2)
    x0, t = flow_draw(ebm_ref, x, 5, 2)
    want = flow_matching(MLP, theta, x0, x, t)
    assert loss == want[0] and np.array_equal(info["t"], t)
    for name, grad in want[1].items():
        np.testing.assert_array_equal(grads[name], grad)
    np.testing.assert_array_equal(x0.ravel()[:3], ebm_ref.noise_normal(5, Stream.FLOW_NOISE, 2, np.arange(1), 3)[0])


def test_flow_draw__is_standard_normal_and_uniform():
    x0, t = flow_draw(ebm_ref, np.zeros((20000, 2)), 5, 0)
    assert np.abs(x0.mean(axis=0)).max() < 5 / sqrt(20000) and np.abs(x0.var(axis=0) - 1).max() < 5 * sqrt(2 / 20000)
    assert (t > 0).all() and (t <= 1).all() and abs(t.mean() - 0.5) < 5 / sqrt(12 * 20000)
    for y in (x0[:, 0], (x0**2).sum(axis=1)):  # no address serves both: a radius is of one uniform
        assert abs(np.corrcoef(y, t)[0, 1]) < 5 / sqrt(20000)


# ------------------------------------------------------------------------------------------- integration


class Linear:
    """v(x, s) = a x + c s."""

    shape = out_shape = (1,)
    low, high = 0.0, 1.0

    def __init__(self, a, c=0.0):
        self.a, self.c, self.calls = a, c, 0

    def at(self, t):
        self.t = t
        return self

    def field(self, theta, x):
        self.calls += 1
        return self.a * x + self.c * self.t


@pytest.mark.parametrize(("scheme", "nfe"), [("euler", 1), ("heun", 2)])
def test_flow_run__factors_of_a_linear_velocity(scheme, nfe):
    """(1 + a ds)^K and (1 + a ds + (a ds)^2 / 2)^K; one and two velocities a step."""
    x0, z = np.array([[1.0], [-2.0]]), -1.7 / 10
    field = Linear(-1.7)
    x, info = flow_run(field, {}, x0, 10, scheme)
    factor = 1 + z if scheme == "euler" else 1 + z + z * z / 2
    close(x, factor**10 * x0, 1e-14)
    close(info.grad_norm, np.abs(1.7 * x0[:, 0] * factor ** np.arange(10)[:, None]), 1e-14)
    assert field.calls == 10 * nfe and info.energy.shape == (0, 2) and info.alive.all()


def test_flow_run__sees_the_time_of_each_evaluation():
    """x' = s: Euler sums ds * k ds = (1 - ds) / 2, Heun the trapezium rule, 1/2 exactly."""
    x0 = np.zeros((1, 1))
    assert flow_run(Linear(0.0, 1.0), {}, x0, 10, "euler")[0][0, 0] == pytest.approx(0.45, rel=1e-14)
    assert flow_run(Linear(0.0, 1.0), {}, x0, 10, "heun")[0][0, 0] == pytest.approx(0.5, rel=1e-14)
    assert flow_run(Linear(0.0, 1.0), {}, x0, 4, "heun", 0.5, 1.0)[0][0, 0] == pytest.approx(0.375, rel=1e-14)


@pytest.mark.parametrize(("scheme", "order"), [("euler", 1), ("heun", 2)])
def test_flow_run__gaussian_to_gaussian_to_its_order(scheme, order):
    """The flow takes x0 to m + s x0; the error falls as 2^-order when the step halves."""
    flow, x0 = gaussian_flow([0.7, -0.2], 0.4), normals(60, 50, 2)
    errors = []
    for K in (64, 128):
        x, _ = flow_run(flow, {}, x0, K, scheme)
        errors.append(np.abs(x - (np.array([0.7, -0.2]) + 0.4 * x0)).max())
    assert errors[1] < 0.02 and errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


def test_flow_run__carries_the_quantiles_of_noise_to_a_mixture_s():
    """A flow on the line keeps order: F(x1) = Phi(x0), F the mixture's distribution function, to 1e-4."""
    weights, means, deviations = [0.3, 0.7], [[-1.2], [0.8]], [0.35, 0.5]
    x0 = np.linspace(-2.5, 2.5, 21)[:, None]
    x, _ = flow_run(ExactFlow(weights, means, deviations), {}, x0, 400, "heun")

    @lru_cache
    def phi(z):
        return 0.5 * (1 + erf(z / sqrt(2)))

    for start, end in zip(x0[:, 0].tolist(), x[:, 0].tolist(), strict=True):
        F = sum(p * phi((end - m[0]) / s) for p, m, s in zip(weights, means, deviations, strict=True))
        assert abs(F - phi(start)) < 1e-4


def test_flow_run__runs_backwards():
    flow, x0 = gaussian_flow([0.7], 0.4), normals(61, 20, 1)
    x, _ = flow_run(flow, {}, x0, 200, "heun")
    back, _ = flow_run(flow, {}, x, 200, "heun", 1.0, 0.0)
    assert np.abs(back - x0).max() < 1e-3


@pytest.mark.parametrize("scheme", ["euler", "heun"])
def test_flow_run__stops_a_sample_that_is_not_finite(scheme):
    """The others end where they end alone."""

    class Cliff(Linear):
        def field(self, theta, x):
            return np.where(x > 3, np.inf, super().field(theta, x))

    x0 = np.array([[1.0], [2.0], [0.5]])
    x, info = flow_run(Cliff(1.0), {}, x0, 10, scheme)
    assert info.nonfinite == 1 and info.alive.tolist() == [True, False, True]
    assert np.isfinite(x).all() and x[1, 0] > 2
    for n in (0, 2):
        assert flow_run(Linear(1.0), {}, x0[n : n + 1], 10, scheme)[0][0, 0] == x[n, 0]


def test_flow_run__keeps_float32_and_its_start():
    field = TimeField(MLPField((4,), (6,), out_channels=3))
    theta = random_theta(field, np.random.default_rng(1), np.float32)
    x0 = normals(50, 5, 3, dtype=np.float32)
    held = x0.copy()
    x, info = flow_run(field, theta, x0, 3, "heun")
    assert x.dtype == info.grad_norm.dtype == np.float32 and np.array_equal(x0, held)
    loss, grads, notes = flow_step(ebm_ref, field, theta, x0, 1, 1)
    assert {loss.dtype, *(g.dtype for g in grads.values()), *(v.dtype for v in notes.values())} == {np.dtype("f4")}


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ({"time_field": MLPField((3,), (4,))}, DTypeError, "time_field: "),
        ({"time_field": TimeField(MLPField((4,), (4,), out_channels=2))}, ShapeError, "time_field: "),
        ({"x0": np.zeros((2, 4))}, ShapeError, "x0: "),
        ({"x0": np.full((2, 3), np.nan)}, NonFiniteError, "x0: "),
        ({"K": 0}, RangeError, "K: "),
        ({"scheme": "rk4"}, RangeError, "scheme: "),
        ({"start": -0.1}, RangeError, "start: "),
        ({"end": 1.1}, RangeError, "end: "),
    ],
)
def test_flow_run__refuses_by_name(args, error, said):
    theta = random_theta(MLP, np.random.default_rng(1))
    with pytest.raises(error, match=said):
        flow_run(**({"time_field": MLP, "theta": theta, "x0": np.zeros((2, 3)), "K": 2} | args))
