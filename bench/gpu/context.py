"""What a stage is handed: where to write, how long it has, and how to say that it cannot run.

python -m bench.gpu.context JSON      runs one stage in this process; plan.py calls it
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import time
import traceback
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ebm_fast.driver import find_driver

from .rows import Row, append_row, read_rows

PASS, FAIL, SKIP = "pass", "fail", "skip"
CODES = {PASS: 0, FAIL: 1, SKIP: 3}


class Skip(Exception):
    """This stage, or this part of it, cannot run here; the message says why."""


@dataclass(frozen=True)
class Context:
    """One stage of one run. out: the folder of results; until: the clock (time.time) at which it will be killed."""

    stage: str
    target: str
    out: str
    run: str
    until: float
    quick: bool = False

    def row(self, what: str, status: str = PASS, why: str = "", **values: Any) -> None:
        """Append one measurement."""
        append_row(
            Path(self.out), {"run": self.run, "stage": self.stage, "what": what, "status": status, "why": why} | values
        )

    def rows(self, stage: str | None = None) -> list[Row]:
        """What this run has so far."""
        return [row for row in read_rows(Path(self.out), self.run) if stage is None or row["stage"] == stage]

    def left(self) -> float:
        """Seconds before this stage is killed."""
        return self.until - time.time()

    @property
    def files(self) -> Path:
        """Where logs, tables of the profiler and fixtures go."""
        folder = Path(self.out) / "gpu_files"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def need_card(self) -> None:
        """Raise Skip where there is no card."""
        why = no_card()
        if why is not None:
            raise Skip(why)

    def need(self, module: str) -> ModuleType:
        """The imported library. Raises Skip where it is not installed; an installed one that fails to load raises."""
        top = module.partition(".")[0]
        if importlib.util.find_spec(top) is None:
            raise Skip(f"{top} is not installed")
        return importlib.import_module(module)

    def part(self, what: str, call: Any, *args: Any) -> Any:
        """`call(*args)`; a Skip or an exception becomes a row of its own, so that the other parts still run."""
        try:
            return call(*args)
        except Skip as reason:
            self.row(what, SKIP, str(reason))
        except Exception as error:
            traceback.print_exc()
            self.row(what, FAIL, said(error))
        return None

    def json(self) -> str:
        return json.dumps(asdict(self))


@cache
def no_card() -> str | None:
    """Why no card can be used, in words; None where one can."""
    return find_driver().why


def said(error: BaseException) -> str:
    """One line: the kind of error and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]
