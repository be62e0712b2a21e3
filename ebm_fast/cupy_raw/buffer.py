"""Twin of `buffer`: draws from and writes to a replay buffer on the device.

What differs: see buffer.cu. `filled` and `ptr` are numbers of the host, as in the oracle. A push in_place waits for
the device once, because a place outside the filled slots must be refused before anything is written; the rest waits
for nothing.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import (
    Buffer,
    DTypeError,
    RangeError,
    ShapeError,
    check_array,
    check_choice,
    check_count,
    check_number,
)

from ..checks import check_same_dtype, check_slots
from .device import blocks, current, launch
from .limits import NUMBERS, check_fits
from .noise import THREADS, quad_grid, word_array
from .source import kernel

FILE = "buffer.cu"
OUTSIDE = 2**32 - 2  # the place of a sample whose idx names no filled slot, as in buffer.cu
COUNT = 2**63 - 2**32  # samples ever pushed: the reservoir counts them in 64 bits


def buffer_draw(slots: Any, filled: int, bits: Any, u: Any, fresh: Any, rho: float) -> tuple[Any, Any, Any]:
    """idx = (bits filled) >> 32, restart = u < rho; x0 = fresh where restart, else slots[idx].

    slots: (M, *shape); bits: (N,) uint32; u: (N,) float64; fresh: (N, *shape), all on the device. Returns x0
    (N, *shape), idx (N,) int64, restart (N,) bool; nothing filled: all restart, idx 0.
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    check_fits("slots", slots, samples=OUTSIDE, numbers=NUMBERS)
    check_fits("u", u, samples=OUTSIDE)
    check_fits("fresh", fresh, samples=OUTSIDE, numbers=NUMBERS)
    slots, bits = dev.array("slots", slots), word_array("bits", bits)
    u, fresh = dev.array("u", u), dev.array("fresh", fresh)
    check_slots(slots, filled)
    if bits.ndim != 1:
        raise ShapeError(f"bits: expected shape (N,), found {tuple(bits.shape)}")
    N, shape = bits.shape[0], tuple(slots.shape[1:])
    check_array("u", u, shape=(N,))
    if u.dtype != np.float64:
        raise DTypeError(f"u: expected float64, so that u < rho is decided alike everywhere, found {u.dtype}")
    check_array("fresh", fresh, shape=(N, *shape))
    check_same_dtype("fresh", fresh, slots, "slots")
    check_number("rho", rho, low=0.0, high=1.0)
    x0, idx, restart = dev.empty((N, *shape), slots.dtype), dev.empty((N,), np.int64), dev.empty((N,), np.bool_)
    sizes = (np.int64(N), np.int64(prod(shape)), np.int64(filled), np.float64(rho).view(np.int64))
    args = (x0, idx, restart, slots, bits, u, fresh, *sizes)
    launch(kernel(FILE, "buffer_draw", slots.dtype), *quad_grid(N, prod(shape)), args)
    return x0, idx, restart


def buffer_push(
    slots: Any,
    filled: int,
    ptr: int,
    x: Any,
    policy: str,
    idx: Any | None = None,
    bits: Any | None = None,
) -> tuple[int, int]:
    """slots[place] = x; place = idx (in_place), (ptr + n) mod M (fifo), or the reservoir's choice.

    slots: (M, *shape) on the device, C contiguous, changed; x: (N, *shape), apart from slots; idx: (N,) filled slots,
    for in_place; bits: (N,) uint32, for reservoir: item c = ptr + n goes to slot c while c < M, later to
    j = (bits (c + 1)) >> 32 if j < M. Where two samples meet in a slot, the last in batch order wins. Returns
    (filled, ptr). Raises ShapeError, DTypeError, RangeError; then nothing is written. Vitter 1985 (algorithm R).
    """
    check_choice("policy", policy, Buffer.POLICIES)
    dev = current()
    check_fits("slots", slots, samples=OUTSIDE, numbers=NUMBERS)
    check_fits("x", x, samples=OUTSIDE, numbers=NUMBERS)
    slots, x = written("slots", slots), dev.array("x", x)
    check_slots(slots, filled)
    check_array("x", x, shape=(None, *slots.shape[1:]))
    check_same_dtype("x", x, slots, "slots")
    M, N, D = slots.shape[0], x.shape[0], prod(slots.shape[1:])
    check_count("ptr", ptr, low=0, high=COUNT)
    keys, count = None, int(ptr)
    if policy == "in_place":
        keys = place_keys(N, 0, filled, idx=place_array(idx, N))
        if N and int(dev.get(keys[-1:])[0]) >> 32 == OUTSIDE:
            found = dev.get(idx)
            raise RangeError(f"idx: expected places in [0, {filled}), found {found.min()} to {found.max()}")
    else:
        if filled < M and filled != ptr:
            raise RangeError(f"ptr: expected {filled} while the buffer is not full, found {ptr}")
        filled = min(M, filled + N)
        if policy == "reservoir":
            keys = place_keys(N, count, M, bits=word_array("bits", bits, shape=(N,)))
    args = (slots, x, keys, np.int64(N), np.int64(D), np.int64(M), np.int64(count % M))
    launch(kernel(FILE, "buffer_push", slots.dtype), *quad_grid(N, D), args)
    return int(filled), count + N


buffer_push.writes_contiguous = True  # type: ignore[attr-defined]  # the kit then hands it no slots with gaps


def place_keys(N: int, count: int, bound: int, idx: Any = None, bits: Any = None) -> Any:
    """The sorted keys (place, n) of N samples: in_place where idx is given, reservoir where bits are."""
    keys = current().empty((N,), np.uint64)
    args = (keys, idx, bits, np.int64(N), np.int64(count), np.int64(bound))
    launch(kernel(FILE, "buffer_keys", np.float32), blocks(N, THREADS), THREADS, args)
    return np.sort(keys)  # NumPy's protocol: the array's own library sorts it


def place_array(idx: Any, N: int) -> Any:
    """`idx` as (N,) int64 on the device; raises unless it is an array of integers of that shape."""
    check_fits("idx", idx, samples=OUTSIDE)
    idx = current().array("idx", idx)
    if idx.dtype.kind not in "iu":
        raise DTypeError(f"idx: expected an array of integers, found {idx.dtype}")
    if tuple(idx.shape) != (N,):
        raise ShapeError(f"idx: expected shape ({N},), found {tuple(idx.shape)}")
    return idx if idx.dtype == np.int64 else idx.astype(np.int64)


def written(name: str, x: Any) -> Any:
    """`x` on the device, in its own memory, to be written to. Raises ShapeError where it has gaps, DTypeError."""
    dev = current()
    mine = dev.array(name, x)
    faces = (getattr(x, face, None) for face in ("__cuda_array_interface__", "__array_interface__"))
    start = next((face["data"][0] for face in faces if face), None)
    if start is None:
        raise DTypeError(f"{name}: expected an array whose memory can be written to, found {type(x).__name__}")
    if mine.size and dev.address(mine) != start:
        raise ShapeError(f"{name}: expected a C contiguous array, because it is written to, found one with gaps")
    return mine
