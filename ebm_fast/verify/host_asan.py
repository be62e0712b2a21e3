"""The address sanitiser's build needs a process that began with its libraries: `run_in_asan` starts one.

In it EBM_HOST_BUILD is asan, so the functions of `host_build` run in that build, and the first access outside an
allocation, or the first undefined operation, ends the process with a report on stderr that names file and line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import ebm_fast
from ebm_ref.contracts import BackendError

from .host_compile import compiler
from .host_report import plain_environment

LIBRARIES = (("libasan.so", "libubsan.so"), ("libclang_rt.asan-x86_64.so",), ("libclang_rt.asan-aarch64.so",))
OPTIONS = "detect_leaks=0:abort_on_error=0:exitcode=99:detect_stack_use_after_return=0"
EXIT = 99  # what the sanitiser ends a process with


def run_in_asan(argv: Sequence[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """`python *argv` with the sanitiser's libraries: its returncode (99 where it found something), stdout, stderr.

    argv: as after `python`: ["-m", "ebm_fast.app.main", "verify"] or ["-c", code].
    Raises BackendError (the compiler has no such libraries).
    """
    environment = plain_environment() | {
        "LD_PRELOAD": " ".join(libraries()),
        "ASAN_OPTIONS": OPTIONS,
        "UBSAN_OPTIONS": f"print_stacktrace=1:exitcode={EXIT}",
        "EBM_HOST_BUILD": "asan",
        "PYTHONMALLOC": "malloc",
    }
    root = str(Path(ebm_fast.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *argv], env=environment, capture_output=True, text=True, timeout=timeout, errors="replace"
    )


def inside() -> bool:
    """Whether this process began with the sanitiser's libraries."""
    return "asan" in os.environ.get("LD_PRELOAD", "")


@cache
def libraries() -> tuple[str, ...]:
    """The libraries to load first. Raises BackendError where the compiler has none."""
    for names in LIBRARIES:
        paths = [_path(name) for name in names]
        if all(os.path.isabs(path) and os.path.exists(path) for path in paths):
            return tuple(os.path.realpath(path) for path in paths)
    raise BackendError(f"{compiler()} has no address sanitiser: none of {LIBRARIES} found")


def _path(name: str) -> str:
    command = [compiler(), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, env=plain_environment()).stdout.strip()
