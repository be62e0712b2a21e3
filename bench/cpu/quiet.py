"""A timing during which other processes were at work is thrown away and taken again.

What others used is what the whole machine used (/proc/stat) without this process, the timed one and its children. It is
known to 10 ms, two of which are let pass. Where there is no /proc, nobody can tell, and every timing is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

PROC = Path("/proc")
DISTURBED = 0.04  # of a core
TICKS = 2  # of the system's clock, let pass
TRIES = 10
Watch = Callable[[], tuple[float, float] | None]  # seconds of the clock and of other processes so far; None: unknown


@dataclass(frozen=True)
class Timing:
    """seconds of a call; memory_mb: peak; others: cores that other processes used; discarded: timings before it."""

    seconds: float
    memory_mb: float
    others: float | None
    discarded: int

    @property
    def disturbed(self) -> bool:
        return self.others is not None and self.others > DISTURBED


def tick() -> float:
    return 1.0 / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Processor seconds that anything on this machine has used."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, (PROC / "stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq) * tick()


def process_seconds(pid: int) -> float:
    """Processor seconds that a process and its finished children have used."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * tick()


def watch_others(pid: int) -> Watch:
    """What processes other than this one and `pid` use."""
    if not (PROC / "stat").exists():
        return lambda: None
    return lambda: (perf_counter(), busy_seconds() - process_seconds(pid) - process_seconds(os.getpid()))


def quiet_timing(ask: Callable[[], tuple[float, float]], watch: Watch, tries: int, ticks: float) -> Timing:
    """The first timing that nobody disturbed, of at most `tries`; else the one that was disturbed least.

    ask: takes a timing: seconds, megabytes   ticks: seconds of others that are let pass.
    """
    best: Timing | None = None
    for discarded in range(tries):
        before = watch()
        seconds, memory_mb = ask()
        after = watch()
        others = None
        if before is not None and after is not None:
            others = max(0.0, after[1] - before[1] - ticks) / max(after[0] - before[0], 1e-9)
        found = Timing(seconds, memory_mb, others, discarded)
        if not found.disturbed:
            return found
        if best is None or (best.others or 0.0) > (found.others or 0.0):
            best = found
    assert best is not None  # tries >= 1
    return Timing(best.seconds, best.memory_mb, best.others, tries - 1)
