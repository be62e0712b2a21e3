"""Normalisation of a tile over pixels and groups of channels, forwards, backwards and with tangents.

Layout as in `gather`: element (pixel p, channel c) of lane l at [(p C + c) width + l]; no lanes are mixed.
Arrays are read in order, a few pixels at a time: a group alone would stride through memory by a power of
two, which the first-level cache cannot hold.
Backwards, and for tangents, means are taken about the first element: the mean of equal values is that
value, exactly, so a group without variance gives no rounding noise for 1 / sqrt(eps) to blow up.
Routines that end in 1 carry the tangent: the coefficient of s in a series in s (level 2 of the protocol).
"""

from __future__ import annotations

from .build import inner, instruction, share, tile_width
from .lanes import vcount, vfma, vlike, vload, vmax, vsplat, vsqrt, vstore

EPS_AT = 0  # where W holds eps
PIECES = 4  # a sum over pixels is that of so many pieces, whichever threads make them
STEP = 4  # pixels whose sums stay in registers: short sums, and rows that the first-level cache holds together


@inner
def piece_of(q, pixels):
    """The pixels of piece q, from the first to before the second."""
    return q * pixels // PIECES, (q + 1) * pixels // PIECES


@instruction
def mean_rows(row, T, W, S, G, A):
    """sums[q, g] <- sum over the pixels of piece q and the channels of group g of z."""
    _, z, sums, pixels, C, groups, _, _, _, _, _, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    first, last = share(A, PIECES)
    for q in range(first, last):
        begin, end = piece_of(q, pixels)
        clear(S, sums + q * groups * width, groups * width)
        for start in range(begin, end, STEP):
            for g in range(groups):
                for l in range(0, width, lanes):
                    at, from_ = sums + (q * groups + g) * width + l, z + (start * C + g * size) * width + l
                    sum = vlike(vload(S, at), 0.0)
                    if start + STEP <= end:
                        sum = mean_piece(sum, S, from_, C * width, STEP, width, size)
                    else:
                        sum = mean_piece(sum, S, from_, C * width, end - start, width, size)
                    vstore(S, at, vload(S, at) + sum)


@inner
def mean_piece(sum, S, z, row, pixels, width, size):
    """sum + z of `size` channels of `pixels` pixels."""
    for c in range(0, size * width, width):
        for p in range(pixels):
            sum = sum + vload(S, z + p * row + c)
    return sum


@inner
def clear(S, at, size):
    """Zeros."""
    for l in range(0, size, vcount(S)):
        vstore(S, at + l, vlike(vload(S, at + l), 0.0))


@instruction
def total_rows(row, T, W, S, G, A):
    """total[g] <- sum over pieces q of sums[q, g], first to last, over `count`."""
    _, sums, total, groups, count, _, _, _, _, _, _, _ = row
    size = groups * tile_width(A)
    for i in range(0, size, vcount(S)):
        value = vload(S, sums + i)
        for q in range(1, PIECES):
            value = value + vload(S, sums + q * size + i)
        vstore(S, total + i, value / count)


@instruction
def rate_rows(row, T, W, S, G, A):
    """With v = z - mean: sums[q, g] <- sum of v over a piece, squares[q, g] <- sum of v^2."""
    _, z, mean, sums, squares, pixels, C, groups, _, _, _, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    first, last = share(A, PIECES)
    for q in range(first, last):
        begin, end = piece_of(q, pixels)
        for at in (sums, squares):
            clear(S, at + q * groups * width, groups * width)
        for start in range(begin, end, STEP):
            for g in range(groups):
                for l in range(0, width, lanes):
                    centre, at = vload(S, mean + g * width + l), (q * groups + g) * width + l
                    both, from_ = (vlike(centre, 0.0), vlike(centre, 0.0)), z + (start * C + g * size) * width + l
                    if start + STEP <= end:
                        sum, square = rate_piece(both, S, from_, C * width, STEP, width, size, centre)
                    else:
                        sum, square = rate_piece(both, S, from_, C * width, end - start, width, size, centre)
                    vstore(S, sums + at, vload(S, sums + at) + sum)
                    vstore(S, squares + at, vload(S, squares + at) + square)


@inner
def rate_piece(both, S, z, row, pixels, width, size, centre):
    """Add v = z - centre and v^2 of `size` channels of `pixels` pixels to both."""
    sum, square = both
    for c in range(0, size * width, width):
        for p in range(pixels):
            v = vload(S, z + p * row + c) - centre
            sum, square = sum + v, vfma(v, v, square)
    return sum, square


@instruction
def rate_total(row, T, W, S, G, A):
    """From the means of v and v^2: mean += mean(v), rate <- 1 / sqrt(mean(v^2) - mean(v)^2 + eps).

    The correction makes the mean of equal values that value, so that a group without variance gives no
    rounding noise for 1 / sqrt(eps) to blow up.
    """
    _, mean, rate, shift, groups, _, _, _, _, _, _, _ = row
    for i in range(0, groups * tile_width(A), vcount(S)):
        v = vload(S, shift + i)
        var = vmax(0.0, vload(S, rate + i) - v * v)
        vstore(S, mean + i, vload(S, mean + i) + v)
        vstore(S, rate + i, 1.0 / vsqrt(var + W[EPS_AT]))


@instruction
def normalise(row, T, W, S, G, A):
    """z <- (z - mean) rate, y <- gamma z + beta."""
    _, z, y, mean, rate, gamma, beta, pixels, C, groups, _, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    begin, end = share(A, pixels)
    for start in range(begin, end, STEP):
        for g in range(groups):
            for l in range(0, width, lanes):
                centre, scale = vload(S, mean + g * width + l), vload(S, rate + g * width + l)
                for c in range(g * size, (g + 1) * size):
                    at, by = (start * C + c) * width + l, (centre, scale, vsplat(W, gamma + c), vsplat(W, beta + c))
                    if start + STEP <= end:
                        normal_piece(S, z + at, y + at, C * width, STEP, by)
                    else:
                        normal_piece(S, z + at, y + at, C * width, end - start, by)


@inner
def normal_piece(S, z, y, step, count, by):
    """`normalise` of one channel of `count` pixels."""
    centre, scale, a, b = by
    for k in range(count):
        v = (vload(S, z + k * step) - centre) * scale
        vstore(S, z + k * step, v)
        vstore(S, y + k * step, vfma(v, a, b))


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
def back_start(row, T, W, S, G, A):
    """first[g] <- gamma dy (dy dh where dh >= 0) of the group's first element."""
    _, dy, first, gamma, C, groups, dh, _, _, _, _, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    for g in range(groups):
        for l in range(g * width, (g + 1) * width, lanes):
            at = g * (size - 1) * width + l
            value = vload(S, dy + at)
            if dh >= 0:
                value = value * vload(S, dh + at)
            vstore(S, first + l, value * vsplat(W, gamma + g * size))


@instruction
def back_rows(row, T, W, S, G, A):
    """dy <- g = gamma dy (gamma dy dh where dh >= 0), m1[q] <- sum (g - first), m2[q] <- sum g z of each piece.

    g is stored as rounded: in a group of equal values g - mean(g) is then exactly 0.
    """
    _, dy, z, first, m1, m2, gamma, pixels, C, groups, dh, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    mine, others = share(A, PIECES)
    for q in range(mine, others):
        begin, end = piece_of(q, pixels)
        rows = q * groups * width
        clear(S, m1 + rows, groups * width)
        clear(S, m2 + rows, groups * width)
        for start in range(begin, end, STEP):
            for g in range(groups):
                for l in range(g * width, (g + 1) * width, lanes):
                    zero, s1, s2 = vload(S, first + l), vload(S, m1 + rows + l), vload(S, m2 + rows + l)
                    for c in range(size):
                        at = (start * C + g * (size - 1) + c) * width + l
                        a, sums = vsplat(W, gamma + g * size + c), (s1, s2)
                        where = (dy + at, dh + at if dh >= 0 else -1, z + at)
                        if start + STEP <= end:
                            s1, s2 = back_piece(sums, S, where, C * width, STEP, a, zero)
                        else:
                            s1, s2 = back_piece(sums, S, where, C * width, end - start, a, zero)
                    vstore(S, m1 + rows + l, s1)
                    vstore(S, m2 + rows + l, s2)


@inner
def back_piece(sums, S, where, step, count, a, zero):
    """`back_rows` of one channel of `count` pixels."""
    s1, s2 = sums
    dy, dh, z = where
    for k in range(count):
        v = vload(S, dy + k * step)
        if dh >= 0:
            v = v * vload(S, dh + k * step)
        v = v * a
        vstore(S, dy + k * step, v)
        s1, s2 = s1 + (v - zero), vfma(v, vload(S, z + k * step), s2)
    return s1, s2


@instruction
def normalise_back(row, T, W, S, G, A):
    """dy <- rate (g - mean(g) - z mean(g z)), with g in dy, m1 = mean(g) - first, m2 = mean(g z)."""
    _, dy, z, first, m1, m2, rate, pixels, C, groups, _, _ = row
    lanes = vcount(S)
    width, size = tile_width(A), C // groups
    begin, end = share(A, pixels)
    for start in range(begin, end, STEP):
        for g in range(groups):
            for l in range(g * width, (g + 1) * width, lanes):
                n1, n2, scale = vload(S, first + l) + vload(S, m1 + l), -vload(S, m2 + l), vload(S, rate + l)
                for c in range(size):
                    at = (start * C + g * (size - 1) + c) * width + l
                    if start + STEP <= end:
                        finish_piece(S, dy + at, z + at, C * width, STEP, scale, n1, n2)
                    else:
                        finish_piece(S, dy + at, z + at, C * width, end - start, scale, n1, n2)


@inner
def finish_piece(S, dy, z, step, count, scale, n1, n2):
    """dy <- (dy - n1 + n2 z) scale of one channel of `count` pixels."""
    for k in range(0, count * step, step):
        vstore(S, dy + k, vfma(vload(S, z + k), n2, vload(S, dy + k) - n1) * scale)


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
