"""The driver: each stack in a worker process, one of them at work at a time, in turns A B C A B C ...

Between turns it waits SETTLE seconds: threads of a matrix library spin for a while after their last product.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep
from typing import Any

from ebm_fast import backend
from ebm_ref.contracts import BackendError, check_count

from ..table import Row
from .cases import Case
from .oracle import exact_answers, judge, step_of
from .quiet import TICKS, Timing, quiet_timing, tick, watch_others
from .rows import format_row, rows_of_case
from .stacks import OURS, SGEMM, Stack, environment, stacks_of

ROOT = Path(__file__).resolve().parent.parent.parent
SETTLE = 0.1


class Worker:
    """The process of a stack and a case; nothing is prepared yet."""

    def __init__(self, stack: Stack, case: Case) -> None:
        self.stack, self.case = stack, case
        env = os.environ | environment(stack, case) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "bench.cpu.worker"]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request: Any) -> Any:
        """Its answer. Raises BackendError where something went wrong there."""
        what = f"{self.stack.name}, {self.case.bench} {self.case.name}"
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            well, value = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise BackendError(f"{what}: expected an answer, found a dead process") from error
        if not well:
            raise BackendError(f"{what}: {value}")
        return value

    def timing(self, tries: int) -> Timing:
        """Seconds of one call on a quiet machine."""
        sleep(SETTLE)
        return quiet_timing(lambda: self.ask(None), watch_others(self.process.pid), tries, TICKS * tick())

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.close()
        self.process.wait()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(
    cases: Sequence[Case],
    libraries: Sequence[str],
    rounds: int,
    tries: int,
    done: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """The rows of every case; done(rows) after each case, with its own.

    libraries: of stacks.AGAINST   rounds: timings of each stack   tries: of a timing while others disturb it
    Raises RangeError, BackendError, WrongAnswerError.
    """
    check_count("--rounds", rounds, low=1)
    check_count("--tries", tries, low=1)
    ours = backend(OURS)
    rows: list[Row] = []
    for case in cases:
        if case.net is not None and not hasattr(ours, case.net.kind):
            say(f"skipped: {case.bench} {case.name}: {OURS} has no {case.net.kind}")
            continue
        stacks = stacks_of(case, libraries)
        if all(stack.peer in (OURS, SGEMM) for stack in stacks):
            say(f"skipped: {case.bench} {case.name}: nobody to compare with among {', '.join(libraries)}")
            continue
        found = compare_case(case, stacks, rounds, tries)
        rows += found
        done(found)
    return rows


def compare_case(case: Case, stacks: Sequence[Stack], rounds: int, tries: int) -> list[Row]:
    """Prepare, judge, then time the stacks in turns. Raises WrongAnswerError before anything is timed."""
    workers: list[Worker] = []
    errors: dict[str, float] = {}
    eta = step_of(case) if case.bench in ("chain", "start") else 0.0
    try:
        for stack in stacks:
            worker = Worker(stack, case)
            workers.append(worker)
            try:
                worker.ask((stack.name, case))
                answers = worker.ask(eta)
            except BackendError as error:
                if not stack.may_fail:
                    raise
                say(f"left out: {error}")
                workers.remove(worker)
                worker.close()
                continue
            if stack.peer != SGEMM:
                errors[stack.name] = judge(stack.name, case, answers, ours=stack.peer == OURS)
        timings: dict[str, list[Timing]] = {worker.stack.name: [] for worker in workers}
        for _ in range(rounds):
            for worker in workers:
                timings[worker.stack.name].append(worker.timing(tries))
    finally:
        exact_answers.cache_clear()
        for worker in workers:
            worker.close()
    rows = rows_of_case(case, [worker.stack for worker in workers], timings, errors)
    for row in rows:
        say(format_row(row))
    return rows
