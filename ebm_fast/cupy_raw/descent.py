"""Launches of which the descent of any energy or field is made; see descent.cu."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ebm_ref.descent_specs import AdamDescent, Descent, GradientDescent, LookAheadDescent, NesterovDescent

from .device import blocks, current, launch
from .langevin import row_grid, tick_launch
from .source import kernel

FILE = "descent.cu"
THREADS = 256
MAX_BLOCKS = 2**20  # loops stride over what is beyond
KINDS = {GradientDescent: 0, NesterovDescent: 1, LookAheadDescent: 2, AdamDescent: 3}  # as in descent.cu


@dataclass
class Walk:
    """A descent under way: x and the state of N samples on the device, who moves, and the records of K steps.

    x, parts: (N, *shape), written; t: Adam's steps before the first; explicit: whether there is an energy to record.
    Beside them alive, stopped, nfe (N,), energies (K or 0, N) and grad_norms (K, N).
    """

    rule: Descent
    g_min: float
    x: Any
    parts: list[Any]
    K: int
    t: int
    explicit: bool

    def __post_init__(self) -> None:
        dev, N, dtype = current(), self.x.shape[0], self.x.dtype
        self.alive, self.stopped = (dev.empty((N,), np.bool_) for _ in range(2))
        self.nfe, self.counter = dev.empty((N,), np.int64), dev.empty((2,), np.uint32)
        self.energies = dev.empty((self.K if self.explicit else 0, N), dtype)
        self.grad_norms = dev.empty((self.K, N), dtype)
        self.kind = KINDS[type(self.rule)]
        self.numbers, self.corrections = self._numbers()
        args = (self.alive, self.stopped, self.nfe, self.counter, np.int64(N))
        launch(kernel(FILE, "descent_begin", dtype), blocks(max(N, 1), THREADS), THREADS, args)

    def _numbers(self) -> tuple[tuple[Any, ...], Any]:
        """eta, the betas and what they leave of 1, eps and g_min in x's dtype; 1 - beta^t of every step, or None."""
        rule, real = self.rule, np.dtype(self.x.dtype).type
        adam = isinstance(rule, AdamDescent)
        betas = [float(rule.beta1), float(rule.beta2)] if isinstance(rule, AdamDescent) else [0.0, 0.0]
        eps = float(rule.eps) if isinstance(rule, AdamDescent) else 0.0
        values = (rule.eta, betas[0], 1 - betas[0], betas[1], 1 - betas[1], eps, self.g_min)
        times = self.t + 1 + np.arange(self.K if adam else 0, dtype=np.float64)
        table = 1 - np.asarray(betas) ** times[:, None]
        with np.errstate(over="ignore"):
            return tuple(real(value) for value in values), current().put(table.astype(real)) if adam else None

    def place(self, at: Any, point: Any, rows: Any) -> None:
        """at = where the gradient of each sample is taken that moves.

        at: (n, *shape), point: (n,) bool, both written; rows: (n,) int64, the samples, None for all.
        """
        mu = getattr(self.rule, "mu", None)
        ahead = None if mu is None else self.parts[0]
        n, D, dtype = at.shape[0], prod(at.shape[1:]), at.dtype
        sizes = np.int64(n), np.int64(D), np.dtype(dtype).type(0.0 if mu is None else mu)
        args = (at, point, self.x, ahead, rows, self.alive, self.stopped, *sizes)
        launch(kernel(FILE, "descent_place", dtype), *row_grid(n, D, dtype), args)

    def move(self, at: Any, g: Any, E: Any, point: Any, rows: Any) -> None:
        """One step of the samples that move, from the gradient g at `at` and E (None for a field); the next step.

        at, g: (n, *shape); E, point: (n,); rows: as in `place`.
        """
        n, N, D, dtype = at.shape[0], self.x.shape[0], prod(at.shape[1:]), at.dtype
        state = (*self.parts, None, None)[:2]
        records = (self.energies if self.explicit else None, self.grad_norms, self.corrections, self.counter)
        args = (self.x, *state, at, g, E, point, rows, self.alive, self.stopped, self.nfe, *records)
        sizes = np.int64(n), np.int64(N), np.int64(D), np.int32(self.kind)
        launch(kernel(FILE, "descent_move", dtype), *row_grid(n, D, dtype), (*args, *sizes, *self.numbers))
        tick_launch(self.counter, dtype)

    def fill(self) -> None:
        """The last record of each sample in the rows of the steps that it no longer made."""
        N, dtype = self.x.shape[0], self.x.dtype
        for records in (self.energies, self.grad_norms):
            if records.shape[0]:
                args = (records, self.nfe, np.int64(N), np.int64(self.K))
                grid = min(blocks(N, THREADS), MAX_BLOCKS)
                launch(kernel(FILE, "descent_fill", dtype), grid, THREADS, args)
