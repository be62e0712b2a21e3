"""The plan: stages one after another, each in its own process, under its own limit and the limit of the whole.

    run_plan(stages, out)      the exit code: 0, or 1 when a stage that ran failed

A stage is killed, with every process it started, at its limit. Its rows are in the file already; the plan adds one
row a stage, `what` = "end", with the outcome. A stage after the last second of the whole is skipped and says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from .context import CODES, FAIL, PASS, SKIP, Context
from .rows import append_row, cut_torn_row

ROOT = Path(__file__).parent.parent.parent
TOTAL = 560.0  # seconds of a whole run
LEAST = 2.0  # seconds below which no stage is begun
TAIL = 15  # lines of a failed stage's log that are shown


@dataclass(frozen=True)
class Stage:
    """target: "module:function", called with a Context in a process of its own; limit: seconds."""

    name: str
    limit: float
    target: str
    what: str = ""
    always: bool = False  # runs whatever was asked for, and shows what it prints


@dataclass(frozen=True)
class Outcome:
    stage: str
    status: str
    why: str
    seconds: float
    rows: int


def run_plan(
    stages: Sequence[Stage], out: Path, only: Sequence[str] = (), quick: bool = False, total: float = TOTAL
) -> int:
    """Run every stage, or those named in `only`. out: the folder of results, made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    run, start = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), time.time()
    outcomes: list[Outcome] = []
    caches = TemporaryDirectory(prefix="ebm-gpu-")  # from stage to stage of this run
    for i, stage in enumerate(stages):
        kept = sum(later.limit for later in stages[i + 1 :] if later.always)  # the table must still fit
        limit = min(stage.limit, total - kept - (time.time() - start))
        if only and stage.name not in only and not stage.always:
            outcome = Outcome(stage.name, SKIP, f"not asked for (--only {' '.join(only)})", 0.0, 0)
        elif limit < LEAST and stage.limit >= LEAST:
            outcome = Outcome(stage.name, SKIP, f"no time left of the {total:g} s", 0.0, 0)
        else:
            say(f"{stage.name}: {stage.what} (at most {limit:.0f} s)")
            context = Context(stage.name, stage.target, str(out), run, time.time() + limit, quick)
            outcome = run_one(context, limit, Path(caches.name))
        append_row(out, {"run": run, "what": "end"} | vars(outcome))
        if stage.always and outcome.status == PASS:
            print(log_path(out, stage.name).read_text(), end="")
        elif outcome.status == FAIL:
            lines = log_path(out, stage.name).read_text().splitlines()[-TAIL:]
            say("\n".join([f"{stage.name} failed: {outcome.why}", *(f"    {line}" for line in lines)]))
        outcomes.append(outcome)
    caches.cleanup()
    for outcome in outcomes:
        figures = f"{outcome.seconds:6.1f} s  {outcome.rows:4d} rows"
        print(f"{outcome.status}  {outcome.stage:<12} {figures}  {outcome.why}".rstrip())
    failed = [outcome.stage for outcome in outcomes if outcome.status == FAIL]
    print(f"{'failed: ' + ', '.join(failed) if failed else 'nothing failed'}; {time.time() - start:.0f} s; {out}")
    return int(bool(failed))


def run_one(context: Context, limit: float, caches: Path) -> Outcome:
    """One stage in its own process group, which is killed at the limit or when this process is interrupted."""
    start = time.time()
    command = [sys.executable, "-m", "bench.gpu.child", context.json()]
    with log_path(Path(context.out), context.stage).open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT,
            env=environment(caches), start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
    cut_torn_row(Path(context.out))
    rows = context.rows(context.stage)
    status = next((status for status, known in CODES.items() if known == code), FAIL)
    if code is None:
        why = f"killed at its limit of {limit:.0f} s; what it had measured is kept"
    elif code not in CODES.values():
        why = f"ended with {'signal' if code < 0 else 'code'} {abs(code)}"
    else:
        why = reason(rows, status)
    return Outcome(context.stage, status, why, time.time() - start, len(rows))


def reason(rows: list[dict], status: str) -> str:
    """Why, in words: the stage's own, or its first row that failed, or how many rows were skipped."""
    own = [row["why"] for row in rows if row["what"] == "stage"]
    bad = [f"{row['what']}: {row['why']}" for row in rows if row["status"] == FAIL and row["what"] != "stage"]
    if own or status == SKIP:
        return " ".join(own)
    if bad:
        return bad[0] + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else "")
    skipped = [row for row in rows if row["status"] == SKIP]
    return f"{len(skipped)} parts skipped, first: {skipped[0]['why']}" if skipped else ""


def end(process: subprocess.Popen) -> None:
    """Kill what is left of the stage's process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def log_path(out: Path, stage: str) -> Path:
    folder = out / "gpu_files"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{stage}.log"


def environment(caches: Path) -> dict[str, str]:
    """Of a stage: the source tree first, output unbuffered, caches of torch, JAX and CuPy in a folder of the run."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    given = toolkit() | os.environ
    return given | {
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "CUPY_CACHE_DIR": str(caches / "cupy"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS": "0",
    }


def toolkit() -> dict[str, str]:
    """CUDA_HOME, unless the environment names a toolkit: Numba finds NVVM there where the loader does not know it."""
    if "CUDA_PATH" in os.environ or "CUDA_HOME" in os.environ:
        return {}
    nvcc = shutil.which("nvcc")
    roots = [Path(nvcc).resolve().parent.parent] if nvcc else []
    found = [root for root in (*roots, Path("/usr/local/cuda")) if (root / "nvvm" / "libdevice").is_dir()]
    return {"CUDA_HOME": str(found[0])} if found else {}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
