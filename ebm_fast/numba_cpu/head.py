"""What the convolutional energies share: F = out(act(head(pool(h)))), C -> C/2 -> one output a class, under a top.

forward:   pooled = pool(h),  y = head(pooled),  F = out(act(y))
backward:  dy = act'(y) out'(dF),  dpooled = head'(dy),  dh[p] = dpooled, over their number for the mean
"""

from __future__ import annotations

from dataclasses import dataclass

from . import tile
from .links import DENSE, Linear, Value
from .program import Program


@dataclass(frozen=True)
class Head:
    """A head in a program: its maps, and the rows that its backward takes."""

    h: Value
    pooled: Value
    head: Linear
    hidden: Value  # after the activation
    slope: Value
    out: Linear | None  # None: F is what it would see
    F: Value
    mean: int

    def back(self, P: Program, dF: Value) -> None:
        """h becomes dh."""
        assert self.out is not None
        P.apply_params(self.out, self.hidden, dF)
        dy = P.apply_back_under(self.out, dF, self.slope, self.hidden)
        P.apply_params(self.head, self.pooled, dy)
        P.apply_back(self.head, dy, self.pooled)
        P.both(tile.pool_back, self.h, self.pooled, self.h.pixels, self.h.C, self.mean)


def emit_head(P: Program, h: Value, outputs: int | None, pool: str, activation: str) -> Head:
    """Emit F, (1, outputs), from the map h; without outputs F is the features. pool: "mean" or "sum"."""
    C, mean = h.C, int(pool == "mean")
    pooled = P.value(1, C)
    P.both(tile.pool, pooled, h, h.pixels, C, mean)
    head = P.linear("head.w", "head.b", DENSE, C, max(1, C // 2))
    hidden = P.apply(head, pooled)
    slope = P.activate(hidden, activation)
    if outputs is None:
        return Head(h, pooled, head, hidden, slope, None, hidden, mean)
    out = P.linear("out.w", "out.b", DENSE, hidden.C, outputs)
    return Head(h, pooled, head, hidden, slope, out, P.apply(out, hidden), mean)
