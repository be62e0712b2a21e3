"""METHODS: every method trains, resumes to the bit, keeps to its addresses, and reads what it says it reads."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

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
from ebm_ref.method import READ_BY_ALL
from ebm_ref.train import _epoch

MLP = ebm_ref.MLPEnergy(shape=(2,), hidden=(6,))
DATA = ebm_ref.toy_sample("gaussian_mixture", 50, seed=2)
LABELS = np.arange(50) % 3
CHAINS = Recipe(
    batch=8, K=3, eta=0.05, sigma=0.2, box=(-4.0, 4.0), M=12, steps=20, lr=1e-2, ema_decay=0.9, rho=0.3, sigma_data=0.1
)
PLAIN = CHAINS.using("hsm")
RECIPES = {
    **{name: replace(PLAIN, method=name) for name in ("ml", "hsm", "ssm", "dsm", "nce", "conditional_nce")},
    "ssm, three directions": replace(PLAIN, method="ssm", projections=3, directions="sphere", variance_reduced=False),
    "dsm, levels": replace(PLAIN, method="dsm", levels=4, level=0.2, level_high=2.0),
    "nce, uniform": replace(PLAIN, method="nce", noise="uniform", nu=2),
    "ranking_nce": replace(PLAIN, method="ranking_nce", nu=3),
    "icd": replace(CHAINS.using("icd"), references=5, depth=2),
    "jem": replace(CHAINS.using("jem"), w_mi=0.1),
    "jem, conditional": replace(CHAINS.using("jem"), conditional=True, w_xy=0.5, start="class_gaussians"),
    "jem, balanced": replace(CHAINS.using("jem"), balance="steps", K_max=6, inner=2, delta=-0.1),
    "jem, energy target": replace(CHAINS.using("jem"), balance="energy_target", burn_in=3, kappa=0.2),
    "jem, few labels": replace(CHAINS.using("jem"), labelled=11, start="class_gaussians", ridge=0.1),
    "hsm, smoothed": replace(PLAIN, smoothing=0.5, smoothing_until=0.2),
    "pcd, smoothed": replace(CHAINS, smoothing=0.5, smoothing_until=0.2),
    "icd, augmented": replace(CHAINS.using("icd"), references=5, augment_sigma=0.1),
    "flow": CHAINS.using("flow"),
    "projection": CHAINS.using("projection"),
    "em": replace(CHAINS.using("em"), transport_steps=2, contrast=0.5, s_star=0.8, cutoff=0.5, trim=0.2, clamp=0.5),
    "em, as they come": replace(CHAINS.using("em"), coupling="independent", clip_transport=0.5),
    "eqm": CHAINS.using("eqm"),
    "eqm-dot": replace(CHAINS.using("eqm-dot"), target="piecewise", target_a=0.7, target_b=2.0),
    "eqm-l2": replace(CHAINS.using("eqm-l2"), target="linear", target_scale=2.0),
    "student": CHAINS.using("student"),
    "student, of paths": replace(CHAINS.using("student"), lesson="trajectory", horizon=0.15),
}


def energy_of(recipe, module=ebm_ref):
    if recipe.method == "jem":
        return module.ClassifierEnergy(module.MLPEnergy(shape=(2,), hidden=(6,)), 3)
    if recipe.levels > 1:
        trunk = module.MLPEnergy(shape=(3,), hidden=(6,))
        return ebm_ref.NoiseConditionalEnergy(trunk, low=recipe.level, high=recipe.level_high)
    model = METHODS[recipe.method].model
    if model in ("field", "dot", "norm"):
        field = module.MLPField(shape=(2,), hidden=(6,))
        return field if model == "field" else module.FieldEnergy(field, model)
    if model in ("time_field", "flow_map"):
        trunk = module.MLPField(shape=(3,), hidden=(6,), out_channels=2)
        return ebm_ref.TimeField(trunk) if model == "time_field" else ebm_ref.FlowMap(trunk, recipe.horizon)
    return module.MLPEnergy(shape=(2,), hidden=(6,))


def teacher_of(recipe, dtype=np.float64, module=ebm_ref):
    """What projection and student learn from: a flow, and a field."""
    if not METHODS[recipe.method].teacher:
        return None
    other = energy_of(CHAINS.using("flow" if recipe.method == "projection" else "eqm"), module)
    return ebm_ref.Teacher(other, ebm_ref.theta_init(energy_of_same(other), 7, dtype))


def energy_of_same(model):
    """The oracle's model with the parameters' names of another backend's."""
    if hasattr(model, "trunk"):
        return ebm_ref.TimeField(ebm_ref.MLPField(shape=(3,), hidden=(6,), out_channels=2))
    return ebm_ref.MLPField(shape=(2,), hidden=(6,))


def trained(recipe, data=DATA, state=None, until=5, module=ebm_ref):
    records = []
    energy = energy_of(recipe, module)
    teacher = teacher_of(recipe, data.dtype, module)
    state = train(module, energy, recipe, data, 5, state, until, lambda s, r: records.append(r), LABELS, teacher)
    return state, records


def flat(state):
    return {name: y.copy() for name, y in state_arrays(state).items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


# ------------------------------------------------------------------------------------------ the table


def test_methods__read_and_need_what_exists():
    names = {field.name for field in fields(Recipe)}
    for name, method in METHODS.items():
        assert set(method.reads) <= names and not set(method.reads) & set(READ_BY_ALL), name
        assert set(method.unread) <= set(READ_BY_ALL) and set(method.fields) <= names, name
        assert all(hasattr(ebm_ref, function) for function in method.needs), name
    assert set(READ_BY_ALL).union(*(method.reads for method in METHODS.values())) == names


OTHER = {
    "alpha": 0.5,
    "sigma_data": 0.5,
    "rho": 0.5,
    "M": 3,
    "policy": "fifo",
    "start": "data_noise",
    "level": 0.5,
    "levels": 2,
    "projections": 2,
    "directions": "sphere",
    "variance_reduced": False,
    "noise": "uniform",
    "noise_floor": 0.5,
    "nu": 2,
    "cells": 3,
    "w_x": 0.5,
    "w_yx": 0.5,
    "w_xy": 0.5,
    "w_mi": 0.5,
    "conditional": True,
    "inner": 2,
    "balance": "weight",
    "kappa_opt": 0.5,
    "kappa_ent": 0.5,
    "references": 3,
    "depth": 2,
    "labelled": 9,
    "augment_shift": 1,
    "augment_flip": True,
    "augment_sigma": 0.1,
    "smoothing": 0.5,
    "transport_steps": 3,
    "s_star": 0.5,
    "contrast": 0.5,
    "trim": 0.5,
    "clamp": 0.5,
    "cutoff": 0.5,
    "clip_transport": 0.5,
    "coupling": "independent",
    "time": 0.5,
    "target": "linear",
    "target_a": 0.5,
    "target_scale": 0.5,
    "descent": "adam",
    "g_min": 0.5,
    "lesson": "eulerian",
    "horizon": 0.5,
}
NEEDS = {  # read beside these alone
    "level_high": "levels",
    "K_max": "balance",
    "delta": "balance",
    "kappa": "balance",
    "eta_low": "balance",
    "eta_high": "balance",
    "burn_in": "balance",
    "ridge": "start",
    "smoothing_until": "smoothing",
    "target_b": "target",
    "mu": "descent",
}


@pytest.mark.parametrize("method", METHODS)
def test_recipe__refuses_what_its_method_does_not_read(method):
    recipe = CHAINS.using(method)
    assert set(OTHER) == {n for m in METHODS.values() for n in m.reads} - set(NEEDS)
    for name, value in OTHER.items():
        if name in METHODS[method].reads:
            assert getattr(replace(recipe, **{name: value}), name) == value
        else:
            with pytest.raises(RangeError, match=f"{name}: method {method} does not read it, .* would"):
                replace(recipe, **{name: value})
    reader = next(iter(name for name, m in METHODS.items() if "level" in m.reads))
    if method != reader and "level" not in METHODS[method].reads:
        with pytest.raises(RangeError, match=reader):
            replace(recipe, level=0.5)


UNREAD = {"K": 2, "eta": 0.02, "sigma": 0.3, "clip": 1.0, "clip_norm": 1.0, "order": "noise_first", "gp": 0.1}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.unread])
def test_recipe__refuses_what_all_others_read(method):
    for name, value in UNREAD.items():
        if name in METHODS[method].unread:
            with pytest.raises(RangeError, match=f"{name}: method {method} does not read it, .*pcd.* would"):
                replace(CHAINS.using(method), **{name: value})
        else:
            replace(CHAINS.using(method), **{name: value})


def test_recipe__using_keeps_what_the_other_method_reads():
    icd = replace(CHAINS, policy="fifo").using("icd")
    assert (icd.M, icd.policy, icd.lr, icd.K) == (12, "fifo", 1e-2, 3)
    dsm = replace(CHAINS, policy="fifo").using("dsm")
    assert (dsm.M, dsm.policy, dsm.lr, dsm.K) == (Recipe.M, "in_place", 1e-2, 3)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("dsm", {"level_high": 2.0}),  # one level
        ("dsm", {"levels": 3, "level": 2.0}),  # above level_high
        ("dsm", {"level": 0.0}),
        ("ml", {"box": None}),
        ("nce", {"noise": "uniform", "box": None}),
        ("pcd", {"start": "class_gaussians"}),
        ("pcd", {"box": None}),
        ("jem", {"balance": "steps"}),
        ("jem", {"K_max": 9}),
        ("jem", {"delta": 0.5}),
        ("jem", {"delta": 0.5, "balance": "weight"}),
        ("jem", {"delta": float("nan"), "balance": "steps", "K_max": 9}),
        ("jem", {"ridge": 0.1}),
        ("jem", {"ridge": 0.0, "start": "class_gaussians"}),
        ("jem", {"labelled": 0}),
        ("jem", {"labelled": 9, "w_yx": 0.0}),
        ("icd", {"augment_shift": -1}),
        ("icd", {"augment_sigma": -0.1}),
        ("jem", {"balance": "steps", "K_max": 2}),
        ("jem", {"balance": "luck"}),
        ("jem", {"balance": "weight", "w_x": 0.0}),
        ("jem", {"balance": "energy_target"}),
        ("jem", {"burn_in": 5}),
        ("jem", {"burn_in": 5, "balance": "weight"}),
        ("jem", {"kappa": 0.1}),
        ("jem", {"kappa": 0.1, "balance": "steps", "K_max": 9}),
        ("jem", {"eta_low": 0.01}),
        ("jem", {"eta_high": 1.0}),
        ("jem", {"balance": "energy_target", "burn_in": 0}),
        ("jem", {"balance": "energy_target", "burn_in": 21}),  # of 20 steps
        ("jem", {"balance": "energy_target", "burn_in": 5, "K_max": 9}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "delta": 0.1}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "kappa": 0.0}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "kappa": 1.5}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_low": 0.0}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_low": 0.06}),  # above eta
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_high": 0.04}),
        ("jem", {"balance": "energy_target", "burn_in": 5, "eta_low": 0.04, "eta_high": 0.03}),
        ("jem", {"w_x": -1.0}),
        ("icd", {"kappa_ent": -1.0}),
        ("ssm", {"directions": "north"}),
        ("hsm", {"smoothing": -0.1}),
        ("hsm", {"smoothing": 0.5, "smoothing_until": 0.0}),
        ("hsm", {"smoothing": 0.5, "smoothing_until": 1.5}),
        ("hsm", {"smoothing_until": 0.5}),
        ("nce", {"nu": 0}),
        ("em", {"s_star": 0.0}),
        ("em", {"s_star": 1.5}),
        ("em", {"sigma": 0.0}),  # tau
        ("em", {"eta": 0.0}),
        ("em", {"trim": 1.0}),
        ("em", {"clamp": 0.0}),
        ("em", {"contrast": -1.0}),
        ("em", {"transport_steps": 21}),  # of 20
        ("em", {"coupling": "some"}),
        ("em", {"time": 0.0}),
        ("eqm", {"target_a": 1.0}),
        ("eqm", {"target_scale": 0.0}),
        ("eqm", {"target_b": 2.0}),
        ("eqm", {"target": "linear", "target_a": 0.5}),
        ("eqm", {"mu": 0.5}),
        ("eqm", {"descent": "nesterov", "mu": 1.0}),
        ("eqm", {"g_min": -1.0}),
        ("student", {"eta": 2.0}),  # beyond the horizon
        ("student", {"horizon": 0.0}),
        ("student", {"lesson": "none"}),
    ],
    ids=str,
)
def test_recipe__refuses_what_its_method_cannot_do(method, change):
    with pytest.raises((RangeError, ShapeError)):
        replace(CHAINS.using(method), **change)


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


def test_train__of_em_begins_with_transport_alone():
    _, records = trained(RECIPES["em"])
    assert ["gap" in record for record in records] == [False, False, True, True, True]


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
