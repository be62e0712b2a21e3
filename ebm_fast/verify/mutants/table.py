"""What a mutant is, what a check is, and the two tables that the families fill.

    check    a figure measured from one function, held to |figure - want| <= allowed; it calls the function only
    mutant   one of our functions with a bug that was found in the wild, and the check that must reject it

A check that meets an exception, a NaN or the wrong kind of answer rejects. `want` is a closed form, an exact law or an
invariant; `allowed` is rounding, or at least five standard errors where the figure is a mean of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import EbmError

Function = Callable[..., Any]


@dataclass(frozen=True)
class Verdict:
    """What one check says of one function: the figure in words, and whether it is the right one."""

    passed: bool
    figure: str
    why: str = ""


@dataclass(frozen=True)
class Check:
    """`measure(fn)` is within `allowed` of `want`, for fn in the place of ebm_ref's `function`; `law` says why."""

    name: str
    function: str
    law: str
    measure: Callable[[Function], Any]
    want: float
    allowed: float

    def __call__(self, fn: Function) -> Verdict:
        try:
            with np.errstate(all="ignore"):
                figure = float(self.measure(fn))
        except MemoryError:
            raise
        except Exception as error:  # whatever a function under test raises is its answer
            said = " ".join(str(error).split())
            return Verdict(False, f"raises {type(error).__name__}", f"{self.law}: {type(error).__name__}: {said:.200}")
        passed = figure == self.want or abs(figure - self.want) <= self.allowed
        why = "" if passed else f"{self.law}: found {words(figure)}, expected {words(self.want)} +- {self.allowed:.2g}"
        return Verdict(passed, words(figure), why)


@dataclass(frozen=True)
class Mutant:
    """`fn` has the bug of `source`; `wild` is what was measured there, true -> found; `check` must reject it."""

    name: str
    fn: Function
    source: str
    wild: str
    check: str

    @property
    def bug(self) -> str:
        return " ".join((self.fn.__doc__ or "").split())


CHECKS: dict[str, Check] = {}
MUTANTS: dict[str, Mutant] = {}


def check_of(function: str, want: float, allowed: float = 1e-9) -> Callable[[Function], Function]:
    """Enter a measurement of ebm_ref's `function` under its own name; its docstring is the law."""

    def enter(measure: Function) -> Function:
        name = measure.__name__
        assert name not in CHECKS and hasattr(ebm_ref, function)
        law = " ".join((measure.__doc__ or "").split()).rstrip(".")
        CHECKS[name] = Check(name, function, law, measure, want, allowed)
        return measure

    return enter


def mutant_of(check: str, source: str, wild: str = "by reading") -> Callable[[Function], Function]:
    """Enter a wrong function under its own name; its docstring is the bug."""

    def enter(fn: Function) -> Function:
        assert fn.__name__ not in MUTANTS
        MUTANTS[fn.__name__] = Mutant(fn.__name__, fn, source, wild, check)
        return fn

    return enter


def ours(check: Check) -> Function:
    """The oracle's function that a check is about."""
    fn: Function = getattr(ebm_ref, check.function)
    return fn


def words(figure: float) -> str:
    """Four digits, and 0 for what is rounding."""
    if abs(figure) < 1e-7:
        return "0"
    return f"{figure:.0f}" if figure == round(figure, 9) // 1 and abs(figure) < 1e6 else f"{figure:.4g}"


def refused(call: Callable[[], Any], error: type[EbmError]) -> float:
    """1 if the call raises `error`, else 0."""
    try:
        call()
    except error:
        return 1.0
    return 0.0
