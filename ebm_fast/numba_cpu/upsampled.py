"""A convolution of a map whose pixels were each repeated twice, both ways, as a linear map of the small one.

Along one axis, output 2 i + a (a = 0, 1) reads through tap r the repeated pixel 2 i + a + r - top, so pixel

    i + d,   d = floor((a + r - top) / 2),   top = floor((R - 1) / 2), which SAME puts before a map of even size:

some taps of one a read the same pixel, and may be added beforehand. The folded taps are the pairs (a, d): of a kernel
of 3 there are 4, two for each a, and (for both axes) 4 products an output in the place of 9. A repeated pixel lies on
the image exactly where its pixel does, so nothing else changes at the edge. The gradient of the weights is taken with
respect to the folded ones, then each tap collects from those that it was added to.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .links import Links


@lru_cache(maxsize=64)
def folded_taps(kernel: int) -> tuple[list[tuple[int, int]], np.ndarray]:
    """The pairs (a, d) of one axis, in order, and the matrix (pairs, kernel) of ones that adds taps up."""
    top = (kernel - 1) // 2
    names = [[(a, (a + r - top) // 2) for r in range(kernel)] for a in range(2)]
    pairs = sorted({name for row in names for name in row})
    adds = np.zeros((len(pairs), kernel))
    for row in names:
        for r, name in enumerate(row):
            adds[pairs.index(name), r] = 1
    return pairs, adds


def upsampled_links(H: int, W: int, kernel: int) -> Links:
    """Which of the H x W pixels meets which of the 2 H x 2 W outputs, through which folded tap."""
    pairs, _ = folded_taps(kernel)
    links = []
    for t, (a, d) in enumerate(pairs):
        for u, (b, e) in enumerate(pairs):
            for i in range(max(0, -d), min(H, H - d)):
                for j in range(max(0, -e), min(W, W - e)):
                    links.append(((i + d) * W + j + e, t * len(pairs) + u, (2 * i + a) * 2 * W + 2 * j + b))
    return Links(H * W, 4 * H * W, len(pairs) ** 2, np.array(links, np.int64).reshape(-1, 3))


def fold(w: np.ndarray) -> np.ndarray:
    """w (R, R, C, O) with the taps that read one pixel added up: (T, T, C, O), T the folded taps of an axis."""
    adds = folded_taps(w.shape[0])[1].astype(w.dtype)
    rows = np.tensordot(adds, w, (1, 0))  # (T, R, C, O)
    return np.ascontiguousarray(np.tensordot(adds, rows, (1, 1)).swapaxes(0, 1))


def unfold(dw: np.ndarray, kernel: int) -> np.ndarray:
    """The gradient of w from that of fold(w): the transpose of `fold`."""
    adds = folded_taps(kernel)[1].astype(dw.dtype)
    rows = np.tensordot(adds, dw, (0, 0))  # (R, T, C, O)
    return np.ascontiguousarray(np.tensordot(adds, rows, (0, 1)).swapaxes(0, 1))
