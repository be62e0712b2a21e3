"""Rows and reports: what the kit says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .close import Failure

STATUSES = ("pass", "fail", "skip")


@dataclass(frozen=True)
class Row:
    """One function of one twin in one dtype: `worst` is the largest error over its budget, `why` says what failed.

    `build`: which build of the twin was judged, where there are several (fast, race, asan; typed, card).
    """

    function: str
    twin: str
    dtype: str
    cases: int
    worst: float
    status: str
    why: str = ""
    build: str = ""


@dataclass(frozen=True)
class Report:
    """Rows of one check. `case` is the smallest failing case: `case.args`, `case.options` are its arguments."""

    rows: tuple[Row, ...]
    case: Any = None

    @property
    def status(self) -> str:
        """fail if a row fails, skip if all are skipped, else pass."""
        found = {row.status for row in self.rows}
        return "fail" if "fail" in found else "pass" if "pass" in found else "skip"

    @property
    def worst(self) -> float:
        return max((row.worst for row in self.rows), default=0.0)

    @property
    def why(self) -> str:
        return next((row.why for row in self.rows if row.status == "fail"), "")

    def raise_if_failed(self) -> None:
        """Raise `Failure`, with the counterexample, if the status is fail."""
        if self.status == "fail":
            raise Failure(self.why, self.worst)

    def __str__(self) -> str:
        return format_rows(self.rows)


def format_rows(rows: Sequence[Row]) -> str:
    """One line per function x twin x dtype; under it, indented, why it failed or was skipped."""
    return "\n".join(format_row(row) for row in rows)


def format_row(row: Row) -> str:
    """`status  function  twin build  dtype  cases  worst`, and under it, indented, why it failed or was skipped."""
    figures = "" if row.status == "skip" else f"  {row.cases:5d} cases  worst {row.worst:9.3g}"
    line = f"{row.status}  {row.function:19}  {row.twin + ' ' * bool(row.build) + row.build:16}  {row.dtype:7}{figures}"
    return "\n".join([line.rstrip(), *(f"      {why}" for why in row.why.splitlines())])
