"""The README is run: its Python snippets, its commands' spelling, and every row of its Atlas."""

import re
import sys
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import ebm_ref
from bench.cases import CASES
from ebm_fast import BACKENDS, MODULES
from ebm_fast.app.main import build_parser
from ebm_fast.cupy_raw.device import on
from ebm_fast.verify import host_build, problems
from ebm_ref.methods import METHODS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
COMMANDS = [
    line.split("#")[0].strip() for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()
]
ATLAS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in TEXT.split("## Atlas")[1].split("\n## ")[0].splitlines()
    if line.startswith("|") and not line.startswith(("| equation", "|---"))
]
TWINS = [name for name in BACKENDS if name != "ebm_ref"]


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w-]+)`", cell)


@cache
def exports(twin: str) -> list[str]:
    """What a backend exports, whether or not it can run here: importing it needs its compiler, not a card."""
    try:
        return import_module(MODULES[twin]).__all__
    except ImportError:
        return []


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["read", "run", "gpu", "kernel", "verify"])
def test_readme__python_snippets_run(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy stands in for CuPy, and the host build for a card."""
    device = nullcontext()
    if "cupy" in snippet:
        if host_build.why_not():
            pytest.skip(host_build.why_not())
        monkeypatch.setitem(sys.modules, "cupy", np)
        device = on(host_build.host_device())
    with device:
        exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("ebm ")])
def test_readme__ebm_commands_parse(command: str) -> None:
    build_parser().parse_args(command.split()[1:])


def test_readme__methods_are_the_table_s() -> None:
    rows = [line.split("|") for line in TEXT.split("| method | learns from |")[1].split("\n\n")[0].splitlines()[2:]]
    found = {names(row[1])[0]: (row[2].strip(), int(row[3]), row[4].strip()) for row in rows}
    assert list(found) == [*(name for name in METHODS if name != "jem"), "jem"]
    for name, (what, level, carries) in found.items():
        method = METHODS[name]
        assert what.startswith(method.what) and level == method.level
        assert carries == ("buffer" if method.buffer else "log_z" if method.log_z else "")


def test_readme__make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    used = [c.split()[1] for c in COMMANDS if c.startswith("make ")]
    assert used and set(used) <= set(targets)


def test_readme__extras_are_the_project_s() -> None:
    declared = re.findall(
        r"^(\w+) = \[",
        (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("[project.scripts]")[0],
        re.M,
    )
    table = TEXT.split("| extra |")[1].split("\n\n")[0]
    assert set(declared) == {n for row in table.splitlines()[2:] for n in names(row.split("|")[1])}


@pytest.mark.parametrize("row", ATLAS, ids=[names(row[1])[0] for row in ATLAS])
def test_atlas__row_resolves(row: list[str]) -> None:
    _, oracle, twins, problem, bench = row
    name = names(oracle)[0]
    assert hasattr(ebm_ref, name)
    assert names(twins) == [twin for twin in TWINS if name in exports(twin)]
    for key in names(problem):
        assert key in problems.PROBLEMS
    for key in names(bench):
        assert key in {case.bench for case in CASES}


def test_atlas__has_every_problem_and_bench_case() -> None:
    assert {n for row in ATLAS for n in names(row[3])} == set(problems.PROBLEMS)
    assert {n for row in ATLAS for n in names(row[4])} == {case.bench for case in CASES}
