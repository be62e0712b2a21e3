"""One Langevin step of one tile of chains: the routines under `langevin`.

A tile is `width` chains side by side, element d of chain l at [d * width + l]; width is two registers.
All rows of a tile live in one scratch array and are named by their offset in it.
`p` holds eta, sigma, clip, clip_norm, low, high; infinity switches a bound off.
"""

from __future__ import annotations

import numpy as np

from .. import scalar
from .build import helper, inner
from .lanes import vcount, vfma, vlike, vload, vmax, vmin, vsqrt, vstore, vwhere
from .noise import normal_row, philox_row

ETA, SIGMA, CLIP, CLIP_NORM, LOW, HIGH = range(6)
langevin_move = inner(scalar.langevin_move)


@helper
def load_tile(x, n0, D, width, S, at):
    """S[at + d width + l] = x[n0 + l, d]; lanes beyond the last chain hold 0."""
    keep = min(width, x.shape[0] - n0)
    for l in range(keep):
        for d in range(D):
            S[at + d * width + l] = x[n0 + l, d]
    for l in range(keep, width):
        for d in range(D):
            S[at + d * width + l] = 0


@helper
def store_tile(S, at, n0, D, width, y):
    """y[n0 + l, d] = S[at + d width + l] for the lanes that hold a chain."""
    for l in range(min(width, y.shape[0] - n0)):
        for d in range(D):
            y[n0 + l, d] = S[at + d * width + l]


@helper
def noise_tile(k0, k1, stream, step, chains, D, width, words, blocks, raw, S, at):
    """Rows at .. at + 4 ceil(D / 4): normal d of each chain of the tile."""
    for block in range((D + 3) // 4):
        blocks[:] = np.uint64(block)
        philox_row(blocks, chains, step, stream, k0, k1, words)
        normal_row(words, raw, S, at + 4 * block * width, width)


@helper
def jitter_tile(S, x, xi, y, D, width, p, bad):
    """y = box(x + sigma xi); bad becomes NaN where the sum is not finite."""
    for l in range(0, width, vcount(S)):
        wrong = vload(bad, l)
        for d in range(D):
            row = d * width + l
            z = vfma(vload(S, xi + row), p[SIGMA], vload(S, x + row))
            wrong = vfma(z, 0.0, wrong)
            vstore(S, y + row, vmax(p[LOW], vmin(p[HIGH], z)))
        vstore(bad, l, wrong)


@helper
def move_tile(S, x, g, xi, y, D, width, p, bad, norm):
    """y = box(x - eta clip(g) + sigma xi); norm = |g|; bad becomes NaN where g or the sum is not finite."""
    for l in range(0, width, vcount(S)):
        zero = vlike(vload(bad, l), 0.0)
        wrong, square, clipped = vload(bad, l), zero, zero
        for d in range(D):
            v = vload(S, g + d * width + l)
            wrong = vfma(v, 0.0, wrong)
            square = vfma(v, v, square)
            v = vmax(-p[CLIP], vmin(p[CLIP], v))
            clipped = vfma(v, v, clipped)
        vstore(norm, l, vsqrt(square))
        scale = vlike(zero, 1.0)
        if p[CLIP_NORM] < np.inf:
            scale = p[CLIP_NORM] / vmax(p[CLIP_NORM], vsqrt(clipped))
        for d in range(D):
            row = d * width + l
            v = vmax(-p[CLIP], vmin(p[CLIP], vload(S, g + row))) * scale
            z = langevin_move(vload(S, x + row), v, vload(S, xi + row), p[ETA], p[SIGMA])
            wrong = vfma(z, 0.0, wrong)
            vstore(S, y + row, vmax(p[LOW], vmin(p[HIGH], z)))
        vstore(bad, l, wrong)


@helper
def keep_tile(S, x, y, D, width, alive, bad):
    """Chains whose step went wrong stop for good; the others go to y."""
    for l in range(width):
        if bad[l] != 0:  # NaN
            alive[l] = 0
    for l in range(0, width, vcount(S)):
        live = vload(alive, l)
        for d in range(D):
            row = d * width + l
            vstore(S, x + row, vwhere(live, vload(S, y + row), vload(S, x + row)))


@inner
def zero_rows(S, at, size):
    """S[at : at + size] = 0."""
    S[at : at + size] = 0
