"""One step of descent of one tile of samples: the instructions under `descent`.

Element d of sample l of a tile lies at [d width + l]; a rule's state lies in rows of the same kind, one array after the
other. In W, from `p`: eta, mu, beta1, beta2, eps, g_min, then for each repetition of the program (A[3] counts them)
1 - beta1^t and 1 - beta2^t. `f` is a block of rows, one number a sample: GO where it still moves, POINT where the place
of its gradient is finite, ALIVE, STOPPED, NFE, and E and |g| of its last evaluation. What does not move keeps all its
numbers, to the bit.
"""

from __future__ import annotations

import numpy as np

from .build import inner, instruction, tile_width
from .chain import power_for
from .lanes import vabs, vcount, vfma, vlike, vload, vmax, vsqrt, vstore, vwhere

GRADIENT, NESTEROV, LOOK_AHEAD, ADAM = range(4)
STATES = (0, 1, 1, 2)  # arrays of a rule's state: none, the velocity, or m and the mean square
ETA, MU, BETA1, BETA2, EPS, G_MIN, NUMBERS = range(7)
GO, POINT, ALIVE, STOPPED, NFE, ENERGY, NORM, FLAGS = range(8)


@instruction
def descent_place(row, T, W, S, G, A):
    """at = x + mu s, or x where that is not finite and in rules without a velocity; POINT says where it is."""
    _, at, x, s, D, p, kind, f, _, _, _, _ = row
    width = tile_width(A)
    for l in range(0, width, vcount(S)):
        one = vlike(vload(S, x + l), 1.0)
        wrong = vlike(one, 0.0)
        for d in range(l, D * width, width):
            z = vload(S, x + d)
            if kind == NESTEROV or kind == LOOK_AHEAD:
                z = z + W[p + MU] * vload(S, s + d)
            wrong = vfma(z, 0.0, wrong)
            vstore(S, at + d, z)
        finite = vwhere(wrong + 1.0, one, vlike(one, 0.0))
        vstore(S, f + POINT * width + l, finite)
        for d in range(l, D * width, width):
            vstore(S, at + d, vwhere(finite, vload(S, at + d), vload(S, x + d)))


@inner
def stepped(kind, W, p, k, x, at, g, a, b):
    """x' and the state's two arrays a', b' of one element by a rule; a is the velocity, or a and b are m and square."""
    eta = W[p + ETA]
    if kind == ADAM:
        beta1, beta2 = W[p + BETA1], W[p + BETA2]
        a = beta1 * a + (1.0 - beta1) * g
        b = beta2 * b + (1.0 - beta2) * g * g
        up, down = a / W[p + NUMBERS + 2 * k], vsqrt(b / W[p + NUMBERS + 2 * k + 1]) + W[p + EPS]
        return x - eta * up / down, a, b
    y = x if kind == LOOK_AHEAD else at
    y = y - eta * g
    return y, y - x, b


@inner
def norm_rows(S, g, D, width):
    """The 2-norm of a register of samples, by their largest elements, so that no square overflows or vanishes."""
    top = vabs(vload(S, g))
    for d in range(width, D * width, width):
        top = vmax(top, vabs(vload(S, g + d)))
    power, back = power_for(S, top)
    square = vlike(top, 0.0)
    for d in range(0, D * width, width):
        v = vload(S, g + d) * power
        square = vfma(v, v, square)
    return vsqrt(square) * back


@instruction
def descent_move(row, T, W, S, G, A):
    """Where GO: x and the state s by the rule `kind`, from the gradient g at `at` and E; then the rows of f.

    A sample whose |g| is below g_min stops at `at` with velocity 0; one whose point, E, g or x' is not finite stays.
    """
    _, x, at, g, s, D, p, kind, f, E, _, _ = row
    width, lanes, k = tile_width(A), vcount(S), np.int64(A[3])
    far = D * width
    for l in range(0, width, lanes):
        go, point, energy = vload(S, f + l), vload(S, f + POINT * width + l), vload(S, E + l)
        one, zero = vlike(go, 1.0), vlike(go, 0.0)
        norm = norm_rows(S, g + l, D, width)
        shown = vwhere(vfma(energy, 0.0, one), point, zero)  # the point and E are finite
        wrong = zero
        for d in range(l, far, width):
            a = vload(S, s + d) if kind != GRADIENT else zero
            b = vload(S, s + far + d) if kind == ADAM else zero
            v = vload(S, g + d)
            z, _, _ = stepped(kind, W, p, k, vload(S, x + d), vload(S, at + d), v, a, b)
            wrong = vfma(z, 0.0, vfma(v, 0.0, wrong))
        small = vwhere(W[p + G_MIN] - norm, shown, zero)
        moves = vwhere(small, zero, vwhere(wrong + 1.0, shown, zero)) * go
        stops = small * go
        for d in range(l, far, width):
            u, here, v = vload(S, x + d), vload(S, at + d), vload(S, g + d)
            a = vload(S, s + d) if kind != GRADIENT else zero
            b = vload(S, s + far + d) if kind == ADAM else zero
            z, new_a, new_b = stepped(kind, W, p, k, u, here, v, a, b)
            vstore(S, x + d, vwhere(moves, z, vwhere(stops, here, u)))
            if kind == ADAM:
                vstore(S, s + d, vwhere(moves, new_a, a))
                vstore(S, s + far + d, vwhere(moves, new_b, b))
            elif kind != GRADIENT:
                vstore(S, s + d, vwhere(moves, new_a, vwhere(go, zero, a)))  # at rest where it stops
        flags = f + l
        vstore(S, flags + ALIVE * width, vwhere(go, moves + stops, vload(S, flags + ALIVE * width)))
        vstore(S, flags + STOPPED * width, vwhere(go, stops, vload(S, flags + STOPPED * width)))
        vstore(S, flags + NFE * width, vload(S, flags + NFE * width) + go)
        vstore(S, flags + ENERGY * width, vwhere(go, energy, vload(S, flags + ENERGY * width)))
        vstore(S, flags + NORM * width, vwhere(go, norm, vload(S, flags + NORM * width)))
        vstore(S, flags + GO * width, moves)
