"""From the start of a process to the end of its first chain step, in a copy of the packages with caches of its own.

    cold   a fresh copy each time: nothing is compiled yet, neither Python's files nor Numba's
    warm   one copy, used before

numba_cpu keeps its machine code beside its sources (numba_cpu/build.py), so the caches of a copy are the copy's. Where
there are two processors a second process compiles with it (numba_cpu/helper.py); its memory is not counted.

    python -m bench.cpu.start   the measured process: reads (stack, case, eta) from stdin, prepares and takes the first
                                step, writes a line with its memory, then its answers
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from ebm_ref.contracts import BackendError

from .backends import Prepared
from .cases import Case
from .memory import peak_megabytes
from .stacks import Stack, prepare, stack_named

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("ebm_ref", "ebm_fast", "bench")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "results", "*.png")


def copy_sources(folder: Path) -> None:
    """The packages without any cache."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)


def first_step(folder: Path, stack: Stack, case: Case, eta: float) -> tuple[float, float, dict[str, Any]]:
    """Seconds to the end of the first step of a process on the copy in `folder`, its memory in MB, its answers.

    Raises BackendError where it dies.
    """
    dropped = ("NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    env = {name: value for name, value in os.environ.items() if name not in dropped} | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "bench.cpu.start"]
    pipe = subprocess.PIPE
    began = perf_counter()
    with subprocess.Popen(command, cwd=folder, env=env, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        pickle.dump((stack.name, case, eta), process.stdin)
        process.stdin.close()
        line = process.stdout.readline()
        seconds = perf_counter() - began
        if not line.startswith(b"stepped "):
            raise BackendError(f"{stack.name}, start {case.name}: expected a first step, found {line!r}")
        return seconds, float(line.split()[1]), pickle.load(process.stdout)


def prepare_start(stack: Stack, case: Case) -> Prepared:
    """The timed call starts a process; seconds and megabytes are the process's, without the copying."""
    kept = tempfile.TemporaryDirectory()
    copy_sources(Path(kept.name))

    def answers(eta: float) -> dict[str, Any]:
        return first_step(Path(kept.name), stack, case, eta)[2]

    def call() -> tuple[float, float]:
        if not case.name.endswith("cold"):
            return first_step(Path(kept.name), stack, case, 0.1)[:2]
        with tempfile.TemporaryDirectory() as folder:
            copy_sources(Path(folder))
            return first_step(Path(folder), stack, case, 0.1)[:2]

    return Prepared(call, answers, own_clock=True)


def main() -> None:
    answers_to = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    name, case, eta = pickle.load(sys.stdin.buffer)
    made = prepare(stack_named(name), case)
    made.call()
    answers_to.write(f"stepped {peak_megabytes()}\n".encode())
    answers_to.flush()
    pickle.dump(made.answers(eta), answers_to)
    answers_to.flush()


if __name__ == "__main__":
    main()
