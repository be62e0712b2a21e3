"""train: batches, exact resume, distinct addresses, and a stop with the numbers when something is not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import Recipe, TrainState, state_arrays, state_from_arrays, train, train_start, train_step
from ebm_ref.contracts import (
    NonFiniteError,
    Stream,
)
from ebm_ref.noise import noise_permutation
from ebm_ref.train import _epoch

ENERGY = ebm_ref.MLPEnergy(shape=(2,), hidden=(6,))
DATA = ebm_ref.toy_sample("gaussian_mixture", 50, seed=2)
RECIPE = Recipe(batch=8, K=3, eta=0.1, sigma=0.2, box=(-4.0, 4.0), M=12, steps=20, lr=1e-2, warmup=2, ema_decay=0.9)
RECIPES = {
    "pcd": RECIPE,
    "cd": replace(RECIPE.using("cd"), schedule="cosine"),
    "fifo": replace(RECIPE, policy="fifo", optimizer="sgd", beta1=0.5, order="noise_first"),
    "reservoir": replace(RECIPE, policy="reservoir", start="data_noise", clip=0.5, clip_norm=1.0, max_grad_norm=0.1),
}


def flat(state):
    return {name: y.copy() for name, y in state_arrays(state).items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and (a[name] == b[name]).all(), name


# ------------------------------------------------------------------------------------- exact resume


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_train__resumes_to_the_bit(recipe, dtype, tmp_path):
    """N + M steps are N steps, save, load, M steps."""
    data = DATA.astype(dtype)
    whole, parts = [], []
    end = train(ebm_ref, ENERGY, recipe, data, 5, until=9, callback=lambda s, r: whole.append(r))
    middle = train(ebm_ref, ENERGY, recipe, data, 5, until=4, callback=lambda s, r: parts.append(r))
    np.savez(tmp_path / "state.npz", **state_arrays(middle))
    with np.load(tmp_path / "state.npz") as file:
        loaded = state_from_arrays(dict(file))
    resumed = train(ebm_ref, ENERGY, recipe, data, 5, loaded, until=9, callback=lambda s, r: parts.append(r))
    assert whole == parts and end.step == resumed.step == 9
    assert_same(flat(end), flat(resumed))
    assert end.theta["out.w"].dtype == dtype
    other = train(ebm_ref, ENERGY, recipe, data, 6, until=9)
    assert not (other.theta["out.w"] == end.theta["out.w"]).all()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train__leaves_its_arguments_alone(recipe):
    data = DATA.copy()
    state = train(ebm_ref, ENERGY, recipe, data, 5, until=2)
    before = flat(state)
    train(ebm_ref, ENERGY, recipe, data, 5, state, until=5)
    assert_same(flat(state), before)
    buffer_aside = {name: y for name, y in before.items() if not name.startswith("buffer")}
    train_step(ebm_ref, ENERGY, recipe, state, data, 5)  # advances the buffer, and nothing else
    assert_same({name: y for name, y in flat(state).items() if not name.startswith("buffer")}, buffer_aside)
    assert (data == DATA).all()


def test_train__ends_where_it_is_told():
    seen = []
    state = train(ebm_ref, ENERGY, replace(RECIPE, steps=3), DATA, 0, callback=lambda s, r: seen.append(s.step))
    assert state.step == 3 and seen == [1, 2, 3]
    assert train(ebm_ref, ENERGY, RECIPE, DATA, 0, state, until=2).step == 3
    assert train(ebm_ref, ENERGY, RECIPE, DATA, 0, until=0).step == 0


# ----------------------------------------------------------------------------------------- one step


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train_step__is_its_parts(recipe):
    seed, data = 3, DATA
    state = train(ebm_ref, ENERGY, recipe, data, seed, until=7)
    start = flat(state)
    after, record = train_step(ebm_ref, ENERGY, recipe, state, data, seed)

    old = state_from_arrays(start)
    order = noise_permutation(seed, Stream.DATA_INDEX, 1, 50)  # 6 batches an epoch: step 7 is batch 1 of epoch 1
    x = data[order[8:16]]
    chain = (recipe.K, recipe.update(), recipe.alpha, recipe.sigma_data)
    if recipe.method == "cd":
        loss, grads, info = ebm_ref.cd_step(ebm_ref, ENERGY, old.theta, x, *chain, seed, 7, recipe.box)
    else:
        rest = (*chain, recipe.rho, seed, 7, recipe.box, recipe.start)
        loss, grads, info = ebm_ref.pcd_step(ebm_ref, ENERGY, old.theta, x, old.buffer, *rest)
    grads, norm = ebm_ref.clip_global_norm(grads, recipe.max_grad_norm)
    lr = ebm_ref.schedule_value(7, 20, 1e-2, 2, recipe.schedule)
    if recipe.optimizer == "adam":
        theta, optimizer = ebm_ref.adam_step(old.theta, grads, old.optimizer, lr, recipe.beta1, recipe.beta2)
    else:
        theta, optimizer = ebm_ref.sgd_step(old.theta, grads, old.optimizer, lr, recipe.beta1)
    want = TrainState(theta, ebm_ref.ema_step(old.ema, theta, 0.9), optimizer, old.buffer, 8)
    assert_same(flat(after), flat(want))
    assert record == pytest.approx(
        {
            "loss": float(loss),
            "gap": float(info["energy_neg"] - info["energy_pos"]),
            "energy_pos": float(info["energy_pos"]),
            "energy_neg": float(info["energy_neg"]),
            "grad_norm": norm,
            "grad_x_norm": float(info["chain"].grad_norm.mean(dtype=np.float64)),
            "nonfinite": 0.0,
            "lr": lr,
        },
        rel=1e-12,
    )
    assert all(type(value) is float for value in record.values())


def test_train_step__sees_every_datum_once_an_epoch():
    """With 50 data and batches of 8, six batches are an epoch; its 48 data are distinct, and epochs differ."""
    numbers = np.arange(50, dtype=np.float32).reshape(50, 1) / 50
    seen = []

    class Watch(Bowl):
        def energy(self, theta, x):
            seen.append(x)
            return super().energy(theta, x)

    recipe = replace(RECIPE.using("cd"), sigma_data=0.0, box=(-1.0, 1.0))
    state = train_start(ebm_ref, Watch(), recipe, numbers, 1, theta=bowl_theta(1.0, dtype=np.float32))
    for _ in range(12):
        state, _ = train_step(ebm_ref, Watch(), recipe, state, numbers, 1)
    epochs = np.concatenate(seen[0::2]).reshape(2, 48)  # the first of each pair is x_pos
    assert all(np.unique(epoch).size == 48 for epoch in epochs)
    assert not (epochs[0] == epochs[1]).all() and np.isin(epochs, numbers).all()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train__never_uses_an_address_twice(recipe, monkeypatch):
    """Every block of random words of a whole run has its own (stream, step, chain, block)."""
    _epoch.cache_clear()
    used, philox = [], ebm_ref.noise_philox

    def spy(counter, key):
        used.append(np.concatenate([counter.reshape(-1, 4), np.tile(key, (counter.size // 4, 1))], axis=1))
        return philox(counter, key)

    monkeypatch.setattr("ebm_ref.noise.noise_philox", spy)
    train(ebm_ref, ENERGY, recipe, DATA, 4, until=8)
    addresses = np.concatenate(used)
    assert np.unique(addresses, axis=0).shape == addresses.shape
    assert (addresses[:, 4:] == [4, 0]).all()
    streams = set(addresses[:, 3].tolist())
    always = {Stream.PARAMS_INIT, Stream.DATA_INDEX, Stream.DATA_NOISE, Stream.CHAIN_NOISE}
    buffered = {
        Stream.SAMPLE_START,
        Stream.BUFFER_INDEX,
        Stream.BUFFER_MASK,
        Stream.BUFFER_FRESH,
        Stream.BUFFER_RESERVOIR,
    }
    assert streams == {int(s) for s in (always if recipe.method == "cd" else always | buffered)}


def test_train__learns_the_variance_of_gaussian_data():
    """On E = lam x^2 / 2 the fixed point of PCD with ULA is lam (1 - eta lam / 2) = 1 / var of the data."""
    data = ebm_ref.noise_normal(9, Stream.TOY, 0, np.arange(512), 1)
    data *= 0.8 / data.std()
    eta = 0.2
    recipe = Recipe(
        batch=256,
        K=5,
        eta=eta,
        sigma=float(np.sqrt(2 * eta)),
        box=None,
        alpha=0.0,
        sigma_data=0.0,
        rho=0.0,
        M=256,
        policy="fifo",
        start="data_noise",
        lr=0.02,
        ema_decay=0.99,
        steps=500,
    )
    state = train_start(ebm_ref, Bowl(), recipe, data, 3, np.float64, theta=bowl_theta(0.5))
    state = train(ebm_ref, Bowl(), recipe, data, 3, state)
    lam = float(state.ema["lam"][0])
    exact = (1 - np.sqrt(1 - 2 * eta / 0.64)) / eta
    assert abs(lam / exact - 1) < 0.05
    assert abs(lam * 0.64 - 1) > 0.05  # and not 1 / var, which a calibrated sampler would give


# -------------------------------------------------------------------------------- what is not finite


@dataclass(frozen=True)
class Bad(Bowl):
    """The bowl, with one wrong number in E, in grad_x E or in grad_theta E."""

    where: str = "energy"
    value: float = np.nan

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        if self.where == "chains":
            g = g + self.value
        if self.where == "energy":
            E = np.where(np.arange(len(x)) == 0, self.value, E).astype(x.dtype)
        return E, g

    def grad_theta(self, theta, x, w):
        grads = super().grad_theta(theta, x, w)
        return {"lam": grads["lam"] * self.value, "bias": grads["bias"]} if self.where == "grads" else grads


@pytest.mark.parametrize("method", ["cd", "pcd"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["energy", "grads", "chains"])
def test_train_step__stops_with_the_numbers(method, where, value):
    data = DATA[:, :1].astype(np.float64)
    energy, recipe = Bad((1,), where, value), RECIPE.using(method)
    state = train_start(ebm_ref, energy, recipe, data, 0, np.float64, theta=bowl_theta(1.0))
    with pytest.raises(NonFiniteError, match="step 0.*loss.*energy_pos.*nonfinite.*lr"):
        train_step(ebm_ref, energy, recipe, state, data, 0)
    assert state.step == 0 and state.theta["lam"] == 1.0
    if state.buffer is not None:
        assert np.isfinite(state.buffer.slots).all()


def test_train_step__stops_when_the_loss_alone_is_not_finite():
    data, recipe = DATA[:, :1].astype(np.float64), replace(RECIPE, alpha=0.0)  # then no weight carries E
    state = train_start(ebm_ref, Bad((1,)), recipe, data, 0, np.float64, theta=bowl_theta(1.0))
    with pytest.raises(NonFiniteError, match="a finite loss.*loss nan"):
        train_step(ebm_ref, Bad((1,)), recipe, state, data, 0)


def test_train_step__counts_chains_that_stopped_and_goes_on():
    class OneBadChain(Bowl):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return E, np.where(np.arange(len(x))[:, None] == 2, np.inf, g).astype(x.dtype)

    data = DATA[:, :1]
    theta = bowl_theta(1.0, dtype=np.float32)
    state = train_start(ebm_ref, OneBadChain(), RECIPE, data, 0, theta=theta)
    after, record = train_step(ebm_ref, OneBadChain(), RECIPE, state, data, 0)
    assert record["nonfinite"] == 1.0 and np.isfinite(list(record.values())).all() and after.step == 1


def test_train_step__stops_when_parameters_overflow():
    recipe = replace(RECIPE, optimizer="sgd", beta1=0.0, lr=1e300, warmup=0, alpha=1.0)
    data = DATA[:, :1].astype(np.float64)
    theta = bowl_theta(1e10)
    state = train_start(ebm_ref, Bowl(), replace(recipe, sigma=0.0, eta=0.0), data, 0, np.float64, theta=theta)
    with pytest.raises(NonFiniteError, match="lam"):
        train_step(ebm_ref, Bowl(), replace(recipe, sigma=0.0, eta=0.0), state, data, 0)
