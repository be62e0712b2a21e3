"""Twin of `noise`: Philox4x32-10 by address, then uniforms and normals.

What differs: one thread makes one Philox block, four numbers of one chain. Integers are equal to the oracle's to the
bit. Bytes: 4 or 8 written a number, none read. Deterministic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import DTypeError, RangeError, ShapeError, check_count

from ..checks import WORD, check_address, check_chains, check_dtype, check_words
from ..scalar import index_of, philox_next_key, philox_round
from .build import body, real
from .device import Device, current, launch
from .maths import log, sincospi, sqrt


def philox(c0, c1, c2, c3, k0, k1):
    """The four words of counter (c0, c1, c2, c3) under key (k0, k1)."""
    for _ in range(10):
        c0, c1, c2, c3 = philox_round(c0, c1, c2, c3, k0, k1)
        k0, k1 = philox_next_key(k0, k1)
    return c0, c1, c2, c3


def unit(word):
    """word 2^-32 + 2^-33."""
    return real(word) * 2.0**-32 + 2.0**-33


def box_muller(word, next_word):
    """R cos a, R sin a with R = sqrt(-2 log u), a = pi next_word 2^-31."""
    radius = sqrt(-2.0 * log(unit(word)))
    sin, cos = sincospi(real(next_word) * 2.0**-31)
    return radius * cos, radius * sin


def normals(q, chain, step, stream, k0, k1):
    """The four normals of block q of a chain."""
    w0, w1, w2, w3 = philox(np.uint64(q), np.uint64(chain), step, stream, k0, k1)
    n0, n1 = box_muller(w0, w1)
    n2, n3 = box_muller(w2, w3)
    return n0, n1, n2, n3


# ---------------------------------------------------------------------------------- what a thread does


@body
def philox_block(i, counter, key, words):
    """words[i] = Philox(counter[i], key). counter, words: (n, 4) uint32; key: (2,)."""
    w0, w1, w2, w3 = np.uint64(counter[i, 0]), np.uint64(counter[i, 1]), np.uint64(counter[i, 2]), counter[i, 3]
    w0, w1, w2, w3 = philox(w0, w1, w2, np.uint64(w3), np.uint64(key[0]), np.uint64(key[1]))
    words[i, 0], words[i, 1], words[i, 2], words[i, 3] = w0, w1, w2, w3


@body
def bits_block(i, chains, step, stream, k0, k1, out):
    """out[n, 4 q + j] = word j of block q of chains[n], thread (n, q). out: (N, D) uint32."""
    D = out.shape[1]
    n, q = i // ((D + 3) // 4), i % ((D + 3) // 4)
    words = philox(np.uint64(q), np.uint64(chains[n]), step, stream, k0, k1)
    for j in range(min(4, D - 4 * q)):
        out[n, 4 * q + j] = words[j]


@body
def uniform_block(i, chains, step, stream, k0, k1, out):
    """The same as uniforms. out: (N, D) real."""
    D = out.shape[1]
    n, q = i // ((D + 3) // 4), i % ((D + 3) // 4)
    words = philox(np.uint64(q), np.uint64(chains[n]), step, stream, k0, k1)
    for j in range(min(4, D - 4 * q)):
        out[n, 4 * q + j] = unit(words[j])


@body
def normal_block(i, chains, step, stream, k0, k1, out):
    """The same as normals. out: (N, D) real."""
    D = out.shape[1]
    n, q = i // ((D + 3) // 4), i % ((D + 3) // 4)
    numbers = normals(q, chains[n], step, stream, k0, k1)
    for j in range(min(4, D - 4 * q)):
        out[n, 4 * q + j] = numbers[j]


@body
def index_one(i, bits, n, idx):
    """idx[i] = (bits[i] n) >> 32."""
    idx[i] = index_of(np.uint64(bits[i]), n)


# --------------------------------------------------------------------------------------- public


def address_words(seed: int, stream: int, step: int) -> tuple[np.uint64, ...]:
    """step, stream, low and high word of the seed, as kernels take them."""
    return np.uint64(int(step)), np.uint64(int(stream)), np.uint64(int(seed) & WORD), np.uint64(int(seed) >> 32)


def chain_ids(dev: Device, chains: Any, N: int | None = None) -> Any:
    """`chains`, of the host or of the device, as (N,) uint32 on the device; raises unless integers in 0..2^32-1."""
    if not hasattr(chains, "__cuda_array_interface__"):
        return dev.put(check_chains(chains, N).astype(np.uint32))
    ids = dev.array("chains", chains)
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"chains: expected an array of integers, found {ids.dtype}")
    if ids.ndim != 1 or (N is not None and ids.shape[0] != N):
        raise ShapeError(f"chains: expected shape ({'N' if N is None else N},), found {ids.shape}")
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) > WORD):
        raise RangeError(f"chains: expected ids in [0, {WORD}], found {int(ids.min())} to {int(ids.max())}")
    return ids.astype(np.uint32)


def fill(block: Any, seed: int, stream: int, step: int, chains: Any, D: int, kind: np.dtype) -> Any:
    """(N, D) numbers, four a thread."""
    check_address(seed, stream, step)
    check_count("D", D, low=0, high=2**34)
    dev = current()
    ids = chain_ids(dev, chains)
    N, D = ids.shape[0], int(D)
    out = dev.empty((N, D), kind)
    real_kind = kind if kind.kind == "f" else np.dtype(np.float32)
    launch(block, real_kind, N * ((D + 3) // 4), ids, *address_words(seed, stream, step), out)
    return out


def noise_philox(counter: Any, key: Any) -> Any:
    """Philox4x32-10(counter, key).

    counter: (..., 4) uint32, key: (2,) uint32; returns (..., 4) uint32. Raises DTypeError, ShapeError.
    Salmon, Moraes, Dror & Shaw 2011, section 3.3.
    """
    dev = current()
    counter, key = dev.array("counter", counter), dev.array("key", key)
    check_words("counter", counter)
    check_words("key", key, shape=(2,))
    if counter.ndim < 1 or counter.shape[-1] != 4:
        raise ShapeError(f"counter: expected shape (..., 4), found {counter.shape}")
    n = counter.size // 4
    words = dev.empty((n, 4), np.uint32)
    launch(philox_block, np.float32, n, counter.reshape(n, 4), key, words)
    return words.reshape(counter.shape)


def noise_bits(seed: int, stream: int, step: int, chains: Any, D: int) -> Any:
    """bits[n, d] = word d mod 4 of Philox((d // 4, chains[n], step, stream), (seed low, seed high)).

    chains: (N,) integers in 0..2^32-1, on the host or on the device; returns (N, D) uint32.
    Raises RangeError, DTypeError, ShapeError.
    """
    return fill(bits_block, seed, stream, step, chains, D, np.dtype(np.uint32))


def noise_uniform(seed: int, stream: int, step: int, chains: Any, D: int, dtype: Any = np.float64) -> Any:
    """u = bits 2^-32 + 2^-33, in (0, 1): exact in float64; float32 rounds it and can reach 1, never 0.

    chains: (N,) integers; returns (N, D). Raises RangeError, DTypeError, ShapeError.
    """
    return fill(uniform_block, seed, stream, step, chains, D, check_dtype(dtype))


def noise_normal(seed: int, stream: int, step: int, chains: Any, D: int, dtype: Any = np.float64) -> Any:
    """sqrt(-2 ln u) (cos, sin)(pi r' 2^-31) from the words (r, r') = (0, 1), (2, 3) of each block; u as above.

    chains: (N,) integers; returns (N, D), standard normal. Raises RangeError, DTypeError, ShapeError.
    Box & Muller 1958.
    """
    return fill(normal_block, seed, stream, step, chains, D, check_dtype(dtype))


def noise_index(bits: Any, n: int) -> Any:
    """(bits n) >> 32: indices in [0, n), exact.

    bits: uint32, any shape; n in 1..2^32; returns int64 of that shape. Raises DTypeError, RangeError.
    """
    dev = current()
    bits = dev.array("bits", bits)
    check_words("bits", bits)
    check_count("n", n, low=1, high=2**32)
    idx = dev.empty(bits.shape, np.int64)
    launch(index_one, np.float32, bits.size, bits.reshape(-1), np.uint64(n), idx.reshape(-1))
    return idx


def noise_permutation(seed: int, stream: int, step: int, n: int) -> Any:
    """A permutation of 0..n-1: the stable order of n random words of chain 0.

    Returns (n,) int64. Raises RangeError, DTypeError.
    """
    words = noise_bits(seed, stream, step, np.zeros(1, np.int64), n)
    return np.argsort(words[0], kind="stable").astype(np.int64)
