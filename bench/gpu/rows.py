"""Results: `gpu.jsonl`, one JSON object a line. A killed writer can tear its last one: `cut_torn_row` drops it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
NAME = "gpu.jsonl"


def append_row(out: Path, row: Row) -> None:
    """Add one row to the file in `out`."""
    line = (json.dumps(plain(row), allow_nan=False) + "\n").encode()
    descriptor = os.open(out / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def cut_torn_row(out: Path) -> None:
    """Drop what a killed writer left behind the last whole line; for when no writer runs."""
    path = out / NAME
    if path.exists():
        whole = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, whole)


def read_rows(out: Path, run: str | None = None) -> list[Row]:
    """The rows in `out`, of one run where it is named."""
    path = out / NAME
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if run is None or row["run"] == run]


def plain(value: Any) -> Any:
    """What JSON can hold: numbers of NumPy become Python's, a number that is not finite becomes its name."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
