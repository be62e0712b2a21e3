"""A second process that compiles with this one: where there are two processors, a cold start takes a third less.

Both go through the instructions of a program, this one from the first to the last and the helper from the last to the
first, and both look into the cache on disk before they compile. So they need not talk: where the helper is slow or
fails, this one compiles all. It is a new interpreter, never a fork; it takes only what processors have to spare, and is
gone before the program is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np

from .build import JIT, VECTOR_BYTES, address, held
from .registers import lanes_type
from .threads import thread_count

FEW = 6  # instructions that are compiled by the time that a second interpreter has started and found its feet
CODE = """
import gc, json, os, sys
gc.disable()
if hasattr(os, "nice"):
    os.nice(19)
sys.path[:] = json.loads(sys.argv[1])
from ebm_fast.numba_cpu import helper, machine
helper.main(machine, *sys.argv[2:])
"""

_once = threading.Lock()  # taken for good: a process has one helper, for its first large program


def interpreter() -> str:
    """The path of this Python; "" where that is another program that holds one."""
    path = sys.executable or ""
    return path if Path(path).name.startswith("python") and not getattr(sys, "frozen", False) else ""


def command(dtype: Any, missing: Sequence[tuple[int, str]]) -> list[str]:
    """That of a helper with this process's modules, for instructions by number, each for a part of a register."""
    path = json.dumps([place for place in sys.path if isinstance(place, str)])  # Python passes over what is no text
    tasks = (f"{number} {part}" for number, part in missing)
    return [interpreter(), "-P", "-c", CODE, path, np.dtype(dtype).name, *tasks]


def environment() -> dict[str, str]:
    """This process's registers and cache; one thread, so that a helper has no helper."""
    return os.environ | {
        "EBM_NUM_THREADS": "1",
        "EBM_VECTOR_BYTES": str(VECTOR_BYTES),
        "NUMBA_CACHE_DIR": numba.config.CACHE_DIR,
    }


@contextmanager
def helper(instructions: Sequence[Any], parts: dict[Any, str], dtype: Any) -> Iterator[None]:
    """While in here, a helper compiles some of the machine's `instructions`, each for its part of a register.

    Only where it pays: many of them are not in the cache, there is one, and a second processor.
    """
    can = JIT and thread_count() > 1 and interpreter() and not _once.locked()
    missing = [what for what, part in parts.items() if not held(what, lanes_type(dtype, part))] if can else []
    if len(missing) <= FEW or not _once.acquire(blocking=False):
        yield
        return
    asked = [(instructions.index(what), parts[what]) for what in reversed(missing)]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        process = subprocess.Popen(command(dtype, asked), env=environment(), **quiet)  # type: ignore[call-overload]
    except OSError:  # no room for another process, or none allowed
        yield
        return
    with process:  # waits at the end
        try:
            yield
        finally:
            process.kill()


def main(machine: Any, dtype: str, *asked: str) -> None:
    """The helper: the machine's runner of programs, which is called last, then its instructions by number and part."""
    tasks = [(machine.INSTRUCTIONS[int(number)], part) for number, part in (task.split() for task in asked)]
    machine.run_tiles.compile(machine.runner_types(dtype, tasks[0][1]))
    for what, part in tasks:
        if not held(what, lanes_type(dtype, part)):
            address(what, lanes_type(dtype, part))
