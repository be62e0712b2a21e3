"""What the threads of `langevin` do: norms and clips of a chain, moves of four elements, whether a chain goes on.

A chain stops by a write of False to alive[n]; several threads may write it, and none reads it in the same launch.
"""

from __future__ import annotations

from ..scalar import langevin_move
from .build import body
from .maths import sqrt
from .noise import normals

INF = float("inf")


def bounded(v, low, high):
    """v between low and high; NaN stays NaN."""
    if v < low:
        return low
    if v > high:
        return high
    return v


def finite(v):
    return abs(v) < INF  # false for NaN


def norm_of(g, n, clip):
    """2-norm of clip(g[n]) by its largest element, so that no square overflows or vanishes."""
    top = 0.0
    for d in range(g.shape[1]):
        size = abs(bounded(g[n, d], -clip, clip))
        if size > top:
            top = size
    one = top if finite(top) and top > 0.0 else 1.0
    total = 0.0
    for d in range(g.shape[1]):
        part = bounded(g[n, d], -clip, clip) / one
        total += part * part
    return top * sqrt(total)


def shrink(norm, clip_norm):
    """clip_norm / max(norm, clip_norm), NaN for a norm that is NaN; 1 where nothing bounds the norm."""
    if clip_norm == INF:
        return 1.0
    return clip_norm / (clip_norm if norm <= clip_norm else norm)


# ---------------------------------------------------------------------------------- what a thread does


@body
def step_scale(n, g, clip, clip_norm, scale):
    """scale[n] = what clip_norm leaves of clip(g[n]). g: (N, D)."""
    scale[n] = shrink(norm_of(g, n, clip), clip_norm)


@body
def step_move(i, x, g, xi, scale, eta, sigma, clip, low, high, out):
    """out = box(x - eta clip(g) + sigma xi), thread (n, d). x, g, xi, out: (N, D)."""
    n, d = i // x.shape[1], i % x.shape[1]
    drift = bounded(g[n, d], -clip, clip) * scale[n]
    out[n, d] = bounded(langevin_move(x[n, d], drift, xi[n, d], eta, sigma), low, high)


@body
def jitter_move(i, x, xi, sigma, low, high, out):
    """out = box(x + sigma xi), thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    out[n, d] = bounded(x[n, d] + sigma * xi[n, d], low, high)


@body
def chain_start(i, x, out, alive):
    """out = x, alive[n] = True, thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    out[n, d] = x[n, d]
    if d == 0:
        alive[n] = True


@body
def chain_jitter(i, x, sigma, low, high, chains, step, stream, k0, k1, moved, alive):
    """moved = box(x + sigma xi), xi by address; a chain where it is not finite stops. Thread (n, block of four)."""
    D = x.shape[1]
    n, q = i // ((D + 3) // 4), i % ((D + 3) // 4)
    xi = normals(q, chains[n], step, stream, k0, k1)
    for j in range(min(4, D - 4 * q)):
        d = 4 * q + j
        v = bounded(x[n, d] + sigma * xi[j], low, high)
        moved[n, d] = v
        if not finite(v):
            alive[n] = False


@body
def chain_measure(n, E, g, clip, clip_norm, energy, grad_norm, scale, alive):
    """Records E and |g| of chain n, and what clip_norm leaves of clip(g); it stops where E or g is not finite."""
    energy[n] = E[n]
    grad_norm[n] = norm_of(g, n, INF)
    scale[n] = shrink(norm_of(g, n, clip), clip_norm)
    stops = not finite(E[n])
    for d in range(g.shape[1]):
        if not finite(g[n, d]):
            stops = True
    if stops:
        alive[n] = False


@body
def chain_move(i, x, g, scale, eta, sigma, clip, low, high, chains, step, stream, k0, k1, moved, alive):
    """moved = box(x - eta clip(g) + sigma xi), xi by address, none for sigma = 0. Thread (n, block of four)."""
    D = x.shape[1]
    n, q = i // ((D + 3) // 4), i % ((D + 3) // 4)
    xi = (0.0, 0.0, 0.0, 0.0)
    if sigma > 0.0:
        xi = normals(q, chains[n], step, stream, k0, k1)
    for j in range(min(4, D - 4 * q)):
        d = 4 * q + j
        drift = bounded(g[n, d], -clip, clip) * scale[n]
        v = bounded(langevin_move(x[n, d], drift, xi[j], eta, sigma), low, high)
        moved[n, d] = v
        if not finite(v):
            alive[n] = False


@body
def chain_keep(i, x, alive, moved):
    """moved = x where the chain has stopped, thread (n, d)."""
    n, d = i // x.shape[1], i % x.shape[1]
    if not alive[n]:
        moved[n, d] = x[n, d]
