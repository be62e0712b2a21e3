"""The flight plan itself: every stage accounted for, killed at its limit, its rows kept; a run without a card."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.gpu.__main__ import main
from bench.gpu.context import no_card
from bench.gpu.plan import Stage, environment, run_plan
from bench.gpu.rows import append_row, cut_torn_row, plain, read_rows
from bench.gpu.stages import STAGES
from bench.gpu.table import missed

ROOT = Path(__file__).parent.parent
FAKES = """
import os, signal, subprocess, sys, time
from pathlib import Path
from bench.gpu.context import FAIL, SKIP, Skip

def good(context):
    context.row("one", value=1.5)
def quick(context):
    context.row("quick", quick=context.quick, left=context.left())
def raises(context):
    context.row("before", value=1)
    raise ValueError("this stage is broken")
def hangs(context):
    context.row("before the wait", value=2)
    late = f"import time, pathlib; time.sleep(2); pathlib.Path({context.out!r}, 'late').touch()"
    subprocess.Popen([sys.executable, "-c", late])
    time.sleep(60)
def writes_until_killed(context):
    while True:
        context.row("again", text="x" * 5000)
def skips(context):
    raise Skip("there is no such card")
def parts(context):
    context.part("absent", lambda: context.need("no_such_library_at_all"))
    context.part("broken", lambda: 1 / 0)
    context.part("sound", lambda: context.row("sound"))
def crashes(context):
    os.kill(os.getpid(), signal.SIGSEGV)
def leaves(context):
    os._exit(7)
def shows(context):
    print("the table:", len(context.rows()))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """fake(name, limit=20, ...): a stage of the module above."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "fake_stages.py").write_text(FAKES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    return lambda name, limit=20.0, **more: Stage(name, limit, f"fake_stages:{name}", name, **more)


def ends(out):
    """stage -> (status, why), from the rows that the plan adds."""
    return {row["stage"]: (row["status"], row["why"]) for row in read_rows(out) if row["what"] == "end"}


@pytest.mark.skipif(no_card() is None, reason="this machine has a card: the plan would run in earnest")
def test_plan__runs_to_its_end_without_a_card(tmp_path):
    begin = time.monotonic()
    command = [sys.executable, "-m", "bench.gpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - begin < 60
    found = [line.split() for line in done.stdout.splitlines() if line.startswith(("pass ", "skip ", "fail "))]
    assert [words[1] for words in found] == [stage.name for stage in STAGES]
    outcomes = ends(tmp_path)
    assert list(outcomes) == [stage.name for stage in STAGES]
    for name in ("ceilings", "correctness", "sanitize", "benchmark", "ncu"):
        assert outcomes[name] == ("skip", no_card())
    for name in ("probe", "prepare", "table"):
        assert outcomes[name][0] == "pass"
    rows = read_rows(tmp_path)
    assert any(row["what"] == "version" and row["library"] == "numpy" and row["version"] for row in rows)
    assert any(row["what"].startswith("fixture") and row["status"] == "pass" for row in rows)


def test_environment__names_the_toolkit_where_nothing_does(tmp_path, monkeypatch):
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    for folder in (nvcc.parent, tmp_path / "toolkit" / "nvvm" / "libdevice", tmp_path / "bin"):
        folder.mkdir(parents=True)
    nvcc.touch(0o755)
    (tmp_path / "bin" / "nvcc").symlink_to(nvcc)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert environment(tmp_path)["CUDA_HOME"] == str(tmp_path / "toolkit")
    monkeypatch.setenv("CUDA_PATH", "/elsewhere")
    assert "CUDA_HOME" not in environment(tmp_path)


def test_plan__goes_on_after_a_stage_that_raises(tmp_path, fake, capsys):
    code = run_plan([fake("good"), fake("raises"), fake("quick")], tmp_path, quick=True)
    assert code == 1
    assert ends(tmp_path) == {
        "good": ("pass", ""), "raises": ("fail", "ValueError: this stage is broken"), "quick": ("pass", ""),
    }  # fmt: skip
    rows = {row["what"]: row for row in read_rows(tmp_path) if row["what"] != "end"}
    assert rows["before"]["value"] == 1 and rows["one"]["value"] == 1.5
    assert rows["quick"]["quick"] is True and 0 < rows["quick"]["left"] <= 20
    printed = capsys.readouterr()
    assert "failed: raises" in printed.out and "this stage is broken" in printed.err


def test_plan__kills_what_hangs_and_keeps_its_rows(tmp_path, fake):
    begin = time.monotonic()
    assert run_plan([fake("hangs", 1.5), fake("good")], tmp_path) == 1
    assert time.monotonic() - begin < 15
    outcomes = ends(tmp_path)
    assert outcomes["hangs"][0] == "fail" and "killed at its limit of 2 s" in outcomes["hangs"][1]
    assert outcomes["good"] == ("pass", "")
    assert [row["value"] for row in read_rows(tmp_path) if row["what"] == "before the wait"] == [2]
    time.sleep(max(0.0, begin + 6 - time.monotonic()))
    assert not (tmp_path / "late").exists(), "what the stage had started outlived it"


def test_plan__rows_are_whole_after_a_kill(tmp_path, fake):
    run_plan([fake("writes_until_killed", 1.5)], tmp_path)
    lines = (tmp_path / "gpu.jsonl").read_text().splitlines()
    assert len(lines) > 10
    assert all(json.loads(line)["status"] for line in lines)


def test_plan__a_skip_says_why_and_is_no_failure(tmp_path, fake):
    assert run_plan([fake("skips"), fake("good")], tmp_path) == 0
    assert ends(tmp_path) == {"skips": ("skip", "there is no such card"), "good": ("pass", "")}


def test_plan__parts_are_judged_one_by_one(tmp_path, fake):
    assert run_plan([fake("parts")], tmp_path) == 1
    assert ends(tmp_path)["parts"] == ("fail", "broken: ZeroDivisionError: division by zero")
    rows = {row["what"]: (row["status"], row["why"]) for row in read_rows(tmp_path) if row["what"] != "end"}
    assert rows["absent"] == ("skip", "no_such_library_at_all is not installed")
    assert rows["sound"] == ("pass", "")


@pytest.mark.parametrize(("name", "why"), [("crashes", "ended with signal 11"), ("leaves", "ended with code 7")])
def test_plan__a_stage_that_dies_failed(tmp_path, fake, name, why):
    assert run_plan([fake(name), fake("good")], tmp_path) == 1
    assert ends(tmp_path) == {name: ("fail", why), "good": ("pass", "")}


def test_plan__only_what_was_asked_for(tmp_path, fake):
    stages = [fake("raises"), fake("good"), fake("shows", always=True)]
    assert run_plan(stages, tmp_path, only=["good"]) == 0
    assert ends(tmp_path) == {
        "raises": ("skip", "not asked for (--only good)"), "good": ("pass", ""), "shows": ("pass", ""),
    }  # fmt: skip


def test_plan__keeps_time_for_the_table(tmp_path, fake, capsys):
    stages = [fake("good"), fake("raises", 100.0), fake("shows", 5.0, always=True)]
    assert run_plan(stages, tmp_path, total=6.5) == 0
    late = ("skip", "no time left of the 6.5 s")
    assert ends(tmp_path) == {"good": late, "raises": late, "shows": ("pass", "")}
    assert "the table:" in capsys.readouterr().out


def test_plan__unknown_stage_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--only", "probe", "benchmrk", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "benchmrk" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stages__fit_into_the_whole():
    assert sum(stage.limit for stage in STAGES) <= 560
    assert [stage.name for stage in STAGES][-1] == "table" and STAGES[-1].always


def test_rows__hold_what_json_cannot(tmp_path):
    append_row(tmp_path, {"run": "a", "x": float("nan"), "y": [float("inf"), (1, None)], "z": {"k": tmp_path}})
    (row,) = read_rows(tmp_path)
    assert row == {"run": "a", "x": "nan", "y": ["inf", [1, None]], "z": {"k": str(tmp_path)}}
    assert read_rows(tmp_path, "b") == []
    assert plain(True) is True


def test_rows__a_line_is_one_write(tmp_path, monkeypatch):
    writes, write = [], os.write
    monkeypatch.setattr("bench.gpu.rows.os.write", lambda file, text: writes.append(text) or write(file, text))
    append_row(tmp_path, {"run": "a", "text": "x" * 100_000})
    assert len(writes) == 1 and read_rows(tmp_path)[0]["text"] == "x" * 100_000


@pytest.mark.parametrize(
    ("prediction", "seconds", "says"),
    [
        (None, 1.0, ""),
        ([1.5, 1.8], 1.6e-3, "1.5-1.8 held"),
        ([1, 2], 4e-3, "1-2 2.0x over"),
        ([3, 4], 1e-3, "3-4 3.0x under"),
    ],
)
def test_missed__says_how_far_off(prediction, seconds, says):
    assert missed(prediction, seconds) == says


def test_rows__a_torn_row_is_dropped_and_whole_ones_are_kept(tmp_path):
    append_row(tmp_path, {"run": "now", "what": "whole"})
    with (tmp_path / "gpu.jsonl").open("a") as file:
        file.write('{"run": "now", "what": "to')
    cut_torn_row(tmp_path)
    append_row(tmp_path, {"run": "now", "what": "next"})
    assert [row["what"] for row in read_rows(tmp_path)] == ["whole", "next"]
