"""What a law is handed, and the three ways in which it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array

from ..case import Case, Outputs, built
from ..close import Failure, compare


@dataclass(frozen=True)
class Trial:
    case: Case
    fn: Callable[..., Any]
    module: ModuleType
    got: Outputs
    budget: dict[str, Array]
    dtype: Any
    calls: list[Case] = field(default_factory=list)  # what the laws asked for beside the case

    @property
    def args(self) -> dict[str, Any]:
        return self.case.args

    def again(self, options: dict[str, Any] | None = None, **changes: Any) -> Outputs:
        """The function once more, with some arguments changed."""
        case = replace(self.case, args=self.args | changes, options=self.case.options | (options or {}), story="")
        self.calls.append(case)
        return case.run(self.fn, self.module)

    def energy(self) -> Any:
        """The energy of a network's case, of the function under test."""
        return self.fn(**built(self.case.options, self.module))

    def partner(self, name: str) -> Callable[..., Any]:
        """The backend's function of that name, or the oracle's where the backend has none."""
        return getattr(self.module, name, getattr(ebm_ref, name))


def law(text: str, name: str, got: Any, want: Any, budget: Array | None = None) -> None:
    """`compare`, with the law's sentence in front of the failure."""
    if budget is not None:
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    try:
        compare(name, got, want, budget)
    except Failure as failure:
        raise Failure(f"law: {text}: {failure}", failure.ratio) from None


def holds(text: str, truth: Any, found: str = "") -> None:
    if not bool(truth):
        raise Failure(f"law: {text}" + (f": {found}" if found else ""))


def within(text: str, left: Any, right: Any, allowed: Any) -> None:
    """|left - right| <= allowed, in float64."""
    error = abs(float(left) - float(right))
    if not error <= float(allowed):
        raise Failure(f"law: {text}: {float(left)!r} and {float(right)!r} differ by {error:.3g}, budget {allowed:.3g}")


def total(a: Array, b: Array) -> float:
    return float((np.asarray(a, np.float64) * np.asarray(b, np.float64)).sum())
