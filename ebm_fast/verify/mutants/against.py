"""A function of somebody else's under the checks that reject the mutants, and under the kit's cases.

    against("my_module:my_step", "langevin_step")   a row for each check of langevin_step, and for each dtype of the kit

The function takes the oracle's arguments, as NumPy arrays, and may answer with arrays of any library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ebm_ref.contracts import ConfigError

from ..case import as_numpy
from ..problems import PROBLEMS
from ..runner import check
from .table import CHECKS, Function, words


@dataclass(frozen=True)
class Ruling:
    """What one check says of one function. found, want: figures in words, empty for the kit's cases."""

    function: str
    target: str
    check: str
    law: str
    passed: bool
    found: str
    want: str
    why: str


def judged() -> tuple[str, ...]:
    """The functions of ours that a function can be judged as."""
    return tuple(sorted({check.function for check in CHECKS.values()} | set(PROBLEMS)))


def target(path: str) -> Function:
    """The function that MODULE:FUNCTION names; FUNCTION may have dots. Raises ConfigError."""
    module_name, _, attributes = path.partition(":")
    if not module_name or not attributes:
        raise ConfigError(f"--against: expected MODULE:FUNCTION, found {path!r}")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except Exception as error:  # a module may raise anything while it is imported
        raise ConfigError(f"--against: {module_name} does not import: {type(error).__name__}: {error}") from error
    finally:
        if added:
            sys.path.remove(here)
    for name in attributes.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"--against: {module_name} has no {attributes}")
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(f"--against: expected a function, found {path} of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def against(
    path: str, name: str | None = None, cases: int = 25, tell: Callable[[Ruling], None] = lambda ruling: None
) -> list[Ruling]:
    """The function at `path` under every check of ours `name` (default: its own name), and the kit's cases.

    cases: of the kit, for each dtype. Raises ConfigError (path, name), MissingExtraError (Hypothesis is not installed).
    """
    fn = target(path)
    name = path.rpartition(":")[2].rpartition(".")[2] if name is None else name
    if name not in judged():
        raise ConfigError(f"--as: expected one of {', '.join(judged())}, found {name!r}")
    rulings = []

    def enter(ruling: Ruling) -> None:
        rulings.append(ruling)
        tell(ruling)

    for one in CHECKS.values():
        if one.function == name:
            verdict = one(_answers_in_numpy(fn))
            enter(Ruling(name, path, one.name, one.law, verdict.passed, verdict.figure, words(one.want), verdict.why))
    if name in PROBLEMS:
        for row in check(fn, name, cases=cases, label=path).rows:
            law = f"{row.cases} cases in {row.dtype} against the oracle"
            found = f"worst {row.worst:.3g} of its budget"
            enter(Ruling(name, path, f"kit_{row.dtype}", law, row.status == "pass", found, "", row.why))
    return rulings


def format_ruling(ruling: Ruling) -> str:
    """`verdict  check  found`, the law, and under it why it failed."""
    verdict = "pass" if ruling.passed else "fail"
    figures = ruling.found + (f", expected {ruling.want}" if ruling.want and not ruling.passed else "")
    line = f"{verdict}  {ruling.function:22}  {ruling.check:40}  {figures}"
    return "\n".join([line, *(f"      {why}" for why in ruling.why.splitlines() if not ruling.passed)])


def _answers_in_numpy(fn: Function) -> Function:
    """`fn` with the arrays of its answer as NumPy's; a class is left as it is."""
    if isinstance(fn, type):
        return fn

    def answer(*args: Any, **options: Any) -> Any:
        return _plain(fn(*args, **options))

    return answer


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_plain(part) for part in value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    foreign = hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__")
    return as_numpy(value) if foreign else value
