"""`check` one function, or `run` every function of every twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

import ebm_fast
import ebm_ref
from ebm_fast.cupy_raw.source import ORDERS, kernel_names
from ebm_ref.contracts import check_choice, check_count

from . import host_build, naive
from .case import Case, export
from .close import Failure
from .host_facing import host_facing
from .judge import judge, search
from .laws.contrastive import CD_NEEDS, check_cd
from .misuse import check_misuse
from .problems import PROBLEMS
from .rows import Report, Row

FUNCTIONS = (*PROBLEMS, "cd_step")  # cd_step is the oracle's own, run on the functions of the twin
TWINS = (*ebm_fast.BACKENDS, "naive", "host_build")
DTYPES = ("float32", "float64")
WHOLE = {"noise_philox": "uint32", "noise_bits": "uint32", "noise_index": "int64", "noise_permutation": "int64"}
UNCHECKED = ("naive",)  # reads the equations and checks no input
CASES = {"fast": 200, "race": 60}  # by build: cases drawn for each function and dtype where nothing else is asked for
FEW = 25


def check(
    fn: Callable[..., Any], name: str, *, dtype: Any = None, cases: int = 100, seed: int = 0, label: str | None = None
) -> Report:
    """Your `fn` against the oracle's function `name`: its arguments, its results, the same budgets and laws.

    fn: takes the oracle's parameters in the oracle's order (those with a default by name) and NumPy arrays;
    for an energy ("conv_energy", ...) a class with the fields of the oracle's (ConvEnergy, ...); a classifier
    is handed a trunk of the oracle's.
    name: one of PROBLEMS. dtype: float32, float64 or None for both. cases: how many for each dtype.
    Raises RangeError (name, dtype, cases), MissingExtraError (Hypothesis is not installed).
    """
    check_choice("name", name, tuple(PROBLEMS))
    check_count("cases", cases, low=1)
    check_count("seed", seed, low=0)
    twin = label if label is not None else getattr(fn, "__name__", type(fn).__name__)
    rows, smallest = [], None
    for kind in dtypes_of(name, DTYPES if dtype is None else (np.dtype(dtype).name,)):
        row, case = one(fn, ebm_ref, name, twin, kind, cases, seed)
        rows.append(row)
        smallest = smallest or case
    return Report(tuple(rows), smallest)


def run(
    twins: Sequence[str | ModuleType] | None = None,
    functions: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    cases: int | None = None,
    seed: int = 0,
    tell: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Every function x twin x dtype, as rows; what a twin does not export, or cannot run here, is a skipped row.

    twins: names among TWINS, or modules; None = all. functions: among FUNCTIONS; None = all. cases: drawn for each
    function and dtype; None = 200 for host_build (race: 60), 25 for the others. tell: called with each row made.
    Without a card numba_cuda is its typed build: the same bodies, compiled for the CPU. Where all functions of
    host_build are judged, the row "kernels" says whether their cases launched every CUDA kernel.
    Raises RangeError (names, cases), MissingExtraError.
    """
    if cases is not None:
        check_count("cases", cases, low=1)
    check_count("seed", seed, low=0)
    for name in functions or ():
        check_choice("functions", name, FUNCTIONS)
    for twin in twins or ():
        if not isinstance(twin, ModuleType):
            check_choice("twins", twin, TWINS)
    rows = []
    for twin in TWINS if twins is None else twins:
        before = host_build.launched()
        for name in FUNCTIONS if functions is None else functions:
            some = CASES.get(build_of(twin), FEW) if cases is None else cases
            for row in rows_of(twin, name, dtypes_of(name, dtypes), some, seed):
                rows.append(row)
                tell(row)
        if twin == "host_build" and functions is None and host_build.why_not() is None:
            rows.append(kernels_row(before))
            tell(rows[-1])
    return rows


def kernels_row(before: Mapping[tuple[str, str], int]) -> Row:
    """Whether every CUDA kernel ran since `host_build.launched()` was `before`: what no case reaches is not checked."""
    now = host_build.launched()
    names = [(file, name) for file in ORDERS for name in kernel_names(file)]
    idle = [f"{name} ({file})" for file, name in names if now.get((file, name), 0) == before.get((file, name), 0)]
    why = f"{len(names) - len(idle)} of {len(names)} kernels launched" + (f", not {', '.join(idle)}" if idle else "")
    status = "fail" if idle else "pass"
    return Row("kernels", "host_build", "", len(names) - len(idle), 0.0, status, why, host_build.build())


def rows_of(twin: str | ModuleType, name: str, dtypes: Sequence[str], cases: int, seed: int) -> list[Row]:
    """The rows of one function of one twin."""
    label, build = label_of(twin), build_of(twin)
    needs = CD_NEEDS if name == "cd_step" else (export(name),)
    why = why_not(twin) if isinstance(twin, str) else None
    if why is None:
        module = open_twin(twin)
        why = ", ".join(f"{label} has no {need}" for need in needs if not hasattr(module, need)) or None
    if why is not None:
        return [Row(name, label, dtype, 0, 0.0, "skip", why, build) for dtype in dtypes]
    if name == "cd_step":
        return [replace(cd_row(module, label, dtype), build=build) for dtype in dtypes]
    rows = [one(getattr(module, export(name)), module, name, label, dtype, cases, seed)[0] for dtype in dtypes]
    if label not in UNCHECKED and rows[0].status == "pass":
        try:
            check_misuse(name, getattr(module, export(name)), module)
        except Failure as failure:
            rows[0] = Row(name, label, rows[0].dtype, rows[0].cases, failure.ratio, "fail", str(failure))
    return [replace(row, build=build) for row in rows]


def label_of(twin: str | ModuleType) -> str:
    """The twin's name in rows and reports."""
    return twin if isinstance(twin, str) else twin.__name__.rpartition(".")[2]


def build_of(twin: str | ModuleType) -> str:
    """Which of a twin's builds is judged: host_build's fast, race or asan; a GPU backend's card, or what stands in."""
    if twin == "host_build":
        return host_build.build()
    if twin in ebm_fast.ON_A_CARD:
        return "typed" if twin == "numba_cuda" and ebm_fast.why_not(twin) else "card"
    return ""


def why_not(twin: str) -> str | None:
    """Why a twin cannot be judged here, in words; None when it can."""
    if twin == "naive":
        return None
    if twin == "host_build":
        return host_build.why_not()
    if twin == "numba_cuda":
        return ebm_fast.why_not("numba_cpu") and ebm_fast.why_not(twin)  # without a card its bodies need Numba alone
    return ebm_fast.why_not(twin)


def open_twin(twin: str | ModuleType) -> ModuleType:
    """The module whose functions are judged; they take NumPy arrays."""
    if isinstance(twin, ModuleType):
        return twin
    if twin in ("naive", "host_build"):
        return naive if twin == "naive" else host_build
    if twin == "numba_cuda" and ebm_fast.why_not(twin):
        return import_module("ebm_fast.verify.numba_typed")
    module = ebm_fast.backend(twin)
    return host_facing(module) if twin in ebm_fast.ON_A_CARD else module


def dtypes_of(name: str, dtypes: Sequence[str]) -> tuple[str, ...]:
    """The dtypes in which a function is checked; one of whole numbers has its own."""
    for dtype in dtypes:
        check_choice("dtype", dtype, DTYPES)
    return (WHOLE[name],) if name in WHOLE else tuple(dtypes)


def one(
    fn: Callable[..., Any], module: ModuleType, name: str, twin: str, dtype: str, cases: int, seed: int
) -> tuple[Row, Case | None]:
    """The row of one function of one twin in one dtype, and the smallest case that failed."""
    real = np.float32 if dtype == "float32" else np.float64
    found = search(name, real, lambda case: judge(case, fn, module, real), cases, seed)
    if found.failure is None:
        return Row(name, twin, dtype, found.cases, found.worst, "pass"), None
    shown = found.case.describe() if found.case is not None else ""
    why = f"{name} of {twin} in {dtype}: {found.failure}\n{shown}"
    return Row(name, twin, dtype, found.cases, found.worst, "fail", why), found.case


def cd_row(module: ModuleType, twin: str, dtype: str) -> Row:
    """Contrastive divergence on a twin's functions: without steps the loss is 0."""
    try:
        worst, cases = check_cd(module, np.float32 if dtype == "float32" else np.float64)
    except Failure as failure:
        return Row("cd_step", twin, dtype, 0, failure.ratio, "fail", f"cd_step on {twin} in {dtype}: {failure}")
    return Row("cd_step", twin, dtype, cases, worst, "pass")
