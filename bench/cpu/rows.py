"""Rows of the comparison: one for each case and peer, the CSV that keeps them, and the README's table.

ratio is the peer's seconds over ours, medians of one run in which both took turns; the peer's are those of its fastest
variant. gflops are nominal (cases.py); sgemm_ratio is over the rate of NumPy's sgemm(1024) in the same run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ebm_ref.contracts import DataError

from ..table import RESULTS, Row, machine
from .cases import BENCHES, Case, case_flop
from .numpy_stack import SGEMM_FLOP
from .quiet import Timing
from .stacks import OURS, SGEMM, Stack

COLUMNS = (
    *("bench", "case", "twin", "peer", "variant", "seconds", "seconds_p20", "seconds_p80"),
    *("peer_seconds", "peer_p20", "peer_p80", "ratio", "error", "peer_error", "gflops", "sgemm_ratio"),
    *("memory_mb", "peer_memory_mb", "variants", "rounds", "discarded", "disturbed", "peer_version"),
    *("cpu", "cores", "python", "numpy"),
)
KEY = ("bench", "case", "twin", "peer")
CSV, README = RESULTS / "cpu.csv", RESULTS.parent.parent / "README.md"
MARKS = ("<!-- python -m bench table: from bench/results/cpu.csv -->", "<!-- end of the table -->")
NOTHING = "Nothing is measured yet: `make bench`, on a quiet machine.\n"
SHOWN = ("chain", "pcd", "noise", "buffer", "start")


def rows_of_case(
    case: Case, stacks: Sequence[Stack], timings: dict[str, list[Timing]], errors: dict[str, float]
) -> list[Row]:
    """One row a peer, against its fastest variant."""
    seconds = {name: [t.seconds for t in found] for name, found in timings.items()}
    ours, p20, p80 = percentiles(seconds[OURS])
    gflops = case_flop(case) / ours / 1e9
    sgemm = SGEMM_FLOP / percentiles(seconds[SGEMM])[0] / 1e9 if SGEMM in seconds else 0.0
    rows: list[Row] = []
    for peer in dict.fromkeys(stack.peer for stack in stacks if stack.peer not in (OURS, SGEMM)):
        medians = {stack: percentiles(seconds[stack.name])[0] for stack in stacks if stack.peer == peer}
        best = min(medians, key=lambda stack: medians[stack])
        theirs, peer_p20, peer_p80 = percentiles(seconds[best.name])
        both = [*timings[OURS], *timings[best.name]]
        rows.append(
            {
                **{"bench": case.bench, "case": case.name, "twin": OURS, "peer": peer, "variant": best.variant},
                **{"seconds": ours, "seconds_p20": p20, "seconds_p80": p80},
                **{"peer_seconds": theirs, "peer_p20": peer_p20, "peer_p80": peer_p80, "ratio": theirs / ours},
                **{"error": errors[OURS], "peer_error": errors[best.name]},
                "gflops": gflops or "",
                "sgemm_ratio": gflops / sgemm if gflops and sgemm else "",
                "memory_mb": max(t.memory_mb for t in timings[OURS]),
                "peer_memory_mb": max(t.memory_mb for t in timings[best.name]),
                "variants": "; ".join(f"{stack.variant} {median:.4g}" for stack, median in medians.items()),
                "rounds": len(timings[OURS]),
                "discarded": sum(t.discarded for t in both),
                "disturbed": sum(t.disturbed for t in both) if both[0].others is not None else "unknown",
                "peer_version": library_version(best.library),
                **machine(),
            }
        )
    return rows


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Median, 20th and 80th percentile."""
    p50, p20, p80 = (float(np.percentile(seconds, q)) for q in (50, 20, 80))
    return p50, p20, p80


def library_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # found, but not installed by name
        return ""


def format_row(row: Row) -> str:
    """One line: case, seconds, ratio to the peer, rate, error."""
    rate = f"{row['gflops']:.0f} GFLOP/s, {row['sgemm_ratio']:.2f} of sgemm" if row["gflops"] else ""
    peer = f"{row['peer']} ({row['variant']})" if row["variant"] else row["peer"]
    times = f"{time_words(row['seconds']):>9}  {time_words(row['peer_seconds']):>9} {peer:42} {row['ratio']:6.2f}x"
    how = f"error {row['error']:.0e}  disturbed {row['disturbed']}  {rate}"
    return f"{row['bench']:9} {row['case']:32} {times}  {how}".rstrip()


# ------------------------------------------------------------------------------------------- the CSV


def read_rows(path: Path = CSV) -> list[Row]:
    """The rows of a file, all text; none where there is no file. Raises DataError for other columns."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{path}: expected the columns {', '.join(COLUMNS)}, found {reader.fieldnames}")
        return list(reader)


def save_rows(rows: Iterable[Row], path: Path = CSV) -> None:
    """Put rows into a file, in the place of those of the same case and peer; the others stay."""
    kept = {tuple(row[name] for name in KEY): row for row in [*read_rows(path), *rows]}
    ordered = sorted(kept.values(), key=lambda row: BENCHES.index(row["bench"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(ordered)
    path.write_text(text.getvalue())


# ------------------------------------------------------------------------------------------- the README


def time_words(seconds: Any) -> str:
    """Three digits in s, ms or us."""
    seconds = float(seconds)
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("us", 1e6)
    return f"{seconds * scale:.3g} {unit}" if seconds * scale < 1000 else f"{seconds * scale:.0f} {unit}"


def times_words(ratio: Any) -> str:
    """Two decimals below ten, then one."""
    return f"{float(ratio):.{2 if float(ratio) < 10 else 1}f}x"


def table(rows: Sequence[Row]) -> str:
    """The README's table: a line a case, a column a peer with its seconds and how many times ours they are."""
    rows = [row for row in rows if row["bench"] in SHOWN]
    if not rows:
        return NOTHING
    peers = list(dict.fromkeys(row["peer"] for bench in SHOWN for row in rows if row["bench"] == bench))
    lines = [["case", OURS, *peers, "GFLOP/s", "of sgemm", "MB"]]
    for bench, case in dict.fromkeys((row["bench"], row["case"]) for row in rows):
        found = {row["peer"]: row for row in rows if (row["bench"], row["case"]) == (bench, case)}
        ours = next(iter(found.values()))
        cells = [
            f"{time_words(found[peer]['peer_seconds'])}, {times_words(found[peer]['ratio'])}" if peer in found else ""
            for peer in peers
        ]
        rate = [
            f"{float(ours[name]):{form}}" if ours[name] else ""
            for name, form in (("gflops", ".0f"), ("sgemm_ratio", ".2f"))
        ]
        lines.append([f"{bench} {case}", time_words(ours["seconds"]), *cells, *rate, f"{float(ours['memory_mb']):.0f}"])
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + footing(rows)


def footing(rows: Sequence[Row]) -> str:
    """On what machine, against which versions, and how disturbed."""
    machines = dict.fromkeys(
        f"{row['cpu']}, {row['cores']} cores, Python {row['python']}, NumPy {row['numpy']}" for row in rows
    )
    versions = dict.fromkeys(
        f"{row['peer'].split(' half')[0]} {row['peer_version']}"
        for row in rows
        if row["peer_version"] and row["peer"] not in ("numpy", "python list")
    )
    disturbed = sum(int(row["disturbed"]) for row in rows if row["disturbed"].isdecimal())
    words = f"; {disturbed} timings that others disturbed are among them" if disturbed else ""
    return f"\n{'; '.join(machines)}; {', '.join(versions) or 'no peers'}{words}.\n"


def render(readme: str, rows: Sequence[Row]) -> str:
    """The README with the table between its marks. Raises DataError where a mark is missing."""
    if any(readme.count(mark) != 1 for mark in MARKS):
        raise DataError(f"README: expected one line {MARKS[0]} and one {MARKS[1]}")
    before, rest = readme.split(MARKS[0])
    return f"{before}{MARKS[0]}\n\n{table(rows)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"
