"""Twin of `noise`: Philox4x32-10 by address, then uniforms and normals.

What differs: counters of many blocks, or of many chains, go through the ten rounds side by side in
vector lanes, and Box-Muller runs on registers. Integers are equal to the oracle's to the bit.
Per block of 4 words: 20 wide multiplications; a float32 normal costs about 1 ns on one core.
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
from .lanes import vcount, vfma, vlike, vload, vstore4
from .threads import parallel

ROW = 32  # counters that go through the rounds together
NONE, ONE = np.uint64(0), np.uint64(1)
SMALL = 1 << 14  # numbers below which one thread is faster than two
philox_round = inner(scalar.philox_round)
philox_next_key = inner(scalar.philox_next_key)
index_of = inner(scalar.index_of)


@inner
def philox_row(block, per_block, ids, n, per_id, step, stream, k0, k1, size, out, at):
    """out[at + j size + l] = word j of block `block` + l per_block of chain ids[n + l per_id], l < size."""
    for l in range(size):
        w0, w1 = (block + np.uint64(l) * per_block) & scalar.MASK, ids[n + l * per_id] & scalar.MASK
        w2, w3, a, b = step & scalar.MASK, stream, k0, k1
        for _ in range(9):
            w0, w1, w2, w3 = philox_round(w0, w1, w2, w3, a, b)
            a, b = philox_next_key(a, b)
        w0, w1, w2, w3 = philox_round(w0, w1, w2, w3, a, b)
        out[at + l], out[at + size + l], out[at + 2 * size + l], out[at + 3 * size + l] = w0, w1, w2, w3


@inner
def four_normals(raw, at, size):
    """Registers of the four normals of the counters whose words, as floats, lie at `at`, `at` + size, ..."""
    first, second = vload(raw, at), vload(raw, at + 2 * size)
    one = box_muller(vfma(first, 2.0**-32, vlike(first, 2.0**-33)), vload(raw, at + size) * 2.0**-31)
    two = box_muller(vfma(second, 2.0**-32, vlike(second, 2.0**-33)), vload(raw, at + 3 * size) * 2.0**-31)
    return one[0], one[1], two[0], two[1]


@kernel
def bits_rows(k0, k1, stream, step, chains, out, part, parts):
    """out[n, d] = word d mod 4 of block d // 4 of chains[n]."""
    N, D = out.shape
    words = np.empty(4 * ROW, np.uint32)
    for n in range(part, N, parts):
        for start in range(0, D, 4 * ROW):
            philox_row(np.uint64(start // 4), ONE, chains, n, 0, step, stream, k0, k1, ROW, words, 0)
            for l in range(min(D - start, 4 * ROW) // 4):
                for j in range(4):
                    out[n, start + 4 * l + j] = words[j * ROW + l]
            for d in range(max(start, D // 4 * 4), min(D, start + 4 * ROW)):
                out[n, d] = words[d % 4 * ROW + (d - start) // 4]


@kernel
def normal_rows(k0, k1, stream, step, chains, out, part, parts):
    """out[n, d] = normal d of chains[n]."""
    N, D = out.shape
    row, last = np.empty(4 * ROW, out.dtype), np.empty(4 * ROW, out.dtype)
    for n in range(part, N, parts):
        for start in range(0, D, 4 * ROW):
            philox_row(np.uint64(start // 4), ONE, chains, n, 0, step, stream, k0, k1, ROW, row, 0)
            whole = start + 4 * ROW <= D
            for l in range(0, ROW, vcount(row)):
                w, x, y, z = four_normals(row, l, ROW)
                if whole:
                    vstore4(out, n * D + start + 4 * l, w, x, y, z)
                else:
                    vstore4(last, 4 * l, w, x, y, z)
            if not whole:
                for d in range(start, D):
                    out[n, d] = last[d - start]


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
