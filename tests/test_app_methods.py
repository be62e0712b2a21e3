"""`ebm train --method`: which settings hold for a method, and that each trains, resumes, samples and is evaluated."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from app_runs import checkpoint, equal, error_line, run, untimed

import ebm_ref
from ebm_fast import why_not
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.config import file_tables, merge, preset_tables, resolve, set_tables
from ebm_fast.app.data import data_load
from ebm_fast.app.main import main, summary_text
from ebm_fast.app.ood_sets import ood_names, ood_sets_of
from ebm_fast.app.run import run_open
from ebm_fast.app.settings import DataConfig
from ebm_ref.contracts import ConfigError, RangeError
from ebm_ref.methods import METHODS

SMALL = ["data.n=200", "hidden=[8]", "batch=16", "K=2"]


def train(folder: Path, method: str, *sets: str, more: tuple[str, ...] = (), preset: str = "toy2d") -> list[str]:
    named = ["train", preset, "--method", method, "--backend", "ebm_ref", "--out", str(folder), *more]
    small = [*SMALL] if preset == "toy2d" else []
    return [*named, "--set", "run.report=false", *small, *sets]


# ----------------------------------------------------------------------------------- what holds for a method


def test_merge__a_preset_gives_another_method_what_it_reads_and_its_section(tmp_path: Path) -> None:
    preset = {
        "train": {"method": "pcd", "lr": 0.5, "M": 40, "rho": 0.5, "K": 7},
        "method": {"dsm": {"level": 0.25}, "cd": {"lr": 0.125}},
    }
    assert merge(preset)["train"] == preset["train"]
    dsm = merge(preset, set_tables(["train.method=dsm"]))["train"]
    assert dsm == {"method": "dsm", "lr": 0.5, "K": 7, "level": 0.25}
    cd = merge(preset, set_tables(["train.method=cd", "train.K=3"]))["train"]
    assert cd == {"method": "cd", "lr": 0.125, "K": 3}
    (tmp_path / "mine.toml").write_text("[method.dsm]\nlevel = 0.75\n[method.cd]\nlr = 1.0\n")
    mine = file_tables(tmp_path / "mine.toml")
    assert merge(preset, mine, set_tables(["train.method=dsm"]))["train"]["level"] == 0.75
    assert merge(preset, mine)["train"] == preset["train"]


def test_resolve__what_the_asker_sets_is_not_dropped() -> None:
    layer = set_tables(["train.method=dsm", "train.M=64"])
    with pytest.raises(RangeError, match="M: method dsm does not read it, pcd, icd, jem would"):
        resolve("toy2d", merge(preset_tables("toy2d"), layer), (2,))


BAD_SECTIONS = {
    "[method.dsmm]\nlevel = 1.0\n": r"unknown section \[method.dsmm\]; did you mean dsm",
    "[method]\ndsm = 3\n": r"\[method.dsm\]",
    "[method.dsm]\nM = 3\n": r"\[method.dsm\] M: method dsm does not read it",
    '[method.dsm]\nmethod = "cd"\n': r"\[method.dsm\] method",
}


@pytest.mark.parametrize("text", BAD_SECTIONS)
def test_file_tables__bad_section_of_a_method_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=BAD_SECTIONS[text]):
        file_tables(tmp_path / "bad.toml")


BAD_SETTINGS = {
    "normal": (["data.normal=1"], "data.*normal: toy2d does not read it"),
    "split": (["data.split=1"], "split: toy2d does not read it"),
    "auroc_set": (["run.auroc_set=shuffled"], "auroc_set: nothing reads it while auroc_every is 0"),
    "unknown set": (["run.auroc_every=2", "run.auroc_set=letters"], "auroc_set: expected one of uniform, shuffled"),
    "factor": (["run.rollback_factor=0.25"], "rollback_factor: nothing reads it while rollback is 0"),
    "gap": (["run.rollback=1", "run.rollback_gap=3.0", "train.method=dsm"], "method dsm has no energy gap"),
    "classes": (["train.method=jem"], "method jem needs classes, toy2d has none"),
    "relu": (["train.method=dsm", "energy.activation=relu"], "relu"),
}


@pytest.mark.parametrize("what", BAD_SETTINGS)
def test_train__settings_that_do_nothing_are_refused(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets, why = BAD_SETTINGS[what]
    assert main(["train", "toy2d", "--out", str(tmp_path / "run"), "--set", "run.report=false", *sets]) == 2
    assert re.search(why, error_line(capsys)) and not (tmp_path / "run").exists()


@pytest.mark.skipif(why_not("numba_cpu") is not None, reason=str(why_not("numba_cpu")))
def test_train__a_backend_that_lacks_a_derivative_names_the_one_that_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name it is refused; auto takes the other, and says so."""
    arguments = ["train", "toy2d", "--method", "hsm", "--steps", "1", "--out", str(tmp_path), "--set", *SMALL]
    assert main([*arguments, "run.report=false", "run.backend=numba_cpu"]) == 2
    assert "MLPEnergy.curvature" in (line := error_line(capsys)) and line.endswith("--backend ebm_ref")
    run(*arguments, "run.report=false")
    assert "backend auto: ebm_ref, because numba_cpu has no MLPEnergy.curvature" in capsys.readouterr().err
    assert run_open(tmp_path)[0].config.run.backend == "ebm_ref"


# -------------------------------------------------------------------------------------------- whole runs

DRAWN = [name for name, method in METHODS.items() if method.sampler == "langevin"]  # the others: test_app_flow
KINDS = {name: (name, ()) for name in DRAWN if name not in ("pcd", "jem")}
KINDS["dsm, levels"] = ("dsm", ("levels=4", "level=0.1", "level_high=2.0"))


@pytest.mark.parametrize("kind", KINDS)
def test_train__of_every_method_resumes_samples_and_is_evaluated(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method, sets = KINDS[kind]
    if method == "icd":
        sets = (*sets, "M=32", "references=5")
    run(*train(tmp_path / "whole", method, *sets, more=("--steps", "6")))
    run(*train(tmp_path / "parts", method, *sets, more=("--steps", "3")))
    run("train", "toy2d", "--out", str(tmp_path / "parts"), "--resume", "--steps", "6")
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "parts")
    run("sample", str(tmp_path / "whole"), "--n", "7", "--K", "8")
    arrays = npz_read(tmp_path / "whole" / "samples.npz")
    opened, state = run_open(tmp_path / "whole")
    assert arrays["x"].shape == (7, 2) and np.isfinite(arrays["x"]).all()
    assert np.array_equal(arrays["energy"], opened.model(state).energies(arrays["x"]))
    before = json.loads((tmp_path / "whole" / "summary.json").read_text())
    capsys.readouterr()
    run("eval", str(tmp_path / "whole"))
    assert json.loads((tmp_path / "whole" / "summary.json").read_text()) == before
    text = capsys.readouterr().out
    assert {"auroc_uniform", "auroc_uniform_se", "log_likelihood_se", "gap_se"} <= set(before)
    assert f"+- {before['log_likelihood_se']:.2g}" in text and "_se " not in text


def test_train__of_jem_is_a_classifier_with_its_calibration(tmp_path: Path) -> None:
    small = ("energy.kind=MLPEnergy", "hidden=[8]", "batch=16", "K=2", "M=1000")
    run(*train(tmp_path, "jem", *small, more=("--steps", "2"), preset="digits"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    opened, state = run_open(tmp_path)
    model = opened.model(state)
    right = model.logits(opened.data.test).argmax(axis=1) == opened.data.test_labels
    assert summary["accuracy"] == pytest.approx(right.mean())
    assert summary["accuracy_se"] == pytest.approx(right.std(ddof=1) / np.sqrt(360))
    assert {"nll_se", "brier_se", "ece_se", "auroc_letters_se"} <= set(summary)
    assert state.theta["out.w"].shape == (8, 10)


def test_sample__of_several_levels_is_annealed_from_high_to_low(tmp_path: Path) -> None:
    sets = ("levels=3", "level=0.25", "level_high=1.0", "eta=0.05")
    run(*train(tmp_path, "dsm", *sets, more=("--steps", "2")))
    start = {}
    for K in (0, 6):
        run("sample", str(tmp_path), "--n", "9", "--K", str(K), "--seed", "4")
        start[K] = npz_read(tmp_path / "samples.npz")["x"]
    opened, state = run_open(tmp_path)
    x, _ = ebm_ref.annealed_run(ebm_ref, opened.energy, state.ema, start[0], None, (1.0, 0.5, 0.25), 2, 0.1, 4)
    assert np.array_equal(start[6], x) and not np.array_equal(start[0], x)


def test_train__init_takes_the_energy_of_another_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*train(tmp_path / "nce", "nce", more=("--steps", "3")))
    run(*train(tmp_path / "dsm", "dsm", "lr=0", more=("--steps", "1", "--init", str(tmp_path / "nce"))))
    a, b = checkpoint(tmp_path / "nce"), checkpoint(tmp_path / "dsm")
    assert "ema/log_z" in a and "theta/log_z" not in b
    assert all(np.array_equal(y, a[name.replace("theta", "ema", 1)]) for name, y in b.items() if name[:5] == "theta")
    capsys.readouterr()
    conditional = train(tmp_path / "levels", "dsm", "levels=3", more=("--init", str(tmp_path / "nce")))
    assert main(conditional) == 2 and "levels" in error_line(capsys)


def test_train__resumes_a_run_that_wrote_what_its_method_does_not_read(tmp_path: Path) -> None:
    """An older version wrote M = 2048 into a run of cd, and knew fewer settings."""
    run(*train(tmp_path, "cd", more=("--steps", "2")))
    config = json.loads((tmp_path / "config.json").read_text())
    config["train"]["M"] = 2048
    for section, key in (("train", "nu"), ("run", "rollback"), ("run", "rollback_gap"), ("data", "split")):
        del config[section][key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    run("train", "toy2d", "--method", "cd", "--out", str(tmp_path), "--resume", "--steps", "3")


# ------------------------------------------------------------------------------------------ on the way


def test_train__records_an_auroc_every_few_steps(tmp_path: Path) -> None:
    run(*train(tmp_path, "dsm", "run.auroc_every=2", "run.auroc_set=shuffled", more=("--steps", "5")))
    records = untimed(tmp_path)
    assert [r["step"] for r in records if "auroc" in r] == [2, 4]
    opened, state = run_open(tmp_path)
    run(*train(tmp_path / "four", "dsm", more=("--steps", "4")))
    opened, state = run_open(tmp_path / "four")
    model = opened.model(state)
    inside, outside = -model.energies(opened.data.test), -model.energies(ood_sets_of(opened.data)["shuffled"])
    expected = ebm_ref.auroc_estimate(inside, outside)
    assert (records[3]["auroc"], records[3]["auroc_se"]) == tuple(expected)


def test_summary_text__puts_an_error_beside_its_figure() -> None:
    text = summary_text({"auroc_x": 0.5, "auroc_x_se": 0.0123, "gap": 1.0, "gap_se": None})
    assert text.splitlines() == ["auroc_x     0.5 +- 0.012", "gap         1"]


# ------------------------------------------------------------------------------------------------ tables

TABLES = {"breast_cancer": (1, 285, 72, 212, 30), "wine": (1, 56, 15, 107, 13), "iris": (2, 40, 10, 100, 4)}


@pytest.mark.parametrize("name", TABLES)
def test_data_load__a_table_has_one_normal_class(name: str) -> None:
    normal, train_size, held_out, others, D = TABLES[name]
    data = data_load(DataConfig(name=name, normal=normal), "float64")
    assert data.train.shape == (train_size, D) and data.test.shape == (held_out, D)
    assert data.anomalies is not None and data.anomalies.shape == (others, D)
    assert np.allclose(data.train.mean(axis=0), 0) and np.allclose(data.train.std(axis=0), 1)
    assert ood_names(data) == ("anomalies", "uniform", "shuffled") == tuple(ood_sets_of(data))
    other = data_load(DataConfig(name=name, normal=normal, split=1), "float64")
    assert not np.allclose(other.train, data.train)
    with pytest.raises(RangeError, match="normal"):
        DataConfig(name=name, normal=3)


def test_train__a_table_tells_anomalies_apart(tmp_path: Path) -> None:
    run("train", "iris", "--steps", "150", "--out", str(tmp_path), "--set", "run.report=false", "hidden=[16]")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["method"] == "dsm" and summary["auroc_anomalies"] > 0.97  # setosa: far from the others
