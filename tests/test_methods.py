"""METHODS: every method trains, resumes to the bit and keeps to its addresses, and what it cannot train is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from method_runs import CHAINS, DATA, LABELS, MLP, RECIPES, assert_same, energy_of, flat, teacher_of, trained

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import METHODS, Recipe, state_arrays, state_from_arrays, train, train_start, train_step
from ebm_ref.contracts import (
    BackendError,
    CheckpointError,
    DataError,
    DTypeError,
    RangeError,
    ShapeError,
    SmoothnessError,
    Stream,
)
from ebm_ref.job import LAST_STEP
from ebm_ref.train import _epoch

# -------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_train__of_every_method_resumes_to_the_bit(recipe, dtype, tmp_path):
    data = DATA.astype(dtype)
    end, whole = trained(recipe, data)
    middle, parts = trained(recipe, data, until=2)
    before = flat(middle)
    np.savez(tmp_path / "state.npz", **state_arrays(middle))
    with np.load(tmp_path / "state.npz") as file:
        resumed, rest = trained(recipe, data, state_from_arrays(dict(file)))
    assert whole == parts + rest and len(whole) == 5
    assert_same(flat(end), flat(resumed))
    trained(recipe, data, middle)
    assert_same(flat(middle), before)
    assert all(y.dtype == dtype for y in end.theta.values())
    assert all(np.isfinite(list(record.values())).all() for record in whole)
    assert all(type(value) is float for value in whole[0].values())
    assert set(METHODS[recipe.method].records[:1]) <= set(whole[0])


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train__of_every_method_never_uses_an_address_twice(recipe, monkeypatch):
    _epoch.cache_clear()
    ebm_ref.objectives.jem_step.__globals__["_epoch"].cache_clear()
    used, philox = [], ebm_ref.noise_philox

    def spy(counter, key):
        used.append(np.concatenate([counter.reshape(-1, 4), np.tile(key, (counter.size // 4, 1))], axis=1))
        return philox(counter, key)

    monkeypatch.setattr("ebm_ref.noise.noise_philox", spy)
    trained(recipe, until=8)
    addresses = np.concatenate(used)
    shared = (Stream.DATA_INDEX,) if recipe.method == "jem" else ()  # train and jem_batch read the same permutation
    addresses = addresses[~np.isin(addresses[:, 3], shared)]
    again = (addresses[:, 3] == Stream.LABELLED_INDEX) & (addresses[:, 2] == LAST_STEP)  # the start and the run ask who
    again |= (addresses[:, 3] == Stream.AUGMENTATION) & (addresses[:, 0] == 0)  # xi begins behind the moves' block
    addresses = addresses[~again]
    assert np.unique(addresses, axis=0).shape == addresses.shape


@pytest.mark.parametrize("name", ["numba_cpu"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train__of_every_method_has_the_oracle_s_losses(name, recipe):
    if why_not(name) is not None:
        pytest.skip(why_not(name))
    fast, data = backend(name), DATA.astype(np.float64)
    if METHODS[recipe.method].level == 3:
        with pytest.raises(BackendError, match=f"method {recipe.method} needs .*curvature.*ebm_ref"):
            trained(recipe, data, module=fast)
        return
    recipe = replace(recipe, optimizer="sgd")  # Adam makes parameters of what rounding makes of a zero gradient
    (oracle, expected), (state, records) = trained(recipe, data), trained(recipe, data, module=fast)
    for a, b in zip(expected, records, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert np.isclose(a[key], b[key], rtol=1e-8, atol=1e-9), key
    for key, y in state_arrays(oracle).items():
        assert np.allclose(state_arrays(state)[key], y, rtol=1e-7, atol=1e-8), key


# --------------------------------------------------------------------- what each method learns of a Gaussian


@pytest.mark.parametrize("mean", [0.0, 0.5])
@pytest.mark.parametrize("method", ["ml", "hsm", "ssm", "dsm", "nce", "ranking_nce", "conditional_nce"])
def test_train__learns_a_gaussian(method, mean):
    """mu and P of E = P (x - mu)^2 / 2: of dsm the noised data's, of nce with c = log Z, of the rest the data's own.

    The batch is all of the data, so hsm and ml have no noise; 5 standard errors for those that draw: of P, from n
    draws, 5 sqrt(2 / n) and what the average over the last steps leaves of it.
    """
    n = 1000
    data = ebm_ref.noise_normal(9, Stream.TOY, 0, np.arange(n), 1)
    data = mean + 0.8 * (data - data.mean()) / data.std()
    recipe = Recipe(method, batch=n, box=(-6.0, 6.0), lr=0.05, beta1=0.9, ema_decay=0.9, schedule="cosine", steps=300)
    changes = {
        "dsm": {"level": 0.6},
        "nce": {"nu": 2, "noise_floor": 0.1},
        "ranking_nce": {"nu": 4},
        "ml": {"cells": 256},
    }
    changes["conditional_nce"] = {"level": 0.6}
    energy = ebm_ref.QuadraticEnergy((1,))
    state = train(ebm_ref, energy, replace(recipe, **changes.get(method, {})), data, 3)
    P, mu = float(state.ema["P"][0, 0]), float(state.ema["mu"][0])
    exact = 1 / (0.64 + (0.36 if method == "dsm" else 0))
    tolerance = 0.002 if method in ("ml", "hsm", "ssm") else 0.08  # v' H v of one dimension has no variance either
    assert abs(P / exact - 1) < tolerance and abs(mu - mean) < tolerance
    if method == "nce":
        theta = ebm_ref.energy_theta(energy, state.ema)
        assert set(theta) == {"mu", "P"} and abs(float(state.ema["log_z"][0]) - energy.log_z(theta)) < 0.05


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.level > 1])
def test_train_start__refuses_a_piecewise_smooth_energy_before_any_work(method, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr("ebm_ref.noise.noise_philox", work)
    energy = ebm_ref.MLPEnergy(shape=(2,), hidden=(6,), activation="relu")
    if METHODS[method].model != "energy":
        energy = ebm_ref.FieldEnergy(ebm_ref.MLPField(shape=(2,), hidden=(6,), activation="relu"))
    with pytest.raises(SmoothnessError, match=method):
        train_start(ebm_ref, energy, CHAINS.using(method), DATA, 0)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.level == 0])
def test_train_start__refuses_an_energy_where_a_field_is_trained(method):
    teacher = teacher_of(CHAINS.using(method))
    with pytest.raises(DTypeError, match=f"energy: method {method} trains a field, found MLPEnergy"):
        train_start(ebm_ref, MLP, CHAINS.using(method), DATA, 0, np.float64, teacher=teacher)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.teacher])
def test_train__refuses_a_teacher_it_cannot_learn_from(method):
    recipe = CHAINS.using(method)
    energy, teacher = energy_of(recipe), teacher_of(recipe)
    other = teacher_of(CHAINS.using("student" if method == "projection" else "projection"))
    for bad, error, text in (
        (None, DataError, "teacher: method"),
        (other, DTypeError, "teacher: expected"),
        (ebm_ref.Teacher(teacher.model, {}), ShapeError, "teacher.theta: missing"),
    ):
        with pytest.raises(error, match=text):
            train(ebm_ref, energy, recipe, DATA, 0, until=1, teacher=bad)


@pytest.mark.parametrize(("name", "runs"), [("student", 1), ("student, by an identity", 0)])
def test_train__runs_a_student_s_teacher_once(name, runs, monkeypatch):
    calls, pairs = [], ebm_ref.student_pairs

    def spy(*args):
        calls.append(args)
        return pairs(*args)

    monkeypatch.setattr("ebm_ref.job.student_pairs", spy)
    trained(RECIPES[name])
    assert len(calls) == runs


def test_train__of_em_begins_with_transport_alone():
    _, records = trained(RECIPES["em"])
    assert ["gap" in record for record in records] == [False, False, True, True, True]


def test_train_start__of_em_scales_the_last_layer():
    recipes = [replace(CHAINS.using("em"), start_scale=scale) for scale in (1.0, 3.0)]
    states = [train_start(ebm_ref, MLP, recipe, DATA, 0, DATA.dtype) for recipe in recipes]
    for name in MLP.theta_shapes():
        assert np.array_equal(states[1].theta[name], states[0].theta[name] * (3.0 if name == "out.w" else 1.0))


def test_train__of_jem_needs_classes_and_a_classifier():
    recipe = RECIPES["jem"]
    with pytest.raises(DataError, match="labels: method jem"):
        train(ebm_ref, energy_of(recipe), recipe, DATA, 0, until=1)
    with pytest.raises(ShapeError, match="ClassifierEnergy"):
        train(ebm_ref, MLP, recipe, DATA, 0, until=1, labels=LABELS)
    with pytest.raises(ShapeError, match="labels"):
        train(ebm_ref, energy_of(recipe), recipe, DATA, 0, until=1, labels=LABELS[:-1])
    with pytest.raises(RangeError, match="labels"):
        train(ebm_ref, energy_of(recipe), recipe, DATA, 0, until=1, labels=LABELS + 1)


def test_train__of_ml_needs_a_plane_or_a_line():
    energy = ebm_ref.MLPEnergy(shape=(3,), hidden=(4,))
    with pytest.raises(RangeError, match=r"one or two dimensions, found samples of \(3,\)"):
        train(ebm_ref, energy, RECIPES["ml"], np.zeros((20, 3), np.float32), 0, until=1)


def test_train__of_nce_carries_log_z_beside_theta():
    recipe = RECIPES["nce"]
    state = train_start(ebm_ref, MLP, recipe, DATA, 5)
    job = ebm_ref.train_job(ebm_ref, MLP, recipe, DATA, 5)
    x = job.noise.sample(ebm_ref, 5, LAST_STEP, np.arange(recipe.batch), np.float32)
    own = ebm_ref.energy_theta(MLP, state.theta)
    wanted = np.mean(-MLP.energy(own, x) - job.noise.log_density(x))
    assert set(state.theta) == {*MLP.theta_shapes(), "log_z"}
    assert state.theta["log_z"] == pytest.approx(wanted, rel=1e-6)
    assert any("log_z" in name for name in state.optimizer)
    end, records = trained(recipe, until=3)
    assert end.theta["log_z"] != state.theta["log_z"] and records[1]["log_z"] != records[0]["log_z"]
    with pytest.raises(CheckpointError, match="log_z"):  # a state without it is another method's
        trained(recipe, state=trained(RECIPES["hsm"], until=1)[0])
    with pytest.raises(CheckpointError, match="log_z"):
        trained(RECIPES["hsm"], state=end)


def test_train_step__makes_its_job_where_it_is_given_none():
    recipe = RECIPES["nce"]
    state = train_start(ebm_ref, MLP, recipe, DATA, 5)
    job = ebm_ref.train_job(ebm_ref, MLP, recipe, DATA, 5)
    a, b = train_step(ebm_ref, MLP, recipe, state, DATA, 5), train_step(ebm_ref, MLP, recipe, state, DATA, 5, job)
    assert a[1] == b[1]
    assert_same(flat(a[0]), flat(b[0]))


@pytest.mark.parametrize("method", ["ml", "hsm", "ssm", "cd", "pcd"])
def test_train__learns_what_the_smoothed_data_are_and_ends_at_the_data(method, monkeypatch):
    """At step t the method is given box(x + s_t xi) at addresses of its own; past `smoothing_until` x itself."""
    seen, step = [], METHODS[method].step

    def spy(job, state, x):
        seen.append(x)
        return step(job, state, x)

    monkeypatch.setitem(METHODS, method, replace(METHODS[method], step=spy))
    recipe = replace(CHAINS.using(method), smoothing=2.0, smoothing_until=0.25, cells=CHAINS.cells)  # five steps of 20
    trained(recipe, until=7)
    smoothed, seen[:] = list(seen), []
    trained(replace(recipe, smoothing=0.0, smoothing_until=Recipe.smoothing_until), until=7)
    for t, (x_t, x) in enumerate(zip(smoothed, seen, strict=True)):
        level = 2.0 * max(0.0, 1 - t / 5)
        assert ebm_ref.smoothing_level(t, 20, 2.0, 0.25) == pytest.approx(level)
        xi = ebm_ref.noise_normal(5, Stream.SMOOTHING, t, np.arange(8), 2, np.float32)
        assert np.allclose(x_t, np.clip(x + level * xi, -4.0, 4.0), atol=1e-6)
        assert np.array_equal(x_t, x) == (t >= 5)
