"""One stack and one case in one process: `python -m bench.cpu.worker`.

Reads pickled requests from stdin and writes a pickled answer to each, (True, value) or (False, what went wrong):

    (name, case)   prepares the case on the stack of that name
    eta            its answers, where the walk has this step
    None           a timing: seconds of one call, the mean over LASTS seconds, and the most memory it has held, in MB
"""

from __future__ import annotations

import os
import pickle
import sys
from math import ceil
from time import perf_counter
from typing import Any

from .backends import Prepared
from .cases import Case
from .memory import forget_peak, peak_megabytes
from .stacks import prepare, stack_named
from .start import prepare_start

LASTS = 0.5  # seconds of a timing at least: system clocks tick every 10 ms, and 4 % of it are to be seen


def prepared(name: str, case: Case) -> Prepared:
    stack = stack_named(name)
    if case.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # for libraries that have no setting
    return prepare_start(stack, case) if case.bench == "start" else prepare(stack, case)


def seconds_of(made: Prepared, times: int) -> tuple[float, float]:
    """Seconds of one call, the mean of `times`, and the most memory that its process has held, in MB."""
    if made.own_clock:
        seconds, megabytes = zip(*(made.call() for _ in range(times)), strict=True)
        return sum(seconds) / times, max(megabytes)
    began = perf_counter()
    for _ in range(times):
        made.call()
    return (perf_counter() - began) / times, peak_megabytes()


def main() -> None:
    answers_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    made: Prepared | None = None
    times = 0

    def answer(request: Any) -> Any:
        nonlocal made, times
        if isinstance(request, tuple):
            made = prepared(*request)
            return None
        assert made is not None
        if request is not None:
            return made.answers(request)
        if times == 0:  # one untimed call
            times = max(1, ceil(LASTS / max(seconds_of(made, 1)[0], 1e-9)))
            forget_peak()
        return seconds_of(made, times)

    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found = (True, answer(request))
        except Exception as error:  # told to the driver, which decides
            found = (False, f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error) else ''}")
        pickle.dump(found, answers_to)
        answers_to.flush()


if __name__ == "__main__":
    main()
