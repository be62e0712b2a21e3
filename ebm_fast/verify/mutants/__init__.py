"""Mutants: our own functions with the bugs that were found in other people's code, and the checks that reject them.

    CHECKS        name -> Check: a figure of one function against a closed form, an exact law or an invariant
    MUTANTS       name -> Mutant: a wrong function, where the bug was found, what it did there, the check
    kill_matrix   every mutant and our own function under the mutant's check, as rows
    against       the checks, and the kit's cases, on a function of yours

No code of anybody else is here: each mutant is written from the description of what the other code computes.
"""

from __future__ import annotations

from . import langevin, metropolis, score  # isort: skip
from . import metropolis_bugs  # isort: skip
from .matrix import Kill, format_kill, kill_matrix, markdown
from .table import CHECKS, MUTANTS, Check, Mutant, Verdict

__all__ = ["CHECKS", "MUTANTS", "Check", "Kill", "Mutant", "Verdict", "format_kill", "kill_matrix", "markdown", "score"]
