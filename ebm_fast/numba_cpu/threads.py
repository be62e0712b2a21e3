"""A small thread pool for kernels that have released the interpreter lock, and aligned scratch memory.

Which thread does a piece of work never changes its result: work is cut into pieces before the number
of threads is known, and sums over pieces are taken in a fixed order. Where there are more threads than
tiles of samples, a team works on each tile: its threads run the same program, each its share, and meet
(`build.meet`) where one needs what the others wrote.
EBM_NUM_THREADS sets the number of threads (default: the processors this process may use).
A forked child starts its own pool: the parent's threads do not exist there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from ebm_ref.contracts import RangeError

from .build import JIT

CACHE_LINE = 64
TEAM = 4  # threads on one tile at most

_lock = threading.Lock()
_teams = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}
_scratch = threading.local()


def _after_fork() -> None:
    global _lock, _teams
    _lock, _teams = threading.Lock(), threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_after_fork)


def thread_count() -> int:
    """EBM_NUM_THREADS, or the number of processors that this process may use."""
    text = os.environ.get("EBM_NUM_THREADS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise RangeError(f"EBM_NUM_THREADS: expected an integer >= 1, found {text!r}")
    return int(text)


def parallel(task: Callable[[int, int], None], pieces: int, give_up: Callable[[], None] = lambda: None) -> None:
    """Call task(part, parts) for every part in 0..parts-1, parts = min(threads, pieces); one part runs here.

    A task takes the pieces part, part + parts, part + 2 parts, ...
    give_up() is called where a part raises or, at Ctrl-C, never begins: parts that wait for it must then go on.
    """
    parts = min(thread_count(), pieces)
    if parts <= 1:
        if pieces:
            task(0, 1)
        return
    with _lock:
        pool = _pools.setdefault(parts, ThreadPoolExecutor(parts - 1, thread_name_prefix="ebm"))

    def one(part: int) -> None:
        try:
            task(part, parts)
        except BaseException:
            give_up()
            raise

    futures: list[Future[None]] = []
    try:
        for part in range(1, parts):
            futures.append(pool.submit(one, part))
        task(0, parts)
    except BaseException:
        give_up()
        raise
    finally:
        errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error


@contextmanager
def team(pieces: int) -> Iterator[int]:
    """How many threads may work on each of `pieces` at once, waiting for each other; 1 while others do so.

    All of them must run for any of them to go on, so there is one team at a time: two would wait for each other's turn
    in the pool.
    """
    members = min(TEAM, thread_count() // pieces) if pieces else 1
    if members < 2 or not JIT or not _teams.acquire(blocking=False):
        yield 1
        return
    try:
        yield members
    finally:
        _teams.release()


def aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """`size` uninitialised elements that start on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(size + CACHE_LINE // itemsize, dtype)
    start = -(raw.ctypes.data // itemsize) % (CACHE_LINE // itemsize)
    return raw[start : start + size]


def scratch(size: int, dtype: np.dtype) -> np.ndarray:
    """At least `size` uninitialised elements that belong to this thread; the next call may return the same ones."""
    key = np.dtype(dtype).str
    kept = getattr(_scratch, key, None)
    if kept is None or kept.size < size:
        kept = aligned(size, dtype)
        setattr(_scratch, key, kept)
    return kept
