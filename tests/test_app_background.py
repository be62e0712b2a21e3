"""`ebm eval RUN --background OTHER`: the likelihood ratio of two runs as a score, and what is no background."""

import json
from pathlib import Path

import numpy as np
import pytest
from app_runs import contents, error_line, run

from ebm_fast.app import sampling
from ebm_fast.app.main import main
from ebm_fast.app.ood_sets import ood_sets_of
from ebm_fast.app.run import run_open
from ebm_fast.app.separation import fpr95
from ebm_ref.evaluation import aupr_in, aupr_out, auroc_estimate

SMALL = ["energy.kind=MLPEnergy", "hidden=[8]", "batch=16", "K=2", "run.report=false"]


def make(folder: Path, preset: str, *sets: str, method: str = "cd") -> Path:
    size = ["data.n=200"] if preset == "toy2d" and not any(s.startswith("data.n=") for s in sets) else []
    command = ["train", preset, "--method", method, "--backend", "ebm_ref", "--steps", "30", "--out", str(folder)]
    run(*command, "--set", *SMALL, *size, *sets)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs on digits and in the plane."""
    folder = tmp_path_factory.mktemp("runs")
    make(folder / "digits", "digits", "sigma=0.3", "eta=0.05")
    make(folder / "noised", "digits", method="dsm")
    make(folder / "plane", "toy2d")
    make(folder / "other toy", "toy2d", "data.toy=rings")
    make(folder / "other n", "toy2d", "data.n=300")
    make(folder / "wide", "toy2d", "run.dtype=float64")
    make(folder / "cold", "toy2d", "sigma=0.0")
    make(folder / "wine", "wine")
    make(folder / "other split", "wine", "data.split=1")
    (folder / "empty").mkdir()
    (folder / "untrained").mkdir()
    (folder / "untrained" / "config.json").write_bytes((folder / "plane" / "config.json").read_bytes())
    return folder


def scores(folder: Path, x: np.ndarray, T: float) -> np.ndarray:
    opened, state = run_open(folder)
    return opened.model(state).energies(x) / T


def test_eval__background_is_the_ratio_of_both_densities(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """dsm has the temperature 1, chains have sigma^2 / (2 eta): 0.3^2 / 0.1."""
    before = contents(runs / "noised")
    capsys.readouterr()
    run("eval", str(runs / "digits"), "--background", str(runs / "noised"))
    text = capsys.readouterr().out
    assert contents(runs / "noised") == before
    summary = json.loads((runs / "digits" / "summary.json").read_text())
    data = run_open(runs / "digits")[0].data
    ratio = lambda x: scores(runs / "noised", x, 1.0) - scores(runs / "digits", x, 0.9)  # noqa: E731
    sets = ood_sets_of(data)
    assert {"letters", "uniform", "inverted", "rot90"} <= set(sets)
    for name, others in sets.items():
        inside, outside = ratio(data.test), ratio(others)
        wins = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
        assert summary[f"lr_auroc_{name}"] == pytest.approx(wins, abs=1e-12)
        measures = {"auroc": auroc_estimate, "aupr_in": aupr_in, "aupr_out": aupr_out, "fpr95": fpr95}
        for figure, measure in measures.items():
            found = summary[f"lr_{figure}_{name}"], summary[f"lr_{figure}_{name}_se"]
            assert found == pytest.approx(tuple(measure(inside, outside)), abs=1e-12), (figure, name)
    assert 0 < summary["lr_auroc_letters_se"] < 0.1
    assert abs(summary["lr_auroc_letters"] - summary["auroc_letters"]) > 1e-3  # it is another score
    assert f"+- {summary['lr_auroc_letters_se']:.2g}" in text
    assert summary["lr_score"] == "E_bg / 1 - E / 0.9"
    assert summary["lr_background"] == f"{runs / 'noised'}: MLPEnergy by dsm, 30 steps, seed 0"
    run("eval", str(runs / "digits"))
    assert not [key for key in json.loads((runs / "digits" / "summary.json").read_text()) if key.startswith("lr_")]


REFUSED = {
    "nothing": ("plane", "nothing", "expected a run folder, found nothing there"),
    "a folder": ("plane", "empty", "expected a run's configuration, found nothing"),
    "no checkpoint": ("plane", "untrained", "expected a checkpoint's manifest"),
    "itself": ("plane", "empty/../plane", "--background: expected another run"),
    "shape": ("plane", "digits", r"--background: expected samples of (2,), found (8, 8, 1)"),
    "toy": ("plane", "other toy", "--background: expected data.toy 'two_moons', found 'rings'"),
    "n": ("plane", "other n", "--background: expected data.n 200, found 300"),
    "split": ("wine", "other split", "--background: expected data.split 0, found 1"),
    "dtype": ("plane", "wide", "--background: expected run.dtype float32, found float64"),
    "no density": ("plane", "cold", "--background: expected sigma > 0"),
    "no density here": ("cold", "plane", "--background: expected sigma > 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_eval__no_background_is_refused_before_any_work(
    what: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*arguments: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(sampling, "results_write", work)
    folder, other, says = REFUSED[what]
    before = contents(runs)
    capsys.readouterr()
    assert main(["eval", str(runs / folder), "--background", str(runs / other)]) == 2
    assert says in error_line(capsys)
    assert contents(runs) == before
