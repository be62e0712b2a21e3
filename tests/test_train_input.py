"""train: what it refuses before any work, and states that are not states."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import ebm_ref
from ebm_ref import Recipe, state_arrays, state_from_arrays, train, train_start, train_step
from ebm_ref.contracts import (
    BackendError,
    CheckpointError,
    DataError,
    DTypeError,
    EbmError,
    NonFiniteError,
    RangeError,
    ShapeError,
)

ENERGY = ebm_ref.MLPEnergy(shape=(2,), hidden=(6,))
DATA = ebm_ref.toy_sample("gaussian_mixture", 50, seed=2)
RECIPE = Recipe(batch=8, K=3, eta=0.1, sigma=0.2, box=(-4.0, 4.0), M=12, steps=20, lr=1e-2)


def flat(state):
    return {name: y.copy() for name, y in state_arrays(state).items()}


@pytest.mark.parametrize(
    ("data", "error", "name"),
    [
        (DATA[:7], DataError, "batch of 8, found 7"),
        (DATA[:0], DataError, "found 0"),
        (np.where(np.arange(50)[:, None] == 3, np.nan, DATA).astype(np.float32), NonFiniteError, "data"),
        (np.where(np.arange(50)[:, None] == 3, np.inf, DATA).astype(np.float32), NonFiniteError, "data"),
        (DATA[:, 0], ShapeError, "data"),
        (DATA[:, :1], ShapeError, "data"),
        (DATA[:, :, None], ShapeError, "data"),
        (DATA.astype(int), DTypeError, "data"),
        (DATA.tolist(), DTypeError, "data"),
        (np.minimum(DATA * 9, 1), DataError, "box"),
        (np.maximum(DATA * 9, 1), DataError, "box"),
    ],
)
def test_train__refuses_wrong_data_before_any_work(data, error, name, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr("ebm_ref.noise.noise_philox", work)
    with pytest.raises(error, match=name):
        train_start(ebm_ref, ENERGY, RECIPE, data, 0)
    if hasattr(data, "dtype"):
        with pytest.raises(error, match=name):
            train(ebm_ref, ENERGY, RECIPE, data, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "pdc"},
        {"batch": 0},
        {"batch": 2.0},
        {"K": -1},
        {"K": 0},
        {"eta": -0.1},
        {"eta": np.nan},
        {"sigma": -0.1},
        {"clip": 0.0},
        {"clip_norm": -1.0},
        {"order": "both"},
        {"box": (1.0, -1.0)},
        {"box": None},
        {"alpha": -0.1},
        {"sigma_data": np.nan},
        {"rho": 1.1},
        {"M": 0},
        {"policy": "lifo"},
        {"start": "samples"},
        {"optimizer": "lion"},
        {"lr": -1e-3},
        {"lr": np.inf},
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"max_grad_norm": 0.0},
        {"ema_decay": 1.0},
        {"warmup": -1},
        {"schedule": "linear"},
        {"steps": 0},
        {"steps": 2**31},
    ],
    ids=str,
)
def test_recipe__refuses_a_wrong_field(change):
    with pytest.raises(EbmError, match=next(iter(change))):
        replace(RECIPE, **change)


def test_recipe__is_frozen_and_makes_its_update():
    with pytest.raises(AttributeError):
        RECIPE.lr = 1.0
    update = replace(RECIPE, clip=0.1, order="noise_first").update()
    assert (update.eta, update.sigma, update.clip, update.box, update.order) == (
        0.1,
        0.2,
        0.1,
        (-4.0, 4.0),
        "noise_first",
    )


def test_train_start__refuses_backends_seeds_and_parameters():
    with pytest.raises(BackendError, match="buffer_draw"):
        lacking = SimpleNamespace(**{name: getattr(ebm_ref, name) for name in ebm_ref.__all__ if name != "buffer_draw"})
        train_start(lacking, ENERGY, RECIPE, DATA, 0)
    with pytest.raises(RangeError, match="seed"):
        train_start(ebm_ref, ENERGY, RECIPE, DATA, -1)
    with pytest.raises(DTypeError, match="data"):
        train_start(ebm_ref, ENERGY, RECIPE, DATA, 0, np.float64)
    theta = ebm_ref.theta_init(ENERGY, 0)
    for change, error in (
        ({"out.b": np.zeros(2, np.float32)}, ShapeError),
        ({"extra": np.zeros(2, np.float32)}, ShapeError),
        ({"out.b": np.array([np.nan], np.float32)}, NonFiniteError),
        ({name: y.astype(np.float64) for name, y in theta.items()}, DTypeError),
    ):
        with pytest.raises(error, match="theta"):
            train_start(ebm_ref, ENERGY, RECIPE, DATA, 0, theta=theta | change)


def test_state_from_arrays__refuses_what_is_not_a_state():
    arrays = flat(train(ebm_ref, ENERGY, RECIPE, DATA, 0, until=1))
    for remove in ("step", "theta/out.b", "buffer/slots", "buffer/ptr"):
        with pytest.raises(CheckpointError, match="state"):
            state_from_arrays({name: y for name, y in arrays.items() if name != remove})
    for change in (
        {"more": np.zeros(1)},
        {"theta": np.zeros(1)},
        {"step/1": np.zeros((), np.int64)},
        {"step": np.zeros(1, np.int64)},
        {"step": np.zeros(())},
        {"step": np.array(-1)},
        {"buffer/policy": np.array(3)},
        {"buffer/filled": np.array(13)},
        {"buffer/slots": np.zeros(3)},
    ):
        with pytest.raises(CheckpointError, match="state"):
            state_from_arrays(arrays | change)


def test_state_from_arrays__copies():
    state = train(ebm_ref, ENERGY, RECIPE, DATA, 0, until=1)
    arrays = state_arrays(state)
    loaded = state_from_arrays(arrays)
    loaded.theta["out.w"][:] = 0
    loaded.buffer.slots[:] = 0
    assert (state.theta["out.w"] != 0).any() and (state.buffer.slots != 0).any()
    assert sorted(arrays)[:3] == ["buffer/filled", "buffer/policy", "buffer/ptr"] and arrays["step"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"M": 13},
        {"policy": "fifo"},
        {"optimizer": "sgd"},
        {"method": "cd"},
    ],
    ids=str,
)
def test_train__refuses_a_state_of_another_recipe(change):
    state = train(ebm_ref, ENERGY, RECIPE, DATA, 0, until=1)
    with pytest.raises(CheckpointError, match=r"state|buffer"):
        train(ebm_ref, ENERGY, replace(RECIPE.using(change.get("method", "pcd")), **change), DATA, 0, state, until=2)


def test_train__refuses_a_state_of_another_energy():
    state = train(ebm_ref, ENERGY, RECIPE, DATA, 0, until=1)
    with pytest.raises(CheckpointError, match="theta"):
        train(ebm_ref, ebm_ref.MLPEnergy(shape=(2,), hidden=(7,)), RECIPE, DATA, 0, state, until=2)
    with pytest.raises(CheckpointError, match="float64"):
        train(ebm_ref, ENERGY, RECIPE, DATA.astype(np.float64), 0, state, until=2)
    state.ema["out.w"][0] = np.nan
    with pytest.raises(CheckpointError, match=r"out\.w"):
        train(ebm_ref, ENERGY, RECIPE, DATA, 0, state, until=2)


def test_train_step__of_pcd_needs_a_buffer():
    state = train(ebm_ref, ENERGY, RECIPE.using("cd"), DATA, 0, until=1)
    with pytest.raises(CheckpointError, match="buffer"):
        train_step(ebm_ref, ENERGY, RECIPE, state, DATA, 0)
