"""What bench files share: where results lie, how wrong a result is, and what machine it was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def relative_error(value: Any, exact: Any) -> float:
    """max |value - exact| / max |exact|, the worst over the arrays of a tuple."""
    if isinstance(exact, tuple):
        return max(relative_error(v, e) for v, e in zip(value, exact, strict=True))
    scale = float(np.max(np.abs(exact))) or 1.0
    return float(np.max(np.abs(np.asarray(value, np.float64) - exact))) / scale


def machine() -> dict[str, str]:
    """What a timing depends on."""
    return {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def cpu_name() -> str:
    """The processor's name where the system tells it, else its kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
