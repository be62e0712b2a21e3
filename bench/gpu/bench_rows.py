"""A row of the benchmark: time, error, floor, prediction, and the ratio to ours where a peer is timed.

    bench case twin peer seconds peer_seconds ratio error floor_seconds prediction

A row of ours has no peer. A row of a peer names it, and holds our best time of the same case (`twin`, `seconds`,
`error`) beside the peer's (`peer_seconds`, `peer_error`); ratio = peer_seconds / seconds, over 1 where ours is faster.
"""

from __future__ import annotations

import json
from typing import Any

from bench.table import RESULTS

from .context import FAIL, Context
from .rows import Row
from .timing import Timed

ASSUMED = {"copy": 4.2e12, "l2_read": 5.5e12, "fp32": 60e12}  # one H200, until the ceilings are measured
PREDICTIONS = RESULTS / "gpu_predictions.json"


def ceiling(context: Context, name: str) -> tuple[float, bool]:
    """(rate, whether it was measured in this run)."""
    found = [row["rate"] for row in context.rows("ceilings") if row["what"] == name and "rate" in row]
    return (found[0], True) if found else (ASSUMED[name], False)


def floor(context: Context, flops: float, size: float) -> dict[str, Any]:
    """The larger of FLOP over the fp32 rate and bytes over the memory rate: no float32 version is much faster."""
    (fp32, one), (copy, two) = ceiling(context, "fp32"), ceiling(context, "copy")
    return {"floor_seconds": max(flops / fp32, size / copy), "floor_measured": one and two}


def prediction(bench: str, case: str, who: str) -> list[float] | None:
    """(low, high) in milliseconds, as committed before the run."""
    found: list[float] | None = json.loads(PREDICTIONS.read_text()).get(bench, {}).get(case, {}).get(who)
    return found


def our_row(
    context: Context, bench: str, case: str, twin: str, timed: Timed, error: float, work: tuple[float, float]
) -> None:
    context.row(
        "bench",
        bench=bench,
        case=case,
        twin=twin,
        peer=None,
        seconds=timed.seconds,
        peer_seconds=None,
        ratio=None,
        error=error,
        spread=timed.spread,
        repeats=timed.repeats,
        prediction=prediction(bench, case, twin),
        **floor(context, *work),
    )


def peer_row(
    context: Context,
    bench: str,
    case: str,
    peer: str,
    timed: Timed,
    error: float | None,
    work: tuple[float, float],
    **values: Any,
) -> None:
    ours = our_best(context.rows("benchmark"), bench, case)
    context.row(
        "bench",
        bench=bench,
        case=case,
        twin=ours["twin"] if ours else None,
        peer=peer,
        seconds=ours["seconds"] if ours else None,
        peer_seconds=timed.seconds,
        ratio=timed.seconds / ours["seconds"] if ours else None,
        error=ours["error"] if ours else None,
        peer_error=error,
        spread=timed.spread,
        repeats=timed.repeats,
        prediction=prediction(bench, case, peer),
        **floor(context, *work),
        **values,
    )


def our_best(rows: list[Row], bench: str, case: str) -> Row | None:
    """The fastest row of ours of one case."""
    ours = [
        row
        for row in rows
        if row["what"] == "bench" and row.get("peer") is None and (row.get("bench"), row.get("case")) == (bench, case)
        and row["status"] != FAIL and row.get("seconds") is not None
    ]  # fmt: skip
    return min(ours, key=lambda row: row["seconds"], default=None)


def right(context: Context, bench: str, case: str, who: str, error: float, budget: float) -> bool:
    """Whether a result may be timed: its error is a number within the budget. Otherwise the row says so."""
    if error <= budget:
        return True
    context.row(
        "bench", FAIL, f"{who} {bench} {case}: error {error:.2e} over {budget:.0e}",
        bench=bench, case=case, twin=who, peer=None, seconds=None, error=error,
    )  # fmt: skip
    return False
