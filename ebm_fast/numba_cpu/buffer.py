"""Twin of `buffer`: draws from and writes to the replay buffer.

What differs: restarts are copied straight from `fresh` instead of over a first copy, and the reservoir's
decisions are one compiled loop. Bytes moved: one batch read, one batch written. Deterministic.
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

from .. import scalar
from ..checks import check_same_dtype, check_slots, check_words, flat
from .build import kernel
from .noise import index_of

HALF, MASK = scalar.HALF, scalar.MASK


@kernel
def draw_rows(slots, filled, bits, u, fresh, rho, out, idx, restart):
    for n in range(out.shape[0]):
        restart[n] = filled == 0 or u[n] < rho
        idx[n] = index_of(np.uint64(bits[n]), np.uint64(filled))
        source = fresh if restart[n] else slots
        row = n if restart[n] else idx[n]
        for d in range(out.shape[1]):
            out[n, d] = source[row, d]


@kernel
def reservoir_rows(M, count, bits, target):
    """target[n] = slot of item count + n, or -1 where it is dropped."""
    for n in range(bits.shape[0]):
        item = count + n
        slot = item
        if item >= M:  # (bits count) >> 32 in two halves, exact for counts beyond 2^32
            word, c = np.uint64(bits[n]), np.uint64(item + 1)
            slot = np.int64(word * (c >> HALF) + index_of(word, c & MASK))
        target[n] = slot if slot < M else -1


@kernel
def push_rows(slots, target, x):
    """slots[target[n]] = x[n] in batch order, so that the last wins; none where target[n] < 0."""
    for n in range(x.shape[0]):
        if target[n] >= 0:
            for d in range(x.shape[1]):
                slots[target[n], d] = x[n, d]


def buffer_draw(
    slots: np.ndarray, filled: int, bits: np.ndarray, u: np.ndarray, fresh: np.ndarray, rho: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """idx = (bits filled) >> 32, restart = u < rho; x0 = fresh where restart, else slots[idx].

    slots: (M, *shape); bits: (N,) uint32; u: (N,) float64; fresh: (N, *shape). Returns x0 (N, *shape),
    idx (N,) int64, restart (N,) bool; nothing filled: all restart, idx 0.
    Raises ShapeError, DTypeError, RangeError.
    """
    check_slots(slots, filled)
    check_words("bits", bits)
    if bits.ndim != 1:
        raise ShapeError(f"bits: expected shape (N,), found {bits.shape}")
    N, shape = bits.shape[0], slots.shape[1:]
    check_array("u", u, shape=(N,))
    if u.dtype != np.float64:
        raise DTypeError(f"u: expected float64, found {u.dtype}")
    check_array("fresh", fresh, shape=(N, *shape))
    check_same_dtype("fresh", fresh, slots, "slots")
    check_number("rho", rho, low=0.0, high=1.0)
    out = np.empty((N, int(np.prod(shape))), slots.dtype)
    idx, restart = np.empty(N, np.int64), np.empty(N, np.bool_)
    draw_rows(flat(slots, shape), filled, bits, u, flat(fresh, shape), float(rho), out, idx, restart)
    return out.reshape(fresh.shape), idx, restart


def buffer_push(
    slots: np.ndarray,
    filled: int,
    ptr: int,
    x: np.ndarray,
    policy: str,
    idx: np.ndarray | None = None,
    bits: np.ndarray | None = None,
) -> tuple[int, int]:
    """slots[target] = x; target = idx (in_place), (ptr + n) mod M (fifo), or the reservoir's choice.

    slots: (M, *shape), changed; x: (N, *shape); idx: (N,) filled slots for in_place; bits: (N,) uint32 for
    reservoir: item c = ptr + n goes to slot c while c < M, later to j = (bits (c + 1)) >> 32 if j < M.
    Where two samples meet in a slot, the last in batch order wins. Returns (filled, ptr).
    Raises ShapeError, DTypeError, RangeError. Vitter 1985 (reservoir, algorithm R).
    """
    check_slots(slots, filled)
    check_count("ptr", ptr, low=0)
    check_choice("policy", policy, Buffer.POLICIES)
    check_array("x", x, shape=(None, *slots.shape[1:]))
    check_same_dtype("x", x, slots, "slots")
    M, N = slots.shape[0], x.shape[0]
    if policy == "in_place":
        target = check_slot_index(idx, N, filled)
    elif filled < M and filled != ptr:
        raise RangeError(f"ptr: expected {filled} while the buffer is not full, found {ptr}")
    elif policy == "fifo":
        target = (ptr + np.arange(N)) % M
    else:
        if bits is None:
            raise DTypeError("bits: the reservoir policy needs one word per sample, found None")
        check_words("bits", bits, shape=(N,))
        target = np.empty(N, np.int64)
        reservoir_rows(M, ptr, bits, target)
    rows = flat(slots, slots.shape[1:])
    push_rows(rows, target, flat(x, slots.shape[1:]))
    if not slots.flags.c_contiguous:
        slots[...] = rows.reshape(slots.shape)
    return (filled if policy == "in_place" else min(M, filled + N)), ptr + N


def check_slot_index(idx: Any, N: int, filled: int) -> np.ndarray:
    if not isinstance(idx, np.ndarray) or idx.dtype.kind not in "iu":
        found = getattr(idx, "dtype", type(idx).__name__)
        raise DTypeError(f"idx: the in_place policy needs an integer array, found {found}")
    if idx.shape != (N,):
        raise ShapeError(f"idx: expected shape ({N},), found {idx.shape}")
    if N and (int(idx.min()) < 0 or int(idx.max()) >= filled):
        raise RangeError(f"idx: expected slots in [0, {filled}), found {int(idx.min())} to {int(idx.max())}")
    return idx.astype(np.int64)
