"""Training that diverges goes back to its last rollback point, and is still the same run wherever it is cut."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from app_runs import checkpoint, equal, error_line, run, train, untimed

from ebm_fast.app import divergence, training
from ebm_fast.app.main import main
from ebm_fast.app.runfolder import metrics_read
from ebm_ref.contracts import NonFiniteError

LR = 1e-3
DIVERGES = {6: 0.7, 5: 0.4, 13: 0.2}  # step: it fails there while lr is above this share of the first
SETS = ("run.rollback=9", "run.save_every=4", f"lr={LR}", "schedule=cosine", "train.steps=16", "ema_decay=0.9")


class Killed(BaseException):
    """The process died."""


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch):
    """train_step fails at the steps above; `kills` holds the calls at which the process dies instead."""
    real, calls, kills = training.train_step, [], set()

    def step(module, energy, recipe, state, *rest):
        calls.append(state.step)
        if len(calls) in kills:
            raise Killed
        after, record = real(module, energy, recipe, state, *rest)  # the buffer has moved on, as where a loss is NaN
        if recipe.lr > LR * DIVERGES.get(state.step, 1.0) * (1 + 1e-9):
            raise NonFiniteError(f"step {state.step}: expected a finite loss, found loss nan")
        return after, record

    monkeypatch.setattr(training, "train_step", step)
    return calls, kills


def notes(folder: Path) -> dict[int, list[str]]:
    return {r["step"]: r["rollback"] for r in metrics_read(folder) if "rollback" in r}


def test_train__goes_back_with_a_smaller_lr_and_says_so(
    tmp_path: Path, diverging: tuple, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*train(tmp_path, sets=SETS))
    calls, _ = diverging
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5, 4, 5, *range(6, 14), *range(12, 16)]
    loss = "expected a finite loss, found loss nan; back to step"
    expected = {
        5: [f"step 5: {loss} 4, lr times 0.5", f"step 5: {loss} 4, lr times 0.5"],
        13: [f"step 13: {loss} 12, lr times 0.5"],
    }
    assert notes(tmp_path) == expected
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rollbacks"] == expected[5] + expected[13]
    errors = capsys.readouterr().err
    assert errors.count("rollback: step 5") == 2 and errors.count("rollback: step 13") == 1
    shares = [r["lr"] / (LR * (1 + np.cos(np.pi * (r["step"] - 1) / 16)) / 2) for r in metrics_read(tmp_path)]
    assert shares == pytest.approx([1.0] * 4 + [0.25] * 8 + [0.125] * 4)
    assert [r["step"] for r in metrics_read(tmp_path)] == list(range(1, 17))


@pytest.mark.parametrize("stop", range(1, 16, 2))
def test_train__that_went_back_is_the_same_run_when_it_is_stopped(stop: int, tmp_path: Path, diverging: tuple) -> None:
    """Stopped between two rollback points, a checkpoint is saved where training must not go back to."""
    run(*train(tmp_path / "whole", sets=SETS))
    run(*train(tmp_path / "parts", "--steps", str(stop), sets=SETS))
    run("train", "toy2d", "--out", str(tmp_path / "parts"), "--resume", "--steps", "16")
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "parts")


def test_train__that_went_back_is_the_same_run_when_it_is_killed(tmp_path: Path, diverging: tuple) -> None:
    """At every call of the training step, one run each; each second of them stopped at step 5 before."""
    calls, kills = diverging
    run(*train(tmp_path / "whole", sets=SETS))
    number = len(calls)
    for kill in range(2, number + 1, 2):
        folder = tmp_path / str(kill)
        calls.clear()
        kills.add(kill)
        with pytest.raises(Killed):
            main(train(folder, sets=SETS))
        kills.clear()
        run("train", "toy2d", "--out", str(folder), "--resume")
        assert equal(checkpoint(tmp_path / "whole"), checkpoint(folder)), kill
        assert untimed(tmp_path / "whole") == untimed(folder), kill


@pytest.mark.parametrize("where", ["checkpoint_save", "metrics_cut"])
@pytest.mark.parametrize("after", [False, True])
def test_train__killed_while_it_goes_back_is_the_same_run(
    where: str, after: bool, tmp_path: Path, diverging: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*train(tmp_path / "whole", sets=SETS))
    run(*train(tmp_path / "killed", "--steps", "5", sets=SETS))  # its checkpoint is between two points

    real = getattr(divergence, where)

    def dies(folder: Path, *rest):
        if folder.name == divergence.POINT:
            return real(folder, *rest)
        if after:
            real(folder, *rest)
        raise Killed

    resume = ["train", "toy2d", "--out", str(tmp_path / "killed"), "--resume", "--steps", "16"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(divergence, where, dies)
        main(resume)
    run(*resume)
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "killed"))
    assert untimed(tmp_path / "whole") == untimed(tmp_path / "killed")


def test_train__stops_when_no_rollback_is_left(
    tmp_path: Path, diverging: tuple, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path, sets=("run.rollback=2", *SETS[1:]))) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"stopped in step 14: step 13: .*; kept as of step 12", error)
    assert notes(tmp_path).keys() == {5}


def test_train__a_real_overflow_is_mended(tmp_path: Path) -> None:
    sets = ("lr=1e30", "alpha=0", "run.save_every=4", "run.rollback=1", "run.rollback_factor=1e-33")
    run(*train(tmp_path, "--steps", "6", sets=sets))
    records = metrics_read(tmp_path)
    assert len(notes(tmp_path)) == 1 and records[-1]["lr"] == pytest.approx(1e-3)
    assert np.isfinite([r["loss"] for r in records]).all()


def test_train__an_energy_gap_beyond_its_bound_is_divergence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*train(tmp_path / "free", "--steps", "8"))
    gaps = [abs(r["gap"]) for r in untimed(tmp_path / "free")]
    bound = (sorted(gaps)[-1] + sorted(gaps)[-2]) / 2
    first = int(np.argmax(np.array(gaps) > bound))
    sets = ("run.rollback=1", f"run.rollback_gap={bound}", "run.save_every=1")
    ended = main(train(tmp_path / "held", "--steps", "8", sets=sets))  # with the smaller lr it may be beyond it again
    text = json.dumps(notes(tmp_path / "held")) + capsys.readouterr().err
    assert ended in (0, 2) and f"step {first}: expected an energy gap within" in text


def test_train__rollback_points_do_not_move_on_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*train(tmp_path, "--steps", "2", sets=SETS))
    capsys.readouterr()
    assert main(["train", "toy2d", "--out", str(tmp_path), "--resume", "--set", "run.save_every=2"]) == 2
    assert "run.save_every" in error_line(capsys)


def test_train__without_rollback_keeps_no_points(tmp_path: Path) -> None:
    run(*train(tmp_path, "--steps", "2"))
    assert not (tmp_path / divergence.POINT).exists()
    assert "rollbacks" not in json.loads((tmp_path / "summary.json").read_text())
