"""A CUDA card, through CuPy: memory, streams, graphs, and launches of the cubins that nvrtc.py compiles.

    why_no_card()    why this backend has no card here, in words; None where it has one
    card()           CuPy's current device as a `Device`

CuPy is imported at the first call of either. Every launch goes to CuPy's current stream, which is the caller's:
`with cupy.cuda.Stream():` around a call, or `stream_of(stream)` with a stream of another library, says which.
Launches through here are not yet measured on a GPU; tests run this file against a stub of CuPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from threading import get_ident
from types import ModuleType
from typing import Any

import numpy as np

from ebm_ref.contracts import BackendError, DTypeError, MissingExtraError, RangeError

from ..extras import require
from . import nvrtc
from .device import Size3
from .source import Kernel

ON_CARD = (2, 13)  # DLPack's device types kDLCUDA and kDLCUDAManaged
WORTH_A_GRAPH = 3  # repetitions from which recording pays: the first one runs as it is


def why_no_card() -> str | None:
    """Why no card can be used here, in words; None where one can."""
    try:
        card()
    except BackendError as error:
        return str(error)
    return None


def card() -> Card:
    """CuPy's current device. Raises BackendError, in words, where no card can be used."""
    cupy = _cupy()
    return _card(cupy, cupy.cuda.runtime.getDevice())


@cache
def _card(cupy: ModuleType, ordinal: int) -> Card:
    return Card(cupy, ordinal)


@cache
def _cupy() -> ModuleType:
    """CuPy, where there is a driver, a card and NVRTC; an error is not cached, so that it may be mended."""
    try:
        cupy = require("cupy", "cuda13")
    except MissingExtraError as error:
        raise BackendError(f"cupy_raw: {error}") from error
    except ImportError as error:  # a library that it links to is absent
        raise BackendError(f"cupy_raw: CuPy is installed but does not import: {error}") from error
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(f"cupy_raw: no CUDA driver that works, or no card: {error}") from error
    if count == 0:
        raise BackendError("cupy_raw: the CUDA driver finds no card")
    nvrtc.load()
    return cupy


@dataclass
class Loaded:
    """A kernel on the card: how much dynamic shared memory it may have, and what has been asked for so far."""

    function: Any
    static: int
    allowed: int


class Card:
    """One CUDA device, and the kernels loaded on it."""

    def __init__(self, cupy: ModuleType, ordinal: int) -> None:
        self.cupy, self.ordinal = cupy, ordinal
        device = cupy.cuda.Device(ordinal)
        digits = device.compute_capability  # "90", "103"
        self.arch = nvrtc.arch_of((int(digits[:-1]), int(digits[-1])))
        self.processors = device.attributes["MultiProcessorCount"]
        self.shared_limit = device.attributes["MaxSharedMemoryPerBlockOptin"]
        self._modules: dict[Any, Any] = {}
        self._kernels: dict[Kernel, Loaded] = {}
        self._recording: set[int] = set()  # threads that record: CuPy's current stream is a thread's own

    # ------------------------------------------------------------------------------------ arrays

    def array(self, name: str, x: Any) -> Any:
        """`x` itself, or a view of its memory, or, where it has gaps, a copy made on the card."""
        a = x if isinstance(x, self.cupy.ndarray) else self._adopt(name, x)
        if a.device.id != self.ordinal:
            raise DTypeError(f"{name}: expected an array on CUDA device {self.ordinal}, found one on {a.device.id}")
        return a if a.flags.c_contiguous else self.cupy.ascontiguousarray(a)

    def _adopt(self, name: str, x: Any) -> Any:
        """The array of another library, its memory shared. DLPack first: it also orders the two libraries' streams."""
        found = _type_name(x)
        try:
            if hasattr(x, "__dlpack_device__"):
                if x.__dlpack_device__()[0] in ON_CARD:
                    return self.cupy.from_dlpack(x)
            elif hasattr(x, "__cuda_array_interface__"):
                return self.cupy.asarray(x)
        except Exception as error:  # whatever the other library says: a tensor that requires grad, an unknown dtype
            raise DTypeError(f"{name}: expected an array that can be shared, found {found}: {error}") from error
        raise DTypeError(f"{name}: expected an array on the CUDA device, found {found}; copy it with cupy.asarray")

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self._not_recording("empty")
        return self.cupy.empty(shape, dtype)

    def put(self, x: np.ndarray) -> Any:
        self._not_recording("put")
        return self.cupy.asarray(x)

    def get(self, x: Any) -> np.ndarray:
        self._not_recording("get")
        host: np.ndarray = self.cupy.asnumpy(x)
        return host

    def address(self, x: Any) -> int:
        return int(x.data.ptr)

    # ---------------------------------------------------------------------------------- launches

    def launch(self, kernel: Kernel, grid: Size3, block: Size3, args: Sequence[Any], shared: int) -> None:
        """One launch on the current stream.

        Raises RangeError where the card has less shared memory than asked for, DTypeError for an argument whose
        size the kernel could not know, BackendError where the driver refuses the launch.
        """
        loaded = self._load(kernel)
        if shared > loaded.allowed:
            if loaded.static + shared > self.shared_limit:
                raise RangeError(
                    f"shared of {kernel.name}: expected at most {self.shared_limit} bytes, which is what a block of "
                    f"this card may have, found {loaded.static + shared}"
                )
            loaded.function.max_dynamic_shared_size_bytes = loaded.allowed = shared
        values = tuple(self._value(kernel, place, a) for place, a in enumerate(args))
        try:
            loaded.function(grid, block, values, shared_mem=shared)
        except self.cupy.cuda.driver.CUDADriverError as error:
            raise BackendError(f"{kernel}: {error} (grid {grid}, block {block}, shared {shared})") from error

    def _value(self, kernel: Kernel, place: int, a: Any) -> Any:
        """What CuPy passes as it stands; its own None would be a missing argument, and its int always has 8 bytes."""
        if a is None:
            return np.uintp(0)
        if isinstance(a, (self.cupy.ndarray, np.generic)):
            return a
        raise DTypeError(
            f"argument {place} of {kernel.name}: expected an array on the card, a NumPy scalar or None, "
            f"found {_type_name(a)}"
        )

    def _load(self, kernel: Kernel) -> Loaded:
        """The kernel, compiled and loaded at its first launch."""
        loaded = self._kernels.get(kernel)
        if loaded is None:
            build = (kernel.file, kernel.defines)
            if build not in self._modules:
                path = nvrtc.cubin_path(kernel.file, kernel.defines, self.arch)
                self._modules[build] = self.cupy.RawModule(path=str(path))
            function = self._modules[build].get_function(kernel.name)
            loaded = Loaded(function, function.shared_size_bytes, function.max_dynamic_shared_size_bytes)
            self._kernels[kernel] = loaded
        return loaded

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """CuPy's own stream, one that has `__cuda_stream__` (PyTorch, Numba), or the address of one as an int."""
        cuda = self.cupy.cuda
        if isinstance(stream, (cuda.Stream, cuda.ExternalStream)):
            return stream
        if isinstance(stream, int) and not isinstance(stream, bool):
            return cuda.Stream.from_external(Address(stream))
        if hasattr(stream, "__cuda_stream__"):
            return cuda.Stream.from_external(stream)
        raise DTypeError(f"stream: expected a CUDA stream, its address or None, found {_type_name(stream)}")

    def repeat(self, times: int, body: Callable[[], None]) -> None:
        """`body()` `times` times over, on the current stream.

        The first time it runs as it is, which compiles and loads what it needs; then it is recorded once, on a
        stream of its own, and the graph is launched on the caller's stream for the rest. What `body` launches must
        therefore be the same each time, and it may not allocate. A caller who is recording gets every repetition
        in the recording.
        """
        caller = self.cupy.cuda.get_current_stream()
        if times < WORTH_A_GRAPH or caller.is_capturing():
            for _ in range(times):
                body()
            return
        body()
        graph = self._record(body)
        for _ in range(times - 1):
            graph.launch(stream=caller)

    def _record(self, body: Callable[[], None]) -> Any:
        side = self.cupy.cuda.Stream(non_blocking=True)  # the default stream cannot be recorded
        with side:
            side.begin_capture()
            self._recording.add(get_ident())
            try:
                body()
            finally:
                self._recording.discard(get_ident())
                graph = side.end_capture()
        return graph

    def _not_recording(self, what: str) -> None:
        if get_ident() in self._recording:
            raise BackendError(f"card: {what} while a graph is being recorded; what repeats may only launch")


@dataclass(frozen=True)
class Address:
    """The address of a stream, under the protocol that CuPy reads."""

    value: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.value


def _type_name(x: Any) -> str:
    """numpy.ndarray, torch.Tensor, list."""
    library = type(x).__module__.partition(".")[0]
    return type(x).__qualname__ if library == "builtins" else f"{library}.{type(x).__qualname__}"
