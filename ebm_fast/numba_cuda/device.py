"""Where the kernels run: a CUDA card, or the CPU in Numba's types.

with on(Typed()): ...    every function of this backend called inside runs there
current()                the device in use; the card where nothing else was said
launch(body, dtype, n, *args)     n threads of a body, i = 0..n-1, in no order that may matter
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from ebm_ref.contracts import DTypeError, check_choice

from ..extras import require
from .build import typed_loop


class Device(Protocol):
    """What this backend needs. Arrays are the device's own kind; a launch is ordered after what was launched before."""

    def adopt(self, name: str, x: Any) -> Any:
        """`x` as an array of the device: itself, or a view of the same memory where another library owns it.
        DTypeError where it lies anywhere else."""

    def array(self, name: str, x: Any) -> Any:
        """The same, C contiguous: where it has gaps, a copy made on the device."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array, not initialised."""

    def put(self, x: np.ndarray) -> Any:
        """A copy of a host array on the device."""

    def get(self, x: Any) -> np.ndarray:
        """A copy on the host; waits for the device."""

    def launch(self, body: Any, dtype: np.dtype, order: int, n: int, args: Sequence[Any]) -> None:
        """n threads of the build (dtype, order) of a body; args: arrays of the device, integers, reals of dtype."""


class Typed:
    """The CPU: arrays are NumPy's, threads run one after another, forward, reverse or in a random order.

    New arrays hold NaN (or the largest integer), so that what nobody writes is seen.
    """

    ORDERS = ("forward", "reverse", "random")

    def __init__(self, order: str = "forward") -> None:
        check_choice("order", order, self.ORDERS)
        self.order = order

    def adopt(self, name: str, x: Any) -> np.ndarray:
        if not isinstance(x, np.ndarray):
            raise DTypeError(f"{name}: expected an array, found {type(x).__name__}")
        return x

    def array(self, name: str, x: Any) -> np.ndarray:
        x = self.adopt(name, x)
        return x if x.flags.c_contiguous else np.ascontiguousarray(x)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        kind = np.dtype(dtype)
        poison = {"f": np.nan, "b": True}.get(kind.kind)
        return np.full(shape, np.iinfo(kind).max if poison is None else poison, kind)

    def put(self, x: np.ndarray) -> np.ndarray:
        return np.array(x, order="C")

    def get(self, x: np.ndarray) -> np.ndarray:
        return np.array(x)

    def threads(self, n: int) -> np.ndarray:
        if self.order == "random":
            return np.random.default_rng(n).permutation(n)
        return np.arange(n) if self.order == "forward" else np.arange(n)[::-1].copy()

    def launch(self, body: Any, dtype: np.dtype, order: int, n: int, args: Sequence[Any]) -> None:
        typed_loop(body, dtype, order)(self.threads(n), tuple(args))


_current: ContextVar[Device | None] = ContextVar("device", default=None)


@contextmanager
def on(device: Device) -> Iterator[None]:
    """Run the functions of this backend on `device`."""
    token = _current.set(device)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Device:
    """The device in use. Raises MissingExtraError, BackendError where it would be a card and none can be used."""
    device = _current.get()
    if device is None:
        require("numba.cuda", "cuda13")
        device = import_module(".card", __package__).card()  # card.py needs numba.cuda, which not every machine has
    return device


def launch(body: Any, dtype: Any, n: int, *args: Any, order: int = 0) -> None:
    """n threads of `body` on the current device; nothing for n = 0. A Python float goes as a number of `dtype`,

    infinity where it is too large for one.
    """
    kind = np.dtype(dtype)
    if n > 0:
        with np.errstate(over="ignore"):
            reals = [kind.type(arg) if type(arg) is float else arg for arg in args]
        current().launch(body, kind, order, n, reals)
