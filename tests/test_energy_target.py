"""balance = energy_target in a run: eta follows the gap for burn_in steps, then it is frozen; the state carries it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from app_runs import checkpoint, equal, run, untimed
from method_runs import CHAINS, DATA, LABELS, assert_same, energy_of

import ebm_ref
from ebm_fast.app import training
from ebm_fast.app.annealing import temperature
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.config import file_tables, merge, preset_tables, resolve
from ebm_fast.app.draws import draw, fresh_start
from ebm_fast.app.run import run_open
from ebm_fast.app.runfolder import metrics_read
from ebm_ref import SGLD, state_arrays, state_from_arrays, train, train_start, train_step
from ebm_ref.contracts import CheckpointError, NonFiniteError

WIDE = DATA.astype(np.float64)
RECIPE = replace(CHAINS.using("jem"), optimizer="sgd", balance="energy_target", burn_in=6, kappa=0.5, steps=12)
PLAIN = replace(RECIPE, balance=None, burn_in=None, kappa=0.01)


def trained(recipe, data=WIDE, labels=LABELS, **more):
    records = []
    energy = energy_of(recipe)
    state = train(ebm_ref, energy, recipe, data, 5, callback=lambda s, r: records.append(r), labels=labels, **more)
    return state, records


# --------------------------------------------------------------------------------------- the controller


@pytest.mark.parametrize(("at", "sign"), [("low", 1), ("high", -1)])
def test_train__of_energy_target_moves_eta_by_kappa_until_its_bound_and_then_freezes_it(at, sign):
    """Uniform restarts lie above the lowest points of the plane and below its highest: the gap has one sign."""
    recipe = replace(RECIPE, rho=1.0, K=1, sigma=0.01, lr=0.0, sigma_data=0.0, kappa=0.4, eta_low=0.02, eta_high=0.15)
    theta = train_start(ebm_ref, energy_of(recipe), recipe, WIDE, 5, np.float64, labels=LABELS).theta
    plane = np.stack(np.meshgrid(*[np.linspace(-4, 4, 41)] * 2), axis=-1).reshape(-1, 2)  # (1681, 2)
    order = np.argsort(energy_of(recipe).energy(theta, plane))
    data = plane[order[:50] if at == "low" else order[-50:]]
    state, records = trained(recipe, data)
    steps = np.minimum(np.arange(12), 6)
    wanted = np.clip(0.05 * np.exp(0.4 * sign * steps), 0.02, 0.15)
    assert all(np.sign(record["gap"]) == sign for record in records)
    assert [record["eta"] for record in records] == pytest.approx(wanted.tolist(), rel=1e-12)
    assert state.eta == records[-1]["eta"]


def test_train__of_energy_target_follows_its_own_gaps():
    recipe = replace(RECIPE, burn_in=8)
    _, records = trained(recipe)
    eta = 0.05
    for step, record in enumerate(records):
        assert record["eta"] == eta
        if step < 8:
            eta = ebm_ref.energy_target(eta, record["gap"], 0.5, 1e-3, 10.0)
    assert len({np.sign(record["gap"]) for record in records[:8]}) == 2  # it went both ways


@pytest.mark.parametrize("done", [3, 8])
def test_train_step__of_energy_target_moves_its_chains_by_the_eta_of_its_state(done):
    """Within burn_in and after it."""
    state, _ = trained(RECIPE, until=done)
    after, record = train_step(
        ebm_ref, energy_of(RECIPE), RECIPE, state_from_arrays(state_arrays(state)), WIDE, 5, labels=LABELS
    )
    plain = replace(PLAIN, eta=state.eta)
    before = replace(state_from_arrays(state_arrays(state)), eta=None)
    want, same = train_step(ebm_ref, energy_of(RECIPE), plain, before, WIDE, 5, labels=LABELS)
    assert state.eta != RECIPE.eta and np.array_equal(after.buffer.slots, want.buffer.slots)
    assert_same(after.theta, want.theta)
    assert record == same | {"eta": state.eta}
    assert (after.eta == state.eta) == (done >= RECIPE.burn_in)


def test_train_step__of_energy_target_stops_at_a_loss_that_is_not_finite():
    """Energies of -3e38, whose sum overflows where every gradient is finite; not an error of the controller's."""
    state, _ = trained(RECIPE, DATA, until=1)
    state.theta["out.b"] = np.full(3, 3e38, np.float32)
    with pytest.raises(NonFiniteError, match="step 1: expected a finite loss.*gap nan.*eta"):
        train_step(ebm_ref, energy_of(RECIPE), RECIPE, state, DATA, 5, labels=LABELS)


# -------------------------------------------------------------------------------------------- the state


@pytest.mark.parametrize("cut", [1, 6, 9])
def test_train__of_energy_target_resumes_with_the_same_eta(cut, tmp_path):
    end, whole = trained(RECIPE)
    middle, first = trained(RECIPE, until=cut)
    np.savez(tmp_path / "state.npz", **state_arrays(middle))
    with np.load(tmp_path / "state.npz") as file:
        loaded = state_from_arrays(dict(file))
    assert loaded.eta == middle.eta != RECIPE.eta
    resumed, rest = trained(RECIPE, state=loaded)
    assert whole == first + rest
    assert_same(state_arrays(end), state_arrays(resumed))


def test_state_arrays__hold_an_eta_where_the_state_carries_one():
    with_eta, without = trained(RECIPE, until=1)[0], trained(PLAIN, until=1)[0]
    assert state_arrays(with_eta)["eta"].shape == () and "eta" not in state_arrays(without)
    assert state_from_arrays(state_arrays(without)).eta is None
    for recipe, state in ((RECIPE, without), (PLAIN, with_eta)):
        with pytest.raises(CheckpointError, match="eta: expected one where balance is energy_target"):
            trained(recipe, state=state)
    with pytest.raises(CheckpointError, match="eta: .*0.5"):
        trained(replace(RECIPE, eta_low=0.045), state=replace(with_eta, eta=0.04))
    with pytest.raises(CheckpointError, match=r"eta: .*found 1.5"):
        trained(replace(RECIPE, eta_high=1.0), state=replace(with_eta, eta=1.5))


@pytest.mark.parametrize("eta", [np.full((), 1), np.ones(1), np.full((), np.nan), np.full((), 0.0)], ids=str)
def test_state_from_arrays__refuses_an_eta_that_is_none(eta):
    arrays = state_arrays(trained(RECIPE, until=1)[0])
    with pytest.raises(CheckpointError, match="eta"):
        state_from_arrays(arrays | {"eta": eta})
    with pytest.raises(CheckpointError, match="unknown array 'eta/x'"):
        state_from_arrays(arrays | {"eta/x": np.full((), 0.1)})


# ---------------------------------------------------------------------------------------- the command line

SMALL = ["energy.kind=MLPEnergy", "hidden=[8]", "batch=16", "K=2", "M=40", "run.report=false"]
TARGET = ["balance=energy_target", "burn_in=5", "kappa=0.5", "eta_high=0.9", "train.steps=8"]


def digits(folder: Path, *more: str, sets: tuple[str, ...] = ()) -> list[str]:
    named = ["train", "digits", "--method", "jem", "--backend", "ebm_ref", "--out", str(folder)]
    return [*named, *more, "--set", *SMALL, *TARGET, *sets]


def test_config__of_energy_target_goes_round_by_toml(tmp_path: Path) -> None:
    text = '[train]\nmethod = "jem"\nbalance = "energy_target"\n'
    text += "burn_in = 7\nkappa = 0.25\neta_low = 0.05\neta_high = 2.0\n"
    (tmp_path / "mine.toml").write_text(text)
    recipe = resolve("digits", merge(preset_tables("digits"), file_tables(tmp_path / "mine.toml")), (8, 8, 1)).train
    assert {key: getattr(recipe, key) for key in tomllib.loads(text)["train"]} == tomllib.loads(text)["train"]
    run(*digits(tmp_path / "run", "--steps", "1"))
    stored = run_open(tmp_path / "run")[0].config.train
    assert (stored.balance, stored.burn_in, stored.kappa, stored.eta_high) == ("energy_target", 5, 0.5, 0.9)


def test_train__of_energy_target_is_the_same_run_when_it_is_stopped(tmp_path: Path) -> None:
    run(*digits(tmp_path / "whole"))
    run(*digits(tmp_path / "parts", "--steps", "3"))
    run("train", "digits", "--out", str(tmp_path / "parts"), "--resume", "--steps", "6")
    run("train", "digits", "--out", str(tmp_path / "parts"), "--resume", "--steps", "8")
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "parts")
    records = metrics_read(tmp_path / "whole")
    assert records[0]["eta"] == 0.1 != records[5]["eta"] == records[7]["eta"]
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["eta"] == records[7]["eta"]


def test_run__of_energy_target_samples_and_anneals_at_its_frozen_eta(tmp_path: Path) -> None:
    run(*digits(tmp_path))
    run("sample", str(tmp_path), "--n", "4", "--K", "3", "--start", "uniform")
    opened, state = run_open(tmp_path)
    recipe, model = opened.config.train, opened.model(state)
    assert state.eta is not None and state.eta != recipe.eta
    x0 = fresh_start(opened, 4, 0)
    update = SGLD(state.eta, recipe.sigma, box=recipe.box)
    x, _ = ebm_ref.langevin_run(model.energy, model.theta, x0, 3, update, 0, stream=ebm_ref.Stream.EVALUATION)
    assert np.array_equal(npz_read(tmp_path / "samples.npz")["x"], x)
    assert np.array_equal(draw(opened, model, x0, 3, 0)[0], x)
    assert temperature(opened, model) == pytest.approx(recipe.sigma**2 / (2 * state.eta))


def test_train__that_goes_back_takes_the_eta_of_its_rollback_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = training.train_step, []

    def step(module, energy, recipe, state, *rest):
        seen.append((state.step, state.eta))
        if state.step == 4 and len(seen) == 5:
            raise NonFiniteError("step 4: expected a finite loss, found loss nan")
        return real(module, energy, recipe, state, *rest)

    monkeypatch.setattr(training, "train_step", step)
    run(*digits(tmp_path, sets=("run.rollback=1", "run.save_every=2", "run.rollback_factor=1.0")))
    assert [at for at, _ in seen] == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    assert seen[4] == seen[5] and seen[4][1] != 0.1
