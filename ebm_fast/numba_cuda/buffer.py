"""Twin of `buffer`: draws from and writes to the replay buffer.

What differs: no sample waits for another. A sample is written where no later one of its batch has the same place, so
the last in batch order stays, with no atomic and in any order of the threads; that is N reads a sample.
Bytes moved: one batch read, one batch written. Deterministic.
"""

from __future__ import annotations

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

from ..checks import check_same_dtype, check_slots, check_words
from ..scalar import HALF, MASK, index_of
from .build import body
from .device import Device, current, launch
from .langevin import rows

# ---------------------------------------------------------------------------------- what a thread does


@body
def draw_choose(n, filled, bits, u, rho, idx, restart):
    """idx[n] = (bits[n] filled) >> 32, restart[n] = u[n] < rho, in float64 as everywhere."""
    restart[n] = filled == 0 or u[n] < rho
    idx[n] = index_of(np.uint64(bits[n]), np.uint64(filled))


@body
def draw_copy(i, slots, fresh, idx, restart, x0):
    """x0[n, d] = fresh[n, d] where restart[n], else slots[idx[n], d], thread (n, d)."""
    n, d = i // x0.shape[1], i % x0.shape[1]
    x0[n, d] = fresh[n, d] if restart[n] else slots[idx[n], d]


@body
def push_fifo(n, M, ptr, place):
    """place[n] = (ptr + n) mod M."""
    place[n] = (ptr + n) % M


@body
def push_reservoir(n, M, ptr, bits, place):
    """place[n] = c while c < M, later (bits[n] (c + 1)) >> 32, where M and more mean none; c = ptr + n."""
    c = ptr + n
    word, count = np.uint64(bits[n]), np.uint64(c + 1)
    # in two halves, exact for counts beyond 2^32
    later = np.int64(word * (count >> HALF) + index_of(word, count & MASK))
    place[n] = c if c < M else later


@body
def push_last(n, place, M, last):
    """last[n] = whether place[n] is a slot that no later sample takes. place, last: (N,)."""
    wins = place[n] < M
    for later in range(n + 1, place.shape[0]):
        if place[later] == place[n]:
            wins = False
    last[n] = wins


@body
def push_copy(i, x, place, last, slots):
    """slots[place[n], d] = x[n, d] where last[n], thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    if last[n]:
        slots[place[n], d] = x[n, d]


# --------------------------------------------------------------------------------------- public


def buffer_draw(slots: Any, filled: int, bits: Any, u: Any, fresh: Any, rho: float) -> tuple[Any, Any, Any]:
    """idx = (bits filled) >> 32, restart = u < rho; x0 = fresh where restart, else slots[idx].

    slots: (M, *shape); bits: (N,) uint32; u: (N,) float64; fresh: (N, *shape). Returns x0 (N, *shape),
    idx (N,) int64, restart (N,) bool; nothing filled: all restart, idx 0.
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    slots, bits = dev.array("slots", slots), dev.array("bits", bits)
    u, fresh = dev.array("u", u), dev.array("fresh", fresh)
    check_slots(slots, filled)
    check_words("bits", bits)
    if bits.ndim != 1:
        raise ShapeError(f"bits: expected shape (N,), found {bits.shape}")
    N = bits.shape[0]
    check_array("u", u, shape=(N,))
    if u.dtype != np.float64:
        raise DTypeError(f"u: expected float64, so that u < rho is decided alike everywhere, found {u.dtype}")
    check_array("fresh", fresh, shape=(N, *slots.shape[1:]))
    check_same_dtype("fresh", fresh, slots, "slots")
    check_number("rho", rho, low=0.0, high=1.0)
    check_count("filled", filled, low=0, high=2**32)  # bits times filled has 64 bits
    x0 = dev.empty(fresh.shape, slots.dtype)
    idx, restart = dev.empty((N,), np.int64), dev.empty((N,), np.bool_)
    launch(draw_choose, slots.dtype, N, int(filled), bits, u, np.float64(rho), idx, restart)
    launch(draw_copy, slots.dtype, x0.size, rows(slots), rows(fresh), idx, restart, rows(x0))
    return x0, idx, restart


def buffer_push(
    slots: Any, filled: int, ptr: int, x: Any, policy: str, idx: Any = None, bits: Any = None
) -> tuple[int, int]:
    """slots[place] = x; place = idx (in_place), (ptr + n) mod M (fifo), or the reservoir's choice.

    slots: (M, *shape), changed; x: (N, *shape); idx: (N,) filled slots for in_place; bits: (N,) uint32 for
    reservoir: item c = ptr + n goes to slot c while c < M, later to j = (bits (c + 1)) >> 32 if j < M.
    Where two samples meet in a slot, the last in batch order wins. Returns (filled, ptr). Slots with gaps in
    memory go through a copy without, so all of them are read and written.
    Raises ShapeError, DTypeError, RangeError. Vitter 1985 (reservoir, algorithm R).
    """
    dev = current()
    given, x = dev.adopt("slots", slots), dev.array("x", x)
    slots = dev.array("slots", given)
    check_slots(slots, filled)
    check_count("ptr", ptr, low=0)
    check_choice("policy", policy, Buffer.POLICIES)
    check_array("x", x, shape=(None, *slots.shape[1:]))
    check_same_dtype("x", x, slots, "slots")
    M, N, filled, ptr = slots.shape[0], x.shape[0], int(filled), int(ptr)
    if policy == "in_place":
        place = slot_index(dev, idx, N, filled)
    else:
        if filled < M and filled != ptr:
            raise RangeError(f"ptr: expected {filled} while the buffer is not full, found {ptr}")
        filled = min(M, filled + N)
        place = dev.empty((N,), np.int64)
    if policy == "reservoir":
        if bits is None:
            raise DTypeError("bits: the reservoir policy needs one word per sample, found None")
        bits = dev.array("bits", bits)
        check_words("bits", bits, shape=(N,))
        launch(push_reservoir, slots.dtype, N, M, ptr, bits, place)
    elif policy == "fifo":
        launch(push_fifo, slots.dtype, N, M, ptr, place)
    last = dev.empty((N,), np.bool_)
    launch(push_last, slots.dtype, N, place, M, last)
    launch(push_copy, slots.dtype, x.size, rows(x), place, last, rows(slots))
    if slots is not given:
        given[...] = slots
    return filled, ptr + N


def slot_index(dev: Device, idx: Any, N: int, filled: int) -> Any:
    """idx as (N,) int64 of the device; raises unless integers in 0..filled-1."""
    if idx is None:
        raise DTypeError("idx: the in_place policy needs an integer array, found None")
    idx = dev.array("idx", idx)
    if idx.dtype.kind not in "iu":
        raise DTypeError(f"idx: the in_place policy needs an integer array, found {idx.dtype}")
    if idx.shape != (N,):
        raise ShapeError(f"idx: expected shape ({N},), found {idx.shape}")
    if N and (int(idx.min()) < 0 or int(idx.max()) >= filled):
        raise RangeError(f"idx: expected slots in [0, {filled}), found {int(idx.min())} to {int(idx.max())}")
    return idx.astype(np.int64)
