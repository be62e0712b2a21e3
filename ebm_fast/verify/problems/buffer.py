"""Problems of the replay buffer: part-filled, overfull, and pushes that name one slot more than once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Case
from .draw import SIZES, Draw


def buffer_draw(draw: Draw) -> Case:
    """Slots beyond `filled` hold NaN: whoever draws one of them, or leaves out a stored one, is seen."""
    M, N, shape = draw.choice(SIZES), draw.choice(SIZES), draw.sample_shape()
    filled = draw.choice((M, 1, M - 1, M // 2, 0))
    rho = draw.choice((0.0, 1.0, 0.05, 0.5))
    draw.seed()
    slots, fresh = draw.array("slots", (M, *shape), ("normal", "zeros")), draw.array("fresh", (N, *shape), ("normal",))
    slots[filled:] = np.nan
    bits, u = draw.words((N,)), (draw.words((N,)) + 0.5) / 2**32
    u = np.where(draw.rng.random(N) < 0.2, max(rho, 2.0**-33), u)  # a tie: u = rho does not restart
    args = {"slots": slots, "filled": filled, "bits": bits, "u": u, "fresh": fresh, "rho": rho}
    return draw.case("buffer_draw", args)


def buffer_push(draw: Draw) -> Case:
    """Batches longer than the buffer and repeated indices: the last in batch order stays."""
    M, N, shape = draw.choice(SIZES), draw.choice(SIZES), draw.sample_shape()
    policy = draw.choice(("in_place", "fifo", "reservoir"))
    filled, ptr = draw.choice(((M, M), (M, 3 * M + 1), (0, 0), (M // 2, M // 2), (M, 2**31)))
    draw.seed()
    slots, x = draw.array("slots", (M, *shape), ("normal", "zeros")), draw.array("x", (N, *shape), ("normal", "ties"))
    options: dict[str, Any] = {}
    if policy == "in_place":
        filled, ptr = M, draw.choice((0, ptr))
        options["idx"] = draw.rng.integers(0, M, N) if draw.flag() else np.zeros(N, np.int64)
    if policy == "reservoir":
        options["bits"] = draw.words((N,))
    args = {"slots": slots, "filled": filled, "ptr": ptr, "x": x, "policy": policy}
    return draw.case("buffer_push", args, **options)
