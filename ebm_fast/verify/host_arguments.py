"""Arrays and arguments of the host build: poisoned memory, and the void** that a kernel's entry unpacks."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ebm_fast.cupy_raw.source import Kernel
from ebm_ref.contracts import BackendError, DTypeError

MARGIN = 256  # bytes of 0xFF on each side of an array


class LaunchError(BackendError):
    """A launch that breaks CUDA's rules: which kernel, which block and thread, which line."""


class Memory(np.ndarray):
    """An array between two margins; written[i]: whether byte i of it has been, where the race build asks."""

    start: int
    written: np.ndarray | None

    def __array_finalize__(self, _: Any) -> None:
        self.start, self.written = 0, None


def poisoned(shape: tuple[int, ...] | int, kind: np.dtype[Any], margin: bool, track: bool) -> np.ndarray:
    """A new array full of 0xFF: NaN, or -1. margin: between two margins; track: what kernels write is noted."""
    size = (prod(shape) if isinstance(shape, tuple) else shape) * kind.itemsize
    if not margin:
        return np.full(size, 0xFF, np.uint8).view(kind).reshape(shape)
    whole = Memory((size + 3 * MARGIN,), np.uint8)
    whole.fill(0xFF)
    whole.start = MARGIN + -(whole.ctypes.data + MARGIN) % 128
    whole.written = np.zeros(size, np.uint8) if track else None
    return np.asarray(whole)[whole.start : whole.start + size].view(kind).reshape(shape)


def memory_of(x: np.ndarray) -> Memory | None:
    """The memory of an array that `poisoned` made between margins, or of a view of it."""
    owner: Any = x
    while isinstance(owner, np.ndarray) and not isinstance(owner, Memory):
        owner = owner.base
    return owner if isinstance(owner, Memory) else None


def check_margins(kernel: Kernel, place: int, x: np.ndarray) -> None:
    """Raise LaunchError where the margins around an array of `poisoned` were written to."""
    memory = memory_of(x)
    if memory is None:
        return
    whole = np.asarray(memory)
    end = whole.size - 3 * MARGIN + memory.start
    before, after = whole[memory.start - MARGIN : memory.start], whole[end : end + MARGIN]
    if (before == 0xFF).all() and (after == 0xFF).all():
        return
    where = "before" if (before != 0xFF).any() else "after the end of"
    before[...] = after[...] = 0xFF
    raise LaunchError(f"{kernel}: argument {place}: a write {where} its array of {end - memory.start} bytes")


def argument_block(kernel: Kernel, sign: str, args: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The arguments as memory that a void** can point to, and of each array what runtime.h's Launch.array says.

    sign: two letters for each parameter, P or a blank and its type's. Raises DTypeError.
    """
    if len(sign) != 2 * len(args):
        raise DTypeError(f"{kernel}: expected {len(sign) // 2} arguments, found {len(args)}")
    values: list[Any] = []
    arrays: list[int] = []
    for place, x in enumerate(args):
        pointer, kind = sign[2 * place] == "P", sign[2 * place + 1]
        where = f"{kernel}: argument {place}"
        if x is None or isinstance(x, np.ndarray):
            if not pointer:
                raise DTypeError(f"{where}: expected a number of type {_type(kind)}, found {_shown(x)}")
            if x is not None:
                flag = kind == "B" and x.dtype == np.bool_  # a byte that is 0 or 1
                if kind != "s" and np.dtype(kind) != x.dtype and not flag:
                    raise DTypeError(f"{where}: expected an array of {_type(kind)}, found {_shown(x)}")
                if not x.flags.c_contiguous:
                    raise DTypeError(f"{where}: expected a contiguous array, found strides {x.strides}")
                arrays += _extent(place, x)
            values.append(ctypes.c_void_p(None if x is None else x.ctypes.data))
        elif isinstance(x, np.generic):
            if pointer or (kind != "s" and np.dtype(kind) != x.dtype):
                wanted = "an array" if pointer else f"a number of type {_type(kind)}"
                raise DTypeError(f"{where}: expected {wanted}, found {_shown(x)}")
            values.append(ctypes.create_string_buffer(x.tobytes(), x.nbytes))
        else:
            raise DTypeError(f"{where}: expected an array, a NumPy scalar or None, found {_shown(x)}")
    return values, arrays


def _extent(place: int, x: np.ndarray) -> list[int]:
    begin = x.ctypes.data
    memory = memory_of(x)
    first, written = begin, 0
    if memory is not None and memory.written is not None:
        first, written = memory.ctypes.data + memory.start, memory.written.ctypes.data
    return [place, begin, begin + x.nbytes, x.itemsize, first, written]


def _type(kind: str) -> str:
    return "struct" if kind == "s" else str(np.dtype(kind))


def _shown(x: Any) -> str:
    return f"{type(x).__name__}{f' of {x.dtype}' if isinstance(x, np.ndarray) else ''}"
