"""Stage 6: where the time of each kernel goes, by Nsight Compute: its first launch in a large call, once.

The clocks are left as they are (--clock-control none). The table of all metrics is kept as ncu_BACKEND.csv among the
run's files; a row a kernel holds the ones that decide what to do next.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from io import StringIO

import ebm_fast

from .context import FAIL, SKIP, Context, Skip
from .plan import ROOT
from .probe import find_tool

SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "Occupancy", "SchedulerStats", "WarpStateStats", "LaunchStats")
METRICS = {  # ncu's name: ours
    "Duration": "duration",
    "Compute (SM) Throughput": "compute_percent",
    "Memory Throughput": "memory_throughput",
    "DRAM Throughput": "dram_percent",
    "L2 Cache Throughput": "l2_percent",
    "L1/TEX Cache Throughput": "l1_percent",
    "Achieved Occupancy": "occupancy_percent",
    "Registers Per Thread": "registers",
    "Eligible Warps Per Scheduler": "eligible_warps",
    "Warp Cycles Per Issued Instruction": "cycles_per_issue",
}


def ncu(context: Context) -> None:
    context.need_card()
    context.need("cupy")
    path = find_tool("ncu")
    for backend in ("cupy_raw", "numba_cuda"):
        why = ebm_fast.why_not(backend) if backend in ebm_fast.BACKENDS else f"there is no backend {backend}"
        if why:
            context.row(backend, SKIP, why)
        else:
            context.part(backend, profile, context, path, backend)


def profile(context: Context, path: str, backend: str) -> None:
    """One run of the driver under ncu; raises Skip where ncu may not read the card's counters."""
    log = context.files / f"ncu_{backend}.csv"
    log.unlink(missing_ok=True)
    sections = [word for name in SECTIONS for word in ("--section", name)]
    command = [path, "--clock-control", "none", "--profile-from-start", "off", "--target-processes", "all", *sections]
    command += ["--csv", "--page", "details", "--log-file", str(log)]
    command += [sys.executable, "-m", "bench.gpu.launches", backend, "large", "pool", "profile"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=max(1.0, context.left() - 3),
        )  # fmt: skip
        said = done.stdout
    except subprocess.TimeoutExpired:
        said = "stopped at the stage's limit"
    text = log.read_text(errors="replace") if log.exists() else ""
    kernels = read_table(text)
    if not kernels:
        words = [line for line in (text + said).splitlines() if line.strip()]
        raise Skip(f"ncu profiled nothing here: {' | '.join(words[-3:])[:300]}")
    for name, metrics in kernels.items():
        context.row("kernel", backend=backend, kernel=name, **metrics)
    if said == "stopped at the stage's limit":
        context.row(backend, SKIP, f"{said}; {len(kernels)} kernels are kept")
    elif done.returncode:
        context.row(backend, FAIL, f"ncu ended with {done.returncode}: {said.strip().splitlines()[-1:]}")


def read_table(text: str) -> dict[str, dict[str, str]]:
    """kernel -> our name of a metric -> value with its unit, from `--csv --page details`; the first launch of each."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith('"ID"')]
    kernels: dict[str, dict[str, str]] = {}
    if not starts:
        return kernels
    first: dict[str, str] = {}
    for record in csv.DictReader(StringIO("\n".join(lines[starts[0] :]))):
        name, metric = record.get("Kernel Name") or "", record.get("Metric Name") or ""
        if first.setdefault(name, record["ID"]) == record["ID"] and metric in METRICS:
            kernels.setdefault(name, {})[METRICS[metric]] = f"{record['Metric Value']} {record['Metric Unit']}".strip()
    return kernels
