"""The most memory that a process has held, without what checks and compilers held before.

getrusage counts what the parent held when it started the process, and cannot be set back; so the system's own count is
asked where there is one.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_megabytes() -> float:
    """The most that this process has held, since `forget_peak` where the system can forget."""
    if STATUS.exists():
        peak = next((line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")), None)
        if peak is not None:
            return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> bool:
    """The peak becomes what is held now; False where the system cannot forget: it stays that of the whole process."""
    try:
        CLEAR.write_text("5")
    except OSError:  # another system, or not allowed
        return False
    return True
