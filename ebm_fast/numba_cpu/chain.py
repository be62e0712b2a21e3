"""One Langevin step of one tile of chains: the instructions under `langevin`.

Element d of chain l of a tile lies at [d width + l], width the samples of a tile. In W, from `p`: eta, sigma,
clip, clip_norm, low, high; infinity switches a bound off. In A: the two key words, stream, step, then the
chain ids of the tile. `bad` is a row that becomes NaN in the lanes where something was not finite.
"""

from __future__ import annotations

import numpy as np

from .. import scalar
from .build import IDS, inner, instruction, share, tile_width
from .lanes import vabs, vcount, vfma, vlike, vload, vmax, vmin, vsqrt, vstore, vwhere, vword, vwords
from .noise import four_normals

ETA, SIGMA, CLIP, CLIP_NORM, LOW, HIGH = range(6)
langevin_move = inner(scalar.langevin_move)


@instruction
def noise_tile(row, T, W, S, G, A):
    """Rows at .. at + 4 ceil(D / 4): normal d of each chain of the tile."""
    _, at, D, _, _, _, _, _, _, _, _, _ = row
    width = tile_width(A)
    begin, end = share(A, (D + 3) // 4)
    for l in range(0, width, vcount(S)):
        ids = vwords(S, A, IDS + l)
        for block in range(begin, end):
            a, b, c, d = four_normals(S, vword(S, np.uint64(block)), ids, A[3], A[2], A[0], A[1])
            rows = at + 4 * block * width + l
            vstore(S, rows, a)
            vstore(S, rows + width, b)
            vstore(S, rows + 2 * width, c)
            vstore(S, rows + 3 * width, d)


@instruction
def jitter_tile(row, T, W, S, G, A):
    """y = box(x + sigma xi) in the chains that are alive, x in the others; bad where box(...) is not finite."""
    _, x, xi, y, D, p, bad, alive, _, _, _, _ = row
    width = tile_width(A)
    sigma, low, high = W[p + SIGMA], W[p + LOW], W[p + HIGH]
    for l in range(0, width, vcount(S)):
        wrong, live = vload(S, bad + l), vload(S, alive + l)
        for d in range(D):
            at = d * width + l
            z = vmax(low, vmin(high, vload(S, x + at) + sigma * vload(S, xi + at)))
            wrong = vfma(z, 0.0, wrong)
            vstore(S, y + at, vwhere(live, z, vload(S, x + at)))
        vstore(S, bad + l, wrong)


@inner
def power_for(S, top):
    """2^p, 2^-p of each lane: numbers of size `top` times 2^p have squares that neither overflow nor vanish."""
    huge, small, up, down = 1e150, 1e-150, 2.0**700, 2.0**-700
    if S.itemsize == 4:
        huge, small, up, down = 1e15, 1e-15, 2.0**100, 2.0**-100
    above, below, one = top - huge, small - top, vlike(top, 1.0)
    return vwhere(above, down, vwhere(below, up, one)), vwhere(above, up, vwhere(below, down, one))


@instruction
def move_tile(row, T, W, S, G, A):
    """y = box(x - eta clip(g) + sigma xi), without noise where xi < 0; norm = |g|.

    bad where E, g or box(...) is not finite.
    """
    _, x, g, xi, y, D, p, bad, norm, E, _, _ = row
    width = tile_width(A)
    eta, sigma, clip, clip_norm = W[p + ETA], W[p + SIGMA], W[p + CLIP], W[p + CLIP_NORM]
    low, high = W[p + LOW], W[p + HIGH]
    for l in range(0, width, vcount(S)):
        zero = vlike(vload(S, bad + l), 0.0)
        wrong, top = vfma(vload(S, E + l), 0.0, vload(S, bad + l)), zero
        for d in range(D):
            v = vload(S, g + d * width + l)
            wrong = vfma(v, 0.0, wrong)
            top = vmax(top, vabs(v))
        (power, back), (power_clipped, back_clipped) = power_for(S, top), power_for(S, vmin(clip, top))
        square, clipped = zero, zero
        for d in range(D):
            v = vload(S, g + d * width + l)
            u = vmax(-clip, vmin(clip, v)) * power_clipped
            v = v * power
            square, clipped = vfma(v, v, square), vfma(u, u, clipped)
        vstore(S, norm + l, vsqrt(square) * back)
        scale = vlike(zero, 1.0)
        if clip_norm < np.inf:
            scale = clip_norm / vmax(clip_norm, vsqrt(clipped) * back_clipped)
        for d in range(D):
            at = d * width + l
            v = vmax(-clip, vmin(clip, vload(S, g + at))) * scale
            z = langevin_move(vload(S, x + at), v, vload(S, xi + at) if xi >= 0 else zero, eta, sigma)
            z = vmax(low, vmin(high, z))
            wrong = vfma(z, 0.0, wrong)
            vstore(S, y + at, z)
        vstore(S, bad + l, wrong)


@instruction
def keep_tile(row, T, W, S, G, A):
    """x = y in the chains that are alive and not bad; a bad one stops for good."""
    _, x, y, D, alive, bad, _, _, _, _, _, _ = row
    width = tile_width(A)
    for l in range(width):
        if S[bad + l] != 0:  # NaN
            S[alive + l] = 0
    for l in range(0, width, vcount(S)):
        live = vload(S, alive + l)
        for d in range(D):
            at = d * width + l
            vstore(S, x + at, vwhere(live, vload(S, y + at), vload(S, x + at)))
