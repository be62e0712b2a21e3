"""Where the kernels run: a CUDA card, or whatever the verification kit puts in its place.

    with on(device): ...     every function of this backend called inside runs there
    current()                the device in use; the card where nothing else was said

The launchers of this backend are written against `Device` alone, so the launch that is verified without a card is,
argument for argument, the launch that a card gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from ebm_ref.contracts import RangeError

from .source import Kernel

Size3 = tuple[int, int, int]
GRID = (2**31 - 1, 65535, 65535)  # blocks along x, y, z that a launch may have
THREADS = 1024  # threads of a block, at most
PROCESSORS = 132  # multiprocessors of the reference card
SHARED = 232_448  # bytes of shared memory that one block may have (compute capability 9.0; 8.0 has 166,912)


class Device(Protocol):
    """What a launcher needs. Arrays are the device's own kind; a launch is ordered after what was launched before."""

    processors: int  # that run blocks side by side: how large a piece of work a block gets; no result depends on it

    def array(self, name: str, x: Any) -> Any:
        """`x` as an array of the device, C contiguous: itself, or a view of the same memory where another library
        owns it, or, where it has gaps, a copy made on the device. DTypeError where it lies anywhere else."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array, not initialised."""

    def put(self, x: np.ndarray) -> Any:
        """A copy of a host table on the device."""

    def get(self, x: Any) -> np.ndarray:
        """A copy on the host; waits for the device."""

    def address(self, x: Any) -> int:
        """Where the first element lies."""

    def launch(self, kernel: Kernel, grid: Size3, block: Size3, args: Sequence[Any], shared: int) -> None:
        """One launch on the current stream. args: arrays of the device, NumPy scalars by value, None for null."""

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Launch what is called inside on the caller's stream. DTypeError where that is no stream."""

    def repeat(self, times: int, body: Callable[[], None]) -> None:
        """`body()`, which only launches, `times` times over; a card records it once and replays it as a graph."""


_current: ContextVar[Device | None] = ContextVar("device", default=None)


@contextmanager
def on(device: Device) -> Iterator[None]:
    """Run the functions of this backend on `device`."""
    token = _current.set(device)
    try:
        yield
    finally:
        _current.reset(token)


def in_use() -> Device | None:
    """The device that `on` put in use, or None."""
    return _current.get()


def current() -> Device:
    """The device in use. Raises BackendError where it would be a card and none can be used."""
    device = in_use()
    if device is None:
        device = import_module(".card", __package__).card()  # card.py needs CuPy, which not every machine has
    return device


def stream_of(stream: Any) -> AbstractContextManager[Any]:
    """Launch what is called inside on the caller's `stream`; None is the device's current one."""
    return nullcontext() if stream is None else current().stream(stream)


def launch(
    kernel: Kernel, grid: int | tuple[int, ...], block: int | tuple[int, ...], args: Sequence[Any], shared: int = 0
) -> None:
    """Launch on the current device; nothing where the grid is empty. Raises RangeError beyond CUDA's limits."""
    grid3, block3 = _three(grid), _three(block)
    if 0 in grid3:
        return
    for axis, size, limit in zip("xyz", grid3, GRID, strict=True):
        if size > limit:
            raise RangeError(f"grid.{axis} of {kernel.name}: expected at most {limit} blocks, found {size}")
    if block3[0] * block3[1] * block3[2] > THREADS:
        raise RangeError(f"block of {kernel.name}: expected at most {THREADS} threads, found {block3}")
    if shared > SHARED:
        raise RangeError(f"shared of {kernel.name}: expected at most {SHARED} bytes, found {shared}")
    current().launch(kernel, grid3, block3, args, shared)


def blocks(n: int, each: int) -> int:
    """ceil(n / each)."""
    return -(-n // each)


def _three(size: int | tuple[int, ...]) -> Size3:
    sizes = (size,) if isinstance(size, int) else size
    return (*sizes, 1, 1)[:3]  # type: ignore[return-value]
