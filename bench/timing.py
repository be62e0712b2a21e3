"""Interleaved timing: A B C A B C ..., so that a slow minute of the machine hurts every case alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, 20th and 80th percentile."""

    median: float
    p20: float
    p80: float


def time_interleaved(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """Time every call once per round, `rounds` rounds, after one untimed round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = perf_counter()
            call()
            if turn > 0:
                seconds[name].append(perf_counter() - start)
    return {name: Timing(*(float(np.percentile(s, q)) for q in (50, 20, 80))) for name, s in seconds.items()}
