"""Normalisation of a tile over pixels and groups of channels, forwards and backwards.

Layout as in `gather`: element (pixel p, channel c) of lane l at [(p C + c) width + l]; no lanes are mixed.
Arrays are read in order, a few whole pixels at a time, register after register, whatever the groups: a group alone
would stride through memory by a power of two, which the first-level cache cannot hold, and its loops would be short.
Backwards, means are taken about the first element: the mean of equal values is that value, exactly, so a group without
variance gives no rounding noise for 1 / sqrt(eps) to blow up.
`normalise1` has what carries tangents.
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


@inner
def after(place, lanes, width, members):
    """The place of the next register of a pixel: its channel, where its lanes start, its number in its group, and

    what lies in the rows of groups before its own.
    """
    c, l, member, group = place
    if l + lanes < width:
        return c, l + lanes, member, group
    if member + 1 < members:
        return c + 1, 0, member + 1, group
    return c + 1, 0, 0, group + width


@inner
def add_to(S, at, value, fresh):
    """S[at : a register] += value, = value if fresh."""
    vstore(S, at, value if fresh else vload(S, at) + value)


@inner
def clear_if(empty, S, at, size):
    """Zeros, for the sums of a piece without pixels."""
    if empty:
        for i in range(0, size, vcount(S)):
            vstore(S, at + i, vlike(vload(S, at + i), 0.0))


# ---------------------------------------------------------------------------------------- forwards


@instruction
def mean_rows(row, T, W, S, G, A):
    """sums[q, g] <- sum over the pixels of piece q and the channels of group g of z."""
    _, z, sums, pixels, C, groups, _, _, _, _, _, _ = row
    width = tile_width(A)
    sizes = (C * width, width, C // groups)
    first, last = share(A, PIECES)
    for q in range(first, last):
        begin, end = piece_of(q, pixels)
        to = sums + q * groups * width
        clear_if(begin == end, S, to, groups * width)
        for start in range(begin, end, STEP):
            if start + STEP <= end:
                mean_piece(S, z + start * C * width, to, start == begin, sizes, STEP)
            else:
                mean_piece(S, z + start * C * width, to, start == begin, sizes, end - start)


@inner
def mean_piece(S, z, sums, fresh, sizes, count):
    """`mean_rows` of `count` pixels."""
    size, width, members = sizes
    place = (0, 0, 0, 0)
    for i in range(0, size, vcount(S)):
        _, l, member, group = place
        sum = vload(S, z + i)
        for k in range(1, count):
            sum = sum + vload(S, z + k * size + i)
        add_to(S, sums + group + l, sum, fresh and member == 0)
        place = after(place, vcount(S), width, members)


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
    width = tile_width(A)
    sizes = (C * width, width, C // groups)
    first, last = share(A, PIECES)
    for q in range(first, last):
        begin, end = piece_of(q, pixels)
        to = (sums + q * groups * width, squares + q * groups * width)
        clear_if(begin == end, S, to[0], groups * width)
        clear_if(begin == end, S, to[1], groups * width)
        for start in range(begin, end, STEP):
            if start + STEP <= end:
                rate_piece(S, z + start * C * width, mean, to, start == begin, sizes, STEP)
            else:
                rate_piece(S, z + start * C * width, mean, to, start == begin, sizes, end - start)


@inner
def rate_piece(S, z, mean, to, fresh, sizes, count):
    """`rate_rows` of `count` pixels."""
    size, width, members = sizes
    place = (0, 0, 0, 0)
    for i in range(0, size, vcount(S)):
        _, l, member, group = place
        centre = vload(S, mean + group + l)
        sum = vload(S, z + i) - centre
        square = sum * sum
        for k in range(1, count):
            v = vload(S, z + k * size + i) - centre
            sum, square = sum + v, vfma(v, v, square)
        add_to(S, to[0] + group + l, sum, fresh and member == 0)
        add_to(S, to[1] + group + l, square, fresh and member == 0)
        place = after(place, vcount(S), width, members)


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
    lanes, width = vcount(S), tile_width(A)
    begin, end = share(A, pixels)
    for start in range(begin, end, STEP):
        place = (0, 0, 0, 0)
        for i in range(0, C * width, lanes):
            c, l, _, group = place
            centre, scale = vload(S, mean + group + l), vload(S, rate + group + l)
            a, b = vsplat(W, gamma + c), vsplat(W, beta + c)
            for p in range(start, min(end, start + STEP)):
                at = p * C * width + i
                v = (vload(S, z + at) - centre) * scale
                vstore(S, z + at, v)
                vstore(S, y + at, vfma(v, a, b))
            place = after(place, lanes, width, C // groups)


# --------------------------------------------------------------------------------------- backwards


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
    width = tile_width(A)
    sizes = (C * width, width, C // groups)
    mine, others = share(A, PIECES)
    for q in range(mine, others):
        begin, end = piece_of(q, pixels)
        to = (m1 + q * groups * width, m2 + q * groups * width)
        clear_if(begin == end, S, to[0], groups * width)
        clear_if(begin == end, S, to[1], groups * width)
        for start in range(begin, end, STEP):
            rows = start * C * width
            at = (dy + rows, dh + rows if dh >= 0 else -1, z + rows)
            if start + STEP <= end:
                back_piece(W, S, at, gamma, first, to, start == begin, sizes, STEP)
            else:
                back_piece(W, S, at, gamma, first, to, start == begin, sizes, end - start)


@inner
def back_piece(W, S, at, gamma, first, to, fresh, sizes, count):
    """`back_rows` of `count` pixels."""
    dy, dh, z = at
    size, width, members = sizes
    place = (0, 0, 0, 0)
    for i in range(0, size, vcount(S)):
        c, l, member, group = place
        a, zero = vsplat(W, gamma + c), vload(S, first + group + l)
        s1 = vlike(zero, 0.0)
        s2 = s1
        for k in range(count):
            v = vload(S, dy + k * size + i)
            if dh >= 0:
                v = v * vload(S, dh + k * size + i)
            v = v * a
            vstore(S, dy + k * size + i, v)
            s1, s2 = s1 + (v - zero), vfma(v, vload(S, z + k * size + i), s2)
        add_to(S, to[0] + group + l, s1, fresh and member == 0)
        add_to(S, to[1] + group + l, s2, fresh and member == 0)
        place = after(place, vcount(S), width, members)


@instruction
def normalise_back(row, T, W, S, G, A):
    """dy <- rate (g - mean(g) - z mean(g z)), with g in dy, m1 = mean(g) - first, m2 = mean(g z)."""
    _, dy, z, first, m1, m2, rate, pixels, C, groups, _, _ = row
    width = tile_width(A)
    sizes = (C * width, width, C // groups)
    begin, end = share(A, pixels)
    for start in range(begin, end, STEP):
        at = (dy + start * C * width, z + start * C * width)
        if start + STEP <= end:
            finish_piece(S, at, (first, m1, m2, rate), sizes, STEP)
        else:
            finish_piece(S, at, (first, m1, m2, rate), sizes, end - start)


@inner
def finish_piece(S, at, by, sizes, count):
    """`normalise_back` of `count` pixels."""
    dy, z = at
    first, m1, m2, rate = by
    size, width, members = sizes
    place = (0, 0, 0, 0)
    for i in range(0, size, vcount(S)):
        _, l, _, group = place
        j = group + l
        n1, n2, scale = vload(S, first + j) + vload(S, m1 + j), -vload(S, m2 + j), vload(S, rate + j)
        for k in range(count):
            u = k * size + i
            vstore(S, dy + u, vfma(vload(S, z + u), n2, vload(S, dy + u) - n1) * scale)
        place = after(place, vcount(S), width, members)
