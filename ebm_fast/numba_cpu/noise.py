"""Twin of `noise`: Philox4x32-10 by address, then uniforms and normals.

What differs: the counters of a register of chains, or of blocks, go through the ten rounds side by side, two vector
products of 32-bit factors a round, and Box-Muller runs on what comes out, all in registers. Integers are equal to the
oracle's to the bit. A float32 normal costs about 1 ns on one core, most of it the rounds.
Rows are cut between threads; results do not depend on the cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import ShapeError, check_count

from .. import scalar
from ..checks import check_address, check_chains, check_dtype, check_words
from .build import inner, kernel
from .elementary import box_muller
from .lanes import vcount, vcounting, vstore4, vword
from .threads import parallel

SMALL = 1 << 14  # numbers below which one thread is faster than two
philox_round = inner(scalar.philox_round)
philox_next_key = inner(scalar.philox_next_key)
index_of = inner(scalar.index_of)


@inner
def four_words(S, block, ids, step, stream, k0, k1):
    """The words of each lane's counter (block, ids, step, stream); block, ids: lanes for S."""
    w0, w1, w2, w3 = block, ids, vword(S, step), vword(S, stream)
    for _ in range(9):
        w0, w1, w2, w3 = philox_round(w0, w1, w2, w3, k0, k1)
        k0, k1 = philox_next_key(k0, k1)
    return philox_round(w0, w1, w2, w3, k0, k1)


@inner
def four_normals(S, block, ids, step, stream, k0, k1):
    """The normals of each lane's counter, of S's kind."""
    w0, w1, w2, w3 = four_words(S, block, ids, step, stream, k0, k1)
    return box_muller(S, w0, w1) + box_muller(S, w2, w3)


@inner
def fill_rows(what, k0, k1, stream, step, chains, out, last, part, parts):
    """out[n, d] = number d of `what` of chains[n]; last: room for four registers."""
    N, D = out.shape
    size = 4 * vcount(out)
    for n in range(part, N, parts):
        ids = vword(out, chains[n])
        for start in range(0, D, size):
            a, b, c, d = what(out, vcounting(out, np.uint64(start // 4)), ids, step, stream, k0, k1)
            if start + size <= D:
                vstore4(out, n * D + start, a, b, c, d)
            else:
                vstore4(last, 0, a, b, c, d)
                for i in range(start, D):
                    out[n, i] = last[i - start]


@kernel
def bits_rows(k0, k1, stream, step, chains, out, part, parts):
    """out[n, d] = word d mod 4 of block d // 4 of chains[n]."""
    last = np.empty(4 * vcount(out), out.dtype)
    fill_rows(four_words, k0, k1, stream, step, chains, out, last, part, parts)


@kernel
def normal_rows(k0, k1, stream, step, chains, out, part, parts):
    """out[n, d] = normal d of chains[n]."""
    last = np.empty(4 * vcount(out), out.dtype)
    fill_rows(four_normals, k0, k1, stream, step, chains, out, last, part, parts)


@kernel
def philox_blocks(counter, k0, k1, out):
    """out[i] = Philox of counter[i], both (n, 4)."""
    for i in range(counter.shape[0]):
        w0, w1, w2, w3 = counter[i, 0], counter[i, 1], counter[i, 2], counter[i, 3]
        a, b = k0, k1
        for _ in range(9):
            w0, w1, w2, w3 = philox_round(w0, w1, w2, w3, a, b)
            a, b = philox_next_key(a, b)
        w0, w1, w2, w3 = philox_round(w0, w1, w2, w3, a, b)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = w0, w1, w2, w3


@kernel
def index_row(bits, n, out):
    for i in range(bits.shape[0]):
        out[i] = index_of(np.uint64(bits[i]), n)


# --------------------------------------------------------------------------------------- public


def key_words(seed: int) -> tuple[np.uint64, np.uint64]:
    """The low and the high 32 bits of `seed`."""
    return np.uint64(int(seed) & 0xFFFFFFFF), np.uint64(int(seed) >> 32)


def fill(rows: Any, seed: int, stream: int, step: int, chains: Any, D: int, dtype: Any) -> np.ndarray:
    """(N, D) numbers by `rows`, cut between threads where there are many."""
    check_address(seed, stream, step)
    check_count("D", D, low=0, high=2**34)
    ids = check_chains(chains)
    out = np.empty((ids.size, D), dtype)
    k0, k1 = key_words(seed)

    def task(part: int, parts: int) -> None:
        rows(k0, k1, np.uint64(int(stream)), np.uint64(step), ids, out, part, parts)

    parallel(task, min(ids.size, 1 + out.size // SMALL))
    return out


def noise_philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10(counter, key).

    counter: (..., 4) uint32, key: (2,) uint32; returns (..., 4) uint32. Raises DTypeError, ShapeError.
    Salmon, Moraes, Dror & Shaw 2011, section 3.3.
    """
    check_words("counter", counter)
    check_words("key", key, shape=(2,))
    if counter.ndim < 1 or counter.shape[-1] != 4:
        raise ShapeError(f"counter: expected shape (..., 4), found {counter.shape}")
    out = np.empty(counter.shape, np.uint32)
    rows = np.ascontiguousarray(counter, np.uint64).reshape(-1, 4)
    philox_blocks(rows, np.uint64(key[0]), np.uint64(key[1]), out.reshape(-1, 4))
    return out


def noise_bits(seed: int, stream: int, step: int, chains: np.ndarray, D: int) -> np.ndarray:
    """bits[n, d] = word d mod 4 of Philox((d // 4, chains[n], step, stream), (seed low, seed high)).

    chains: (N,) integers in 0..2^32-1; returns (N, D) uint32. Raises RangeError, DTypeError, ShapeError.
    """
    return fill(bits_rows, seed, stream, step, chains, D, np.uint32)


def noise_uniform(seed: int, stream: int, step: int, chains: np.ndarray, D: int, dtype: Any = np.float64) -> np.ndarray:
    """u = bits 2^-32 + 2^-33, in (0, 1): exact in float64; float32 rounds it and can reach 1, never 0.

    chains: (N,) integers; returns (N, D). Raises RangeError, DTypeError, ShapeError.
    """
    kind = check_dtype(dtype)
    bits = noise_bits(seed, stream, step, chains, D)
    return bits.astype(kind) * kind.type(2.0**-32) + kind.type(2.0**-33)


def noise_normal(seed: int, stream: int, step: int, chains: np.ndarray, D: int, dtype: Any = np.float64) -> np.ndarray:
    """sqrt(-2 ln u) (cos, sin)(pi r' 2^-31) from the words (r, r') = (0, 1), (2, 3) of each block; u as above.

    chains: (N,) integers; returns (N, D), standard normal. Raises RangeError, DTypeError, ShapeError.
    Box & Muller 1958.
    """
    return fill(normal_rows, seed, stream, step, chains, D, check_dtype(dtype))


def noise_index(bits: np.ndarray, n: int) -> np.ndarray:
    """(bits n) >> 32: indices in [0, n), exact.

    bits: uint32, any shape; n in 1..2^32; returns int64 of that shape. Raises DTypeError, RangeError.
    """
    check_words("bits", bits)
    check_count("n", n, low=1, high=2**32)
    out = np.empty(bits.shape, np.int64)
    index_row(np.ascontiguousarray(bits).reshape(-1), np.uint64(n), out.reshape(-1))
    return out


def noise_permutation(seed: int, stream: int, step: int, n: int) -> np.ndarray:
    """A permutation of 0..n-1: the stable order of n random words of chain 0.

    Returns (n,) int64. Raises RangeError, DTypeError.
    """
    return np.argsort(noise_bits(seed, stream, step, np.zeros(1, np.int64), n)[0], kind="stable")
