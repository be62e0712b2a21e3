"""What the energy on top of a field undergoes: per-sample products over the rows of an array, and their derivatives.

Layout as in `tile`: row i of lane l at [i width + l]. No routine mixes lanes.
"""

from __future__ import annotations

from .build import instruction, share, tile_width
from .lanes import vcount, vfma, vlike, vload, vstore

PART_ROWS = 16  # rows whose products are summed on their own: short sums round less


@instruction
def row_dots(row, T, W, S, G, A):
    """e = (halves / 2) sum_i a_i b_i."""
    _, e, a, b, rows, halves, _, _, _, _, _, _ = row
    width, factor = tile_width(A), 0.5 * halves
    for l in range(0, width, vcount(S)):
        total = vlike(vload(S, a + l), 0.0)
        for start in range(0, rows, PART_ROWS):
            part = vlike(total, 0.0)
            for i in range(start, min(rows, start + PART_ROWS)):
                part = vfma(vload(S, a + i * width + l), vload(S, b + i * width + l), part)
            total = total + part
        vstore(S, e + l, total * factor)


@instruction
def row_scales(row, T, W, S, G, A):
    """dst_i = sign de a_i, or dst_i += sign de a_i."""
    _, dst, a, de, rows, sign, add, _, _, _, _, _ = row
    width = tile_width(A)
    begin, end = share(A, rows)
    for l in range(0, width, vcount(S)):
        d = vload(S, de + l) * (1.0 * sign)
        for i in range(begin, end):
            at = i * width + l
            v = d * vload(S, a + at)
            vstore(S, dst + at, v + vload(S, dst + at) if add else v)
