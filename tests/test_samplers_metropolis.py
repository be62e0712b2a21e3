"""MALA and HMC as chains: one decision each, one gradient a step, addresses, devices, input."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from duck import Duck
from gaussian import Bowl, bowl_theta
from metropolis_runs import LAM, METHODS, SHAPE, normals, run

import ebm_ref
from ebm_ref import noise, samplers
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.noise import noise_normal, noise_uniform
from ebm_ref.samplers import (
    RobbinsMonro,
    adaptation_start,
    hmc_adapt,
    hmc_leapfrog,
    hmc_step,
    mala_adapt,
    mala_step,
)


class Counting(Bowl):
    """The bowl, and how often and with what it was asked."""

    def __init__(self, shape):
        super().__init__(shape)
        object.__setattr__(self, "asked", [])

    def energy_and_grad_x(self, theta, x):
        self.asked.append(x.copy())
        return super().energy_and_grad_x(theta, x)


# ------------------------------------------------------------------------------------------ the run


@pytest.mark.parametrize("method", METHODS)
def test_run__is_k_steps_at_their_addresses(method):
    energy, theta, chains = Bowl(SHAPE), bowl_theta(*LAM, bias=0.3), np.array([5, 0, 2**32 - 1])
    x0 = normals(1, 3, 2, 2)
    x, info = run(method, energy, theta, x0, 6, step=100, chains=chains)
    want, (E, g) = x0, energy.energy_and_grad_x(theta, x0)
    for k in range(6):
        stream = Stream.CHAIN_NOISE if method == "mala" else Stream.MOMENTUM
        xi = noise_normal(7, stream, 100 + k, chains, 4).reshape(3, 2, 2)
        u = noise_uniform(7, Stream.MH_UNIFORM, 100 + k, chains, 1)[:, 0]
        assert (info.energy[k] == E).all() and np.allclose(info.grad_norm[k] ** 2, (g**2).sum(axis=(1, 2)))
        if method == "mala":
            want, E, g, accept, l = mala_step(energy, theta, want, E, g, xi, u, 0.6)
        else:
            want, E, g, accept, l = hmc_step(energy, theta, want, E, g, xi, u, 0.6, 3)
        assert (info.extra["accept"][k] == accept).all() and (info.extra["log_ratio"][k] == l).all()
        assert (accept == (np.log(u) < l)).all()
    assert (x == want).all() and info.alive.all() and info.nonfinite == 0
    assert info.extra["accept"].dtype == bool and info.extra["accept"].shape == (6, 3)


@pytest.mark.parametrize("method", METHODS)
def test_run__asks_for_one_gradient_a_leapfrog_and_one_at_the_start(method):
    energy, L = Counting(SHAPE), 1 if method == "mala" else 4
    _, info = run(method, energy, bowl_theta(*LAM), normals(1, 3, 2, 2), 5, L=4)
    assert len(energy.asked) == 1 + 5 * L
    assert (info.extra["nfe"] == 1 + 5 * L).all() and info.extra["nfe"].shape == (3,)
    assert len({array.tobytes() for array in energy.asked}) == len(energy.asked)  # never the same state twice


@pytest.mark.parametrize("L", [1, 2, 7])
def test_hmc_leapfrog__makes_exactly_L_steps(L):
    energy, h = Counting((1,)), 0.1
    x, p, *_ = hmc_leapfrog(energy, bowl_theta(0.0), np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 1)), h, L)
    assert len(energy.asked) == L and np.isclose(x[0, 0], L * h) and p[0, 0] == 1  # free flight


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_run__splits_over_steps_and_chains_to_the_bit(method, dtype):
    energy, theta, x0 = Bowl(SHAPE), bowl_theta(*LAM, dtype=dtype), normals(1, 6, 2, 2, dtype=dtype)
    whole, info = run(method, energy, theta, x0, 9, step=10)
    half, first = run(method, energy, theta, x0, 4, step=10)
    rest, second = run(method, energy, theta, half, 5, step=14)
    assert (rest == whole).all() and whole.dtype == dtype
    for name in ("accept", "log_ratio"):
        assert (np.concatenate([first.extra[name], second.extra[name]]) == info.extra[name]).all()
        assert info.extra[name].dtype in (bool, dtype)
    order = np.array([4, 1, 5])
    some, part = run(method, energy, theta, x0[order], 9, step=10, chains=order)
    assert (some == whole[order]).all() and (part.extra["accept"] == info.extra["accept"][:, order]).all()


@pytest.mark.parametrize("method", METHODS)
def test_run__decides_for_each_chain_on_its_own(method):
    _, info = run(method, Bowl((8,)), bowl_theta(*[1.0] * 8), normals(1, 400, 8), 20, size=1.3)
    accept = info.extra["accept"]
    assert 0.2 < accept.mean() < 0.95
    share = accept.mean(axis=1)  # one decision for the batch would make this 0 or 1
    assert np.abs(share - accept.mean()).max() < 6 * np.sqrt(0.25 / 400) + 0.1


@pytest.mark.parametrize("method", METHODS)
def test_run__does_not_see_the_shape_of_a_sample(method):
    theta, x0 = bowl_theta(*LAM), normals(1, 5, 2, 2)
    x, info = run(method, Bowl(SHAPE), theta, x0, 6, size=1.0)
    flat, flat_info = run(method, Bowl((4,)), theta, x0.reshape(5, 4), 6, size=1.0)
    assert (x.reshape(5, 4) == flat).all() and (info.extra["log_ratio"] == flat_info.extra["log_ratio"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_run__of_no_steps_returns_a_copy_and_of_no_chains_is_empty(method):
    x0 = normals(1, 3, 2, 2)
    x, info = run(method, Bowl(SHAPE), bowl_theta(*LAM), x0, 0)
    assert (x == x0).all() and not np.shares_memory(x, x0)
    assert info.extra["accept"].shape == (0, 3) and (info.extra["nfe"] == 0).all() and info.nonfinite == 0
    x, info = run(method, Bowl(SHAPE), bowl_theta(*LAM), x0[:0], 2)
    assert x.shape == (0, 2, 2) and info.extra["accept"].shape == (2, 0) and info.nonfinite == 0
    before, chains = x0.copy(), np.arange(3)
    run(method, Bowl(SHAPE), bowl_theta(*LAM), x0, 3, chains=chains)
    assert (x0 == before).all() and (chains == np.arange(3)).all()


# ------------------------------------------------------------------------------------------ devices


def duck_backend():
    """The oracle's draws, on a device."""

    def on_device(name):
        return lambda *args: Duck.of(getattr(noise, name)(*args))

    return SimpleNamespace(noise_normal=on_device("noise_normal"), noise_uniform=on_device("noise_uniform"))


@pytest.mark.parametrize("method", METHODS)
def test_run__works_on_any_array_that_answers_numpy(method):
    energy, theta, x0 = Bowl(SHAPE), bowl_theta(*LAM), normals(1, 5, 2, 2)
    want, info = run(method, energy, theta, x0, 4)
    ducks = {name: Duck.of(value) for name, value in theta.items()}
    x, found = run(method, energy, ducks, Duck.of(x0), 4, backend=duck_backend())
    assert (x.get() == want).all() and (found.energy.get() == info.energy).all()
    assert all((found.extra[name].get() == info.extra[name]).all() for name in info.extra)
    assert (found.alive.get() == info.alive).all()


# ------------------------------------------------------------------------------------------- input


BAD = [
    ({"K": -1}, RangeError, "K"),
    ({"K": 1.5}, DTypeError, "K"),
    ({"step": 2**32 - 1, "K": 2}, RangeError, "step"),
    ({"size": 0.0}, RangeError, "eps_step|h"),
    ({"size": np.inf}, RangeError, "eps_step|h"),
    ({"size": "1"}, DTypeError, "eps_step|h"),
    ({"L": 0}, RangeError, "L"),
    ({"L": 2.0}, DTypeError, "L"),
    ({"x0": np.zeros(3)}, ShapeError, "x0"),
    ({"x0": np.zeros((3, 2))}, ShapeError, "x0"),
    ({"x0": np.zeros((3, 1), int)}, DTypeError, "x0"),
    ({"x0": np.full((3, 1), np.nan)}, NonFiniteError, "x0"),
    ({"chains": np.arange(2)}, ShapeError, "chains"),
    ({"chains": np.array([0, 1, -1])}, RangeError, "chains"),
    ({"seed": -1}, RangeError, "seed"),
]


@pytest.mark.parametrize(
    ("method", "change", "error", "name"),
    [(method, *row) for method in METHODS for row in BAD if method == "hmc" or "L" not in row[0]],
)
def test_run__refuses_wrong_arguments(method, change, error, name):
    args = {"energy": Bowl(), "theta": bowl_theta(1.0), "x0": np.zeros((3, 1)), "K": 1}
    with pytest.raises(error, match=name):
        run(method, **(args | change))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("word", ["box", "clip", "clip_norm"])
def test_run__has_no_box_and_no_clip(method, word):
    with pytest.raises(TypeError, match=word):
        run(method, Bowl(), bowl_theta(1.0), np.zeros((3, 1)), 1, **{word: (-1.0, 1.0)})


@pytest.mark.parametrize("method", METHODS)
def test_adapt__splits_over_steps_with_its_state(method):
    theta, x0, rule = bowl_theta(*LAM), normals(1, 20, 2, 2), RobbinsMonro(0.6)

    def adapt(x, K, state, step):
        if method == "mala":
            return mala_adapt(ebm_ref, Bowl(SHAPE), theta, x, K, rule, state, 7, step)
        return hmc_adapt(ebm_ref, Bowl(SHAPE), theta, x, K, 2, rule, state, 7, step)

    whole, end, info = adapt(x0, 8, adaptation_start(0.5), 0)
    half, state, first = adapt(x0, 3, adaptation_start(0.5), 0)
    rest, state, second = adapt(half, 5, state, 3)
    assert (rest == whole).all() and state == end
    sizes = np.concatenate([first.extra["eps_step"], second.extra["eps_step"]])
    assert (sizes == info.extra["eps_step"]).all() and len(set(sizes)) == 8
    assert samplers.adaptation_rate(info.extra["log_ratio"][-1]) == end.rate
