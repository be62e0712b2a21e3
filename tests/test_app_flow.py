"""`ebm train --method flow, projection, em, eqm, student`: each trains, resumes, samples, is evaluated, reports."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from app_runs import checkpoint, equal, error_line, run

import ebm_ref
from ebm_fast import why_not
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.draws import draw, fresh_start, origin, usual_steps
from ebm_fast.app.main import main
from ebm_fast.app.paths import landscape, path_states, quality, steps_of, stops
from ebm_fast.app.run import run_open
from ebm_ref.contracts import Stream
from ebm_ref.methods import METHODS

FLOWS = [name for name, method in METHODS.items() if method.sampler != "langevin"]
CHANGES = {
    "em": ("K=2", "train.time=0.04", "transport_steps=2"),
    "projection": ("train.time=0.04",),
    "student": ("pairs=32",),
}
STEPS = {name: ("K=4",) for name in ("flow", "eqm", "eqm-dot", "eqm-l2")}


def train(folder: Path, method: str, *sets: str, more: tuple[str, ...] = (), backend: str = "ebm_ref") -> list[str]:
    taught = () if not METHODS[method].teacher else ("--init", str(folder.parent / TEACHERS[method]))
    named = ["train", "toy2d", "--method", method, "--backend", backend, "--out", str(folder), *taught, *more]
    small = ["data.n=200", "hidden=[8]", "batch=16", *CHANGES.get(method, ()), *STEPS.get(method, ())]
    report = () if "run.report=true" in sets else ("run.report=false",)
    return [*named, "--set", *report, *small, *sets]


TEACHERS = {"projection": "flow", "student": "eqm"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each method, four steps each."""
    folder = tmp_path_factory.mktemp("flows")
    for method in sorted(FLOWS, key=lambda name: METHODS[name].teacher):
        run(*train(folder / method, method, more=("--steps", "4")))
    return folder


@pytest.mark.parametrize("method", FLOWS)
def test_train__of_energy_flow_resumes_to_the_bit(method: str, home: Path) -> None:
    parts = home / f"{method}-parts"
    run(*train(parts, method, more=("--steps", "2")))
    run(*train(parts, method, more=("--steps", "4", "--resume")))
    assert equal(checkpoint(home / method), checkpoint(parts))


@pytest.mark.parametrize("method", FLOWS)
def test_summary__of_energy_flow_says_where_samples_come_from(method: str, home: Path) -> None:
    summary = json.loads((home / method / "summary.json").read_text())
    opened, state = run_open(home / method)
    assert summary["samples"] == origin(opened, 1000, usual_steps(opened)) and "normal noise" in summary["samples"]
    assert 0 <= summary["precision"] <= 1 and summary["frechet_feature"] > 0
    has_energy = METHODS[method].model in ("energy", "field", "dot", "norm")
    assert ("gap" in summary) == ("auroc_uniform" in summary) == ("log_likelihood" in summary) == has_energy
    model = opened.model(state)
    assert (model.energy is not None) == has_energy


def test_model__of_a_potential_is_at_the_recipe_s_temperature(home: Path) -> None:
    opened, state = run_open(home / "em")
    x, tau = opened.data.test[:5], opened.config.train.tau
    V = opened.energy.energy(state.ema, x)
    assert tau == pytest.approx(0.15) and np.allclose(opened.model(state).energies(x), V / tau, rtol=1e-5)


def test_model__of_a_field_is_its_length(home: Path) -> None:
    opened, state = run_open(home / "eqm")
    x = opened.data.test[:5]
    f = opened.energy.field(state.ema, x)
    assert np.allclose(opened.model(state).energies(x), (f**2).sum(axis=1) / 2, rtol=1e-5)


@pytest.mark.parametrize("method", FLOWS)
def test_draw__is_the_method_s_sampler(method: str, home: Path) -> None:
    opened, state = run_open(home / method)
    model, recipe, K = opened.model(state), opened.config.train, usual_steps(opened)
    x0 = fresh_start(opened, 6, 3)
    xi = ebm_ref.noise_normal(3, Stream.SAMPLE_START, 0, np.arange(6), 2, np.float32)
    assert np.array_equal(x0, xi) and x0.dtype == np.float32
    x, info = draw(opened, model, x0, K, 3)
    theta, trained = state.ema, opened.energy
    if method in ("em", "projection"):
        assert K == round(recipe.time / recipe.eta) == 4
        wanted = ebm_ref.heated_run(
            ebm_ref,
            trained,
            theta,
            x0,
            K,
            recipe.eta,
            recipe.tau,
            recipe.s_star,
            3,
            stream=Stream.EVALUATION,
            box=recipe.box,
        )[0]
    elif method == "flow":
        wanted = ebm_ref.flow_run(trained, theta, x0, K, "heun")[0]
    elif method == "student":
        wanted = trained.flow(theta, x0, recipe.horizon)
    else:
        wanted = ebm_ref.descent_run(trained, theta, x0, K, recipe.rule(), recipe.g_min)[0]
    assert np.array_equal(x, wanted) and not np.array_equal(x, x0)
    assert info.nonfinite == 0


@pytest.mark.parametrize("method", FLOWS)
def test_sample__of_energy_flow_starts_from_normal_noise(method: str, home: Path) -> None:
    run("sample", str(home / method), "--n", "5", "--seed", "2")
    found = npz_read(home / method / "samples.npz")
    assert found["x"].shape == (5, 2) and np.isfinite(found["x"]).all()
    assert ("energy" in found) == (METHODS[method].model in ("energy", "field", "dot", "norm"))


def test_sample__of_energy_flow_refuses_other_starts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for start in ("uniform", "buffer"):
        assert main(["sample", str(home / "eqm"), "--start", start]) == 2
        assert "--start normal" in error_line(capsys)


@pytest.mark.parametrize("method", FLOWS)
def test_report__of_energy_flow_has_its_sections(method: str, home: Path) -> None:
    folder = home / f"{method}-report"
    stop = ("g_min=0.5",) if METHODS[method].sampler == "descent" else ()
    run(*train(folder, method, "run.report=true", *stop, more=("--steps", "1")))
    html = (folder / "report.html").read_text()
    headings = re.findall("<h2>(.*?)</h2>", html)
    wanted = ["From noise to samples", "Landscape"]
    wanted += ["Quality and cost"] if method != "student" else []
    wanted += ["Early stop"] if stop else []
    assert [name for name in headings if name in wanted] == wanted
    assert ("Energies" in headings) == (METHODS[method].model in ("energy", "field", "dot", "norm"))


@pytest.mark.parametrize("method", FLOWS)
def test_paths__are_of_the_same_samples(method: str, home: Path) -> None:
    opened, state = run_open(home / method)
    model, numbers = opened.model(state), steps_of(opened)
    states = path_states(opened, model)
    assert [K for K, _ in states] == numbers == sorted(set(numbers)) and numbers[-1] == usual_steps(opened)
    assert np.array_equal(states[-1][1], draw(opened, model, fresh_start(opened, 16, 0), numbers[-1], 0)[0])
    rows = quality(opened, model)
    assert [row["steps"] for row in rows] == [K for K in numbers if K]
    spent = {"flow": 2}.get(METHODS[method].sampler, 1)
    assert [row["nfe"] for row in rows] == [spent * row["steps"] for row in rows]  # none stops early
    assert stops(opened, model) is None


def test_landscape__is_along_straight_lines(home: Path) -> None:
    opened, state = run_open(home / "em")
    found = landscape(opened, opened.model(state))
    x0 = fresh_start(opened, len(opened.data.test[:256]), 0)
    assert found["t"][0] == 0 and found["t"][-1] == 1
    V, g = opened.energy.energy_and_grad_x(state.ema, x0)
    assert found["energy"][0] == pytest.approx(V.mean(), rel=1e-5)
    assert found["slope"][0] == pytest.approx(np.linalg.norm(g, axis=1).mean(), rel=1e-5)
    opened, state = run_open(home / "student")
    u = opened.energy.u(state.ema, x0, opened.config.train.horizon)  # of pairs: the mean velocity
    found = landscape(opened, opened.model(state))
    assert found["slope"][0] == pytest.approx(np.linalg.norm(u, axis=1).mean(), rel=1e-5)
    assert "energy" not in landscape(*(lambda o, s: (o, o.model(s)))(*run_open(home / "flow")))


BAD = {
    "projection": ([], "init: method projection learns from a run"),
    "student": ([], "init: method student learns from a run"),
    "em": (["energy.kind=MLPField"], "energy.kind: method em trains an energy, found MLPField"),
    "eqm": (
        ["energy.kind=MLPEnergy"],
        "energy.kind: method eqm trains a field, MLPField or ConvField, found",
    ),
    "flow": (["run.auroc_every=2"], "auroc_every: expected 0, as method flow trains no energy"),
    "eqm-dot": (["sigma=0.3"], "sigma: method eqm-dot does not read it"),
    "eqm-l2": (["energy.out_channels=3"], "energy.out_channels: follows from the data"),
}


@pytest.mark.parametrize("method", BAD)
def test_train__of_energy_flow_refuses(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets, why = BAD[method]
    command = ["train", "toy2d", "--method", method, "--out", str(tmp_path / "run"), "--backend", "ebm_ref"]
    assert main([*command, "--set", "run.report=false", *sets]) == 2
    assert why in error_line(capsys) and not (tmp_path / "run").exists()


def test_train__refuses_a_teacher_of_another_kind(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, other, why in (
        ("student", "flow", "teacher: expected an energy or a field of x alone"),
        ("projection", "eqm", "teacher: expected a flow"),
    ):
        command = train(tmp_path / "run", method)
        command[command.index("--init") + 1] = str(home / other)
        assert main(command) == 2
        assert why in error_line(capsys)


def test_eval__refuses_densities_of_fields(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("flow", "eqm", "eqm-dot", "student"):
        assert main(["eval", str(home / method), "--ais"]) == 2
        assert f"method {method} follows no density" in error_line(capsys)


@pytest.mark.parametrize(("teacher", "boxed"), [("eqm", False), ("em", True)])
def test_train__of_a_student_follows_its_teacher_s_own_descent(teacher: str, boxed: bool, home: Path) -> None:
    """Chains of em stay in its box; a descent on a field has none."""
    folder = home / f"student-of-{teacher}"
    command = train(folder, "student", "train.box=[-5, 5]", "eta=0.5", more=("--steps", "1"))
    command[command.index("--init") + 1] = str(home / teacher)
    run(*command)
    opened, _ = run_open(folder)
    other, state = run_open(home / teacher)
    x0, x_end = opened.job.pairs
    box = other.config.train.box if boxed else None
    velocity = ebm_ref.teacher_velocity(other.energy, state.ema)
    assert len(x0) == 32 and opened.teacher.box == box != opened.config.train.box
    assert np.array_equal(x_end, ebm_ref.teacher_run(velocity, x0, 0.5, 2, box))
    assert not boxed or np.array_equal(x_end, np.clip(x_end, *box))


def test_train__of_em_from_a_projection(home: Path, tmp_path: Path) -> None:
    command = train(tmp_path / "em", "em", more=("--init", str(home / "projection"), "--steps", "1"))
    run(*(word.replace("transport_steps=2", "transport_steps=0") for word in command))
    start = npz_read(home / "projection" / "checkpoint.npz")
    moved = checkpoint(tmp_path / "em")
    assert all(np.abs(moved[f"theta/{name}"] - start[f"ema/{name}"]).max() < 0.01 for name in ("linear0.w", "out.w"))


@pytest.mark.parametrize("method", [name for name in FLOWS if not METHODS[name].teacher])
def test_train__of_energy_flow_on_numba_cpu(method: str, tmp_path: Path) -> None:
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    run(*train(tmp_path / method, method, more=("--steps", "3"), backend="numba_cpu"))
    assert json.loads((tmp_path / method / "summary.json").read_text())["backend"] == "numba_cpu"
