"""Every hot function once more, as scalar Python loops written from the equation: the backend "naive".

A third opinion beside the oracle and its twins, sharing no code and no arithmetic with either: one
number at a time, in Python's own float64, rounded to the dtype of the input at the very end. It is as
slow as it is plain, checks nothing, and serves the verification kit alone.
Sources of the equations: the oracle's files of the same names.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, ChainInfo, Stream

from .naive_flow import coupling_cost, repulsion
from .naive_noise import noise_bits, noise_index, noise_normal, noise_permutation, noise_philox, noise_uniform

__all__ = [
    "buffer_draw",
    "buffer_push",
    "conv2d_backward",
    "conv2d_forward",
    "coupling_cost",
    "group_norm_backward",
    "group_norm_forward",
    "langevin_jitter",
    "langevin_run",
    "langevin_step",
    "noise_bits",
    "noise_index",
    "noise_normal",
    "noise_permutation",
    "noise_philox",
    "noise_uniform",
    "repulsion",
]


# -------------------------------------------------------------------------------------- langevin


def bounded(value: float, low: float, high: float) -> float:
    """value held to [low, high]; NaN stays NaN."""
    if value < low:
        return low
    return high if value > high else value


def langevin_step(
    x: Array, g: Array, xi: Array, eta: float, sigma: float, clip: Any = None, clip_norm: Any = None, box: Any = None
) -> Array:
    """x' = box(x - eta clip(g) + sigma xi), clip by element, then by the 2-norm of each sample."""
    out = np.empty(x.shape, x.dtype)
    for n in range(x.shape[0]):
        places = [(n, *rest) for rest in np.ndindex(*x.shape[1:])]
        slope = {place: float(g[place]) for place in places}
        if clip is not None:
            slope = {place: bounded(value, -clip, clip) for place, value in slope.items()}
        if clip_norm is not None:
            top = max((abs(value) for value in slope.values()), default=0.0)
            if top > 0 and isfinite(top):  # by the largest element, so that no square leaves the range
                norm = top * sqrt(sum((value / top) ** 2 for value in slope.values()))
                if norm > clip_norm:
                    slope = {place: value / norm * clip_norm for place, value in slope.items()}
        for place in places:
            value = float(x[place]) - eta * slope[place] + sigma * float(xi[place])
            out[place] = value if box is None else bounded(value, *box)
    return out


def langevin_jitter(x: Array, xi: Array, sigma: float, box: Any = None) -> Array:
    """x~ = box(x + sigma xi)."""
    out = np.empty(x.shape, x.dtype)
    for place in np.ndindex(*x.shape):
        value = float(x[place]) + sigma * float(xi[place])
        out[place] = value if box is None else bounded(value, *box)
    return out


def langevin_run(
    energy: Any,
    theta: Any,
    x0: Array,
    K: int,
    update: Any,
    seed: int,
    step: int = 0,
    chains: Any = None,
    stream: int = Stream.CHAIN_NOISE,
) -> tuple[Array, ChainInfo]:
    """Chain after chain, each a batch of one; it stays for good where a step would leave the finite numbers."""
    N, clips = len(x0), (update.clip, update.clip_norm, update.box)
    x, alive = x0.copy(), np.ones(N, bool)
    energies, norms = np.empty((K, N), x0.dtype), np.empty((K, N), x0.dtype)
    for n in range(N):
        name = np.array([n if chains is None else chains[n]])
        here = x0[n : n + 1]
        for k in range(K):
            xi = noise_normal(seed, stream, step + k, name, here.size, x0.dtype).reshape(here.shape)
            at, sigma = here, update.sigma
            if update.order == "noise_first":
                at, sigma = langevin_jitter(here, xi, update.sigma, update.box), 0.0
                alive[n] = alive[n] and bool(np.isfinite(at).all())
                at = at if alive[n] else here
            E, g = energy.energy(theta, at), energy.grad_x(theta, at)
            energies[k, n], norms[k, n] = E[0], sqrt(sum(float(value) ** 2 for value in g.ravel()))
            there = langevin_step(at, g, xi, update.eta, sigma, *clips)
            alive[n] = alive[n] and all(isfinite(value) for part in (E, g, there) for value in part.ravel())
            here = there if alive[n] else here
        x[n] = here[0]
    return x, ChainInfo(energies, norms, alive, N - sum(map(bool, alive)))


# ---------------------------------------------------------------------------------------- buffer


def buffer_draw(
    slots: Array, filled: int, bits: Array, u: Array, fresh: Array, rho: float
) -> tuple[Array, Array, Array]:
    """x0[n] = fresh[n] if u[n] < rho (or nothing is stored) else slots[floor(bits[n] filled / 2^32)]."""
    N = len(bits)
    x0, idx, restart = np.empty(fresh.shape, slots.dtype), np.zeros(N, np.int64), np.zeros(N, bool)
    for n in range(N):
        idx[n] = int(bits[n]) * filled // 2**32
        restart[n] = filled == 0 or float(u[n]) < rho
        x0[n] = fresh[n] if restart[n] else slots[idx[n]]
    return x0, idx, restart


def buffer_push(
    slots: Array, filled: int, ptr: int, x: Array, policy: str, idx: Any = None, bits: Any = None
) -> tuple[int, int]:
    """Samples enter `slots` one after the other, in batch order, at the place that the policy names."""
    M = len(slots)
    for n in range(len(x)):
        count = ptr + n  # samples ever pushed before this one
        if policy == "in_place":
            place = int(idx[n])
        elif policy == "fifo":
            place = count % M
        else:
            place = count if count < M else int(bits[n]) * (count + 1) // 2**32
        if place < M:
            slots[place] = x[n]
        if policy != "in_place":
            filled = min(M, filled + 1)
    return filled, ptr + len(x)


# ------------------------------------------------------------------------------------ convolution


def window(size: int, taps: int, stride: int, padding: str) -> tuple[int, int]:
    """(outputs along one axis, zeros before its first element): TensorFlow's SAME and VALID."""
    if padding == "VALID":
        return (size - taps) // stride + 1, 0
    outputs = (size + stride - 1) // stride
    return outputs, max((outputs - 1) * stride + taps - size, 0) // 2


def taps(x: Array, w: Array, stride: int, padding: str) -> Any:
    """Every (n, p, q, h, v, r, s) for which filter tap (r, s) of output (p, q) falls on pixel (h, v)."""
    N, H, W, _ = x.shape
    R, S, _, _ = w.shape
    P, top = window(H, R, stride, padding)
    Q, left = window(W, S, stride, padding)
    for n, p, q, r, s in np.ndindex(N, P, Q, R, S):
        h, v = p * stride + r - top, q * stride + s - left
        if 0 <= h < H and 0 <= v < W:
            yield n, p, q, h, v, r, s


def conv2d_forward(x: Array, w: Array, b: Array, stride: int = 1, padding: str = "SAME") -> Array:
    """y[n,p,q,o] = b[o] + sum_{r,s,c} x[n, p stride + r - top, q stride + s - left, c] w[r,s,c,o]."""
    R, S, C, O = w.shape
    P, _ = window(x.shape[1], R, stride, padding)
    Q, _ = window(x.shape[2], S, stride, padding)
    y = np.empty((x.shape[0], P, Q, O))
    for place in np.ndindex(*y.shape):
        y[place] = float(b[place[3]])
    for n, p, q, h, v, r, s in taps(x, w, stride, padding):
        for o in range(O):
            for c in range(C):
                y[n, p, q, o] += float(x[n, h, v, c]) * float(w[r, s, c, o])
    return y.astype(x.dtype)


def conv2d_backward(
    x: Array, w: Array, dy: Array, stride: int = 1, padding: str = "SAME"
) -> tuple[Array, Array, Array]:
    """For every product x w that y[n,p,q,o] adds up: dx += dy w, dw += dy x; db[o] = sum dy[...,o]."""
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(w.shape[3])
    for n, p, q, h, v, r, s in taps(x, w, stride, padding):
        for o in range(w.shape[3]):
            for c in range(w.shape[2]):
                dx[n, h, v, c] += float(dy[n, p, q, o]) * float(w[r, s, c, o])
                dw[r, s, c, o] += float(dy[n, p, q, o]) * float(x[n, h, v, c])
    for place in np.ndindex(*dy.shape):
        db[place[3]] += float(dy[place])
    return dx.astype(x.dtype), dw.astype(x.dtype), db.astype(x.dtype)


# ------------------------------------------------------------------------------------- group norm


def members(x: Array, groups: int) -> Any:
    """For every sample and group: the places of its elements."""
    each = x.shape[-1] // groups
    for n in range(x.shape[0]):
        for k in range(groups):
            channels = range(k * each, (k + 1) * each)
            yield [(n, *rest, c) for rest in np.ndindex(*x.shape[1:-1]) for c in channels]


def standardise(x: Array, places: list[Any], eps: float) -> tuple[list[float], float]:
    """(x_i - mean) / sqrt(var + eps) over `places`, biased variance; and that root."""
    values = [float(x[place]) for place in places]
    mean = sum(values) / len(values)
    var = sum((value - mean) ** 2 for value in values) / len(values)
    root = sqrt(var + eps)
    return [(value - mean) / root for value in values], root


def group_norm_forward(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> Array:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, statistics of one sample and one group of channels."""
    y = np.empty(x.shape, x.dtype)
    for places in members(x, groups):
        z, _ = standardise(x, places, eps)
        for i, place in enumerate(places):
            y[place] = float(gamma[place[-1]]) * z[i] + float(beta[place[-1]])
    return y


def group_norm_backward(x: Array, gamma: Array, dy: Array, groups: int, eps: float = 1e-5) -> Any:
    """dx_i = sum_j dy_j gamma_j dz_j/dx_i with dz_j/dx_i = ([i = j] - 1/m - z_i z_j / m) / sqrt(var + eps)."""
    dx, dgamma, dbeta = np.zeros(x.shape), np.zeros(gamma.shape), np.zeros(gamma.shape)
    for places in members(x, groups):
        z, root = standardise(x, places, eps)
        m = len(places)
        pull = [float(dy[place]) * float(gamma[place[-1]]) for place in places]
        for i, place in enumerate(places):
            dx[place] = sum(pull[j] * ((i == j) - 1 / m - z[i] * z[j] / m) for j in range(m)) / root
            dgamma[place[-1]] += float(dy[place]) * z[i]
            dbeta[place[-1]] += float(dy[place])
    return dx.astype(x.dtype), dgamma.astype(x.dtype), dbeta.astype(x.dtype)
