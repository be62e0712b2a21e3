"""Stage 7: what the run comes to, for a reader: the card, its ceilings, a line per timed case, what failed.

time    of ours, the best path       floor   FLOP or bytes over the ceilings; `*` where a ceiling was assumed
x floor time / floor                 peer    the fastest peer within the same error class, and peer / ours
error   ours, relative to float64    predicted   milliseconds, and how far off the measurement was
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .bench_rows import our_best
from .context import FAIL, Context
from .rows import Row

LOOSE = ("torch_graph_tf32",)  # peers of another error class: listed, never the best peer


def table(context: Context) -> None:
    rows = context.rows()
    lines = [*card_lines(rows), *check_lines(rows), *bench_lines(rows), *failure_lines(rows)]
    print("\n".join(lines))


def card_lines(rows: list[Row]) -> list[str]:
    card = next((row for row in rows if row.get("stage") == "probe" and row["what"] == "card"), {})
    if "name" in card:
        capability, cuda = (".".join(map(str, card[key])) for key in ("capability", "cuda"))
        lines = [f"card: {card['name']}, compute capability {capability}, driver for CUDA {cuda}"]
    else:
        lines = [f"card: {card.get('why', 'not asked')}"]
    rates = [
        f"{row['what']} {row['rate'] / 1e12:.3g}" for row in rows if row.get("stage") == "ceilings" and "rate" in row
    ]
    gaps = [
        f"{row['what']} {1e6 * row['gap']:.2f} us" for row in rows if row.get("stage") == "ceilings" and "gap" in row
    ]
    return lines + ([f"ceilings, tera a second: {', '.join(rates)}; {', '.join(gaps)}"] if rates or gaps else [])


def check_lines(rows: list[Row]) -> list[str]:
    """pass, fail and skip of the checks, counted."""
    lines = []
    for stage in ("prepare", "correctness", "sanitize"):
        counts = Counter(
            row["status"] for row in rows if row.get("stage") == stage and row["what"] not in ("stage", "end")
        )
        if counts:
            lines.append(f"{stage}: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    return lines


def bench_lines(rows: list[Row]) -> list[str]:
    timed = [row for row in rows if row["what"] == "bench" and row["status"] != FAIL and time_of(row) is not None]
    if not timed:
        return []
    lines = [
        f"{'bench':<20} {'case':<24} {'twin':<16} {'ms':>9} {'floor':>9} {'x':>6}  {'error':>7}  "
        f"{'predicted':<16} best peer"
    ]
    for bench, case in dict.fromkeys((row["bench"], row["case"]) for row in timed):
        here = [row for row in timed if (row["bench"], row["case"]) == (bench, case)]
        peers = [row for row in here if row.get("peer") and row["peer"] not in LOOSE]
        best = min(peers, key=lambda row: row["peer_seconds"], default=None)
        for row in [row for row in here if not row.get("peer")] or [
            {"bench": bench, "case": case, "twin": "(none of ours)"}
        ]:
            lines.append(bench_line(row, best))
        lines += [peer_line(row, our_best(rows, bench, case)) for row in here if row.get("peer")]
    return lines


def time_of(row: Row) -> Any:
    return row.get("peer_seconds") if row.get("peer") else row.get("seconds")


def bench_line(row: Row, best: Row | None) -> str:
    start = f"{row['bench']:<20} {row['case']:<24} {row['twin']:<16}"
    if "seconds" not in row:
        return f"{start} not timed"
    floor = row["floor_seconds"]
    mark = " " if row.get("floor_measured") else "*"
    ratio = f"{best['peer']} {best['peer_seconds'] / row['seconds']:.2f}x" if best else ""
    figures = f"{1e3 * row['seconds']:9.3f} {1e3 * floor:8.3f}{mark} {row['seconds'] / floor:6.1f}  {row['error']:7.1e}"
    return f"{start} {figures}  {missed(row['prediction'], row['seconds']):<16} {ratio}".rstrip()


def peer_line(row: Row, ours: Row | None) -> str:
    error = f"{row['peer_error']:7.1e}" if row.get("peer_error") is not None else f"{'':7}"
    ratio = f"ours {row['peer_seconds'] / ours['seconds']:.2f}x" if ours else ""
    figures = f"{1e3 * row['peer_seconds']:9.3f} {'':>9} {'':>6}  {error}"
    predicted = missed(row["prediction"], row["peer_seconds"])
    return f"{'':<45} {row['peer']:<16} {figures}  {predicted:<16} {ratio}".rstrip()


def missed(prediction: list[float] | None, seconds: float) -> str:
    """The prediction in milliseconds and whether it held: `1.5-1.8 held`, `1.5-1.8 1.4x over`."""
    if prediction is None:
        return ""
    low, high, found = *prediction, 1e3 * seconds
    verdict = f"{found / high:.1f}x over" if found > high else f"{low / found:.1f}x under" if found < low else "held"
    return f"{low:g}-{high:g} {verdict}"


def failure_lines(rows: list[Row]) -> list[str]:
    """Everything that failed, in words."""
    failed = [row for row in rows if row["status"] == FAIL and row["what"] != "end"]
    return [f"FAIL {row['stage']}, {row['what']}: {' '.join(str(row['why']).split())[:200]}" for row in failed]
