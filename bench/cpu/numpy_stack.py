"""What people write in NumPy: normals from a generator, a buffer by fancy indexing or in a list; and sgemm."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..gpu.nets import SEED
from .backends import Prepared
from .cases import Case
from .oracle import RHO, buffer_samples, buffer_slots, moments

SGEMM = 1024
SGEMM_FLOP = 2 * SGEMM**3


def prepare(variant: str, case: Case) -> Prepared:
    """pcg64, threads (two of them), fancy, list, or sgemm."""
    return VARIANTS[variant](case)


def pcg64(case: Case) -> Prepared:
    """standard_normal into an array that is there."""
    rng, out = np.random.Generator(np.random.PCG64(SEED)), np.empty((case.n, case.size), np.float32)
    draw = lambda: rng.standard_normal(out=out, dtype=np.float32)  # noqa: E731
    return Prepared(draw, lambda eta: {"moments": moments(draw())})


def pcg64_threads(case: Case) -> Prepared:
    """Two generators, each filling its half in a thread of its own."""
    rngs = [np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(SEED).spawn(2)]
    out, pool = np.empty((2, case.n * case.size // 2), np.float32), ThreadPoolExecutor(2)

    def draw() -> Any:
        list(pool.map(lambda i: rngs[i].standard_normal(out=out[i], dtype=np.float32), range(2)))
        return out

    return Prepared(draw, lambda eta: {"moments": moments(draw())})


def fancy(case: Case) -> Prepared:
    """x0 = slots[idx], restarts written over it; slots[idx] = x."""
    rng, slots, x = np.random.default_rng(SEED), buffer_slots(case), buffer_samples(case)

    def turn(rho: float = RHO) -> tuple[Any, Any]:
        idx = rng.integers(len(slots), size=len(x))
        x0 = slots[idx]
        restart = rng.random(len(x)) < rho
        x0[restart] = 2 * rng.random((int(restart.sum()), *x.shape[1:]), np.float32) - 1
        slots[idx] = x
        return x0, idx

    def answers(eta: float) -> dict[str, Any]:
        before = np.unique(slots)
        x0, idx = turn(0.0)
        return {"kept": np.array([np.isin(x0, before).mean(), np.isin(np.unique(slots), x).sum() / len(set(idx))])}

    return Prepared(turn, answers)


def as_list(case: Case) -> Prepared:
    """random.choices of a list and fresh ones, stacked; new samples in front of the list, the rest cut off.

    After the buffer of widespread tutorials of Du & Mordatch's method.
    """
    slots, x = [slot[None] for slot in buffer_slots(case)], buffer_samples(case)
    rng, most = np.random.default_rng(SEED), case.size
    held = [slots]

    def turn(rho: float = RHO) -> Any:
        fresh = int(rng.binomial(len(x), rho))
        restarts = 2 * rng.random((fresh, *x.shape[1:]), np.float32) - 1
        x0 = np.concatenate([restarts, *random.choices(held[0], k=len(x) - fresh)])
        held[0] = (list(np.split(x.copy(), len(x))) + held[0])[:most]
        return x0

    def answers(eta: float) -> dict[str, Any]:
        before = np.unique(np.concatenate(held[0]))
        x0 = turn(0.0)
        found = np.isin(x, np.unique(np.concatenate(held[0]))).mean()
        return {"kept": np.array([np.isin(x0, before).mean(), found])}

    return Prepared(turn, answers)


def sgemm(case: Case) -> Prepared:
    """The product of two 1024 x 1024 float32 matrices: what the machine's own library reaches. Answers nothing."""
    a = np.random.default_rng(SEED).standard_normal((SGEMM, SGEMM), np.float32)
    out = np.empty_like(a)
    return Prepared(lambda: np.matmul(a, a, out=out), lambda eta: {})


VARIANTS = {"pcg64": pcg64, "threads": pcg64_threads, "fancy": fancy, "list": as_list, "sgemm": sgemm}
