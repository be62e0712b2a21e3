"""What the runtime of the host build reports, in the words of the source: arguments by name, places as file:line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any


def readable(report: str, library: str, parameters: tuple[str, ...]) -> str:
    """`report` with @offset@ replaced by a line of the source and `argument 2` by its name."""
    places = {found: "" for found in re.findall(r"@([0-9a-f]+)@", report)}
    for offset, line in zip(places, lines_of(places, library), strict=True):
        report = report.replace(f"@{offset}@", line)
    return re.sub(r"\bargument (\d+)", lambda m: f"argument {m[1]} ({parameters[int(m[1])]})", report)


def lines_of(offsets: Iterable[str], library: str) -> list[str]:
    """file:line of each offset (in hexadecimal) into `library`; +0xoffset where addr2line is not installed."""
    wanted = list(offsets)
    tool = shutil.which("addr2line")
    if not wanted or tool is None:
        return [f"+0x{offset}" for offset in wanted]
    command = [tool, "-a", "-i", "-e", library, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment())
    frames: list[list[str]] = []
    for line in done.stdout.splitlines():
        if line.startswith("0x"):
            frames.append([])
        elif frames:
            frames[-1].append(re.sub(r"^(\./)+| \(discriminator.*", "", line))
    if len(frames) != len(wanted):
        return [f"+0x{offset}" for offset in wanted]
    return [_kernel_line(inlined) or f"+0x{offset}" for inlined, offset in zip(frames, wanted, strict=True)]


def _kernel_line(frames: list[str]) -> str:
    """The innermost of inlined calls that is not in the runtime's own headers; empty where there is none."""
    known = [frame for frame in frames if not frame.startswith("?")]
    return next((frame for frame in known if not frame.startswith("host")), known[0] if known else "")


def parameters_of(name: str, source: str) -> tuple[str, ...]:
    """The names of the parameters of kernel `name`, read from its definition."""
    found = re.search(rf"\b{name}\s*\(([^)]*)\)\s*\{{", re.sub(r"//[^\n]*", "", source))
    if found is None:
        return ()
    return tuple(re.findall(r"(\w+)\s*$", part)[0] for part in found[1].split(",") if part.strip())


def plain_environment() -> dict[str, str]:
    """The environment without a preloaded sanitiser, for tools."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


class Lint:
    """The requests of warps to memory, summed over launches: kernel -> space -> counts."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[tuple[str, str, str], list[int]]] = {}

    def add(self, kernel: str, text: str, library: str) -> None:
        """Add what ebm_lint wrote."""
        rows = [line.split() for line in text.splitlines()]
        places = lines_of([row[0] for row in rows], library)
        mine = self.lines.setdefault(kernel, {})
        for place, row in zip(places, rows, strict=True):
            space = "shared" if row[1] == "s" else "global"
            sums = mine.setdefault((place, space, "store" if row[2] == "w" else "load"), [0, 0, 0])
            for i, count in enumerate(row[3:]):
                sums[i] += int(count)

    def result(self) -> dict[str, dict[str, Any]]:
        """kernel -> global {requests, sectors, ideal}, shared {requests, passes, ideal}, per request; and lines."""
        return {kernel: _summary(lines) for kernel, lines in self.lines.items()}


def _summary(lines: dict[tuple[str, str, str], list[int]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for space, unit in (("global", "sectors"), ("shared", "passes")):
        rows = [sums for (_, where, _), sums in lines.items() if where == space]
        found[space] = _per_request([sum(row[i] for row in rows) for i in range(3)], unit)
    found["lines"] = [
        {"line": place, "space": space, "kind": kind} | _per_request(sums, "sectors" if space == "global" else "passes")
        for (place, space, kind), sums in sorted(lines.items())
    ]
    return found


def _per_request(sums: list[int], unit: str) -> dict[str, float]:
    requests, cost, ideal = sums
    each = max(requests, 1)
    return {"requests": requests, unit: cost / each, "ideal": ideal / each}
