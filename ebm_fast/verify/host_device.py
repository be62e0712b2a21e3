"""A device on NumPy arrays: each launch runs the CUDA source, compiled for the CPU, thread by thread."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any, NoReturn

import numpy as np

from ebm_fast.cupy_raw.device import PROCESSORS, Size3
from ebm_fast.cupy_raw.source import Kernel, sources
from ebm_ref.contracts import BackendError, DTypeError, RangeError, check_choice

from .host_arguments import LaunchError, argument_block, check_margins, poisoned
from .host_asan import inside
from .host_compile import BUILDS, compile_library
from .host_report import Lint, parameters_of, readable

ORDERS = {"forward": 0, "reverse": 1, "random": 2}
ROTATION = ("forward", "reverse", "random")
SECONDS = 120.0  # of one launch, before it counts as hanging
_lock = threading.Lock()  # the runtime runs one launch at a time
_launched: dict[tuple[str, str], int] = {}


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_ulonglong),
        ("order", ctypes.c_uint),
        ("seed", ctypes.c_uint),
        ("arrays", ctypes.c_int),
        ("array", ctypes.POINTER(ctypes.c_size_t)),
        ("report", ctypes.c_char_p),
        ("report_size", ctypes.c_ulonglong),
        ("seconds", ctypes.c_double),
        ("lint", ctypes.c_int),
        ("first", ctypes.c_ulonglong),
        ("end", ctypes.c_ulonglong),
    ]


@dataclass
class HostDevice:
    """The device of one build. order: rotate takes forward, reverse and random in turn, launch by launch.

    processors: that launchers plan for; few of them get large pieces of work for each block.
    """

    build: str = "fast"
    order: str = "rotate"
    seed: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)  # more CUDA sources than the backend's own
    seconds: float = SECONDS
    processors: int = PROCESSORS
    in_turn: Sequence[int] = ()  # processors of the calls that follow each other, where they change
    lint: Lint | None = None  # race build: where to add what warps ask of memory
    part: slice = field(default_factory=lambda: slice(None))  # the blocks of each launch that run, x fastest
    number: int = 0  # of the next launch, for its order
    calls: int = -1
    total: int = 0
    made: dict[Kernel, _Made] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("build", self.build, tuple(BUILDS))
        check_choice("order", self.order, ("rotate", *ORDERS))
        if self.build == "asan" and not inside():
            raise BackendError("build: asan runs only in a process that host_asan.run_in_asan starts")
        self.sources = sources() | dict(self.extra)

    def array(self, name: str, x: Any) -> np.ndarray:
        """`x` itself where it is C contiguous, else a copy. DTypeError where it is no NumPy array."""
        if not isinstance(x, np.ndarray):
            raise DTypeError(f"{name}: expected a NumPy array, found {type(x).__name__}")
        if x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative:
            return x
        return np.array(x, x.dtype.newbyteorder("="), order="C")

    def empty(self, shape: tuple[int, ...] | int, dtype: Any) -> np.ndarray:
        """A new array full of 0xFF: NaN, or -1."""
        # the address sanitiser sees what leaves an array where it is an allocation of its own
        return poisoned(shape, np.dtype(dtype), margin=self.build != "asan", track=self.build == "race")

    def put(self, x: np.ndarray) -> np.ndarray:
        """A copy of `x`."""
        made = poisoned(x.shape, x.dtype, margin=self.build != "asan", track=False)
        made[...] = x
        return made

    def get(self, x: np.ndarray) -> np.ndarray:
        """A copy of `x`."""
        return np.array(x)

    def address(self, x: np.ndarray) -> int:
        return x.ctypes.data

    def stream(self, stream: Any) -> NoReturn:
        """Raises DTypeError: launches run where they are called."""
        raise DTypeError(f"stream: expected None, because the host build has no streams, found {type(stream).__name__}")

    def repeat(self, times: int, body: Callable[[], None]) -> None:
        """`body()`, `times` times over."""
        for _ in range(times):
            body()

    def begin_call(self) -> None:
        """The launches that follow are those of one call: in other orders, and for other processors, than before."""
        self.calls += 1
        self.number = self.calls
        if self.in_turn:
            self.processors = self.in_turn[self.calls % len(self.in_turn)]

    def next_order(self) -> tuple[str, int]:
        """The order of the next launch, and its seed."""
        self.number += 1
        self.total += 1
        order = ROTATION[(self.number - 1) % 3] if self.order == "rotate" else self.order
        return order, (self.seed * 1_000_003 + self.total) & 0xFFFFFFFF

    def launch(self, kernel: Kernel, grid: Size3, block: Size3, args: Sequence[Any], shared: int) -> None:
        """One launch. Raises DTypeError (an argument is not what the kernel declares), LaunchError."""
        made = self.made.get(kernel)
        if made is None:
            made = self.made[kernel] = _make(kernel, self.build, self.sources)
        order, seed = self.next_order()
        values, arrays = argument_block(kernel, made.sign, args)
        pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(value) for value in values))
        report = ctypes.create_string_buffer(4096)
        how = _Launch()
        how.grid[:], how.block[:] = grid, block
        how.shared, how.order, how.seed = shared, ORDERS[order], seed
        how.arrays = len(arrays) // 6
        how.array = (ctypes.c_size_t * max(1, len(arrays)))(*arrays)
        how.report, how.report_size = ctypes.cast(report, ctypes.c_char_p), len(report)
        how.seconds, how.lint = self.seconds, self.lint is not None
        how.first, how.end = _range(self.part, prod(grid))
        with _lock:
            failed = made.entry(ctypes.byref(how), pointers)
            if self.lint is not None and not failed:
                self.lint.add(kernel.name, _lint_text(made.library), made.library._name)
            _launched[kernel.file, kernel.name] = _launched.get((kernel.file, kernel.name), 0) + 1
        if failed:
            names = parameters_of(kernel.name, self.sources[kernel.file])
            why = readable(report.value.decode("utf-8", "replace"), made.library._name, names)
            raise LaunchError(f"{kernel}: {why} [grid {grid}, block {block}, {order} order, {self.build} build]")
        for place, x in enumerate(args):
            if isinstance(x, np.ndarray):
                check_margins(kernel, place, x)


def _range(part: slice, blocks: int) -> tuple[int, int]:
    """(first, end) of the blocks that run. Raises RangeError where they do not follow one another."""
    first, end, step = part.indices(blocks)
    if step != 1:
        raise RangeError(f"part: expected blocks that follow one another, found a step of {step}")
    return first, max(first, end)


def launched() -> dict[tuple[str, str], int]:
    """How often each (file, kernel) ran in this process."""
    return dict(_launched)


@dataclass(frozen=True)
class _Made:
    """A kernel that can be launched; sign: as argument_block reads it."""

    library: ctypes.CDLL
    entry: Any
    sign: str


def _make(kernel: Kernel, build: str, texts: Mapping[str, str]) -> _Made:
    library = _library(str(compile_library(kernel.file, kernel.defines, build, texts)))
    try:
        entry, sign = library[f"ebm_entry_{kernel.name}"], library[f"ebm_sign_{kernel.name}"]
    except AttributeError:
        raise RangeError(f"kernel: {kernel.file} does not export {kernel.name}") from None
    sign.restype = ctypes.c_char_p
    return _Made(library, entry, sign().decode())


@cache
def _library(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise BackendError(f"{path} cannot be loaded: {error}") from error


def _lint_text(library: ctypes.CDLL) -> str:
    size = 1 << 16
    while True:
        text = ctypes.create_string_buffer(size)
        if not library.ebm_lint(text, ctypes.c_ulonglong(size)):
            return text.value.decode()
        size *= 2
