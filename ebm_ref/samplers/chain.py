"""What every sampler shares: the start of a run, and rows, norms and finiteness of a batch of chains.

    chain_start    checks x0, K and the addresses (step + k, chains[n]) before any work
    chain_norm     |g_n|_2, scaled by the largest element so that no square overflows or vanishes
    chain_dot      a_n . b_n, over every axis but the first
    chain_finite   whether every element of sample n is finite
    chain_keep     x_n where keep_n, else y_n
    chain_count    how many are True

Every one of them sees a sample as one vector, whatever its shape, and answers for each chain on its own.

Source: none, plain arithmetic. Level: none. Twins: none; they work on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..contracts import Array, DTypeError, Energy, ShapeError, Stream, check_array, check_count, flat_size


def chain_start(
    backend: ModuleType, energy: Energy, x0: Array, K: int, seed: int, step: int, chains: Array | None
) -> Array:
    """The addresses of the chains, (N,): `chains`, or 0..N-1.

    Raises ShapeError, DTypeError, RangeError, and NonFiniteError for an x0 on the host that is not finite; an array on
    a device is not read back.
    """
    check_array("x0", x0, shape=(None, *energy.shape), finite=isinstance(x0, np.ndarray))
    check_count("K", K, low=0)
    check_count("step", step, low=0, high=2**32 - max(int(K), 1))
    chains = np.arange(x0.shape[0]) if chains is None else chains
    backend.noise_normal(seed, Stream.CHAIN_NOISE, step, chains, 0)  # refuses a bad address, even where K = 0
    if chains.shape != (x0.shape[0],):
        raise ShapeError(f"chains: expected shape ({x0.shape[0]},), found {chains.shape}")
    return chains


def chain_rows(x: Array) -> Array:
    """(N, *shape) -> (N, D); (N,) -> (N, 1)."""
    return x.reshape((x.shape[0], flat_size(x.shape[1:])))


def chain_column(value: Array, x: Array) -> Array:
    """(N,) -> (N, 1, ..., 1), to broadcast against x."""
    return value.reshape((value.shape[0],) + (1,) * (x.ndim - 1))


def chain_norm(g: Array) -> Array:
    """2-norm of each sample, (N,), by its largest element, so that no square overflows or vanishes."""
    size = np.abs(chain_rows(g))  # (N, D)
    top = np.max(size, axis=1) if size.shape[1] else np.sum(size, axis=1)  # (N,); a sample without elements: 0
    unit = np.where(np.isfinite(top) & (top > 0), top, 1)
    norm: Array = top * np.sqrt(np.sum((size / unit[:, None]) ** 2, axis=1))
    return norm


def chain_dot(a: Array, b: Array) -> Array:
    """a_n . b_n, (N,)."""
    dot: Array = np.sum(chain_rows(a) * chain_rows(b), axis=1)
    return dot


def chain_finite(x: Array) -> Array:
    """Whether every element of a sample is finite, (N,)."""
    finite: Array = np.all(np.isfinite(chain_rows(x)), axis=1)
    return finite


def chain_keep(keep: Array, x: Array, y: Array) -> Array:
    """x_n where keep_n, else y_n. keep: (N,)   x, y: (N, ...)."""
    chosen: Array = np.where(chain_column(keep, x), x, y)
    return chosen


def chain_count(true: Array) -> int:
    """How many are True: an int, or on a device a count that nobody has waited for."""
    count: int = np.count_nonzero(true)  # type: ignore[assignment]
    return count


def check_like(name: str, y: Array, x: Array, like: str = "x") -> None:
    """Raise unless `y` has the shape and dtype of `x`, the argument named `like`."""
    check_array(like, x)
    check_array(name, y, shape=x.shape)
    if y.dtype != x.dtype:
        raise DTypeError(f"{name}: expected {like}'s {x.dtype}, found {y.dtype}")
