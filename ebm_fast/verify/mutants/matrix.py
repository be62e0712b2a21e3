"""The kill matrix: every mutant under the check that must reject it, our own function under the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .table import CHECKS, MUTANTS, Check, Mutant, Verdict, ours


@dataclass(frozen=True)
class Kill:
    """One mutant's row. wild: what the bug did where it was found; found: what the mutant does now; ours: we."""

    name: str
    function: str
    bug: str
    source: str
    check: str
    law: str
    want: float
    wild: str
    found: str
    ours: str
    killed: bool
    ours_pass: bool
    why: str

    @property
    def good(self) -> bool:
        return self.killed and self.ours_pass


def kill_matrix(names: Sequence[str] | None = None, tell: Callable[[Kill], None] = lambda kill: None) -> list[Kill]:
    """A row for each mutant (all, or those named). tell: called with each row made. A check of ours runs once."""
    own: dict[str, Verdict] = {}
    kills = []
    for name in MUTANTS if names is None else names:
        mutant = MUTANTS[name]
        check = CHECKS[mutant.check]
        if check.name not in own:
            own[check.name] = check(ours(check))
        kills.append(_kill(mutant, check, own[check.name]))
        tell(kills[-1])
    return kills


def _kill(mutant: Mutant, check: Check, own: Verdict) -> Kill:
    found = check(mutant.fn)
    return Kill(
        name=mutant.name,
        function=check.function,
        bug=mutant.bug,
        source=mutant.source,
        check=check.name,
        law=check.law,
        want=check.want,
        wild=mutant.wild,
        found=found.figure,
        ours=own.figure,
        killed=not found.passed,
        ours_pass=own.passed,
        why=own.why or found.why,
    )


def format_kill(kill: Kill) -> str:
    """`verdict  function  mutant  check  wild | ours | mutant`, and under it what is wrong, if something is."""
    verdict = "killed" if kill.good else "SURVIVES" if kill.ours_pass else "OURS FAILS"
    line = f"{verdict:10}  {kill.function:22}  {kill.name:28}  ours {kill.ours:8}  mutant {kill.found}"
    return line if kill.good else f"{line}\n      {kill.why or kill.law}"


def markdown(kills: Sequence[Kill]) -> str:
    """The matrix as the table of the README."""
    head = ["| function | bug | found in | there: true -> found | ours | mutant |", "|---|---|---|---|---|---|"]
    rows = [(k.function, k.bug, k.source, k.wild, k.ours, k.found) for k in kills]
    return "\n".join(
        head + [f"| `{row[0]}` | {' | '.join(cell.replace('|', chr(92) + '|') for cell in row[1:])} |" for row in rows]
    )
