"""Annealed Langevin and preconditioned SGLD as chains: addresses, levels, state, chains that stop, input."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from duck import Duck
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import MLPEnergy, noise
from ebm_ref.contracts import (
    BackendError,
    DTypeError,
    NonFiniteError,
    RangeError,
    ShapeError,
    SmoothnessError,
    Stream,
)
from ebm_ref.noise import noise_normal
from ebm_ref.samplers import PSGLD, annealed_run, annealed_steps, hessian_diagonal, langevin_run, psgld_run, psgld_step
from ebm_ref.specs import ULA

SHAPE, LAM, SIGMA = (2, 2), (0.5, 1.0, 2.0, 4.0), (2.0, 1.0, 0.5)


def normals(stream, *shape, dtype=np.float64):
    return noise_normal(41, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:])), dtype).reshape(shape)


class Levels:
    """E(x, sigma) = E(x) / (1 + sigma^2): one theta, an energy for each level."""

    shape = SHAPE

    def at(self, sigma):
        class Level(Bowl):
            def energy_and_grad_x(self, theta, x):
                E, g = super().energy_and_grad_x(theta, x)
                return E / (1 + sigma**2), g / (1 + sigma**2)

        return Level(SHAPE)


# ------------------------------------------------------------------------------------------ annealed


def test_annealed_run__is_ula_level_by_level():
    theta, x0, chains = bowl_theta(*LAM), normals(1, 3, 2, 2), np.array([4, 0, 9])
    x, info = annealed_run(ebm_ref, Levels(), theta, x0, None, SIGMA, 4, 0.05, seed=3, step=50, chains=chains)
    want, energies = x0, []
    for i, sigma in enumerate(SIGMA):
        update = ULA(0.05 * sigma**2 / 0.25)
        want, level = langevin_run(Levels().at(sigma), theta, want, 4, update, 3, 50 + 4 * i, chains)
        energies.append(level.energy)
    assert (x == want).all() and (info.energy == np.concatenate(energies)).all() and info.alive.all()
    assert (info.extra["nfe"] == 12).all() and (info.extra["level"] == np.repeat([0, 1, 2], 4)).all()


@pytest.mark.parametrize("form", ["sequence", "callable", "thetas"])
def test_annealed_run__takes_energies_in_any_form(form):
    theta, x0 = bowl_theta(*LAM), normals(1, 3, 2, 2)
    want, _ = annealed_run(ebm_ref, Levels(), theta, x0, None, SIGMA, 4, 0.05, seed=3)
    if form == "thetas":
        energies, theta = [Bowl(SHAPE)] * 3, [bowl_theta(*(lam / (1 + s**2) for lam in LAM)) for s in SIGMA]
    else:
        energies = Levels().at if form == "callable" else [Levels().at(sigma) for sigma in SIGMA]
    x, _ = annealed_run(ebm_ref, energies, theta, x0, None, SIGMA, 4, 0.05, seed=3)
    assert np.allclose(x, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [0, 1, 4, 6, 12])
def test_annealed_run__splits_over_steps_and_chains_to_the_bit(dtype, K):
    theta, x0 = bowl_theta(*LAM, dtype=dtype), normals(1, 5, 2, 2, dtype=dtype)
    whole, info = annealed_run(ebm_ref, Levels(), theta, x0, None, SIGMA, 4, 0.05, seed=3, step=10)
    half, first = annealed_run(ebm_ref, Levels(), theta, x0, K, SIGMA, 4, 0.05, seed=3, step=10)
    rest, second = annealed_run(ebm_ref, Levels(), theta, half, None, SIGMA, 4, 0.05, seed=3, step=10 + K, done=K)
    assert (rest == whole).all() and whole.dtype == info.energy.dtype == dtype
    assert (np.concatenate([first.energy, second.energy]) == info.energy).all()
    assert (first.extra["nfe"] + second.extra["nfe"] == 12).all() and not np.shares_memory(half, x0)
    order = np.array([3, 1])
    some, _ = annealed_run(ebm_ref, Levels(), theta, x0[order], None, SIGMA, 4, 0.05, seed=3, step=10, chains=order)
    assert (some == whole[order]).all()


def test_annealed_run__keeps_a_stopped_chain_stopped():
    class Broken(Bowl):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return np.where(np.arange(len(x)) == 1, np.nan, E), g

    x0 = normals(1, 3, 2, 2)
    energies = [Bowl(SHAPE), Broken(SHAPE), Bowl(SHAPE)]
    x, info = annealed_run(ebm_ref, energies, bowl_theta(*LAM), x0, None, SIGMA, 4, 0.05, seed=3)
    after_first, _ = annealed_run(ebm_ref, energies, bowl_theta(*LAM), x0, 4, SIGMA, 4, 0.05, seed=3)
    assert (x[1] == after_first[1]).all() and (x[0] != after_first[0]).all()
    assert info.alive.tolist() == [True, False, True] and info.nonfinite == 1


def duck_backend():
    def normal(*args):
        return Duck.of(noise.noise_normal(*args))

    def langevin(energy, theta, x0, K, update, seed, step, chains):
        host = {name: value.get() for name, value in theta.items()}
        x, info = langevin_run(energy, host, x0.get(), K, update, seed, step, chains)
        info.energy, info.grad_norm, info.alive = map(Duck.of, (info.energy, info.grad_norm, info.alive))
        return Duck.of(x), info

    return SimpleNamespace(noise_normal=normal, langevin_run=langevin)


def test_annealed_run__works_on_any_array_that_answers_numpy():
    theta, x0 = bowl_theta(*LAM), normals(1, 3, 2, 2)
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    want, info = annealed_run(ebm_ref, Levels(), theta, x0, None, SIGMA, 4, 0.05, seed=3)
    x, found = annealed_run(duck_backend(), Levels(), ducks, Duck.of(x0), None, SIGMA, 4, 0.05, seed=3)
    assert (x.get() == want).all() and (found.energy.get() == info.energy).all()


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"K": 13}, RangeError, "K"),
        ({"done": 13}, RangeError, "done"),
        ({"T": 0}, RangeError, "T"),
        ({"eps_step": 0.0}, RangeError, "eps_step"),
        ({"sigma": ()}, ShapeError, "sigma"),
        ({"sigma": (1.0, 2.0, 3.0)}, RangeError, "sigma"),
        ({"sigma": (1.0, 0.5, 0.0)}, RangeError, "sigma"),
        ({"energies": [Bowl(SHAPE)] * 2}, ShapeError, "energies"),
        ({"energies": 3}, DTypeError, "energies"),
        ({"energies": lambda sigma: sigma}, DTypeError, "energies"),
        ({"theta": [bowl_theta(*LAM)] * 2}, ShapeError, "theta"),
        ({"x0": np.zeros((3, 4))}, ShapeError, "x0"),
        ({"x0": np.full((3, 2, 2), np.inf)}, NonFiniteError, "x0"),
        ({"chains": np.arange(4)}, ShapeError, "chains"),
    ],
)
def test_annealed_run__refuses_wrong_arguments(change, error, name):
    args = {"energies": Levels(), "theta": bowl_theta(*LAM), "x0": np.zeros((3, 2, 2)), "K": None, "sigma": SIGMA}
    args |= {"T": 4, "eps_step": 0.1, "seed": 0}
    with pytest.raises(error, match=name):
        annealed_run(ebm_ref, **(args | change))
    assert len(annealed_steps(SIGMA, 0.1)) == 3


# ------------------------------------------------------------------------------------ preconditioned


def quartic_theta(dtype=np.float64):
    return {"height": np.array(LAM, dtype), "tilt": np.array([0.3, -0.2, 0.1, 0.0], dtype)}


WELL = ebm_ref.DoubleWellEnergy(SHAPE)


@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_psgld_run__is_k_steps_and_splits_with_its_V_to_the_bit(gamma, dtype):
    theta, x0, update = quartic_theta(dtype), normals(1, 4, 2, 2, dtype=dtype), PSGLD(0.02, 0.9, 0.1, gamma)
    whole, V, info = psgld_run(ebm_ref, WELL, theta, x0, 6, update, 5, step=20)
    want, V_want = x0, np.zeros_like(x0)
    for k in range(6):
        xi = noise_normal(5, Stream.CHAIN_NOISE, 20 + k, np.arange(4), 4, dtype).reshape(4, 2, 2)
        h = hessian_diagonal(WELL, theta, want) if gamma else None
        want, V_want = psgld_step(want, WELL.grad_x(theta, want), V_want, xi, update, h)
    assert (whole == want).all() and (V == V_want).all() and whole.dtype == V.dtype == dtype
    half, V_half, _ = psgld_run(ebm_ref, WELL, theta, x0, 2, update, 5, step=20)
    rest, V_rest, _ = psgld_run(ebm_ref, WELL, theta, half, 4, update, 5, step=22, V=V_half)
    assert (rest == whole).all() and (V_rest == V).all()
    order = np.array([2, 0])
    some, _, _ = psgld_run(ebm_ref, WELL, theta, x0[order], 6, update, 5, step=20, chains=order)
    assert (some == whole[order]).all()
    assert (info.extra["nfe"] == 6).all() and ("hvp" in info.extra) == gamma
    assert not gamma or (info.extra["hvp"] == 24).all()


def test_hessian_diagonal__is_the_diagonal():
    theta, x = quartic_theta(), normals(1, 3, 2, 2)
    h = hessian_diagonal(WELL, theta, x).reshape(3, 4)
    assert np.allclose(h, theta["height"] * (12 * x.reshape(3, 4) ** 2 - 4), rtol=1e-12)
    energy = MLPEnergy((3,), (5,))
    theta, x = ebm_ref.theta_init(energy, 1, np.float64), normals(1, 4, 3)
    full = [energy.hvp(theta, x, np.tile(e, (4, 1))) for e in np.eye(3)]
    assert np.allclose(hessian_diagonal(energy, theta, x), np.stack([full[d][:, d] for d in range(3)], axis=1))


def test_psgld_run__stops_a_chain_at_its_last_finite_state():
    class Broken(Bowl):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return E, np.where((np.arange(len(x)) == 1)[:, None] & (abs(x) < 1e9), np.inf, g)

    x0, V = normals(1, 3, 1), np.ones((3, 1))
    x, V_end, info = psgld_run(ebm_ref, Broken(), bowl_theta(1.0), x0, 5, PSGLD(0.1), 1, V=V)
    assert x[1] == x0[1] and V_end[1] == 1 and info.alive.tolist() == [True, False, True] and info.nonfinite == 1
    assert (x[[0, 2]] != x0[[0, 2]]).all() and np.isfinite(x).all() and (V == 1).all()


def test_psgld_run__of_no_steps_returns_copies():
    x0, V = normals(1, 3, 1), np.ones((3, 1))
    x, V_end, info = psgld_run(ebm_ref, Bowl(), bowl_theta(1.0), x0, 0, PSGLD(0.1), 1, V=V)
    assert (x == x0).all() and (V_end == V).all()
    assert not np.shares_memory(x, x0) and not np.shares_memory(V, V_end) and info.energy.shape == (0, 3)


def test_psgld_run__works_on_any_array_that_answers_numpy():
    class Curved(Bowl):
        def hvp(self, theta, x, v):
            return (v.reshape((v.shape[0], 4)) * theta["lam"]).reshape(v.shape)

    theta, x0 = bowl_theta(*LAM), normals(1, 3, 2, 2)
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    update = PSGLD(0.1, 0.5, 0.1, gamma=True)
    want, V_want, _ = psgld_run(ebm_ref, Curved(SHAPE), theta, x0, 3, update, 1)
    x, V, _ = psgld_run(duck_backend(), Curved(SHAPE), ducks, Duck.of(x0), 3, update, 1)
    assert (x.get() == want).all() and (V.get() == V_want).all()


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"update": ULA(0.1)}, DTypeError, "update"),
        ({"V": np.zeros((2, 1))}, ShapeError, "V"),
        ({"V": np.zeros((3, 1), np.float32)}, DTypeError, "V"),
        ({"update": PSGLD(0.1, gamma=True)}, BackendError, "hvp"),
        ({"update": PSGLD(0.1, gamma=True), "energy": MLPEnergy((1,), (2,), "relu")}, SmoothnessError, "relu"),
        ({"x0": np.full((3, 1), np.nan)}, NonFiniteError, "x0"),
        ({"K": -1}, RangeError, "K"),
    ],
)
def test_psgld_run__refuses_wrong_arguments(change, error, name):
    args = {"energy": Bowl(), "theta": bowl_theta(1.0), "x0": np.zeros((3, 1)), "K": 1, "update": PSGLD(0.1), "seed": 0}
    with pytest.raises(error, match=name):
        psgld_run(ebm_ref, **(args | change))


@pytest.mark.parametrize(
    ("fields", "error", "name"),
    [
        ({"eps_step": 0.0}, RangeError, "eps_step"),
        ({"beta": 1.1}, RangeError, "beta"),
        ({"lam": 0.0}, RangeError, "lam"),
        ({"gamma": 1}, DTypeError, "gamma"),
    ],
)
def test_psgld__refuses_wrong_numbers(fields, error, name):
    with pytest.raises(error, match=name):
        PSGLD(**({"eps_step": 0.1} | fields))


def test_psgld_step__refuses_a_hessian_that_was_not_asked_for_and_misses_one_that_was():
    x = np.zeros((2, 1))
    with pytest.raises(DTypeError, match="h"):
        psgld_step(x, x, x, x, PSGLD(0.1), x)
    with pytest.raises(DTypeError, match="h"):
        psgld_step(x, x, x, x, PSGLD(0.1, gamma=True))
