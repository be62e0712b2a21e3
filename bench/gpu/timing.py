"""Time on a card: device events around each call, warm-up first, the median of many, all of it twice.

A time is of one call on inputs that differ from call to call; where they would fit in the card's L2, enough sets are
rotated that they do not. Two medians that disagree are shown as `spread`: a smaller difference between twins is noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Protocol

WARM, REPEATS, MOST_SETS = 3, 20, 64
FEWEST, MOST_SECONDS = 5, 15.0  # timed calls of a round, at least; of both rounds, about at most


class Clock(Protocol):
    """Marks on the device's time line."""

    def mark(self) -> Any:
        """A mark after all that was launched so far."""

    def seconds(self, start: Any, stop: Any) -> float:
        """Between two marks; waits for the second."""


class CupyClock:
    def __init__(self, cp: Any) -> None:
        self.cp = cp

    def mark(self) -> Any:
        event = self.cp.cuda.Event()
        event.record()
        return event

    def seconds(self, start: Any, stop: Any) -> float:
        stop.synchronize()
        return float(self.cp.cuda.get_elapsed_time(start, stop)) / 1e3


class TorchClock:
    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def mark(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, stop: Any) -> float:
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1e3


class HostClock:
    """For a library without events of its own: `wait` returns when all that was launched is done."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self.wait = wait

    def mark(self) -> float:
        self.wait()
        return perf_counter()

    def seconds(self, start: float, stop: float) -> float:
        return stop - start


@dataclass(frozen=True)
class Timed:
    """seconds: the median of one call, the better of two rounds; spread: how far apart the rounds were, relative."""

    seconds: float
    spread: float
    repeats: int


def measure(call: Callable[[int], Any], clock: Clock, repeats: int = REPEATS) -> Timed:
    """Time call(i), i = 0, 1, ...: WARM untimed, then twice `repeats` timed ones; fewer where MOST_SECONDS bind."""
    for i in range(WARM):
        start = clock.mark()
        call(i)
        stop = clock.mark()
    repeats = max(min(repeats, FEWEST), min(repeats, int(MOST_SECONDS / 2 / max(clock.seconds(start, stop), 1e-9))))
    medians = []
    for turn in range(2):
        marks = []
        for i in range(repeats):
            start = clock.mark()
            call(WARM + turn * repeats + i)
            marks.append((start, clock.mark()))
        medians.append(median(clock.seconds(*pair) for pair in marks))
    return Timed(min(medians), abs(medians[0] - medians[1]) / min(medians), repeats)


def sets(bytes_each: int, l2_bytes: int) -> int:
    """How many input sets together are twice the L2, at most MOST_SETS."""
    return min(MOST_SETS, max(2, math.ceil(2 * l2_bytes / max(bytes_each, 1))))
