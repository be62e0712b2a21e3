"""projection against the Fourier form of the Helmholtz projection, mixtures, and the mean velocity of a flow."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
from derivatives import along, close, random_theta
from flow_cases import ExactFlow, Held, gaussian_flow, normals, quadratic_minimum

import ebm_ref
from ebm_ref import (
    GaussianMixtureEnergy,
    MLPEnergy,
    MLPField,
    NoiseConditionalEnergy,
    QuadraticEnergy,
    TimeField,
    flow_draw,
    flow_point,
    projection,
    projection_fourier,
    projection_step,
)
from ebm_ref.contracts import BackendError, DTypeError, NonFiniteError, RangeError, ShapeError

MLP = MLPEnergy((3,), (6, 5))


class Waves:
    """V(x) = sum_k a_k cos(k . x) + b_k sin(k . x), of period 2 pi; theta: a, b (K,)."""

    def __init__(self, k):
        self.k, self.shape = np.asarray(k, float), (len(k[0]),)

    def theta_shapes(self):
        return {"a": (len(self.k),), "b": (len(self.k),)}

    def grad_x(self, theta, x):
        z = x @ self.k.T  # (N, K)
        return (theta["b"] * np.cos(z) - theta["a"] * np.sin(z)) @ self.k

    def grad_theta_along(self, theta, x, v):
        z, along_k = x @ self.k.T, v @ self.k.T
        return {"a": -(along_k * np.sin(z)).sum(axis=0), "b": (along_k * np.cos(z)).sum(axis=0)}


def half_plane(n):
    """One of k and -k for each wave number below n / 2, without 0."""
    top = (n - 1) // 2
    return [(i, j) for i in range(-top, top + 1) for j in range(-top, top + 1) if (i, j) > (0, 0)]


def grid(n, D, period=2 * pi):
    """(n, ..., n, D) points."""
    return np.stack(np.meshgrid(*[np.arange(n) * period / n] * D, indexing="ij"), axis=-1)


def smooth_field(n, seed):
    """A real velocity on the grid of wave numbers below n / 2, no gradient."""
    waves, x, rng = half_plane(n), grid(n, 2), np.random.default_rng(seed)
    v = rng.normal(size=2) + np.zeros_like(x)
    for k in waves:
        z = x @ np.array(k)
        v = v + np.cos(z)[..., None] * rng.normal(size=2) + np.sin(z)[..., None] * rng.normal(size=2)
    return x, v


# ------------------------------------------------------------------------------------- loss and gradient


def test_projection__is_the_equation():
    theta, x, v, w = random_theta(MLP, np.random.default_rng(1)), normals(80, 5, 3), normals(81, 5, 3), np.arange(5.0)
    g = MLP.grad_x(theta, x)
    loss, _, info = projection(MLP, theta, x, v, w)
    assert loss == pytest.approx(sum(w[n] * ((g[n] + v[n]) ** 2).sum() / 3 for n in range(5)) / 5, rel=1e-13)
    assert info["power"] == pytest.approx(sum(w[n] * (v[n] ** 2).sum() / 3 for n in range(5)) / 5, rel=1e-13)
    close(info["losses"], ((g + v) ** 2).mean(axis=1), 1e-13)
    assert projection(MLP, theta, x, v)[0] == pytest.approx(((g + v) ** 2).mean(), rel=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
def test_projection__gradient_is_the_derivative(weighted):
    rng = np.random.default_rng(2)
    theta, x, v = random_theta(MLP, rng), normals(80, 5, 3), normals(81, 5, 3)
    w = rng.uniform(size=5) if weighted else None
    grads = projection(MLP, theta, x, v, w)[1]
    for name, value in theta.items():
        u = rng.normal(size=value.shape)
        wanted = along(lambda p, name=name: projection(MLP, theta | {name: p}, x, v, w)[0], value, u)
        close((grads[name] * u).sum(), wanted, 1e-8)


# ------------------------------------------------------------------------------------------ a periodic grid


@pytest.mark.parametrize("n", [5, 6])
def test_projection_fourier__is_the_minimum_of_projection(n):
    """V^(k) = i k . v^(k) / |k|^2 has J's gradient 0 and J = mean |grad V + v|^2; least squares finds the same."""
    x, v = smooth_field(n, 3)
    V, residual = projection_fourier(v, 2 * pi)
    waves = Waves(half_plane(n))
    points, speeds = x.reshape(-1, 2), v.reshape(-1, 2)
    z = points @ waves.k.T
    theta = {name: 2 * (V.ravel() @ f(z)) / n**2 for name, f in (("a", np.cos), ("b", np.sin))}
    loss, grads, info = projection(waves, theta, points, speeds)
    assert np.max([np.abs(grad).max() for grad in grads.values()]) < 1e-13
    assert loss == pytest.approx((residual**2).mean(), rel=1e-12) and 0.1 * info["power"] < loss < info["power"]
    close(waves.grad_x(theta, points) + speeds, residual.reshape(-1, 2), 1e-12)
    found = quadratic_minimum(lambda p: projection(waves, p, points, speeds)[1], theta)
    for name in theta:
        close(found[name], theta[name], 1e-12)


@pytest.mark.parametrize(("n", "D", "period"), [(9, 1, 1.0), (8, 2, 3.0), (7, 2, 2 * pi), (5, 3, 1.0)])
def test_projection_fourier__gives_a_potential_back(n, D, period):
    """v = -grad W: V = W without its mean, nothing left; with a field of no divergence on top, that is left."""
    x, k = grid(n, D, period), 2 * pi / period
    W = np.sin(k * x[..., 0]) + 0.5 * np.cos(2 * k * x[..., -1]) + 0.3 * np.sin(k * x.sum(axis=-1))
    slope = 0.3 * k * np.cos(k * x.sum(axis=-1))[..., None] + np.zeros_like(x)
    slope[..., 0] += k * np.cos(k * x[..., 0])
    slope[..., -1] -= k * np.sin(2 * k * x[..., -1])
    V, residual = projection_fourier(-slope, period)
    close(V, W - W.mean(), 1e-13)
    close(residual, np.zeros_like(x), 1e-12)
    turn = np.ones_like(x)  # a constant has no potential on a torus
    if D > 1:
        turn[..., 0] += np.sin(k * x[..., 1])
    V, residual = projection_fourier(turn - slope, period)
    close(V, W - W.mean(), 1e-13)
    close(residual, turn, 1e-12)


def test_projection_fourier__ignores_the_wave_whose_slope_the_grid_does_not_see():
    """cos(pi x / step) on an even axis has slope 0 at every point, whatever its size."""
    v = np.cos(pi * np.arange(6.0))[:, None]
    V, residual = projection_fourier(v, 6.0)
    close(V, np.zeros(6), 1e-14)
    close(residual, v, 1e-14)


def test_projection__of_a_rotation_finds_nothing():
    """v = (-y, x) has no divergence: at V = const the gradient is 0 on points that quarter turns keep."""
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    x = np.concatenate([normals(82, 20, 2) @ np.linalg.matrix_power(turn, k) for k in range(4)])
    v = np.stack([-x[:, 1], x[:, 0]], axis=1)
    theta = {"mu": np.zeros(2), "P": np.zeros((2, 2))}
    loss, grads, info = projection(QuadraticEnergy((2,)), theta, x, v)
    assert loss == pytest.approx(info["power"], rel=1e-14) and np.abs(grads["P"]).max() < 1e-13


# ----------------------------------------------------------------------------------- mixtures of Gaussians

FLOW = ExactFlow([0.3, 0.7], [[-1.2, 0.3], [0.8, -0.4]], [0.35, 0.5])


def test_projection__of_a_mixture_s_score_is_its_energy():
    """v = grad log p: J = 0 and gradient 0 at V = -log p; elsewhere both are not."""
    energy = GaussianMixtureEnergy((2,), 2)
    theta = {
        "logit": np.log(FLOW.weights) - 2 * np.log(FLOW.deviations),
        "mu": FLOW.means,
        "log_sigma": np.log(FLOW.deviations),
    }
    x = normals(83, 40, 2)
    score = along_score(x)
    loss, grads, _ = projection(energy, theta, x, score)
    assert loss < 1e-18 and np.max([np.abs(grad).max() for grad in grads.values()]) < 1e-9
    loss, grads, _ = projection(energy, theta | {"mu": FLOW.means + 0.1}, x, score)
    assert loss > 1e-3 and np.abs(grads["mu"]).max() > 1e-3


def along_score(x):
    """grad log p_1, by differences."""
    axes = [np.broadcast_to(e, x.shape) for e in np.eye(x.shape[1])]
    return np.stack([along(lambda y: FLOW.log_density(y, 1.0), x, e) for e in axes], axis=1)


@pytest.mark.parametrize("t", [0.2, 0.6, 0.95])
def test_flow_of_a_mixture__is_the_gradient_of_its_potential(t):
    """v* = -grad V, V(x, t) = -(|x|^2 / 2 + (1 - t) log p_t(x)) / t, by differences, to 1e-9."""
    x = normals(84, 10, 2)

    def V(y):
        return -(0.5 * (y * y).sum(axis=1) + (1 - t) * FLOW.log_density(y, t)) / t

    for d, e in enumerate(np.eye(2)):
        close(along(V, x, np.broadcast_to(e, x.shape)), -FLOW.velocity(x, t)[:, d], 1e-9)


class Bins:
    """V' = slopes[bin(x)] on [-4, 4]: a potential of one dimension that is free in every bin."""

    def __init__(self, n):
        self.n, self.shape = n, (1,)

    def theta_shapes(self):
        return {"slope": (self.n,)}

    def bin(self, x):
        return np.clip(((x[:, 0] + 4) * self.n / 8).astype(int), 0, self.n - 1)

    def grad_x(self, theta, x):
        return theta["slope"][self.bin(x)][:, None]

    def grad_theta_along(self, theta, x, v):
        return {"slope": np.bincount(self.bin(x), v[:, 0], self.n)}


def test_projection__one_potential_for_all_times_is_the_mean_velocity():
    """V'(x) = -int p_t(x) v(x, t) dt / int p_t(x) dt: w = p_t on a grid of x and t, to 1e-12."""
    flow, energy, n = ExactFlow([0.3, 0.7], [[-1.2], [0.8]], [0.35, 0.5]), Bins(32), 32
    centres, times = (np.arange(n) + 0.5) * 8 / n - 4, (np.arange(50) + 0.5) / 50
    x = np.tile(centres, 50)[:, None]
    v = np.concatenate([flow.velocity(centres[:, None], t) for t in times])
    p = np.concatenate([np.exp(flow.log_density(centres[:, None], t)) for t in times])
    grads = quadratic_minimum(lambda theta: projection(energy, theta, x, v, p)[1], {"slope": np.zeros(n)})
    p, v = p.reshape(50, n), v.reshape(50, n)
    wanted = -(p * v).sum(axis=0) / p.sum(axis=0)
    seen = p.sum(axis=0) > 1e-6
    close(grads["slope"][seen], wanted[seen], 1e-10)


def test_projection_step__draws_the_path_of_the_flow():
    """The minimum over many draws: -E[v(x_t, t) | x_t in a bin], by quadrature, within 5 standard errors of a bin."""
    m, s, n, fine, draws = 0.7, 0.4, 32, 10, 24000
    flow, energy = gaussian_flow([m], s), Bins(n)
    x = m + s * normals(85, draws, 1)

    def gradient(slope):
        return projection_step(ebm_ref, energy, {"slope": np.full(n, slope)}, flow, {}, x, 3, 1)[1]["slope"]

    down = gradient(0.0)  # 2 / draws times the sum of v in the bin; a slope of 1 adds 2 / draws for each point
    share = (gradient(1.0) - down) / 2
    times, points = (np.arange(200) + 0.5) / 200, (np.arange(n * fine) + 0.5) * 8 / (n * fine) - 4
    p = np.exp([flow.log_density(points[:, None], t) for t in times]).reshape(200, n, fine)
    v = np.array([flow.velocity(points[:, None], t)[:, 0] for t in times]).reshape(200, n, fine)
    total = p.sum(axis=(0, 2))
    seen = share > 0.01
    mean, square = (p * v).sum(axis=(0, 2))[seen] / total[seen], (p * v * v).sum(axis=(0, 2))[seen] / total[seen]
    error = np.sqrt((square - mean**2) / (share[seen] * draws))
    assert seen.sum() >= 12 and (np.abs(down[seen] / (2 * share[seen]) - mean) < 5 * error).all()
    assert error.max() < 0.05


def test_projection_step__is_projection_on_its_own_draws():
    field = TimeField(MLPField((4,), (5,), out_channels=3))
    timed = NoiseConditionalEnergy(MLPEnergy((4,), (6,)), 0.0, 1.0, "linear")
    theta_field, x = random_theta(field, np.random.default_rng(4)), normals(86, 6, 3)
    x0, t = flow_draw(ebm_ref, x, 3, 2)
    x_t = flow_point(x0, x, t)
    v = field.field(theta_field, x_t, t)
    for energy in (MLP, timed):
        theta = random_theta(energy, np.random.default_rng(5))
        loss, grads, info = projection_step(ebm_ref, energy, theta, field, theta_field, x, 3, 2)
        want = projection(energy.at(t) if energy is timed else energy, theta, x_t, v)
        assert loss == want[0] and np.array_equal(info["t"], t)
        for name, grad in want[1].items():
            np.testing.assert_array_equal(grads[name], grad)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ({"x": np.zeros((2, 4))}, ShapeError, "x: "),
        ({"v": np.zeros((3, 3))}, ShapeError, "v: "),
        ({"v": np.full((2, 3), np.inf)}, NonFiniteError, "v: "),
        ({"v": np.zeros((2, 3), np.float32)}, DTypeError, "v: "),
        ({"w": np.array([1.0, -1.0])}, RangeError, "w: "),
        ({"energy": Held(lambda x: x, (3,))}, BackendError, "projection needs grad_theta_along"),
    ],
)
def test_projection__refuses_by_name(args, error, said):
    theta = random_theta(MLP, np.random.default_rng(1))
    with pytest.raises(error, match=said):
        projection(**({"energy": MLP, "theta": theta, "x": np.zeros((2, 3)), "v": np.zeros((2, 3))} | args))


@pytest.mark.parametrize(
    ("v", "period", "error", "said"),
    [
        (np.zeros((4, 4, 3)), 1.0, ShapeError, "v: "),
        (np.zeros(4), 1.0, ShapeError, "v: "),
        (np.zeros((0, 1)), 1.0, ShapeError, "v: "),
        (np.full((4, 1), np.nan), 1.0, NonFiniteError, "v: "),
        (np.zeros((4, 1)), 0.0, RangeError, "period: "),
    ],
)
def test_projection_fourier__refuses_by_name(v, period, error, said):
    with pytest.raises(error, match=said):
        projection_fourier(v, period)
