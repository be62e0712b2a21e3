"""A run is the same run whether it is cut, killed or interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from app_runs import TRAINERS, checkpoint, equal, error_line, run, train, untimed

from ebm_fast.app import training
from ebm_fast.app.main import main
from ebm_fast.app.runfolder import metrics_read


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("sets", [(), ("ema_decay=0.9", "sigma_data=0.05", "warmup=10")], ids=["plain", "ema"])
def test_train__resume_is_exact_to_the_bit(tmp_path: Path, name: str, sets: tuple[str, ...]) -> None:
    run(*train(tmp_path / "whole", "--steps", "200", backend=name, sets=sets))
    run(*train(tmp_path / "parts", "--steps", "100", backend=name, sets=sets))
    halfway = checkpoint(tmp_path / "parts")
    run("train", "toy2d", "--out", str(tmp_path / "parts"), "--resume", "--steps", "200")
    assert not equal(halfway, checkpoint(tmp_path / "parts"))
    assert (tmp_path / "whole" / "checkpoint.npz").read_bytes() == (tmp_path / "parts" / "checkpoint.npz").read_bytes()
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")
    assert [record["step"] for record in untimed(tmp_path / "parts")] == list(range(1, 201))
    seconds = [record["seconds"] for record in metrics_read(tmp_path / "parts")]
    assert seconds == sorted(seconds)  # counted on, not from zero
    summaries = [json.loads((tmp_path / f / "summary.json").read_text()) for f in ("whole", "parts")]
    for summary in summaries:
        del summary["seconds_train"]
    assert summaries[0] == summaries[1]


def test_train__seed_and_method_change_the_run(tmp_path: Path) -> None:
    run(*train(tmp_path / "a", "--steps", "3"))
    run(*train(tmp_path / "b", "--steps", "3", "--seed", "1"))
    run(*train(tmp_path / "c", "--steps", "3", "--method", "cd"))
    a, b, c = (checkpoint(tmp_path / f) for f in "abc")
    assert not equal(a, b) and not equal(a, c)


def test_train__init_starts_from_the_other_run_s_parameters(tmp_path: Path) -> None:
    run(*train(tmp_path / "a", "--steps", "5", sets=("ema_decay=0.9",)))
    run(*train(tmp_path / "b", "--steps", "1", "--init", str(tmp_path / "a"), "--seed", "9", sets=("lr=0",)))
    a, b = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    names = [name for name in b if name.startswith("theta")]
    assert names and not np.array_equal(a["theta/out.w"], a["ema/out.w"])
    for name in names:
        assert np.array_equal(b[name], a[name.replace("theta", "ema", 1)])


LAUNCHER = """
import os, sys
from ebm_fast.app.main import main
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(main(sys.argv[1:]))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""  # forks a real process for each line, so that the twenty starts do not each pay for the imports


def test_train__survives_sigkill_at_random_moments(tmp_path: Path) -> None:
    """Twenty kills while a checkpoint is written every step; then the run equals one that was never killed."""
    steps, rng = "600", np.random.default_rng(0)
    arguments = [*train(tmp_path / "killed", "--steps", steps, sets=("run.save_every=1",)), "--resume"]
    (tmp_path / "killed").mkdir()
    metrics = tmp_path / "killed" / "metrics.jsonl"
    command = [sys.executable, "-c", LAUNCHER, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    ) as launcher:
        assert launcher.stdin is not None and launcher.stdout is not None
        reached, untouched = [], 0
        for _ in range(20):
            launcher.stdin.write("start\n")
            child = int(launcher.stdout.readline())
            while (metrics.stat().st_size if metrics.exists() else 0) == untouched:
                time.sleep(0.0005)
            time.sleep(float(rng.uniform(0, 0.04)))
            os.kill(child, signal.SIGKILL)
            assert int(launcher.stdout.readline()) == -signal.SIGKILL  # it was still at work
            reached.append(metrics.read_bytes().count(b"\n"))
            untouched = metrics.stat().st_size
        launcher.stdin.close()
    assert reached[-1] < int(steps) and len(set(reached)) > 5
    run(*arguments)
    run(*train(tmp_path / "whole", "--steps", steps))
    assert (tmp_path / "killed/checkpoint.npz").read_bytes() == (tmp_path / "whole/checkpoint.npz").read_bytes()
    assert untimed(tmp_path / "killed") == untimed(tmp_path / "whole")


def test_train__interrupt_saves_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ebm_fast.app.main", *train(tmp_path / "r", "--steps", "5000")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "r" / "checkpoint.npz").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130 and f"--out {tmp_path / 'r'} --resume" in errors and "Traceback" not in errors
    reached = len(metrics_read(tmp_path / "r"))
    assert 0 < reached < 5000 and int(checkpoint(tmp_path / "r")["step"]) == reached
    run("train", "toy2d", "--out", str(tmp_path / "r"), "--resume", "--steps", str(reached + 1))


def test_train__resume_needs_the_first_run_s_init_no_more(tmp_path: Path) -> None:
    run(*train(tmp_path / "a", "--steps", "2"))
    run(*train(tmp_path / "b", "--steps", "2", "--init", str(tmp_path / "a")))
    shutil.rmtree(tmp_path / "a")
    run("train", "toy2d", "--out", str(tmp_path / "b"), "--resume", "--steps", "3")


def test_train__resume_knows_its_file_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, moved = tmp_path / "x.npy", tmp_path / "with a space" / "é.npy"
    np.save(data, np.random.default_rng(0).normal(size=(60, 5)))
    run(*train(tmp_path / "run", "--steps", "2", sets=(f"data.path={data}", "box=[-9, 9]")))
    moved.parent.mkdir()
    data.rename(moved)
    resume = ["train", "toy2d", "--out", str(tmp_path / "run"), "--resume", "--steps", "3"]
    run(*resume, "--set", f"data.path={moved}")
    np.save(moved, np.random.default_rng(1).normal(size=(60, 5)))
    capsys.readouterr()
    for verb in (resume, ["eval", str(tmp_path / "run")], ["sample", str(tmp_path / "run")]):
        assert main(verb) == 2
        assert "data.sha256" in error_line(capsys)


def test_train__alarms_are_told_recorded_and_survive_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class SevenRecords:
        seen = 0

        def __init__(self, alpha: float) -> None:
            assert alpha == 0.01

        def update(self, record: dict[str, float]) -> list[str]:
            self.seen += 1
            return ["the energy is flat"] if self.seen == 7 else []

    monkeypatch.setattr(training, "Alarms", SevenRecords)
    run(*train(tmp_path, "--steps", "5"))
    run("train", "toy2d", "--out", str(tmp_path), "--resume", "--steps", "9")
    assert "alarm at step 7: the energy is flat" in capsys.readouterr().err
    assert [r["step"] for r in metrics_read(tmp_path) if r.get("alarms") == ["the energy is flat"]] == [7]
    assert json.loads((tmp_path / "summary.json").read_text())["alarms"] == ["step 7: the energy is flat"]


def test_train__non_finite_numbers_stop_the_run_and_keep_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = train(tmp_path, "--steps", "50", sets=("lr=1e30", "alpha=0", "run.save_every=1"))
    assert main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"ebm: error: {tmp_path}: stopped in step ") and "finite" in last
    assert last.endswith(f"kept as of step {checkpoint(tmp_path)['step']}")
    assert len(metrics_read(tmp_path)) == int(checkpoint(tmp_path)["step"]) < 50
