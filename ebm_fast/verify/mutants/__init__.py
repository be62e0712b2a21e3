"""Mutants: our own functions with the bugs that were found in other people's code, and the checks that reject them.

    CHECKS        name -> Check: a figure of one function against a closed form, an exact law or an invariant
    MUTANTS       name -> Mutant: a wrong function, where the bug was found, what it did there, the check
    kill_matrix   every mutant and our own function under the mutant's check, as rows
    against       the checks, and the kit's cases, on a function of yours

No code of anybody else is here: each mutant is written from the description of what the other code computes.
The families are score, langevin, metropolis, contrastive, energy_matching, equilibrium_matching, buffer, evaluation,
parameters: checks, then mutants.
"""

from __future__ import annotations

from . import (  # noqa: F401 - they fill the tables
    buffer,
    contrastive,
    energy_matching,
    equilibrium_matching,
    evaluation,
    langevin,
    metropolis,
    metropolis_bugs,
    parameters,
    score,
)
from .against import Ruling, against, format_ruling, judged
from .matrix import Kill, format_kill, kill_matrix, markdown
from .table import CHECKS, MUTANTS, Check, Mutant, Verdict

__all__ = [
    "CHECKS",
    "MUTANTS",
    "Check",
    "Kill",
    "Mutant",
    "Ruling",
    "Verdict",
    "against",
    "format_kill",
    "format_ruling",
    "judged",
    "kill_matrix",
    "markdown",
]
