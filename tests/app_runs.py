"""Small runs of the command line, for the tests of the application."""

from pathlib import Path

import numpy as np
import pytest

from ebm_fast import BACKENDS, backend, why_not
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.main import main
from ebm_fast.app.runfolder import metrics_read

TINY = ["data.n=200", "hidden=[8]", "batch=16", "K=2", "M=32"]
TRAINERS = [name for name in BACKENDS if why_not(name) is None and hasattr(backend(name), "MLPEnergy")]


def train(folder: Path, *more: str, backend: str = "ebm_ref", sets: tuple[str, ...] = ()) -> list[str]:
    settings = [setting for setting in TINY if setting != "M=32" or "cd" not in more]  # cd has no buffer
    settings += sets
    if "run.report=true" not in sets:
        settings.append("run.report=false")
    return ["train", "toy2d", "--backend", backend, "--out", str(folder), "--set", *settings, *more]


def run(*arguments: str) -> None:
    assert main(list(arguments)) == 0


def checkpoint(folder: Path) -> dict[str, np.ndarray]:
    return npz_read(folder / "checkpoint.npz")


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


def untimed(folder: Path) -> list[dict]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in metrics_read(folder)]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that bad input leaves on stderr."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and len(lines) == 1 and lines[0].startswith("ebm: error: ")
    return lines[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
