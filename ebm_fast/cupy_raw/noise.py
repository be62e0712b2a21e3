"""Twin of `noise`: Philox4x32-10 by address, then uniforms and normals, on the device.

What differs: see noise.cu. Chain ids may lie on the host or on the device; ids on the device that are not uint32
are looked over, which waits for it. Integers are equal to the oracle's to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import DTypeError, ShapeError, check_count

from ..checks import check_address, check_chains, check_dtype
from .device import GRID, blocks, current, launch
from .limits import ELEMENTS, check_fits
from .limits import THREADS as MOST
from .source import kernel

FILE = "noise.cu"
THREADS = 256


def noise_philox(counter: Any, key: Any) -> Any:
    """Philox4x32-10(counter, key).

    counter: (..., 4) uint32 on the device, key: (2,) uint32 on the device or the host; returns (..., 4) uint32.
    Raises DTypeError, ShapeError. Salmon, Moraes, Dror & Shaw 2011, section 3.3.
    """
    dev = current()
    counter = word_array("counter", counter)
    key = word_array("key", dev.put(key) if isinstance(key, np.ndarray) else key)
    if counter.ndim == 0 or counter.shape[-1] != 4 or key.shape != (2,):
        raise ShapeError(f"counter, key: expected (..., 4) and (2,), found {counter.shape} and {key.shape}")
    out, size = dev.empty(counter.shape, np.uint32), counter.size // 4
    launch(
        kernel(FILE, "noise_philox", np.float32), blocks(size, THREADS), THREADS, (out, counter, key, np.int64(size))
    )
    return out


def noise_bits(seed: int, stream: int, step: int, chains: Any, D: int) -> Any:
    """bits[n, d] = word d mod 4 of Philox((d // 4, chains[n], step, stream), (seed low, seed high)).

    chains: (N,) integers in 0..2^32-1; returns (N, D) uint32. Raises RangeError, DTypeError, ShapeError.
    """
    return fill("noise_bits", seed, stream, step, chains, D, np.float32, np.uint32)


def noise_uniform(seed: int, stream: int, step: int, chains: Any, D: int, dtype: Any = np.float64) -> Any:
    """u = bits 2^-32 + 2^-33, in (0, 1): exact in float64; float32 rounds it and can reach 1, never 0.

    chains: (N,) integers; returns (N, D). Raises RangeError, DTypeError, ShapeError.
    """
    kind = check_dtype(dtype)
    return fill("noise_uniform", seed, stream, step, chains, D, kind, kind)


def noise_normal(seed: int, stream: int, step: int, chains: Any, D: int, dtype: Any = np.float64) -> Any:
    """sqrt(-2 ln u) (cos, sin)(pi r' 2^-31) from the words (r, r') = (0, 1), (2, 3) of each block; u as above.

    chains: (N,) integers; returns (N, D), standard normal. Raises RangeError, DTypeError, ShapeError.
    Box & Muller 1958.
    """
    kind = check_dtype(dtype)
    return fill("noise_normal", seed, stream, step, chains, D, kind, kind)


def noise_index(bits: Any, n: int) -> Any:
    """(bits n) >> 32: indices in [0, n), exact.

    bits: uint32 on the device, any shape; n in 1..2^32; returns int64 of that shape. Raises DTypeError, RangeError.
    """
    bits = word_array("bits", bits)
    check_count("n", n, low=1, high=2**32)
    out = current().empty(bits.shape, np.int64)
    args = (out, bits, np.int64(bits.size), np.uint64(n))
    launch(kernel(FILE, "noise_index", np.float32), blocks(bits.size, THREADS), THREADS, args)
    return out


def noise_permutation(seed: int, stream: int, step: int, n: int) -> Any:
    """A permutation of 0..n-1: the stable order of n random words of chain 0.

    Returns (n,) int64. Raises RangeError, DTypeError.
    """
    check_count("n", n, low=0, high=2**32)
    dev, size = current(), np.int64(n)
    words = noise_bits(seed, stream, step, np.zeros(1, np.int64), n)
    keys, out = dev.empty((int(n),), np.uint64), dev.empty((int(n),), np.int64)
    grid = blocks(int(n), THREADS)
    launch(kernel(FILE, "noise_keys", np.float32), grid, THREADS, (keys, words, size))
    keys = np.sort(keys)  # NumPy's protocol: the array's own library sorts it
    launch(kernel(FILE, "noise_places", np.float32), grid, THREADS, (out, keys, size))
    return out


# --------------------------------------------------------------------------------------- shared


def key_words(seed: int) -> tuple[np.uint32, np.uint32]:
    """The low and the high 32 bits of `seed`."""
    return np.uint32(int(seed) & 0xFFFFFFFF), np.uint32(int(seed) >> 32)


def chain_ids(chains: Any, N: int | None = None) -> Any:
    """Chain ids as (N,) uint32 on the device; `chains`: (N,) integers in 0..2^32-1, on the host or on the device.

    Raises DTypeError, ShapeError, RangeError. Waits for the device where the ids lie there and are not uint32.
    """
    dev = current()
    if isinstance(chains, np.ndarray):
        return dev.put(check_chains(chains, N).astype(np.uint32))
    ids = dev.array("chains", chains)
    if ids.dtype != np.uint32:
        return dev.put(check_chains(dev.get(ids), N).astype(np.uint32))
    if ids.ndim != 1 or (N is not None and ids.shape[0] != N):
        raise ShapeError(f"chains: expected shape ({'N' if N is None else N},), found {tuple(ids.shape)}")
    return ids


def word_array(name: str, bits: Any, shape: tuple[int, ...] | None = None) -> Any:
    """`bits` on the device; raises unless it is a uint32 array (of that shape)."""
    check_fits(name, bits, numbers=MOST)
    bits = current().array(name, bits)
    if bits.dtype != np.uint32:
        raise DTypeError(f"{name}: expected a uint32 array, found {bits.dtype}")
    if shape is not None and tuple(bits.shape) != shape:
        raise ShapeError(f"{name}: expected shape {shape}, found {tuple(bits.shape)}")
    return bits


def quad_grid(N: int, D: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(grid, block) of EACH_QUAD: threads x over the quads of a row, threads y over rows."""
    quads = max(blocks(D, 4), 1)
    lanes = min(THREADS, 1 << (quads - 1).bit_length())
    rows = THREADS // lanes
    return (blocks(quads, lanes), min(blocks(N, rows), GRID[1])), (lanes, rows)


def fill(name: str, seed: int, stream: int, step: int, chains: Any, D: int, build: Any, dtype: Any) -> Any:
    """(N, D) numbers of `dtype` by the kernel `name`."""
    check_address(seed, stream, step)
    check_count("D", D, low=0, high=ELEMENTS)
    ids = chain_ids(chains)
    out = current().empty((ids.shape[0], int(D)), dtype)
    args = (out, ids, np.int64(ids.shape[0]), np.int64(D), *key_words(seed), np.uint32(step), np.uint32(stream))
    launch(kernel(FILE, name, build), *quad_grid(ids.shape[0], int(D)), args)
    return out
