"""Replay buffer: chains that persist from one training step to the next.

    buffer_start    the first samples: uniform in the box, data + noise, or given
    buffer_draw     idx = floor(bits filled / 2^32),  restart = [u < rho],  x0 = restart ? fresh : slots[idx]
    buffer_push     slots[place] = x, sample after sample in batch order, so the last of equal places stays
        in_place    place = idx: the chain goes back where it came from
        fifo        place = (ptr + n) mod M: the oldest leaves
        reservoir   c = ptr + n samples came before; place = c while c < M, then j = floor(bits (c + 1) / 2^32),
                    kept only if j < M: every sample ever pushed is equally likely to be in the buffer

A draw is with replacement, so idx may repeat. Index, restart and fresh state come from three streams.
Order of operations in one training step: draw, K sampler steps, parameter gradient, push.

Source: Tieleman 2008, Training restricted Boltzmann machines using approximations to the likelihood gradient
(persistent chains); Du & Mordatch 2019, arXiv:1903.08689, section 3.2 (buffer, rho = 0.05);
Vitter 1985, Random sampling with a reservoir, algorithm R; Du et al. 2021, arXiv:2012.01316 (reservoir of chains).
Twins: numba_cpu, numba_cuda, cupy_raw (draw, push).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..contracts import (
    Array,
    Buffer,
    DTypeError,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_number,
    check_sizes,
    flat_size,
)
from ..noise import noise_bits, noise_index, noise_normal, noise_uniform
from ..specs import Box, check_box

STARTS = ("uniform", "data_noise", "samples")


def buffer_start(
    M: int,
    shape: tuple[int, ...],
    *,
    start: str = "uniform",
    seed: int,
    box: Box | None = (-1.0, 1.0),
    data: Array | None = None,
    sigma: float = 0.0,
    samples: Array | None = None,
    policy: str = "in_place",
    dtype: DTypeLike = np.float32,
) -> Buffer:
    """A buffer of M slots; slot m draws at chain m of Stream.SAMPLE_START.

    uniform: low + (high - low) u   data_noise: box(data[idx] + sigma xi)   samples: the given (n, *shape), n <= M,
    which count as pushed (ptr = n); the drawn starts do not (ptr = 0), so a reservoir replaces them first.
    data: (n, *shape). The slots are an array like the given data or samples, else NumPy's.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_count("M", M, low=1)
    check_sizes("shape", shape)
    check_choice("start", start, STARTS)
    check_box(box)
    check_number("sigma", sigma, low=0.0)
    check_count("seed", seed, low=0, high=2**64 - 1)
    chains, D = np.arange(M), flat_size(shape)
    if start == "uniform":
        if box is None:
            raise RangeError("box: a uniform start needs (low, high), found None")
        u = noise_uniform(seed, Stream.SAMPLE_START, 0, chains, D, dtype)  # (M, D)
        slots = (box[0] + (box[1] - box[0]) * u).reshape(M, *shape)  # (M, *shape)
        return Buffer(slots, filled=M, policy=policy)
    given = data if start == "data_noise" else samples
    name = "data" if start == "data_noise" else "samples"
    check_array(name, given, shape=(None, *shape), finite=True)
    assert given is not None  # check_array has refused None
    if given.dtype != dtype:
        raise DTypeError(f"{name}: expected {np.dtype(dtype)}, found {given.dtype}")
    n = given.shape[0]
    most = M if start == "samples" else n
    if not 1 <= n <= most:
        raise ShapeError(f"{name}: expected at least one sample and at most {max(most, 1)}, found {n}")
    if start == "samples":
        slots = np.zeros((M, *shape), dtype, like=given)
        slots[:n] = given
        return Buffer(slots, filled=n, ptr=n, policy=policy)
    idx = noise_index(noise_bits(seed, Stream.SAMPLE_START, 0, chains, 1)[:, 0], n)  # (M,)
    xi = noise_normal(seed, Stream.SAMPLE_START, 1, chains, D, dtype).reshape(M, *shape)  # (M, *shape)
    slots = given[idx] + float(sigma) * np.asarray(xi, like=given)
    return Buffer(slots if box is None else np.clip(slots, *box), filled=M, policy=policy)


def buffer_draw(
    slots: Array, filled: int, bits: Array, u: Array, fresh: Array, rho: float
) -> tuple[Array, Array, Array]:
    """idx = floor(bits filled / 2^32),  restart = [u < rho],  x0 = restart ? fresh : slots[idx].

    slots: (M, *shape), the first `filled` in use   bits: (N,) uint32   u: (N,) float64, whatever the slots are
    fresh: (N, *shape)   returns x0 (N, *shape), idx (N,) int64, restart (N,) bool.
    An empty buffer restarts all, with idx 0. Raises ShapeError, DTypeError, RangeError.
    """
    _check_slots(slots)
    N = _check_words(bits)
    check_count("filled", filled, low=0, high=slots.shape[0])
    check_array("u", u, shape=(N,))
    _check_samples("fresh", fresh, slots, N)
    check_number("rho", rho, low=0.0, high=1.0)
    if u.dtype != np.float64:
        raise DTypeError(f"u: expected float64, so that u < rho is decided alike everywhere, found {u.dtype}")
    if filled == 0:
        return fresh.copy(), np.zeros(N, np.int64), np.ones(N, bool)
    idx = noise_index(bits, filled)  # (N,)
    restart = u < float(rho)  # (N,)
    x0 = np.where(restart.reshape((N,) + (1,) * (slots.ndim - 1)), fresh, slots[idx])  # (N, *shape)
    return x0, idx, restart


def buffer_push(
    slots: Array,
    filled: int,
    ptr: int,
    x: Array,
    policy: str,
    idx: Array | None = None,
    bits: Array | None = None,
) -> tuple[int, int]:
    """slots[place_n] = x_n for n = 0, 1, ... in this order; writes into `slots`.

    slots: (M, *shape)   x: (N, *shape)   in_place: idx (N,) integers in [0, filled)   reservoir: bits (N,) uint32
    ptr: samples ever pushed   returns (filled, ptr). Raises ShapeError, DTypeError, RangeError.
    """
    check_choice("policy", policy, Buffer.POLICIES)
    _check_slots(slots)
    check_array("x", x, shape=(None, *slots.shape[1:]))
    M, N = slots.shape[0], x.shape[0]
    _check_samples("x", x, slots, N)
    check_count("filled", filled, low=0, high=M)
    check_count("ptr", ptr, low=0)
    counts = range(int(ptr), int(ptr) + N)  # samples that came before each one
    if policy == "in_place":
        places = _check_places(idx, N, filled)
    else:
        if filled < M and filled != ptr:
            raise RangeError(f"ptr: expected {filled} while the buffer is not full, found {ptr}")
        filled = min(M, filled + N)
        if policy == "fifo":
            places = [c % M for c in counts]
        else:
            _check_words(bits, N)
            assert bits is not None  # _check_words has refused None
            places = [c if c < M else (int(r) * (c + 1)) >> 32 for c, r in zip(counts, bits, strict=True)]
    for n, place in enumerate(places):
        if place < M:
            slots[place] = x[n]
    return int(filled), int(ptr) + N


def _check_slots(slots: Array) -> None:
    check_array("slots", slots)
    if slots.ndim < 2 or slots.shape[0] == 0:
        raise ShapeError(f"slots: expected (M, *shape) with M >= 1, found {slots.shape}")


def _check_words(bits: Any, N: int | None = None) -> int:
    """N of a (N,) uint32 array; raises on anything else."""
    if not isinstance(bits, np.ndarray) or bits.dtype != np.uint32:
        raise DTypeError(f"bits: expected a uint32 array, found {getattr(bits, 'dtype', type(bits).__name__)}")
    if bits.ndim != 1 or (N is not None and bits.shape[0] != N):
        raise ShapeError(f"bits: expected shape ({'N' if N is None else N},), found {bits.shape}")
    return len(bits)


def _check_samples(name: str, x: Array, slots: Array, N: int) -> None:
    check_array(name, x, shape=(N, *slots.shape[1:]))
    if x.dtype != slots.dtype:
        raise DTypeError(f"{name}: expected the slots' {slots.dtype}, found {x.dtype}")


def _check_places(idx: Any, N: int, filled: int) -> list[int]:
    if not isinstance(idx, np.ndarray) or idx.dtype.kind not in "iu":
        raise DTypeError(f"idx: expected an array of integers, found {getattr(idx, 'dtype', type(idx).__name__)}")
    if idx.shape != (N,):
        raise ShapeError(f"idx: expected shape ({N},), found {idx.shape}")
    if N and (int(idx.min()) < 0 or int(idx.max()) >= filled):
        raise RangeError(f"idx: expected places in [0, {filled}), found {int(idx.min())} to {int(idx.max())}")
    return [int(place) for place in idx]
