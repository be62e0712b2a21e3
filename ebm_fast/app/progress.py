"""Progress on stderr: one live line where rich can draw it, plain lines every two seconds elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from importlib.util import find_spec
from typing import Any

from ebm_fast.extras import require

INTERVAL = 2.0  # seconds between plain lines
DUMB = ("dumb", "unknown")  # terminals on which rich would draw nothing
RECENT = 30  # steps whose speed is shown
SHOWN = ("gap", "energy_pos", "energy_neg", "grad_norm")  # of a method without a gap: the loss in its place
EXTRAS = ("accuracy", "log_z", "centred", "auroc")


class Progress:
    """Shows step, steps/s and the record's main numbers; a context manager."""

    def __init__(self, start: int, steps: int) -> None:
        self.steps, self.last = steps, time.perf_counter()
        self.recent = deque([(self.last, start)], maxlen=RECENT)
        self.live: Any = None
        if sys.stderr.isatty() and os.environ.get("TERM") not in DUMB and find_spec("rich"):
            bars = require("rich.progress", "cli")
            columns = [bars.BarColumn(20), bars.MofNCompleteColumn(), bars.TextColumn("{task.description}")]
            columns.append(bars.TimeRemainingColumn())
            console = require("rich.console", "cli").Console(stderr=True)
            self.live = bars.Progress(*columns, console=console, transient=True)
            self.task = self.live.add_task("", total=steps, completed=start)

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, step: int, record: dict[str, float]) -> None:
        """Show `record` of training step `step`."""
        shown = [key for key in (*SHOWN, *EXTRAS) if key in record]
        shown = shown if "gap" in shown else ["loss", *shown]
        now = time.perf_counter()
        self.recent.append((now, step))
        then, first = self.recent[0]
        rate = (step - first) / max(now - then, 1e-9)
        text = f"{rate:.1f} steps/s  " + "  ".join(f"{k} {record[k]:+.3f}" for k in shown)
        if self.live:
            self.live.update(self.task, completed=step, description=text, refresh=step == self.steps)
        elif now - self.last >= INTERVAL or step == self.steps:
            self.last = now
            print(f"step {step}/{self.steps}  {text}", file=sys.stderr, flush=True)

    def message(self, text: str) -> None:
        """One line that stays."""
        if self.live:
            self.live.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)
