"""One valid call of a public function, and every way in which this house breaks an argument of such a call.

A break is (what, the broken value, the errors that may answer, whether it sets arrays at odds with each other). The
kind of an argument is read off its value in the valid call: floats, labels, theta, a number, a count, a box.
Objects (an energy, an update, a base) are not broken here: what they refuse, they refuse when they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebm_ref.contracts import DataError, DTypeError, NonFiniteError, RangeError, ShapeError

NUMBER = (RangeError, DTypeError)
Break = tuple[str, Any, tuple[type[Exception], ...], bool]


@dataclass(frozen=True)
class Call:
    """args: makes the arguments of a valid call, every parameter of the function by its name.

    rows: the arrays whose first axis is the batch   empty: whether a batch of none is a valid call
    signed: numbers that may be negative   passes: "argument, break" that is a valid call, and why
    late: "argument, break" that is found only after some work, and why
    """

    args: Callable[[], dict[str, Any]]
    rows: tuple[str, ...] = ()
    empty: bool = False
    signed: tuple[str, ...] = ()
    passes: dict[str, str] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)


def passing(why: str, *names: str, whats: tuple[str, ...] = ("NaN", "inf")) -> dict[str, str]:
    """`passes` of some arguments, all for one reason."""
    return {f"{name}, {what}": why for name in names for what in whats}


APART = "the two batches may differ in size"
ANY_SHAPE = "a sample of one axis more is a sample"
GOES_ON = "what is not finite gives what is not finite; who called it stops, rejects or reports it"
OWNER = "what the slots hold is the caller's; a chain that starts from it is refused"
MORE, AXIS = ("a sample more",), ("an axis more",)


def breaks(name: str, value: Any, signed: bool) -> Iterator[Break]:
    """Every break of one argument."""
    if isinstance(value, np.ndarray):
        yield from _of_array(value)
    elif isinstance(value, dict):
        yield from _of_params(value, not name.startswith("theta"))
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, (int, np.integer)):
        yield from _of_count(value)
    elif isinstance(value, float):
        yield from _of_number(value, signed)
    elif isinstance(value, str):
        yield "another word", "no such word", (RangeError, DataError), False
    elif name == "box":
        yield from _of_box(value)
    elif name == "shape":
        for what, other in (("no axis", ()), ("an axis of 0", (0,)), ("a list", [2]), ("a fraction", (1.5,))):
            yield what, other, (*NUMBER, ShapeError), False
    elif isinstance(value, tuple) and all(isinstance(part, float) for part in value):
        yield from _of_levels(value)


def _of_array(x: np.ndarray) -> Iterator[Break]:
    if x.dtype.kind == "f":
        for what, bad in (("NaN", np.nan), ("inf", np.inf)):
            other = x.copy()
            other.flat[0] = bad
            yield what, other, (NonFiniteError,), False
        yield "integers", np.round(x).astype(np.int64), (DTypeError,), False
        yield "float16", x.astype(np.float16), (DTypeError,), False
    else:
        yield "floats", x.astype(np.float64), (DTypeError, ShapeError), False
        if x.dtype.kind == "i":
            for what, bad in (("below", -1), ("above", 2**40)):
                other = x.copy()
                other.flat[0] = bad
                yield what, other, (RangeError,), False
    yield "a list", x.tolist(), (DTypeError,), False
    yield "an axis more", x[..., None], (ShapeError,), True
    yield "a sample more", np.concatenate([x, x[:1]]), (ShapeError,), True


def _of_params(theta: dict[str, Any], at_odds: bool) -> Iterator[Break]:
    first = next(iter(theta))
    yield "a name missing", {name: y for name, y in theta.items() if name != first}, (ShapeError,), at_odds
    yield "a name more", theta | {"other": np.zeros(1)}, (ShapeError,), at_odds
    yield "float16", {name: np.asarray(y, np.float16) for name, y in theta.items()}, (DTypeError,), False
    yield "integers", {name: np.asarray(y, np.int64) for name, y in theta.items()}, (DTypeError,), False
    yield "a list", list(theta.values()), (DTypeError, ShapeError), False


def _of_count(n: int) -> Iterator[Break]:
    yield "a fraction", n + 0.5, (DTypeError,), False
    yield "a text", str(n), (DTypeError,), False
    yield "a truth", True, (DTypeError,), False
    yield "below 0", -1, (RangeError,), False


def _of_number(a: float, signed: bool) -> Iterator[Break]:
    yield "NaN", float("nan"), (RangeError,), False
    yield "inf", float("inf"), (RangeError,), False
    yield "a text", str(a), (DTypeError,), False
    yield "a truth", True, (DTypeError,), False
    if not signed:
        yield "below 0", -1.0, (RangeError,), False


def _of_box(box: tuple[float, float]) -> Iterator[Break]:
    low, high = box
    yield "empty", (high, high), (RangeError,), False
    yield "upside down", (high, low), (RangeError,), False
    yield "NaN", (float("nan"), high), (RangeError,), False
    yield "inf", (low, float("inf")), (RangeError,), False
    yield "a list", [low, high], NUMBER, False
    yield "a text", ("0", "1"), (DTypeError,), False
    yield "three ends", (low, high, high), NUMBER, False


def _of_levels(levels: tuple[float, ...]) -> Iterator[Break]:
    yield "none", (), (*NUMBER, ShapeError), False
    yield "NaN", (float("nan"), *levels[1:]), (RangeError,), False
    yield "below 0", (-1.0, *levels[1:]), (RangeError,), False
    yield "a text", ("1", *levels[1:]), (DTypeError,), False


class Watched:
    """An energy or a classifier, and how many of its evaluations came to an end."""

    def __init__(self, energy: Any, done: list[str] | None = None):
        self._energy, self.done = energy, [] if done is None else done

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._energy, name)
        if not callable(value) or name in ("theta_shapes", "require_smooth"):
            return Watched(value, self.done) if name in ("trunk", "derivatives_of") else value

        def call(*args: Any) -> Any:
            result = value(*args)
            if name in ("at", "given"):
                return Watched(result, self.done)
            self.done.append(name)
            return result

        return call
