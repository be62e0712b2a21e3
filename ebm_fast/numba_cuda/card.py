"""A CUDA card by way of Numba and CuPy, and Numba's simulator of one.

CuPy owns the memory, because its arrays answer NumPy's calls, which the objectives make; Numba owns the kernels.
They share CuPy's current stream. Numba is handed each array without its synchronisation on import, which would
make every launch wait; what another library has written must be ordered before by that library's stream.
Launching costs more than a small kernel here: the backend for speed is cupy_raw. Not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numba import config, cuda

from ebm_ref.contracts import BackendError, DTypeError

from ..extras import require
from .build import PLAIN, Machine, compiled
from .device import Typed
from .maths import on_a_card

DLPACK_CUDA = (2, 13)  # DLPack's device types kDLCUDA and kDLCUDAManaged
BLOCK = 256  # threads of a block
BLOCKS = 1 << 16  # blocks of a launch, at most: a thread strides over the rest


def load_functions() -> None:
    """Load the functions that Numba knows on a card.

    numba-cuda up to 0.30 asks NumPy for row_stack meanwhile, which NumPy 2.5 has no more, and without it compiles
    no kernel at all: it is lent that name until it has loaded. No kernel here calls it.
    """
    if config.ENABLE_CUDASIM or hasattr(np, "row_stack"):
        return
    np.row_stack = lambda arrays: np.vstack(arrays)  # noqa: NPY201 - not vstack itself, which is registered already
    try:
        import_module("numba.cuda.np.arrayobj")
    finally:
        del np.row_stack  # noqa: NPY201


load_functions()
ON_CARD = Machine(cuda.jit(device=True), lambda dtype: on_a_card(cuda.libdevice, dtype))


def grid_stride(thread: Any) -> Any:
    """kernel(n, args): thread(i, *args) for i of this thread, and every so many after it, below n."""

    def kernel(n, args):
        i = cuda.grid(1)
        while i < n:
            thread(i, *args)
            i += cuda.gridsize(1)

    return kernel


@cache
def card_kernel(function: Any, dtype: np.dtype, order: int) -> Any:
    """The kernel of one build of a body, compiled when it is launched."""
    return cuda.jit(grid_stride(compiled(function, ON_CARD, dtype, order)))


class Card:
    """The current CUDA device: CuPy's arrays, Numba's kernels, CuPy's current stream."""

    def __init__(self) -> None:
        self.cupy = require("cupy", "cuda13")

    def adopt(self, name: str, x: Any) -> Any:
        """DLPack first: it orders the two libraries' streams. Whatever the other library says is a DTypeError."""
        a = x if isinstance(x, self.cupy.ndarray) else self._shared(name, x)
        here = self.cupy.cuda.runtime.getDevice()
        if a.device.id != here:
            raise DTypeError(f"{name}: expected an array on CUDA device {here}, found one on {a.device.id}")
        return a

    def _shared(self, name: str, x: Any) -> Any:
        """The array of another library, its memory shared."""
        try:
            if hasattr(x, "__dlpack_device__"):
                if x.__dlpack_device__()[0] in DLPACK_CUDA:
                    return self.cupy.from_dlpack(x)
            elif hasattr(x, "__cuda_array_interface__"):
                return self.cupy.asarray(x)
        except Exception as error:  # a tensor that requires grad, an unknown dtype
            found = type(x).__name__
            raise DTypeError(f"{name}: expected an array that can be shared, found {found}: {error}") from error
        where = " in host memory; cupy.asarray copies it to the card" if isinstance(x, np.ndarray) else ""
        raise DTypeError(f"{name}: expected an array on a CUDA card, found {type(x).__name__}{where}")

    def array(self, name: str, x: Any) -> Any:
        x = self.adopt(name, x)
        return x if x.flags.c_contiguous else self.cupy.ascontiguousarray(x)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.cupy.empty(shape, dtype)

    def put(self, x: np.ndarray) -> Any:
        return self.cupy.array(x, order="C")

    def get(self, x: Any) -> np.ndarray:
        return self.cupy.asnumpy(x)

    def launch(self, body: Any, dtype: np.dtype, order: int, n: int, args: Sequence[Any]) -> None:
        stream = cuda.external_stream(self.cupy.cuda.get_current_stream().ptr)
        cupy = self.cupy
        seen = tuple(cuda.as_cuda_array(a, sync=False) if isinstance(a, cupy.ndarray) else a for a in args)
        blocks = min(-(-n // BLOCK), BLOCKS)
        card_kernel(body, dtype, order)[blocks, BLOCK, stream](n, seen)


class Simulated(Typed):
    """Numba's simulator (NUMBA_ENABLE_CUDASIM=1): Python threads, so it is for the smallest arrays."""

    GRID = (2, 4)  # blocks, threads of a block: few, so that the grid-stride loop turns

    def launch(self, body: Any, dtype: np.dtype, order: int, n: int, args: Sequence[Any]) -> None:
        kernel = cuda.jit(grid_stride(compiled(body, PLAIN, dtype, order)))
        kernel[self.GRID](n, tuple(args))


@cache
def card() -> Card | Simulated:
    """The card, or, where NUMBA_ENABLE_CUDASIM asks for it, the simulator. Raises BackendError where there is none."""
    if config.ENABLE_CUDASIM:
        return Simulated()
    if not cuda.is_available():
        raise BackendError("numba_cuda needs a CUDA card and its driver, and Numba finds none here")
    return Card()
