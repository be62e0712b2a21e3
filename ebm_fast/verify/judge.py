"""The kit's engine: judge one case, and let Hypothesis look for the smallest case that fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref

from ..extras import require
from .case import Case, Outputs
from .close import Failure, compare, references
from .laws import LAWS, Trial
from .problems import strategy

SHRINK = 300  # cases tried after the first failure; the smallest found by then is the one reported


def judge(case: Case, fn: Callable[..., Any], module: ModuleType = ebm_ref, dtype: Any = np.float64) -> float:
    """The largest error over its budget; `Failure` where a result, its dtype, a law or the purity is wrong."""
    with np.errstate(all="ignore"):
        before = {name: a.copy() for name, a in case.arrays()}
        got = answer(case, fn, module)
        for name, a in case.arrays():
            if a.tobytes() != before[name].tobytes():
                raise Failure(f"changes its input {name}")
        for name, value in got.items():
            for given, a in case.arrays():
                if isinstance(value, np.ndarray) and np.may_share_memory(value, a):
                    raise Failure(f"{name} is not a new array: it shares memory with its input {given}")
        want, budget = references(case, dtype)
        if missing := [name for name in want if name not in got]:
            raise Failure(f"gives no {', '.join(missing)}")
        worst = max(compare(name, got[name], want[name], budget.get(name), dtype) for name in want)
        for name, value in answer(case, fn, module).items():
            if np.asarray(value).tobytes() != np.asarray(got[name]).tobytes():
                raise Failure(f"{name}: two calls with the same arguments differ")
        for holds in LAWS.get(case.function, ()):
            trial = Trial(case, fn, module, got, budget, dtype)
            try:
                holds(trial)
            except Failure as failure:
                raise Failure(f"{failure}{last_call(trial)}", failure.ratio) from None
            except Exception as error:
                text = f"law {holds.__name__}: raised {type(error).__name__}: {error}"
                raise Failure(f"{text}{last_call(trial)}") from error
        return worst


def answer(case: Case, fn: Callable[..., Any], module: ModuleType) -> Outputs:
    try:
        return case.run(fn, module)
    except Exception as error:
        raise Failure(f"raised {type(error).__name__}: {error}") from error


def last_call(trial: Trial) -> str:
    """A line for the call that a law made last, beside the case's own; "" where it made none."""
    return f"\nthe law's call: {trial.calls[-1].describe()}; made from the case" if trial.calls else ""


class Search:
    """What one search over cases found."""

    def __init__(self) -> None:
        self.cases = 0
        self.worst = 0.0
        self.failure: Failure | None = None
        self.case: Case | None = None


def search(function: str, dtype: Any, trial: Callable[[Case], float], cases: int, seed: int) -> Search:
    """Run `trial` on `cases` cases of a function; on a failure, shrink it to a minimal one.

    The same seed gives the same cases. Nothing is written to disk.
    """
    hypothesis = require("hypothesis", "verify")
    found = Search()
    failures: dict[str, Failure] = {}  # by the case's description, which names the case
    tries = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(strategy(function, dtype))
    def body(case: Case) -> None:
        nonlocal tries
        key = case.describe()
        if failures:
            tries += 1
        else:
            found.cases += 1
        if key not in failures and tries < SHRINK:
            try:
                found.worst = max(found.worst, trial(case))
            except Failure as failure:
                failures[key] = failure
        if key in failures:
            found.failure, found.case = failures[key], case
            raise Failure(str(failures[key]))  # always from this line: to Hypothesis all failures are one

    with nothing_written():
        try:
            body()
        except Failure:
            found.worst = found.failure.ratio if found.failure else found.worst
    return found


@contextmanager
def nothing_written() -> Iterator[None]:
    """Hypothesis keeps a folder of constants that it read from source files: give it a place that cannot be."""
    configuration = require("hypothesis.configuration", "verify")
    before = configuration.storage_directory(intent_to_write=False).path
    configuration.set_hypothesis_home_dir(Path(os.devnull, "hypothesis"))
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(before)
