"""The compile gate: what every kernel occupies and executes, on every supported architecture, held to budgets.json.

    python -m ebm_fast.verify.budgets             compile all, print the tables, exit 1 where something is over
    python -m ebm_fast.verify.budgets --update    rewrite budgets.json: the change is a diff to review

Two kinds of rule. RULES hold whatever the file says: no stack, no spills, no fp64 in a float build, no atomics (so
that a result is the same on every run). Figures are held to the file: the ones in CEILINGS may not grow, the ones in
FLOORS may not shrink. Figures depend on the compiler, so they are compared under the NVRTC version that wrote the
file, and RULES under any. The section "access" of the file holds what access.py counts on the host build. And no kernel
may compute a place in memory in 32 bits (offsets.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from ebm_fast.cupy_raw import nvrtc, source
from ebm_fast.cupy_raw.nvrtc import ARCHS, CompileError, Defines

from . import access, offsets
from .sass import Figures, figures

CEILINGS = ("registers", "stack", "local", "spills", "shared", "instructions", "fp64", "atomics", "loads", "stores")
FLOORS = ("mma", "wide_loads", "wide_stores")
RULES: tuple[tuple[str, Callable[[str, Figures], int]], ...] = (  # what must be 0
    ("bytes of stack", lambda build, f: f.stack + f.local),
    ("loads and stores of local memory (a run-time index, or spilled registers)", lambda build, f: f.spills),
    ("fp64 instructions in a float build", lambda build, f: f.fp64 if build.startswith("float") else 0),
    ("atomics", lambda build, f: f.atomics),
)
WORKERS = 2  # compilations at a time; NVRTC and the tools run outside Python's lock

Key = tuple[str, str, str, str]  # file, kernel, build, arch
Measured = dict[Key, Figures]


def build_name(defines: Defines) -> str:
    """float.0, double.1: the real type and the order of jets."""
    return ".".join(value for _, value in reversed(defines))


def measure(
    builds: Iterable[tuple[str, Defines]] | None = None, archs: Iterable[str] = ARCHS
) -> tuple[Measured, list[str]]:
    """The figures of every kernel of every build, and what does not compile or is not what the source exports.

    builds: of source.builds(); None = all. Raises BackendError, MissingExtraError without NVRTC or the tools.
    """
    jobs = [(*build, arch) for build in (source.builds() if builds is None else builds) for arch in archs]
    measured: Measured = {}
    problems = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for (file, defines, arch), found in zip(jobs, pool.map(_figures, jobs), strict=True):
            if isinstance(found, CompileError):
                problems.append(str(found))
                continue
            exported = source.kernel_names(file)
            if {*exported} != {*found}:
                problems.append(f"{file} {arch}: exports {sorted(exported)}, the cubin has {sorted(found)}")
            for name in exported:
                if name in found:
                    measured[file, name, build_name(defines), arch] = found[name]
    return measured, problems


def _figures(job: tuple[str, Defines, str]) -> dict[str, Figures] | CompileError:
    try:
        return figures(nvrtc.compile(*job))
    except CompileError as error:
        return error


def rule_problems(measured: Measured) -> list[str]:
    """Which kernels break RULES."""
    return [
        f"{' '.join(key)}: {count} {what}, expected none"
        for key, found in measured.items()
        for what, counted in RULES
        if (count := counted(key[2], found))
    ]


def budget_problems(measured: Measured, budget: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which figures are over (or, of FLOORS, under) the budget, and which kernels only one side has."""
    have = {" ".join(key): asdict(found) for key, found in measured.items()}
    problems = [f"{key}: not in budgets.json" for key in have if key not in budget]
    problems += [f"{key}: in budgets.json, but there is no such kernel" for key in budget if key not in have]
    for key in have.keys() & budget.keys():
        mine, allowed = have[key], budget[key]
        problems += [f"{key}: {n} {mine[n]}, budget {allowed[n]}" for n in CEILINGS if mine[n] > allowed[n]]
        problems += [f"{key}: {n} {mine[n]}, at least {allowed[n]} wanted" for n in FLOORS if mine[n] < allowed[n]]
    return sorted(problems)


def read() -> dict[str, Any]:
    """budgets.json: {"nvrtc": version, "code": {"file kernel build arch": figures}, "access": {kernel: figures}}."""
    budgets: dict[str, Any] = json.loads((files(__package__) / "budgets.json").read_text("utf-8"))
    return budgets


def write(measured: Measured, asked: access.Access, path: Path) -> None:
    """What was measured as budgets.json, a line per kernel, build and architecture, and one per kernel."""
    code = {" ".join(key): asdict(found) for key, found in measured.items()}
    sections = (
        f'  "nvrtc": {json.dumps(nvrtc.version())}',
        *(
            f"  {json.dumps(name)}: {{\n"
            + ",\n".join(f"    {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())
            + "\n  }"
            for name, rows in (("code", code), ("access", asked))
        ),
    )
    path.write_text("{\n" + ",\n".join(sections) + "\n}\n", "utf-8")


def table(measured: Measured) -> str:
    """A line per kernel and build: registers on each architecture, then the largest of each other figure."""
    by_kernel: dict[tuple[str, str, str], dict[str, Figures]] = {}
    for (file, name, build, arch), found in measured.items():
        by_kernel.setdefault((file, name, build), {})[arch] = found
    width = max((len(f"{file} {name}") for file, name, _ in by_kernel), default=0)
    lines = [f"{'':{width}} build     registers {'/'.join(ARCHS)}  shared  stack  spills  code  fp64  16-byte ld st"]
    for (file, name, build), found in by_kernel.items():
        registers = "/".join(str(f.registers) for f in found.values())
        worst = {n: max(getattr(f, n) for f in found.values()) for n in (*CEILINGS, *FLOORS)}
        lines.append(
            f"{f'{file} {name}':{width}} {build:9} {registers:>32}  {worst['shared']:6}  {worst['stack']:5}  "
            f"{worst['spills']:6}  {worst['instructions']:4}  {worst['fp64']:4}  "
            f"{worst['wide_loads']:3} of {worst['loads']:3}  {worst['wide_stores']:3} of {worst['stores']:3}"
        )
    return "\n".join(lines)


def check(measured: Measured, asked: access.Access) -> list[str]:
    """All that is wrong with what was measured: RULES, accesses, and under the file's own NVRTC the budgets."""
    budgets = read()
    problems = rule_problems(measured) + access.problems(asked, budgets["access"])
    if budgets["nvrtc"] == nvrtc.version():
        problems += budget_problems(measured, budgets["code"])
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a build does not compile, breaks a rule or leaves its budget."""
    parser = argparse.ArgumentParser(prog="python -m ebm_fast.verify.budgets", description="The compile gate.")
    parser.add_argument("--update", action="store_true", help="rewrite budgets.json with what was measured")
    update = parser.parse_args(arguments).update
    measured, problems = measure()
    asked = access.measure()
    print(table(measured), access.table(asked), sep="\n\n")
    if update and not problems:
        write(measured, asked, Path(str(files(__package__) / "budgets.json")))
    problems += check(measured, asked) + offsets.problems()
    done = f"{len(measured)} kernels in all builds within their budgets (NVRTC {nvrtc.version()})"
    print("", *problems or [done], sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
