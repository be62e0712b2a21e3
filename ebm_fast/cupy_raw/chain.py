"""The launches of the persistent chain: all K Langevin steps of a ConvEnergy or an MLPEnergy in one kernel.

    chain_launch(energy, theta, x0, K, update, seed, step, ids, stream) -> x, energies, norms, alive

What differs from step after step: see chain.cu. Nothing here waits for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import RangeError

from .chain_network import plan
from .chain_plan import Plan
from .device import SHARED, blocks, current, launch
from .langevin import numbers
from .noise import key_words
from .source import kernel

FILE = "chain.cu"
THREADS = 256
WARPS, STAGES, RING = THREADS // 32, 3, 8 * 32  # the warps' rings of weights, as in chain_linear.cuh
PARAMS = 2**30  # numbers of the packed parameters, at most: chain_pack counts them, and a stride beyond, in an int
PACKS = 8  # parameters that one launch of chain_pack takes
CHAINS = 64  # of a block, at most: beyond, weights are read rarely enough


def chain_bytes(P: Plan, chains: int, itemsize: int) -> int:
    """Shared memory of a block of so many chains, laid out as in chain.cu."""

    def whole(size: int) -> int:
        return -(-size // 16) * 16

    flags, slices = P.table().nbytes, chains * P.slices
    return (
        whole(flags) + whole(4 * slices) + WARPS * STAGES * RING * itemsize + P.zeros * itemsize
        + whole(slices * 6 * itemsize) + chains * P.stride * itemsize
    )  # fmt: skip


def chains_per_block(P: Plan, N: int, dtype: Any) -> int:
    """As many chains as fit, but no more than spread N over the card. Raises RangeError where not one fits."""
    itemsize, limit = np.dtype(dtype).itemsize, getattr(current(), "shared_limit", SHARED)  # the card's own, if known
    one = chain_bytes(P, 1, itemsize)
    if one > limit:
        raise RangeError(
            f"path: a chain of this network needs {one} bytes of shared memory in {np.dtype(dtype).name}, and a block "
            f'has {limit}; path="layers" works'
        )
    if P.params >= PARAMS:
        raise RangeError(
            f"path: the chain of this network packs {P.params} parameters, expected fewer than 2^30; "
            'path="layers" works'
        )
    want = max(1, min(CHAINS, blocks(N, current().processors)))
    return next(n for n in range(want, 0, -1) if chain_bytes(P, n, itemsize) <= limit)


def chain_launch(
    energy: Any, theta: dict[str, Any], x0: Any, K: int, update: Any, seed: int, step: int, ids: Any, stream: int
) -> tuple[Any, Any, Any, Any]:
    """x_K like x0, energies and gradient norms (K, N), alive (N,) bool, of checked arguments on the device.

    x0: (N, *shape), not written   ids: (N,) uint32. Raises RangeError where the network does not fit a block.
    """
    dev, N, dtype = current(), x0.shape[0], x0.dtype
    noise_first = update.order == "noise_first"
    P = plan(energy, noise_first)
    each = chains_per_block(P, N, dtype)
    params = pack_launch(P, theta, dtype)
    table = P.table()
    x, alive = dev.empty(x0.shape, dtype), dev.empty((N,), np.bool_)
    energies, norms = dev.empty((K, N), dtype), dev.empty((K, N), dtype)
    args = (
        dev.put(table), np.int32(table.size), params, x0, x, energies, norms, alive, ids, np.int64(N), np.int64(K),
        np.int32(each), *numbers(update, dtype), *key_words(seed), np.uint32(step), np.uint32(stream),
        np.int32(noise_first),
    )  # fmt: skip
    shared = chain_bytes(P, each, np.dtype(dtype).itemsize)
    launch(kernel(FILE, "chain_run", dtype), blocks(N, each), THREADS, args, shared)
    return x, energies, norms, alive


def pack_launch(P: Plan, theta: dict[str, Any], dtype: Any) -> Any:
    """The parameters as the chain reads them, one array."""
    dev = current()
    params, recipe, packed = dev.empty((P.params,), dtype), dev.put(P.recipe()), list(P.packed.values())
    for first in range(0, len(packed), PACKS):
        some = packed[first : first + PACKS]
        arrays = [dev.array(f"theta[{p.name!r}]", theta[p.name]) for p in some]
        grid = (blocks(max(p.size for p in some), 4 * THREADS), len(some))
        args = (params, recipe, np.int32(first), *arrays, *[None] * (PACKS - len(some)))
        launch(kernel(FILE, "chain_pack", dtype), grid, THREADS, args)
    return params
