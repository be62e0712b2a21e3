"""A run folder: who may write to it, and how its files are written.

config.json       the resolved configuration
metrics.jsonl     one record a training step, flushed as it is made
checkpoint.npz    the state to resume from, checkpoint.json its manifest
snapshots/        a few chains at steps 0, 1, 2, 5, 10, 20, 50, ...
samples.png  curves.png  report.html  summary.json      made at the end
.lock             held (flock) by the process that uses the folder; the system frees it if the process dies
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebm_ref.contracts import RunFolderError

CONFIG, METRICS, LOCK, SNAPSHOTS = "config.json", "metrics.jsonl", ".lock", "snapshots"
RUN_FILES = (CONFIG, METRICS, "checkpoint.npz", "checkpoint.json", "summary.json", "samples.png")


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about `path` into RunFolderError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"{path}: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or none: temporary name, fsync, replace, fsync of the folder."""
    with os_errors(path):
        write_synced(path.with_name(path.name + ".tmp"), content)
        replace_synced(path.with_name(path.name + ".tmp"), path)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_synced(source: Path, target: Path) -> None:
    """Give `source` the name `target`, and wait until the disk has the new name."""
    os.replace(source, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_new(path: Path) -> None:
    """Raise RunFolderError unless a new run may be made at `path`; touches nothing."""
    with os_errors(path):
        check_writable(path)
        check_no_run(path)


def check_no_run(path: Path) -> None:
    """Raise RunFolderError when a run was started at `path`."""
    found = [name for name in RUN_FILES if (path / name).exists()]
    if found:
        raise RunFolderError(
            f"{path}: holds a run already ({', '.join(found)}); continue it with --resume or name another with --out"
        )


def check_untouched(path: Path) -> None:
    """Raise RunFolderError when a folder without a configuration holds other files of a run."""
    found = [name for name in RUN_FILES if (path / name).exists()]
    if found:
        raise RunFolderError(f"{path}: holds {', '.join(found)} and no {CONFIG}, without which it cannot be continued")


def check_existing(path: Path) -> None:
    """Raise RunFolderError unless `path` is a folder that a run was started in; touches nothing."""
    with os_errors(path):
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing there"
            raise RunFolderError(f"{path}: expected a run folder, found {found}")
        check_writable(path)


def check_writable(path: Path) -> None:
    """Raise RunFolderError unless `path` is, or can become, a folder we may write to that nobody is using."""
    home = path
    while not home.exists() and home != home.parent:
        if home.is_symlink():
            raise RunFolderError(f"{home}: expected a folder, found a broken link")
        home = home.parent
    if not home.is_dir():
        raise RunFolderError(f"{path}: expected a folder, but {home} is a file")
    if not os.access(home, os.W_OK | os.X_OK):
        raise RunFolderError(f"{path}: {home} cannot be written to")
    if (path / LOCK).exists():
        with lock_folder(path):
            pass


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Make the folder and hold it alone; RunFolderError when another process holds it."""
    with os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise RunFolderError(f"{path}: in use by process {holder}") from None
        with os_errors(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class Metrics:
    """metrics.jsonl, open for appending: one JSON object a line, flushed per record."""

    def __init__(self, path: Path) -> None:
        self.path = path / METRICS
        with os_errors(self.path):
            self.file = self.path.open("a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        with os_errors(self.path):
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def sync(self) -> None:
        """Wait until the disk has every record; before a checkpoint that counts on them."""
        with os_errors(self.path):
            os.fsync(self.file.fileno())

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()


def metrics_read(path: Path) -> list[dict[str, Any]]:
    """The records of a run, in order; RunFolderError when a line is not one."""
    file = path / METRICS
    with os_errors(file):
        lines = file.read_bytes().splitlines(keepends=True)
    return [record_read(line, f"{file}: record {i}") for i, line in enumerate(lines, start=1)]


def record_read(line: bytes, where: str) -> dict[str, Any]:
    """One whole line of metrics.jsonl."""
    try:
        record = json.loads(line)
        if not line.endswith(b"\n") or not isinstance(record, dict) or "step" not in record:
            raise ValueError("not a whole record")
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{where}: expected a line with one JSON object, found a damaged one ({error})") from error
    return record


def metrics_upto(path: Path, step: int) -> tuple[list[dict[str, Any]], int]:
    """(the records of the steps 1..step, the bytes that they take); what follows is not looked at.

    Raises RunFolderError unless these steps are there, each once and in order.
    """
    file, size, records = path / METRICS, 0, []
    with os_errors(file):
        content = file.read_bytes() if file.exists() else b""
    for line in content.splitlines(keepends=True)[:step]:
        records.append(record_read(line, f"{file}: record {len(records) + 1}"))
        size += len(line)
    if [record["step"] for record in records] != list(range(1, step + 1)):
        raise RunFolderError(f"{file}: expected the steps 1..{step} of the checkpoint, found {len(records)} records")
    return records, size


def metrics_cut(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop what follows the records of the steps 1..step (a last line that was cut short, too); these records."""
    records, size = metrics_upto(path, step)
    file = path / METRICS
    with os_errors(file):
        if file.exists() and file.stat().st_size != size:
            os.truncate(file, size)
    return records
