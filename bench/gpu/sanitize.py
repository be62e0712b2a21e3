"""Stage 4: every kernel once, under each of compute-sanitizer's four tools; and a planted fault that each must catch.

A tool that is not installed, or that cannot attach here, is skipped with its own words. A tool that runs and does not
see the planted fault fails: its clean reports would mean nothing. racecheck and synccheck look at shared memory only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ebm_fast

from .context import FAIL, PASS, SKIP, Context, Skip
from .plan import ROOT
from .planted import FAULTS
from .probe import find_tool

TIMEOUT, FOUND = 50.0, 9  # seconds of one run; the exit code when a tool has something to report
BACKENDS = ("cupy_raw", "numba_cuda")
SUMMARY = re.compile(r"SUMMARY: (\d+) (?:error|hazard)")


@dataclass(frozen=True)
class Sanitized:
    """errors: what the summary counts; None where the tool came to no summary."""

    errors: int | None
    code: int | None
    text: str


def sanitize(context: Context) -> None:
    context.need_card()
    context.need("cupy")
    path = find_tool("compute-sanitizer")
    with ThreadPoolExecutor(len(FAULTS)) as pool:
        works = dict(zip(FAULTS, pool.map(lambda tool: planted(context, path, tool), FAULTS), strict=True))
        for backend in BACKENDS:
            why = ebm_fast.why_not(backend) if backend in ebm_fast.BACKENDS else f"there is no backend {backend}"
            if why:
                context.row(f"every kernel of {backend}", SKIP, why)
                continue
            list(
                pool.map(
                    lambda tool, name=backend: every_kernel(context, path, tool, name), [t for t in FAULTS if works[t]]
                )
            )


def planted(context: Context, path: str, tool: str) -> bool:
    """Whether the tool works here; the row says whether it caught the planted fault."""
    what = f"{tool}, planted fault"
    done = run(context, path, tool, ["bench.gpu.planted", tool])
    if done.errors is None:
        context.row(what, SKIP, f"compute-sanitizer cannot run here: {tail(done.text)}")
        return False
    caught = done.errors > 0 and done.code == FOUND
    context.row(what, PASS if caught else FAIL, "" if caught else f"not caught: {tail(done.text)}", errors=done.errors)
    return caught


def every_kernel(context: Context, path: str, tool: str, backend: str) -> None:
    """The driver's launches under one tool: no report, and no call that failed."""
    what = f"{tool}, every kernel of {backend}"
    if context.left() < 5:
        context.row(what, SKIP, "no time left")
        return
    done = run(context, path, tool, ["bench.gpu.launches", backend, "small", "plain"])
    if done.code is None and not done.errors:
        context.row(what, SKIP, tail(done.text))
        return
    clean = done.errors == 0 and done.code == 0
    why = "" if clean else f"code {done.code}: {first_error(done.text)}"
    context.row(what, PASS if clean else FAIL, why, errors=done.errors)


def run(context: Context, path: str, tool: str, module: list[str]) -> Sanitized:
    """One module under one tool; its whole output is kept among the run's files."""
    command = [
        path,
        "--tool",
        tool,
        "--target-processes",
        "all",
        "--error-exitcode",
        str(FOUND),
        sys.executable,
        "-m",
        *module,
    ]
    limit = max(1.0, min(TIMEOUT, context.left() - 2))
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=limit,
        )  # fmt: skip
        code, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        code, text = None, (said if isinstance(said, str) else said.decode(errors="replace"))
        text += f"\nkilled after {limit:.0f} s"
    except OSError as error:
        raise Skip(f"{path}: {error}") from error
    (context.files / f"sanitize_{tool}_{module[0].rpartition('.')[2]}_{module[1]}.txt").write_text(text)
    found = SUMMARY.findall(text)
    return Sanitized(int(found[-1]) if found else None, code, text)


def tail(text: str) -> str:
    """The last lines that say something."""
    lines = [line.strip("= ") for line in text.splitlines() if line.strip("= ")]
    return " | ".join(lines[-3:])[:300]


def first_error(text: str) -> str:
    """The first report of the tool, or else the end of the output."""
    lines = [line.strip("= ") for line in text.splitlines()]
    reports = [
        i for i, line in enumerate(lines) if re.match(r"(Invalid|Error|Race|Barrier|Uninitialized|Warning)", line)
    ]
    return " | ".join(line for line in lines[reports[0] : reports[0] + 4] if line)[:400] if reports else tail(text)
