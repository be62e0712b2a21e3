"""Bench rows: validate, time, print; as text, as JSON lines, and appended under bench/results/."""

from __future__ import annotations

import csv
import json
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast import backend as load_backend

from .cases import Case
from .timing import time_interleaved

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def relative_error(value: Any, exact: Any) -> float:
    """max |value - exact| / max |exact|, the worst over the arrays of a tuple."""
    if isinstance(exact, tuple):
        return max(relative_error(v, e) for v, e in zip(value, exact, strict=True))
    scale = float(np.max(np.abs(exact))) or 1.0
    return float(np.max(np.abs(np.asarray(value, np.float64) - exact))) / scale


def case_error(case: Case, twin: ModuleType) -> float:
    """The float32 twin's error relative to the float64 oracle."""
    return relative_error(case.make(twin, np.float32)(), case.make(ebm_ref, np.float64)())


def bench_case(case: Case, twins: dict[str, ModuleType], rounds: int) -> list[Row]:
    """One row a twin: its error against the float64 oracle, its seconds and the float32 oracle's."""
    calls = {"ebm_ref": case.make(ebm_ref, np.float32)}
    errors: dict[str, float] = {}
    for name, twin in twins.items():
        calls[name] = case.make(twin, np.float32)
        errors[name] = case_error(case, twin)
        if not errors[name] <= case.budget:
            raise SystemExit(f"bench: {name} {case.bench} {case.case}: error {errors[name]:.2e} over {case.budget:.0e}")
    timings = time_interleaved(calls, rounds)
    peer = timings["ebm_ref"].median
    return [
        {
            "bench": case.bench,
            "case": case.case,
            "twin": name,
            "peer": "ebm_ref",
            "seconds": timings[name].median,
            "seconds_p20": timings[name].p20,
            "seconds_p80": timings[name].p80,
            "peer_seconds": peer,
            "ratio": peer / timings[name].median,
            "error": errors[name],
        }
        for name in twins
    ]


def load_twins(names: list[str]) -> dict[str, ModuleType]:
    """The named backends, by name."""
    return {name: load_backend(name) for name in names}


def format_row(row: Row) -> str:
    """One line: function, case, twin, milliseconds, ratio, error."""
    return (
        f"{row['bench']:20} {row['case']:24} {row['twin']:12} {1e3 * row['seconds']:9.3f} ms"
        f"   {row['ratio']:6.1f}x {row['peer']}   error {row['error']:.1e}"
    )


def machine() -> dict[str, str]:
    """What a timing depends on."""
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def save_rows(rows: list[Row], name: str) -> Path:
    """Write the rows with the machine's description to bench/results/NAME.csv."""
    path = RESULTS / f"{name}.csv"
    described = [row | machine() for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(described[0]))
        writer.writeheader()
        writer.writerows(described)
    return path


def to_json(rows: list[Row]) -> str:
    """The rows as a JSON list."""
    return json.dumps(rows, indent=1)
