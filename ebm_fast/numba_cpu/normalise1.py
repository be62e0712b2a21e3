"""Normalisation of a tile with a tangent: the coefficient of s in a series in s (level 2 of the protocol).

Layout as in `gather`, group by group. Means are taken about the first element, as in `normalise`.
"""

from __future__ import annotations

from .build import instruction, tile_width
from .lanes import vcount, vfma, vlike, vload, vsplat, vstore


@instruction
def normalise1(row, T, W, S, G, A):
    """Tangent of `normalise`, z and r its results: with c = z1 - mean(z1) and m = mean(z c),

    z1 <- r (c - z m), y1 <- gamma z1, r1 <- -r m (= the tangent of r, over r).
    """
    _, z, r, z1, y1, r1, gamma, pixels, C, groups, _, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    row = C * width
    count = pixels * size
    for g in range(groups):
        for l in range(0, width, lanes):
            base = g * size * width + l
            first = vload(S, z1 + base)
            mean = vlike(first, 0.0)
            for p in range(pixels):
                for c in range(size):
                    mean = mean + (vload(S, z1 + base + p * row + c * width) - first)
            mean = first + mean / count
            m = vlike(mean, 0.0)
            for p in range(pixels):
                for c in range(size):
                    at = base + p * row + c * width
                    m = vfma(vload(S, z + at), vload(S, z1 + at) - mean, m)
            m = m / count
            rstd = vload(S, r + g * width + l)
            vstore(S, r1 + g * width + l, -(rstd * m))
            for c in range(size):
                a = vsplat(W, gamma + g * size + c)
                for p in range(pixels):
                    at = base + p * row + c * width
                    v = rstd * (vload(S, z1 + at) - mean - vload(S, z + at) * m)
                    vstore(S, z1 + at, v)
                    vstore(S, y1 + at, v * a)


@instruction
def normalise_back1(row, T, W, S, G, A):
    """`normalise_back` of dy and its tangent of dy1: with n the means of g1 and of g1 z + g z1,

    dy <- u = r (g - m1 - z m2), dy1 <- r1 u + r (g1 - n1 - z1 m2 - z n2).
    """
    _, dy, dy1, z, z1, r, r1, gamma, pixels, C, groups, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    row = C * width
    count = pixels * size
    for g in range(groups):
        for l in range(0, width, lanes):
            base = g * size * width + l
            first = vload(S, dy + base) * vsplat(W, gamma + g * size)
            first1 = vload(S, dy1 + base) * vsplat(W, gamma + g * size)
            m1 = vlike(first, 0.0)
            m2, n1, n2 = m1, m1, m1
            for c in range(size):
                a = vsplat(W, gamma + g * size + c)
                for p in range(pixels):
                    at = base + p * row + c * width
                    v, v1 = vload(S, dy + at) * a, vload(S, dy1 + at) * a
                    vstore(S, dy + at, v)
                    vstore(S, dy1 + at, v1)
                    u, u1 = vload(S, z + at), vload(S, z1 + at)
                    m1, m2 = m1 + (v - first), vfma(v, u, m2)
                    n1, n2 = n1 + (v1 - first1), vfma(v1, u, vfma(v, u1, n2))
            m1, m2 = first + m1 / count, m2 / count
            n1, n2 = first1 + n1 / count, n2 / count
            rstd, rate = vload(S, r + g * width + l), vload(S, r1 + g * width + l)
            for c in range(size):
                for p in range(pixels):
                    at = base + p * row + c * width
                    u, u1 = vload(S, z + at), vload(S, z1 + at)
                    v = rstd * (vload(S, dy + at) - m1 - u * m2)
                    v1 = rstd * (vload(S, dy1 + at) - n1 - u1 * m2 - u * n2)
                    vstore(S, dy + at, v)
                    vstore(S, dy1 + at, vfma(rate, v, v1))
