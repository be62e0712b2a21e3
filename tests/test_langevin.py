"""langevin: the equation, both orders, the closed-form laws on a Gaussian, and chains that stop."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.noise import noise_normal
from ebm_ref.samplers import langevin_jitter, langevin_run, langevin_step
from ebm_ref.specs import SGLD, ULA

BOWL = Bowl()


def normals(stream, *shape, dtype=np.float64):
    return noise_normal(91, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:])), dtype).reshape(shape)


# ---------------------------------------------------------------------------------------- the step


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("clip_norm", [None, 0.7])
@pytest.mark.parametrize("box", [None, (-0.5, 1.0)])
def test_langevin_step__is_the_equation(dtype, clip, clip_norm, box):
    x, g, xi = (normals(stream, 5, 2, 3, dtype=dtype) for stream in (1, 2, 3))
    g[0] = 0
    moved = langevin_step(x, g, xi, 0.3, 0.2, clip, clip_norm, box)
    assert moved.dtype == dtype
    for n in range(5):
        slope = g[n].astype(np.float64)
        if clip is not None:
            slope = np.minimum(np.maximum(slope, -clip), clip)
        if clip_norm is not None and sqrt((slope**2).sum()) > clip_norm:
            slope = slope * clip_norm / sqrt((slope**2).sum())
        wanted = x[n] - 0.3 * slope + 0.2 * xi[n]
        if box is not None:
            wanted = np.minimum(np.maximum(wanted, box[0]), box[1])
        assert np.allclose(moved[n], wanted, rtol=0, atol=4 * np.finfo(dtype).eps)


def test_langevin_step__clips_elements_before_the_norm():
    g = np.array([[3.0, 0.4]])
    moved = langevin_step(np.zeros_like(g), g, np.zeros_like(g), 1.0, 0.0, clip=0.3, clip_norm=0.3)
    assert np.allclose(moved, -0.3 / sqrt(2))  # (0.3, 0.3) scaled to norm 0.3; the other way gives (0.3, 0.04)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_langevin_step__clip_norm_survives_squares_out_of_range(size):
    g = np.full((1, 4), size, np.float32)
    moved = langevin_step(np.zeros_like(g), g, np.zeros_like(g), 1.0, 0.0, clip_norm=size)
    assert np.allclose(moved, -size / 2, rtol=1e-6)


def test_langevin_jitter__is_the_equation():
    x, xi = normals(1, 4, 3), normals(2, 4, 3)
    assert (langevin_jitter(x, xi, 0.4) == x + 0.4 * xi).all()
    assert (langevin_jitter(x, xi, 0.4, (-0.1, 0.2)) == np.clip(x + 0.4 * xi, -0.1, 0.2)).all()


def test_langevin_step__leaves_its_arguments_alone():
    x, g, xi = (normals(stream, 4, 3) for stream in (1, 2, 3))
    before = [a.copy() for a in (x, g, xi)]
    langevin_step(x, g, xi, 0.3, 0.2, 0.1, 0.1, (-0.1, 0.1))
    langevin_jitter(x, xi, 0.4, (-0.1, 0.1))
    assert all((a == b).all() for a, b in zip((x, g, xi), before, strict=True))


# ----------------------------------------------------------------------------------------- the run


@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_langevin_run__is_k_steps_at_their_addresses(order):
    energy, theta = Bowl((2, 2)), bowl_theta(1.0, 2.0, 3.0, 4.0, bias=0.5)
    update = SGLD(0.1, 0.3, clip=1.0, clip_norm=1.5, box=(-0.8, 0.9), order=order)
    chains = np.array([5, 0, 2**32 - 1])
    x0 = normals(1, 3, 2, 2)
    x, info = langevin_run(energy, theta, x0, 4, update, seed=7, step=100, chains=chains, stream=Stream.EVALUATION)
    want = x0
    for k in range(4):
        xi = noise_normal(7, Stream.EVALUATION, 100 + k, chains, 4).reshape(3, 2, 2)
        at = langevin_jitter(want, xi, 0.3, update.box) if order == "noise_first" else want
        E, g = energy.energy_and_grad_x(theta, at)
        assert (info.energy[k] == E).all()
        assert np.allclose(info.grad_norm[k], np.sqrt((g**2).sum(axis=(1, 2))), rtol=1e-14)
        sigma = 0.0 if order == "noise_first" else 0.3
        want = langevin_step(at, g, xi, 0.1, sigma, 1.0, 1.5, update.box)
    assert (x == want).all()
    assert info.alive.all() and info.nonfinite == 0
    assert info.energy.shape == info.grad_norm.shape == (4, 3)


def test_langevin_run__ula_is_sgld_with_its_eta_and_sigma():
    x0, theta = normals(1, 6, 1), bowl_theta(2.0)
    a, _ = langevin_run(BOWL, theta, x0, 5, ULA(0.3), seed=1)
    b, _ = langevin_run(BOWL, theta, x0, 5, SGLD(0.15, sqrt(0.3)), seed=1)
    assert (a == b).all()


def test_langevin_run__splits_over_steps_and_chains():
    x0, theta = normals(1, 6, 1, dtype=np.float32), bowl_theta(2.0, dtype=np.float32)
    whole, info = langevin_run(BOWL, theta, x0, 5, ULA(0.3), seed=1, step=10)
    half, _ = langevin_run(BOWL, theta, x0, 2, ULA(0.3), seed=1, step=10)
    rest, _ = langevin_run(BOWL, theta, half, 3, ULA(0.3), seed=1, step=12)
    assert (rest == whole).all()
    order = np.array([4, 1, 5])
    some, _ = langevin_run(BOWL, theta, x0[order], 5, ULA(0.3), seed=1, step=10, chains=order)
    assert (some == whole[order]).all()
    assert whole.dtype == info.energy.dtype == info.grad_norm.dtype == np.float32


def test_langevin_run__of_no_steps_returns_a_copy():
    x0 = normals(1, 3, 1)
    x, info = langevin_run(BOWL, bowl_theta(1.0), x0, 0, ULA(0.1), seed=0)
    assert (x == x0).all() and not np.shares_memory(x, x0)
    assert info.energy.shape == (0, 3) and info.alive.all() and info.nonfinite == 0


def test_langevin_run__of_no_chains_is_empty():
    for update in (ULA(0.1), SGLD(0.1, 0.1, clip=1.0, clip_norm=1.0, order="noise_first")):
        x, info = langevin_run(BOWL, bowl_theta(1.0), np.zeros((0, 1)), 2, update, seed=0)
        assert x.shape == (0, 1) and info.energy.shape == (2, 0) and info.nonfinite == 0


def test_langevin_run__leaves_its_arguments_alone():
    x0, theta, chains = normals(1, 3, 1), bowl_theta(1.0), np.arange(3)
    before = x0.copy()
    langevin_run(BOWL, theta, x0, 3, ULA(0.1), seed=0, chains=chains)
    assert (x0 == before).all() and theta["lam"] == 1.0 and (chains == np.arange(3)).all()


# ------------------------------------------------------------------------------------------ its law


@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_langevin_run__has_the_closed_form_gaussian_law_at_every_step(order):
    """m_k = a^k m_0, s_k = a^2k s_0 + s^2 (1 - a^2k) / (1 - a^2); noise_first multiplies s by a."""
    eta, sigma, lam, m0, s0, N = 0.3, 0.7, 1.5, 2.0, 0.25, 20_000
    a = 1 - eta * lam
    noise = sigma * (abs(a) if order == "noise_first" else 1.0)
    x = m0 + sqrt(s0) * normals(Stream.SAMPLE_START, N, 1)
    for k in range(1, 6):
        x, _ = langevin_run(BOWL, bowl_theta(lam), x, 1, SGLD(eta, sigma, order=order), seed=2, step=k)
        m = a**k * m0
        s = a ** (2 * k) * s0 + noise**2 * (1 - a ** (2 * k)) / (1 - a**2)
        assert abs(x.mean() - m) < 4.5 * sqrt(s / N)
        assert abs(x.var() - s) < 4.5 * s * sqrt(2 / N)


@pytest.mark.parametrize("K", [1, 3])
def test_langevin_run__noise_is_independent_across_steps(K):
    """With eta = 0 the chain is a random walk: variance K sigma^2, which repeated noise would square."""
    x, _ = langevin_run(BOWL, bowl_theta(1.0), np.zeros((20_000, 1)), K, SGLD(0.0, 0.5), seed=3)
    assert abs(x.var() - K * 0.25) < 4.5 * K * 0.25 * sqrt(2 / 20_000)


# ------------------------------------------------------------------------------- chains that stop


class Cliff(Bowl):
    """The bowl, but E or its gradient is not finite beyond x = 1."""

    bad_energy, bad_slope = np.nan, 0.0

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        over = x[:, 0] > 1
        return np.where(over, self.bad_energy, E), np.where(over[:, None], self.bad_slope, g)


class InfiniteSlope(Cliff):
    bad_energy, bad_slope = 1.0, np.inf


class NanSlope(Cliff):
    bad_energy, bad_slope = 1.0, np.nan


class InfiniteEnergy(Cliff):
    bad_energy, bad_slope = np.inf, 1.0


@pytest.mark.parametrize("cliff", [Cliff, InfiniteSlope, NanSlope, InfiniteEnergy])
@pytest.mark.parametrize("update", [ULA(0.1), SGLD(0.05, 0.3, clip=0.5), SGLD(0.05, 0.3, order="noise_first")])
def test_langevin_run__stops_a_chain_at_its_last_finite_state(cliff, update):
    x0, theta = np.array([[0.9], [3.0], [-0.5]]), bowl_theta(1.0)
    path = [x0]
    for k in range(30):
        path.append(langevin_run(cliff(), theta, path[-1], 1, update, seed=5, step=k)[0])
    x, info = langevin_run(cliff(), theta, x0, 30, update, seed=5)
    assert np.isfinite(x).all()
    assert not info.alive[1] and x[1] == 3.0  # beyond the cliff from the start
    assert info.alive[2]
    assert info.nonfinite == 3 - info.alive.sum()
    for n in np.flatnonzero(info.alive):  # the others are what they would have been alone
        alone, _ = langevin_run(cliff(), theta, x0[n : n + 1], 30, update, seed=5, chains=np.array([n]))
        assert (alone == x[n]).all()
    if update.order == "gradient_first":
        assert not np.isfinite(info.energy[:, 1]).any() or not np.isfinite(info.grad_norm[:, 1]).any()


def test_langevin_run__does_not_move_a_stopped_chain_again():
    class Once(Bowl):
        calls = 0

        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            type(self).calls += 1
            return (np.full_like(E, np.nan), g) if self.calls == 2 else (E, g)

    x0 = normals(1, 4, 1)
    first, _ = langevin_run(Bowl(), bowl_theta(1.0), x0, 1, ULA(0.1), seed=6)
    x, info = langevin_run(Once(), bowl_theta(1.0), x0, 5, ULA(0.1), seed=6)
    assert (x == first).all() and info.nonfinite == 4


class Flat(Bowl):
    """E = 0 everywhere; like the library's energies it refuses an x that is not finite."""

    def energy_and_grad_x(self, theta, x):
        assert np.isfinite(x).all()
        return np.zeros_like(x[:, 0]), np.zeros_like(x)


@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_langevin_run__stops_where_the_next_state_overflows(order):
    x0 = np.array([[1e38], [1.0]], np.float32)
    update = SGLD(0.0, 2e38, order=order)
    path = [x0]
    for k in range(20):
        path.append(langevin_run(Flat(), {}, path[-1], 1, update, seed=1, step=k)[0])
    x, info = langevin_run(Flat(), {}, x0, 20, update, seed=1)
    assert np.isfinite(x).all() and info.nonfinite == 2
    for n in range(2):
        states = [state[n, 0] for state in path]
        first = next(k for k in range(20) if states[k] == states[k + 1])  # where it stopped
        assert x[n, 0] == states[first]


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64])
def test_runs__take_any_integers(kind):
    args = (BOWL, bowl_theta(1.0), np.zeros((3, 1)))
    runs = [
        lambda kind: langevin_run(*args, kind(2), ULA(0.1), kind(3), kind(100))[0],
        lambda kind: ebm_ref.mala_run(ebm_ref, *args, kind(2), 0.1, kind(3), kind(100))[0],
        lambda kind: ebm_ref.jempp_run(ebm_ref, *args, kind(2), kind(3), ULA(0.1), kind(3), kind(100))[0],
    ]
    for run in runs:
        np.testing.assert_array_equal(run(kind), run(int))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_langevin_run__refuses_a_start_that_is_not_finite(bad):
    with pytest.raises(NonFiniteError, match="x0"):
        langevin_run(BOWL, bowl_theta(1.0), np.array([[1.0], [bad]]), 1, ULA(0.1), seed=0)


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"K": -1}, RangeError, "K"),
        ({"K": 1.5}, DTypeError, "K"),
        ({"step": 2**32 - 1, "K": 2}, RangeError, "step"),
        ({"update": 0.1}, DTypeError, "update"),
        ({"energy": object()}, DTypeError, "energy: expected .* found object without shape and energy_and_grad_x"),
        ({"x0": np.zeros(3)}, ShapeError, "x0"),
        ({"x0": np.zeros((3, 2))}, ShapeError, "x0"),
        ({"x0": np.zeros((3, 1), int)}, DTypeError, "x0"),
        ({"chains": np.arange(2)}, ShapeError, "chains"),
        ({"chains": np.array([0, 1, -1])}, RangeError, "chains"),
        ({"seed": -1}, RangeError, "seed"),
    ],
)
def test_langevin_run__refuses_wrong_arguments(change, error, name):
    args = {"energy": BOWL, "theta": bowl_theta(1.0), "x0": np.zeros((3, 1)), "K": 1, "update": ULA(0.1), "seed": 0}
    with pytest.raises(error, match=name):
        langevin_run(**(args | change))


@pytest.mark.parametrize("eps_step", [-0.1, np.nan, np.inf])
def test_ula__refuses_a_step_that_is_not_a_size(eps_step):
    with pytest.raises(RangeError, match="eps_step"):
        ULA(eps_step)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"eta": -1.0}, "eta"), ({"sigma": np.nan}, "sigma"), ({"clip": 0.0}, "clip"), ({"box": (1.0, 1.0)}, "box")],
)
def test_langevin_step__refuses_wrong_numbers(change, name):
    x = np.zeros((2, 1))
    with pytest.raises(RangeError, match=name):
        langevin_step(x, x, x, **({"eta": 0.1, "sigma": 0.1} | change))
    with pytest.raises(RangeError, match=name):
        SGLD(**({"eta": 0.1, "sigma": 0.1} | change))


def test_langevin_step__refuses_arrays_that_differ():
    x = np.zeros((2, 1))
    with pytest.raises(ShapeError, match="g"):
        langevin_step(x, np.zeros((1, 1)), x, 0.1, 0.1)
    with pytest.raises(DTypeError, match="xi"):
        langevin_step(x, x, x.astype(np.float32), 0.1, 0.1)
