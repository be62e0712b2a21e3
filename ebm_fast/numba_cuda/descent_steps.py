"""What the threads of `descent` do: where a gradient is taken, who stops there, one step of a rule, what is kept.

Of sample n, in each step k:
    point[n]      whether the place of its gradient is finite
    going[n]      whether it still moved when the step began; moves[n]: whether it moves in this step, and goes on
    stopped[n]    whether its gradient was found small
Several threads may write False to point[n] or moves[n], and none reads it in the same launch. What does not move keeps
all its numbers, to the bit.
"""

from __future__ import annotations

from .build import body
from .chain import INF, finite, norm_of
from .maths import sqrt


@body
def descent_start(n, moves, stopped, point, nfe):
    """The flags of a sample that has not moved yet."""
    moves[n], stopped[n], point[n], nfe[n] = True, False, True, 0


@body
def descent_place(i, x, velocity, mu, at, point):
    """at = x + mu velocity, thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    v = x[n, d] + mu * velocity[n, d]
    at[n, d] = v
    if not finite(v):
        point[n] = False


@body
def descent_hold(i, x, point, at):
    """at = x where the place is not finite, thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    if not point[n]:
        at[n, d] = x[n, d]


@body
def descent_look(n, E, g, point, g_min, last, last_norm, energy, grad_norm, going, moves, stopped, nfe):
    """Records E and |g| of sample n, or what it had last, once it has stopped; it stops where |g| < g_min.

    It does not move where it stops, nor where its place, E or g is not finite.
    """
    go = moves[n]
    going[n] = go
    if not go:
        energy[n], grad_norm[n] = last[n], last_norm[n]
    else:
        norm = norm_of(g, n, INF)
        energy[n], grad_norm[n] = E[n], norm
        nfe[n] += 1
        shown = point[n] and finite(E[n])
        small = shown and norm < g_min
        move = shown and not small
        for d in range(g.shape[1]):
            if not finite(g[n, d]):
                move = False
        stopped[n], moves[n] = small, move


@body
def descent_move(i, start, g, eta, moved, moves):
    """moved = start - eta g, thread (n, d); who comes to no number stays. start: x, or where g was taken."""
    n, d = i // g.shape[1], i % g.shape[1]
    v = start[n, d] - eta * g[n, d]
    moved[n, d] = v
    if not finite(v):
        moves[n] = False


@body
def descent_adam(i, x, g, eta, keep1, take1, keep2, take2, rest1, rest2, eps, m, square, m1, square1, moved, moves):
    """m1 = keep1 m + take1 g, square1 = keep2 square + take2 g^2, thread (n, d), and

    moved = x - eta (m1 / rest1) / (sqrt(square1 / rest2) + eps); who comes to no number stays.
    keep: beta, take: 1 - beta, rest: 1 - beta^t.
    """
    n, d = i // g.shape[1], i % g.shape[1]
    slope = g[n, d]
    a = keep1 * m[n, d] + take1 * slope
    b = keep2 * square[n, d] + take2 * slope * slope
    m1[n, d], square1[n, d] = a, b
    v = x[n, d] - eta * (a / rest1) / (sqrt(b / rest2) + eps)
    moved[n, d] = v
    if not finite(v):
        moves[n] = False


@body
def descent_keep(i, x, at, going, moves, stopped, moved):
    """moved = at of a sample that stops now, x of one that does not move, thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    if not moves[n]:
        moved[n, d] = at[n, d] if going[n] and stopped[n] else x[n, d]


@body
def descent_velocity(i, x, moved, moves, velocity):
    """velocity = moved - x, 0 at rest, thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    velocity[n, d] = moved[n, d] - x[n, d] if moves[n] else 0.0


@body
def descent_alive(n, moves, stopped, alive):
    """alive[n]: it still moves, or stopped because its gradient is small."""
    alive[n] = moves[n] or stopped[n]
