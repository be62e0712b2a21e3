"""Sums over chunks of samples in a fixed order: what makes a gradient of parameters repeatable to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import blocks, current, launch
from .source import kernel

CHUNK = 8  # samples that one partial sum covers, whatever the card
LEAVES = 16  # partial sums that one thread adds
THREADS = 256
SLAB_BYTES = 64 * 2**20  # partial sums are added up as soon as they fill this much
MAX_Y = 65535


def slab_chunks(chunks: int, size: int, itemsize: int) -> int:
    """How many of `chunks` partial sums of `size` numbers are kept at a time: all, or a power of LEAVES.

    An aligned power of LEAVES is a whole subtree, so the sum does not depend on the answer.
    """
    slab = LEAVES
    while slab < chunks and (slab * LEAVES * size * itemsize <= SLAB_BYTES or slab * slab < chunks):
        slab *= LEAVES
    return min(slab, chunks)


def tree_sum(parts: Any, n: int, size: int, out: Any, rest: Any, split: int, dtype: Any) -> None:
    """out, rest = the first `split` and the other numbers of sum_i parts[i], in pairs: ((0 + 1) + (2 + 3)) + ...

    parts: (n, size); of an odd number of terms the last waits for the next level. out: (split,), rest: (size - split,)
    or None. n >= 1. Launches once for each factor LEAVES of n.
    """
    add = kernel("tree.cu", "tree_sum", dtype)
    while True:
        groups = blocks(n, LEAVES)
        last = groups <= 1
        sums = out if last else current().empty((groups, size), dtype)
        grid = (blocks(size, THREADS), min(groups, MAX_Y))
        args = (parts, np.int32(n), np.int64(size), sums, rest if last else None, np.int64(split))
        launch(add, grid, THREADS, args)
        if last:
            return
        parts, n = sums, groups
