"""Random numbers that have an address.

    noise_philox       ten rounds of Philox4x32 on counter c under key k:
                       c <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),  k <- k + (W0, W1)
    noise_bits         r[n, d] = word d mod 4 of philox((d // 4, chains[n], step, stream), (seed low, seed high))
    noise_uniform      u = r 2^-32 + 2^-33, in (0, 1]: never 0, so log u is finite
    noise_normal       n_even, n_odd = R cos(a), R sin(a),  R = sqrt(-2 log u_even),  a = pi r_odd 2^-31
    noise_index        floor(bits n / 2^32), an index in [0, n)
    noise_permutation  stable argsort of n words

A draw depends on (seed, stream, step, chain, element) and on nothing else: not on the batch, its order,
the number of threads or the backend. `Stream` (contracts.py) names the purposes, one each.

Source: Salmon, Moraes, Dror & Shaw 2011, Parallel random numbers: as easy as 1, 2, 3, section 3.3;
Box & Muller 1958, A note on the generation of random normal deviates.
Bias: an index differs from uniform by less than n 2^-32 relative; two equal words keep their order in a
permutation, which favours one order by less than n 2^-32 for each pair.
Twins: numba_cpu, numba_cuda, cupy_raw. Words are equal to the bit, normals within a few ulp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .contracts import Array, DTypeError, RangeError, ShapeError, check_count

WORD = 2**32 - 1  # the largest counter word
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
W0, W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)  # key steps: golden ratio, sqrt(3) - 1
HALF = np.uint64(32)


def noise_philox(counter: Array, key: Array) -> Array:
    """Philox4x32-10: ten rounds of multiply, swap and exclusive or, the key stepped between them.

    counter: (..., 4) uint32   key: (2,) uint32   returns (..., 4) uint32. Raises DTypeError, ShapeError.
    """
    _check_words("counter", counter)
    _check_words("key", key)
    if counter.ndim == 0 or counter.shape[-1] != 4 or key.shape != (2,):
        raise ShapeError(f"counter, key: expected (..., 4) and (2,), found {counter.shape} and {key.shape}")
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))  # each (...)
    k0, k1 = key[:1], key[1:]  # (1,): arrays wrap around silently, scalars warn
    for _ in range(10):
        p0 = M0 * c0.astype(np.uint64)  # exact: 32 x 32 bits fit 64
        p1 = M1 * c2.astype(np.uint64)
        c0, c1, c2, c3 = _high(p1) ^ c1 ^ k0, _low(p1), _high(p0) ^ c3 ^ k1, _low(p0)
        k0, k1 = k0 + W0, k1 + W1  # modulo 2^32
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).reshape(counter.shape)


def noise_bits(seed: int, stream: int, step: int, chains: Array, D: int) -> Array:
    """r[n, d] = word d mod 4 of philox((d // 4, chains[n], step, stream), (seed low, seed high)).

    seed: 0..2^64-1   stream, step: 0..2^32-1   chains: (N,) integers 0..2^32-1   D: elements of a chain
    returns (N, D) uint32. Raises DTypeError, RangeError, ShapeError.
    """
    _check_address(seed, stream, step, D)
    chains = _check_chains(chains)
    N, blocks = chains.shape[0], -(-int(D) // 4)
    counter = np.empty((N, blocks, 4), np.uint32)
    counter[..., 0] = np.arange(blocks)
    counter[..., 1] = chains[:, None]
    counter[..., 2] = step
    counter[..., 3] = stream
    key = np.array([int(seed) & WORD, int(seed) >> 32], np.uint32)
    return noise_philox(counter, key).reshape(N, 4 * blocks)[:, :D]  # (N, D)


def noise_uniform(seed: int, stream: int, step: int, chains: Array, D: int, dtype: DTypeLike = np.float64) -> Array:
    """u = r 2^-32 + 2^-33, in (0, 1].

    Arguments as in `noise_bits`; dtype: float32 or float64, in which it is computed. In float64 u is exact
    and below 1; in float32 it rounds and can be 1. Never 0. returns (N, D). Raises as `noise_bits`.
    """
    return _unit(noise_bits(seed, stream, step, chains, D), _check_dtype(dtype))


def noise_normal(seed: int, stream: int, step: int, chains: Array, D: int, dtype: DTypeLike = np.float64) -> Array:
    """n_even = sqrt(-2 log u) cos(a), n_odd = sqrt(-2 log u) sin(a): words (0, 1) of a block, then (2, 3).

    u = r_even 2^-32 + 2^-33 and a / pi = r_odd 2^-31 are rounded to `dtype`, and so is the normal, once; what lies
    between is float64: in float32 a normal is within half an ulp of what its two rounded numbers say.
    Arguments as in `noise_bits`; dtype: float32 or float64. returns (N, D). Raises as `noise_bits`. Normal d does not
    depend on D.
    """
    dtype = _check_dtype(dtype)
    _check_address(seed, stream, step, D)
    r = noise_bits(seed, stream, step, chains, int(D) + int(D) % 2)  # (N, D or D + 1)
    u = _unit(r[:, 0::2], dtype).astype(np.float64)  # (N, D/2)
    turns = (r[:, 1::2].astype(dtype) * dtype.type(2.0**-31)).astype(np.float64)  # (N, D/2)   half turns, in [0, 2]
    radius, angle = np.sqrt(-2 * np.log(u)), np.pi * turns
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)  # (N, D/2, 2)
    return pairs.reshape(r.shape)[:, :D].astype(dtype)  # (N, D)


def noise_index(bits: Array, n: int) -> Array:
    """floor(bits n / 2^32), exact: an index in [0, n).

    bits: any shape, uint32   n: 1..2^32   returns int64 like bits. Raises DTypeError, RangeError.
    """
    _check_words("bits", bits)
    check_count("n", n, low=1, high=2**32)
    idx: Array = ((bits.astype(np.uint64) * np.uint64(n)) >> HALF).astype(np.int64)
    return idx


def noise_permutation(seed: int, stream: int, step: int, n: int) -> Array:
    """Stable argsort of noise_bits(seed, stream, step, [0], n)[0]: a permutation of 0..n-1.

    returns (n,) int64. Raises as `noise_bits`.
    """
    words = noise_bits(seed, stream, step, np.zeros(1, np.int64), n)[0]  # (n,)
    order: Array = np.argsort(words, kind="stable").astype(np.int64)
    return order


def _unit(r: Array, dtype: np.dtype[Any]) -> Array:
    """r 2^-32 + 2^-33 in `dtype`."""
    u: Array = r.astype(dtype) * dtype.type(2.0**-32) + dtype.type(2.0**-33)
    return u


def _high(product: Array) -> Array:
    return (product >> HALF).astype(np.uint32)


def _low(product: Array) -> Array:
    return product.astype(np.uint32)


def _check_address(seed: Any, stream: Any, step: Any, D: Any) -> None:
    check_count("seed", seed, low=0, high=2**64 - 1)
    check_count("stream", stream, low=0, high=WORD)
    check_count("step", step, low=0, high=WORD)
    check_count("D", D, low=0, high=2**34)


def _check_chains(chains: Any) -> Array:
    """`chains` as (N,) uint32; raises unless integers in 0..2^32-1."""
    if not isinstance(chains, np.ndarray) or chains.dtype.kind not in "iu":
        raise DTypeError(f"chains: expected an array of integers, found {getattr(chains, 'dtype', chains)!r}")
    if chains.ndim != 1:
        raise ShapeError(f"chains: expected shape (N,), found {chains.shape}")
    if chains.size and (int(chains.min()) < 0 or int(chains.max()) > WORD):
        raise RangeError(f"chains: expected ids in [0, {WORD}], found {int(chains.min())} to {int(chains.max())}")
    return chains.astype(np.uint32)


def _check_words(name: str, bits: Any) -> None:
    if not isinstance(bits, np.ndarray) or bits.dtype != np.uint32:
        raise DTypeError(f"{name}: expected a uint32 array, found {getattr(bits, 'dtype', type(bits).__name__)}")


def _check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"dtype: expected float32 or float64, found {dtype!r}") from error
    if dtype is None or kind not in (np.float32, np.float64):
        raise DTypeError(f"dtype: expected float32 or float64, found {dtype!r}")
    return kind
