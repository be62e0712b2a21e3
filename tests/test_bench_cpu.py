"""The comparison with peers: who computes something else is never timed, and a disturbed timing is thrown away."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import ebm_ref
from bench.__main__ import main
from bench.cpu import compare, quiet, stacks, start
from bench.cpu.backends import prepare
from bench.cpu.cases import CASES, CNN_SMALL, SMALL, Case, case_flop, cases_of
from bench.cpu.oracle import WrongAnswerError, judge, step_of
from bench.cpu.quiet import Timing, quiet_timing
from bench.cpu.rows import COLUMNS, MARKS, README, read_rows, render, rows_of_case, save_rows, table
from bench.cpu.stacks import NEEDS, OURS, SGEMM, STACKS, Stack, libraries, stacks_of
from ebm_ref.contracts import BackendError, DataError, RangeError

ROOT = Path(__file__).parents[1]
CHAIN = SMALL[0]


def eta_of(case: Case) -> float:
    return step_of(case) if case.bench == "chain" else 0.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack.peer != SGEMM], ids=lambda stack: stack.name)
def test_stack__has_the_oracle_s_answers(stack: Stack) -> None:
    if stack.library and stacks.missing(stack.library):
        pytest.skip(f"{stack.library} is not installed")
    for case in SMALL:
        if case.bench == "start" or not stack.fits(case):
            continue
        if case.net is None or stack.module or hasattr(stacks.backend(stack.how), case.net.kind):
            made = stacks.prepare(stack, case)
            judge(stack.name, case, made.answers(eta_of(case)), ours=stack.peer == OURS)
            made.call()


def wrong_noise(energy, theta, x0, K, update, *rest, **named):
    return ebm_ref.langevin_run(energy, theta, x0, K, replace(update, sigma=update.sigma * 2**0.5), *rest, **named)


def no_box(energy, theta, x0, K, update, *rest, **named):
    return ebm_ref.langevin_run(energy, theta, x0, K, replace(update, box=None), *rest, **named)


def one_step_less(energy, theta, x0, K, *rest, **named):
    return ebm_ref.langevin_run(energy, theta, x0, K - 1, *rest, **named)


@pytest.mark.parametrize(("run", "answer"), [(wrong_noise, "run"), (no_box, "walk"), (one_step_less, "walk")])
def test_judge__refuses_a_wrong_twin(run, answer) -> None:
    twin = SimpleNamespace(langevin_run=run, ConvEnergy=ebm_ref.ConvEnergy)
    answers = prepare(twin, CHAIN).answers(eta_of(CHAIN))
    with pytest.raises(WrongAnswerError, match=f"the oracle's {answer} within"):
        judge("twin", CHAIN, answers, ours=True)


@pytest.mark.parametrize(
    "fields", [{"padding": "VALID"}, {"max_groups": 2}, {"activation": "gelu"}, {"pool": "sum"}], ids=lambda f: str(f)
)
@pytest.mark.parametrize("case", [case for case in SMALL if case.net == CNN_SMALL and case.bench in ("chain", "pcd")])
def test_judge__refuses_a_peer_of_another_energy(case: Case, fields: dict) -> None:
    other = replace(CNN_SMALL, fields=(*CNN_SMALL.fields, *fields.items()))
    answers = prepare(ebm_ref, replace(case, net=other)).answers(eta_of(case))
    del answers["run"]
    with pytest.raises(WrongAnswerError, match="grad"):
        judge("peer", case, answers, ours=False)


def test_judge__wants_every_answer_and_finite_ones() -> None:
    answers = prepare(ebm_ref, CHAIN).answers(eta_of(CHAIN))
    judge("twin", CHAIN, answers, ours=True)
    for name in answers:
        rest = {other: value for other, value in answers.items() if other != name}
        with pytest.raises(WrongAnswerError, match=f"answer {name}, found none"):
            judge("twin", CHAIN, rest, ours=True)
    with pytest.raises(WrongAnswerError, match="error of inf"):
        judge("twin", CHAIN, answers | {"grad": np.full_like(answers["grad"], np.nan)}, ours=True)
    assert judge("peer", CHAIN, {name: answers[name] for name in ("grad", "walk")}, ours=False) < 1e-4


def test_judge__refuses_normals_of_another_variance_and_an_update_that_does_not_average() -> None:
    noise = next(case for case in SMALL if case.bench == "noise")
    draw = lambda *address: ebm_ref.noise_normal(*address) * np.float32(1.05)  # noqa: E731
    answers = prepare(SimpleNamespace(noise_normal=draw), noise).answers(0.0)
    with pytest.raises(WrongAnswerError, match="moments"):
        judge("peer", noise, {"moments": answers["moments"]}, ours=False)
    pcd = next(case for case in SMALL if case.bench == "pcd")
    answers = prepare(ebm_ref, pcd).answers(0.0)
    with pytest.raises(WrongAnswerError, match="moved"):
        judge("peer", pcd, answers | {"moved": answers["moved"] * [1, 0]}, ours=False)


class Local:
    """A worker in this process; `asked` is what all of them were asked."""

    asked: list[tuple[str, object]] = []
    spoilt = ""

    def __init__(self, stack: Stack, case: Case) -> None:
        self.stack, self.made = stack, stacks.prepare(stack, case)

    def ask(self, request: object) -> object:
        self.asked.append((self.stack.name, request))
        answers = self.made.answers(request) if isinstance(request, float) else {}
        return {name: np.asarray(y) * (1.01 if self.stack.name == self.spoilt else 1) for name, y in answers.items()}

    def timing(self, tries: int) -> Timing:
        self.asked.append((self.stack.name, "timing"))
        return Timing(2.0 if self.stack.peer == OURS else 3.0, 100.0, 0.0, 0)

    def close(self) -> None:
        pass


NUMPY = [stack for stack in STACKS if stack.how == "ebm_ref" or stack.peer in (OURS, SGEMM)]


@pytest.mark.parametrize("spoilt", [stack.name for stack in NUMPY if stack.peer != SGEMM])
def test_compare__never_times_who_is_wrong(spoilt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Worker", Local)
    monkeypatch.setattr(Local, "asked", [])
    monkeypatch.setattr(Local, "spoilt", spoilt)
    with pytest.raises(WrongAnswerError, match=spoilt):
        compare.compare_case(CHAIN, NUMPY, 2, 1)
    assert not [name for name, request in Local.asked if request == "timing"]


def test_compare__takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Worker", Local)
    monkeypatch.setattr(Local, "asked", [])
    (row,) = compare.compare_case(CHAIN, NUMPY, 3, 1)
    names = [stack.name for stack in NUMPY]
    assert [name for name, request in Local.asked if request == "timing"] == names * 3
    assert row["ratio"] == 1.5 and row["rounds"] == 3 and set(row) == set(COLUMNS)
    assert row["gflops"] == case_flop(CHAIN) / 2.0 / 1e9


def quiet_of(others: list[float | None], tries: int) -> Timing:
    """A fake clock that runs 1 s a timing, of which others use so many processor seconds; timing i takes i s."""
    clock, used, calls = 0.0, 0.0, 0

    def ask() -> tuple[float, float]:
        nonlocal clock, used, calls
        clock, used, calls = clock + 1.0, used + (others[calls] or 0.0), calls + 1
        return float(calls), 10.0

    return quiet_timing(ask, lambda: None if others[0] is None else (clock, used), tries, 0.02)


def test_quiet_timing__throws_away_what_others_disturb() -> None:
    assert quiet_of([0.059], 3) == Timing(1.0, 10.0, pytest.approx(0.039), 0)  # 0.02 s let pass, then 4 %
    found = quiet_of([0.5, 0.07, 0.01], 5)
    assert (found.seconds, found.discarded, found.disturbed) == (3.0, 2, False)


def test_quiet_timing__keeps_the_least_disturbed_and_says_so() -> None:
    found = quiet_of([0.5, 0.1, 0.3], 3)
    assert (found.seconds, found.discarded, found.disturbed) == (2.0, 2, True)
    assert quiet_of([None], 3) == Timing(1.0, 10.0, None, 0)


def test_watch_others__is_the_machine_without_the_timed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PROC", tmp_path)
    monkeypatch.setattr(quiet, "tick", lambda: 0.01)
    monkeypatch.setattr(quiet.os, "getpid", lambda: 8)
    assert quiet.watch_others(7)() is None
    (tmp_path / "stat").write_text("cpu  100 20 30 99999 99999 4 5 99999 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    for pid, times in ((7, "11 12 13 14"), (8, "1 2 3 4")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) S 1 2 3 4 5 6 7 8 9 10 {times} 99 99\n")
    found = quiet.watch_others(7)()
    assert found is not None and found[1] == pytest.approx(1.59 - 0.50 - 0.10)


def test_case_flop__counts_whole_filters() -> None:
    forward = 2 * (4 * 4 * 9 * 1 * 4 + 2 * 2 * 9 * 4 * 8) + 2 * (8 * 4 + 4)  # 8x7 -> 4x4 -> 2x2, head 8 -> 4 -> 1
    pcd = next(case for case in SMALL if case.bench == "pcd")
    assert case_flop(CHAIN) == 2 * forward * CHAIN.n * CHAIN.K
    assert case_flop(pcd) == 2 * forward * pcd.n * pcd.K + 3 * forward * 2 * pcd.n
    assert case_flop(CASES[0]) == pytest.approx(65.97e9, rel=1e-3)
    assert {case.bench for case in CASES if not case_flop(case)} == {"noise", "buffer", "start", "functions"}


def test_libraries__are_those_installed_or_those_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDS, "jax", ("no_such_module",))
    assert "jax" in libraries(None)[1] and "jax" not in libraries(None)[0]
    assert libraries("numpy") == (("numpy",), ())
    with pytest.raises(BackendError, match="--against jax: needs no_such_module"):
        libraries("numpy,jax")
    with pytest.raises(RangeError, match="--against"):
        libraries("tensorflow")
    with pytest.raises(RangeError, match="NAME"):
        cases_of(("chian",))


@pytest.mark.parametrize("arguments", [["chian"], ["chain", "--against", "tensorflow"], ["noise", "--rounds", "0"]])
def test_bench__errors_are_sentences(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("bench: ")


def test_bench__runs_in_processes_and_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cpu.csv"
    small = ["--small", "--rounds", "1", "--tries", "1", "--against", "numpy"]
    assert main(["pcd", "buffer", *small, "--json", "--out", str(out)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["bench"], row["peer"]) for row in rows] == [
        ("pcd", "numpy"),
        ("buffer", "numpy"),
        ("buffer", "python list"),
    ]
    for row in rows:
        assert tuple(row) == COLUMNS
        assert row["seconds"] > 0 and row["ratio"] == row["peer_seconds"] / row["seconds"] and row["memory_mb"] > 10
    with out.open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == [row["case"] for row in rows]


HOLD_AND_FORGET = """
import numpy as np
from bench.cpu import memory
before = memory.peak_megabytes()
held = np.ones(60 << 17)  # 60 MB
peak = memory.peak_megabytes()
del held
after = memory.peak_megabytes()
print(before, peak, after, memory.forget_peak(), memory.peak_megabytes())
"""


def test_peak_megabytes__is_of_this_process_since_it_forgot() -> None:
    """In a process of its own: what other tests held counts in this one, and freed memory may be used again."""
    answer = subprocess.run([sys.executable, "-c", HOLD_AND_FORGET], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    *numbers, forgot, now = answer.stdout.split()
    before, peak, after = map(float, numbers)
    assert peak >= before + 50
    assert after >= peak - 5  # counted to some pages
    if forgot == "False":
        pytest.skip("the system cannot forget a peak")
    assert float(now) <= peak - 50


def test_start__is_a_process_with_caches_of_its_own(tmp_path: Path) -> None:
    case = next(case for case in SMALL if case.bench == "start")
    start.copy_sources(tmp_path)
    assert not list(tmp_path.rglob("__pycache__"))
    stack = next(stack for stack in STACKS if stack.how == "ebm_ref")
    seconds, megabytes, answers = start.first_step(tmp_path, stack, case, step_of(case))
    assert seconds > 0 and megabytes > 10
    assert judge(stack.name, case, answers, ours=True) < 1e-6
    assert list((tmp_path / "ebm_ref").rglob("__pycache__"))


def made_rows() -> list[dict]:
    torch = [
        stack for stack in stacks_of(CASES[0], ("torch",)) if stack.library == "torch" or stack.peer in (OURS, SGEMM)
    ]
    seconds = {stack.name: [1.0 + i] * 3 for i, stack in enumerate(torch)}
    timings = {name: [Timing(s, 10.0 * s, 0.0, 1) for s in values] for name, values in seconds.items()}
    return rows_of_case(CASES[0], torch, timings, dict.fromkeys(seconds, 1e-7))


def test_rows__are_against_the_fastest_variant() -> None:
    rows = made_rows()
    assert [(row["peer"], row["variant"], row["ratio"]) for row in rows][0] == ("torch", "eager", 2.0)
    assert rows[0]["variants"].startswith("eager 2; eager, malloc 3")
    assert rows[0]["memory_mb"] == 10.0 and rows[0]["peer_memory_mb"] == 20.0 and rows[0]["discarded"] == 6
    assert [row["peer"] for row in rows] == ["torch", "torch half batches"]


def test_save_rows__replaces_the_same_case_and_peer(tmp_path: Path) -> None:
    path, rows = tmp_path / "cpu.csv", made_rows()
    save_rows(rows, path)
    save_rows([rows[0] | {"ratio": 5.0}], path)
    assert [row["ratio"] for row in read_rows(path)] == ["5.0", str(rows[1]["ratio"])]
    path.write_text("bench,case\n")
    with pytest.raises(DataError, match="columns"):
        save_rows(rows, path)


def test_readme__table_is_the_csv_s() -> None:
    text = README.read_text()
    assert render(text, read_rows()) == text


def test_render__shows_every_peer_s_ratio() -> None:
    rows = [{name: str(value) for name, value in row.items()} for row in made_rows()]
    readme = f"before\n\n{MARKS[0]}\nold\n{MARKS[1]}\n\nafter\n"
    text = render(readme, rows)
    assert text.startswith("before\n\n") and text.endswith(f"{MARKS[1]}\n\nafter\n") and "old" not in text
    lines = [line.split(" | ") for line in table(rows).splitlines() if line.startswith("|")]
    assert lines[0][1:4] == [OURS, "torch", "torch half batches"]
    assert lines[2][1:3] == ["1 s", "2 s, 2.00x"]
    with pytest.raises(DataError, match="README"):
        render("no marks", rows)
