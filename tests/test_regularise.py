"""Training with a gradient penalty and with spectral normalisation: what a step does, resume, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from app_runs import checkpoint, equal, run
from app_runs import train as command
from derivatives import check_theta_gradient
from gaussian import Bowl, bowl_theta
from method_runs import DATA, LABELS, RECIPES, assert_same, energy_of, flat, teacher_of, trained

import ebm_ref
from ebm_fast.app.run import run_open
from ebm_ref import METHODS, state_arrays, state_from_arrays, train_start, train_step
from ebm_ref.contracts import (
    BackendError,
    CheckpointError,
    DTypeError,
    NonFiniteError,
    RangeError,
    ShapeError,
    SmoothnessError,
)
from ebm_ref.regularise import acting_theta
from ebm_ref.train import _batch

SGD = {"optimizer": "sgd", "beta1": 0.0, "lr": 0.1, "ema_decay": 0.75}
PLAIN = {
    name: replace(recipe, **SGD)
    for name, recipe in RECIPES.items()
    if recipe.levels == 1 and "gp" in METHODS[recipe.method].fields
}
WIDE = DATA.astype(np.float64)


def begun(recipe, **changes):
    """A state some steps in, whose copies train_step may advance, and the energy."""
    recipe = replace(recipe, **changes)
    state, _ = trained(recipe, WIDE, until=3)
    return energy_of(recipe), recipe, state


def copied(state):
    return state_from_arrays(state_arrays(state))


def stepped(energy, recipe, state):
    teacher = teacher_of(recipe)
    return train_step(ebm_ref, energy, recipe, copied(state), WIDE, 5, labels=LABELS, teacher=teacher)


# ------------------------------------------------------------------------------------ gradient penalty


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("recipe", PLAIN.values(), ids=PLAIN)
def test_train_step__adds_the_penalty_and_its_gradient(recipe, target):
    """One SGD step with gp is the step without it, and -lr gp dP/dtheta more, P at the batch as it is."""
    energy, recipe, state = begun(recipe)
    (plain, a), (steep, b) = (stepped(energy, r, state) for r in (recipe, replace(recipe, gp=0.3, gp_target=target)))
    x = WIDE[_batch(recipe, 5, state.step, 50)]
    own = ebm_ref.energy_theta(energy, state.theta)

    def penalty(theta):
        norm = np.sqrt((energy.grad_x(theta, x) ** 2).sum(axis=1))
        return 0.3 * ((norm - target) ** 2).mean()

    assert b["loss"] - a["loss"] == pytest.approx(penalty(own), rel=1e-9)
    assert b["penalty"] == pytest.approx(penalty(own), rel=1e-12) and "penalty" not in a
    assert b["slope"] == pytest.approx(np.sqrt((energy.grad_x(own, x) ** 2).sum(axis=1)).mean(), rel=1e-12)
    grads = {name: (plain.theta[name] - steep.theta[name]) / recipe.lr for name in own}
    check_theta_gradient(penalty, grads, own, np.random.default_rng(0), 1e-7)
    for name in set(plain.theta) - set(own):  # log_z has no part in it
        assert np.array_equal(plain.theta[name], steep.theta[name])


def test_train__with_a_penalty_flattens_the_energy_at_the_data():
    slopes = {}
    for gp in (0.0, 10.0):
        state, _ = trained(replace(RECIPES["nce"], gp=gp, steps=60), WIDE, until=60)
        own = ebm_ref.energy_theta(energy_of(RECIPES["nce"]), state.theta)
        slopes[gp] = np.sqrt((energy_of(RECIPES["nce"]).grad_x(own, WIDE) ** 2).sum(axis=1)).mean()
    assert slopes[10.0] < 0.5 * slopes[0.0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nce", {"gp": -1.0}),
        ("nce", {"gp": np.nan}),
        ("nce", {"gp": 1.0, "gp_target": 0.5}),
        ("nce", {"gp": 1.0, "gp_target": True}),
        ("nce", {"gp_target": 1.0}),
        ("dsm, levels", {"gp": 1.0}),
    ],
    ids=str,
)
def test_recipe__refuses_a_penalty_that_means_nothing(name, change):
    with pytest.raises(RangeError, match="gp"):
        replace(RECIPES[name], **change)


def test_train_start__with_a_penalty_needs_second_derivatives():
    recipe = replace(RECIPES["nce"], gp=1.0)
    relu = ebm_ref.MLPEnergy(shape=(2,), hidden=(6,), activation="relu")
    with pytest.raises(SmoothnessError, match="gp"):
        train_start(ebm_ref, relu, recipe, DATA, 0)
    with pytest.raises(BackendError, match="gp needs grad_theta_along"):
        train_start(ebm_ref, Bowl(), recipe, DATA[:, :1], 0, theta=bowl_theta(1.0, dtype=np.float32))
    train_start(ebm_ref, relu, RECIPES["nce"], DATA, 0)


# ------------------------------------------------------------------------------ spectral normalisation


@pytest.mark.parametrize("recipe", PLAIN.values(), ids=PLAIN)
def test_train_step__with_spectral_norm_is_its_parts(recipe):
    """The method's step at y = w / |W u|, its gradient through y, then u moved once at the new theta."""
    energy, recipe, state = begun(recipe, spectral_norm=True, gp=0.2, gp_target=1.0)
    after, record = stepped(energy, recipe, state)
    assert set(state.spectral) == {name for name in energy.theta_shapes() if name.endswith("w")}

    y = ebm_ref.spectral_norm_theta(state.theta, state.spectral)
    job = ebm_ref.train_job(ebm_ref, energy, recipe, WIDE, 5, LABELS, teacher=teacher_of(recipe))
    x = WIDE[_batch(recipe, 5, state.step, 50)]
    level = ebm_ref.smoothing_level(state.step, recipe.steps, recipe.smoothing, recipe.smoothing_until)
    x_t = ebm_ref.smooth_data(ebm_ref, x, level, 5, state.step, recipe.box)  # the penalty is on x itself
    loss, grads, _ = METHODS[recipe.method].step(job, replace(copied(state), theta=y), x_t)
    own = ebm_ref.energy_theta(energy, y)
    penalty, more, _ = ebm_ref.gradient_penalty(energy, own, x, 1.0, 0.2)
    grads = grads | {name: grads[name] + more[name] for name in own}
    grads = ebm_ref.spectral_norm_grads(state.theta, state.spectral, grads)
    theta, _ = ebm_ref.sgd_step(state.theta, grads, state.optimizer, 0.1, 0.0)
    spectral = ebm_ref.spectral_norm_iterate(theta, state.spectral)
    assert record["loss"] == float(loss + penalty)
    assert_same(after.theta, theta)
    assert_same(after.spectral, spectral)
    assert_same(after.ema, ebm_ref.ema_step(state.ema, ebm_ref.spectral_norm_theta(theta, spectral), 0.75))


@pytest.mark.parametrize("recipe", [PLAIN["ml"], PLAIN["hsm"]], ids=["ml", "hsm"])
def test_train_step__with_spectral_norm_follows_the_gradient_in_theta(recipe):
    """u held, the SGD step is -lr times the central difference of the loss in theta, not in y."""
    energy, recipe, state = begun(recipe, spectral_norm=True)
    after, _ = stepped(energy, recipe, state)

    def loss(theta):
        return stepped(energy, recipe, replace(state, theta=theta))[1]["loss"]

    grads = {name: (state.theta[name] - after.theta[name]) / recipe.lr for name in state.theta}
    check_theta_gradient(loss, grads, state.theta, np.random.default_rng(0), 1e-6)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_train__with_spectral_norm_resumes_to_the_bit(recipe, dtype, tmp_path):
    recipe, data = replace(recipe, spectral_norm=True), DATA.astype(dtype)
    end, whole = trained(recipe, data)
    middle, parts = trained(recipe, data, until=2)
    np.savez(tmp_path / "state.npz", **state_arrays(middle))
    with np.load(tmp_path / "state.npz") as file:
        resumed, rest = trained(recipe, data, state_from_arrays(dict(file)))
    assert whole == parts + rest
    assert_same(flat(end), flat(resumed))
    assert all(u.dtype == dtype for u in end.spectral.values())
    moved = [name for name, u in end.spectral.items() if u.size > 1]  # one output: u is 1 or -1
    assert moved and not any(np.array_equal(end.spectral[name], middle.spectral[name]) for name in moved)


def test_train__with_spectral_norm_keeps_the_largest_singular_values_at_one():
    state, _ = trained(replace(RECIPES["nce"], spectral_norm=True, steps=60), WIDE, until=60)
    start = train_start(ebm_ref, energy_of(RECIPES["nce"]), replace(RECIPES["nce"], spectral_norm=True), DATA, 5)
    for s, low, high in ((start, 0.999, 1.05), (state, 0.999, 1.01)):
        y = acting_theta(s.theta, s.spectral)
        assert all(low <= np.linalg.norm(y[name], 2) <= high for name in s.spectral)
    assert any(abs(np.linalg.norm(state.theta[name], 2) - 1) > 0.1 for name in state.spectral)  # theta itself is free
    assert all(np.linalg.norm(state.ema[name], 2) <= 1.02 for name in state.spectral)  # an average of such


def test_train_start__with_spectral_norm_fits_log_z_to_the_weights_that_act():
    energy, recipe = energy_of(RECIPES["nce"]), replace(RECIPES["nce"], spectral_norm=True)
    state = train_start(ebm_ref, energy, recipe, WIDE, 5, np.float64)
    y = ebm_ref.energy_theta(energy, acting_theta(state.theta, state.spectral))
    free = train_start(ebm_ref, energy, RECIPES["nce"], WIDE, 5, np.float64, theta=y)
    assert state.theta["log_z"] == pytest.approx(free.theta["log_z"], rel=1e-12)
    assert_same(state.ema, y | {"log_z": state.theta["log_z"]})


def test_spectral_norm__refusals():
    recipe = replace(RECIPES["ml"], spectral_norm=True)
    with pytest.raises(DTypeError, match="spectral_norm: expected True or False, found 1"):
        replace(RECIPES["ml"], spectral_norm=1)
    with pytest.raises(ShapeError, match="weights named w, found mu, P"):
        train_start(ebm_ref, ebm_ref.QuadraticEnergy((2,)), recipe, DATA, 0)
    energy = energy_of(recipe)
    theta = ebm_ref.theta_init(energy, 0)
    theta["out.w"][:] = 0
    with pytest.raises(NonFiniteError, match="out.w that is not zero"):
        train_start(ebm_ref, energy, recipe, DATA, 0, theta=theta)
    state = trained(recipe, until=1)[0]
    with pytest.raises(CheckpointError, match="spectral: expected u of no weight"):
        trained(RECIPES["ml"], state=state)
    with pytest.raises(CheckpointError, match="spectral: expected u of .*out.w.*, found none"):
        trained(recipe, state=trained(RECIPES["ml"], until=1)[0])
    state.spectral["out.w"] = np.ones(3, np.float32)
    with pytest.raises(CheckpointError, match="spectral"):
        trained(recipe, state=state)


def test_run__with_spectral_norm_resumes_and_is_judged_by_the_weights_that_act(tmp_path):
    sets = ("train.spectral_norm=true", "train.gp=0.1", "run.save_every=2")
    a, b = tmp_path / "a", tmp_path / "b"
    run(*command(a, "--steps", "6", sets=sets))
    run(*command(b, "--steps", "3", sets=(*sets, "train.steps=6")))
    run(*command(b, "--steps", "6", "--resume", sets=sets))
    end = checkpoint(a)
    assert equal(end, checkpoint(b)) and any(name.startswith("spectral/") for name in end)
    opened, state = run_open(a)
    for _ in range(2):  # sampling moves nothing
        theta = opened.model(state).theta
        assert all(np.array_equal(theta[name], end[f"ema/{name}"]) for name in theta)
        assert all(np.linalg.norm(theta[name], 2) < 1.1 for name in state.spectral)
        run("sample", str(a), "--n", "4", "--K", "2")
    assert equal(end, checkpoint(a))
