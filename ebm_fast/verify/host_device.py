"""A device on NumPy arrays: each launch runs the CUDA source, compiled for the CPU, thread by thread."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

import numpy as np

from ebm_fast.cupy_raw.device import Size3
from ebm_fast.cupy_raw.source import Kernel, sources
from ebm_ref.contracts import BackendError, DTypeError, RangeError, check_choice

from .host_asan import inside
from .host_compile import BUILDS, compile_library
from .host_report import Lint, parameters_of, readable

ORDERS = {"forward": 0, "reverse": 1, "random": 2}
ROTATION = ("forward", "reverse", "random")
MARGIN = 256  # poisoned bytes on each side of an array of the fast build
SECONDS = 120.0  # of one launch, before it counts as hanging
_lock = threading.Lock()  # the runtime runs one launch at a time
_launched: dict[tuple[str, str], int] = {}


class LaunchError(BackendError):
    """A launch that breaks CUDA's rules: which kernel, which block and thread, which line."""


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
    ]


@dataclass
class HostDevice:
    """The device of one build. order: rotate takes forward, reverse and random in turn, launch by launch."""

    build: str = "fast"
    order: str = "rotate"
    seed: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)  # more CUDA sources than the backend's own
    seconds: float = SECONDS
    lint: Lint | None = None  # race build: where to add what warps ask of memory
    launches: Any = field(default_factory=itertools.count)

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
        return (
            x
            if x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative
            else np.array(x, x.dtype.newbyteorder("="), order="C")
        )

    def empty(self, shape: tuple[int, ...] | int, dtype: Any) -> np.ndarray:
        """A new array full of 0xFF: NaN, or -1."""
        kind = np.dtype(dtype)
        size = prod(shape) if isinstance(shape, tuple) else shape
        if self.build == "asan":  # which sees what leaves an array, where it is an allocation of its own
            return np.full(size * kind.itemsize, 0xFF, np.uint8).view(kind).reshape(shape)
        whole = _Memory((size * kind.itemsize + 3 * MARGIN,), np.uint8)
        whole.fill(0xFF)
        start = _start(whole)
        return np.asarray(whole)[start : start + size * kind.itemsize].view(kind).reshape(shape)

    def put(self, x: np.ndarray) -> np.ndarray:
        """A copy of `x`."""
        made = self.empty(x.shape, x.dtype)
        made[...] = x
        return made

    def get(self, x: np.ndarray) -> np.ndarray:
        """A copy of `x`."""
        return np.array(x)

    def address(self, x: np.ndarray) -> int:
        return x.ctypes.data

    def repeat(self, times: int, body: Callable[[], None]) -> None:
        """`body()`, `times` times over."""
        for _ in range(times):
            body()

    def next_order(self) -> tuple[str, int]:
        """The order of the next launch, and its seed."""
        number = next(self.launches)
        order = ROTATION[_digits(number) % 3] if self.order == "rotate" else self.order
        return order, (self.seed * 1_000_003 + number) & 0xFFFFFFFF

    def launch(self, kernel: Kernel, grid: Size3, block: Size3, args: Sequence[Any], shared: int) -> None:
        """One launch. Raises DTypeError (an argument is not what the kernel declares), LaunchError."""
        made = self.made.get(kernel)
        if made is None:
            made = self.made[kernel] = _make(kernel, self.build, self.sources)
        sign = made.sign
        order, seed = self.next_order()
        values, bounds = _block_of(kernel, sign, args)
        pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(value) for value in values))
        report = ctypes.create_string_buffer(4096)
        how = _Launch()
        how.grid[:], how.block[:] = grid, block
        how.shared, how.order, how.seed = shared, ORDERS[order], seed
        how.arrays = len(bounds) // 4
        how.array = (ctypes.c_size_t * max(1, len(bounds)))(*bounds)
        how.report, how.report_size = ctypes.cast(report, ctypes.c_char_p), len(report)
        how.seconds, how.lint = self.seconds, self.lint is not None
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
                _check_margin(kernel, place, x)


def _digits(number: int) -> int:
    """The sum of the digits to base 3: modulo 3 it never falls into step with how many launches a call makes."""
    return number % 3 + _digits(number // 3) if number else 0


def launched() -> dict[tuple[str, str], int]:
    """How often each (file, kernel) ran in this process."""
    return dict(_launched)


@dataclass(frozen=True)
class _Made:
    """A kernel that can be launched; sign: two letters for each parameter."""

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


def _lint_text(library: ctypes.CDLL) -> str:
    size = 1 << 16
    while True:
        text = ctypes.create_string_buffer(size)
        if not library.ebm_lint(text, ctypes.c_ulonglong(size)):
            return text.value.decode()
        size *= 2


@cache
def _library(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise BackendError(f"{path} cannot be loaded: {error}") from error


def _block_of(kernel: Kernel, sign: str, args: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The arguments as memory that a void** can point to, and where the arrays among them begin and end."""
    if len(sign) != 2 * len(args):
        raise DTypeError(f"{kernel}: expected {len(sign) // 2} arguments, found {len(args)}")
    values: list[Any] = []
    bounds: list[int] = []
    for place, x in enumerate(args):
        pointer, kind = sign[2 * place] == "P", sign[2 * place + 1]
        where = f"{kernel}: argument {place}"
        if x is None or isinstance(x, np.ndarray):
            if not pointer:
                raise DTypeError(f"{where}: expected a number of type {kind!r}, found {_shown(x)}")
            same = x is None or kind == "s" or np.dtype(kind) == x.dtype
            if not same and not (kind == "B" and x.dtype == np.bool_):  # a flag is a byte that is 0 or 1
                raise DTypeError(f"{where}: expected an array of {np.dtype(kind)}, found {_shown(x)}")
            if x is not None and not x.flags.c_contiguous:
                raise DTypeError(f"{where}: expected a contiguous array, found strides {x.strides}")
            values.append(ctypes.c_void_p(None if x is None else x.ctypes.data))
            if x is not None:
                bounds += [place, x.ctypes.data, x.ctypes.data + x.nbytes, x.itemsize]
        elif isinstance(x, np.generic):
            if pointer or (kind != "s" and np.dtype(kind) != x.dtype):
                wanted = "an array" if pointer else f"a number of type {np.dtype(kind)}"
                raise DTypeError(f"{where}: expected {wanted}, found {_shown(x)}")
            values.append(ctypes.create_string_buffer(x.tobytes(), x.nbytes))
        else:
            raise DTypeError(f"{where}: expected an array, a NumPy scalar or None, found {_shown(x)}")
    return values, bounds


def _shown(x: Any) -> str:
    return f"{type(x).__name__}{f' of {x.dtype}' if isinstance(x, np.ndarray) else ''}"


class _Memory(np.ndarray):
    """An array of `empty` between two margins of 0xFF."""


def _start(whole: np.ndarray) -> int:
    """Where the array itself begins: a multiple of 128 bytes, behind the margin."""
    return MARGIN + -(whole.ctypes.data + MARGIN) % 128


def _check_margin(kernel: Kernel, place: int, x: np.ndarray) -> None:
    """Raise where the margins around an array of `empty` were written to."""
    owner: Any = x
    while isinstance(owner, np.ndarray) and not isinstance(owner, _Memory):
        owner = owner.base
    if not isinstance(owner, _Memory):
        return
    whole = np.asarray(owner)
    start = _start(whole)
    end = whole.size - 3 * MARGIN + start
    before, after = whole[start - MARGIN : start], whole[end : end + MARGIN]
    if (before == 0xFF).all() and (after == 0xFF).all():
        return
    where = "before" if (before != 0xFF).any() else "after the end of"
    before[...] = after[...] = 0xFF
    raise LaunchError(f"{kernel}: argument {place}: a write {where} its array of {end - start} bytes")
