"""The verification kit: every function of every backend against the oracle, and your own functions too.

    check(fn, "langevin_step")         your function against the oracle: cases, budgets, laws
    check_energy(energy, grad_x, ...)  any callables on arrays: per-sample energies whose gradients are slopes
    run()                              every function x twin x dtype, as rows; `format_rows(rows)` prints them
    mutants                            a package of its own: bugs found in the wild, and the checks that reject them

Each case is drawn by Hypothesis (the extra [verify]) from a fixed seed, and a failure is shrunk to a minimal
case before it is reported. Nothing is written to disk.
"""

from __future__ import annotations

from . import host_build
from .close import Failure
from .energy_check import check_energy
from .problems import PROBLEMS
from .rows import Report, Row, format_row, format_rows
from .runner import FUNCTIONS, TWINS, check, run

__all__ = [
    "FUNCTIONS",
    "PROBLEMS",
    "TWINS",
    "Failure",
    "Report",
    "Row",
    "check",
    "check_energy",
    "format_row",
    "format_rows",
    "host_build",
    "run",
]
