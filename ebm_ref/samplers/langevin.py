"""Langevin dynamics: K noisy gradient steps on N chains.

    langevin_step     x' = box(x - eta clip(g) + sigma xi)
    langevin_jitter   x~ = box(x + sigma xi)
    langevin_run      K steps, g = grad_x E, xi drawn by address
        ULA(eps_step)             eta = eps_step / 2, sigma = sqrt(eps_step): targets exp(-E) as eps_step -> 0
        SGLD(eta, sigma, ...)     decoupled: targets exp(-E / T), T = sigma^2 / (2 eta), for small eta and no clips
            gradient_first        x' = step(x, g(x), xi)
            noise_first           x~ = jitter(x, xi),  x' = step(x~, g(x~)) without noise: what is returned
                                  has seen no noise since its last gradient

Order of operations in one step: (1) noise, if noise_first; (2) box, if noise_first; (3) E and grad_x E;
(4) clip of each element, then of each sample's 2-norm; (5) move; (6) noise, if gradient_first; (7) box.

On E = lambda x^2 / 2 with a = 1 - eta lambda, gradient_first and no clips, the law stays Gaussian:
m_k = a^k m_0 and s_k = a^(2k) s_0 + sigma^2 (1 - a^(2k)) / (1 - a^2). So ULA's stationary variance is
1 / (lambda (1 - eps_step lambda / 4)) and not 1 / lambda; noise_first multiplies sigma^2 by a^2.

A chain whose jitter, energy, gradient or next state is not finite stops: it keeps the state it had before
that step, is still evaluated there, and is counted. Nothing non-finite is ever replaced.

Source: Roberts & Tweedie 1996, Exponential convergence of Langevin distributions, eq. 1.4 (ULA);
Du & Mordatch 2019, arXiv:1903.08689 (noise_first); Grathwohl et al. 2020, arXiv:1912.03263 (gradient_first).
The name SGLD is customary here; Welling & Teh 2011 meant noisy gradients of a posterior.
Level: 1. Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

import numpy as np

from ..contracts import (
    Array,
    ChainInfo,
    DTypeError,
    Energy,
    Params,
    ShapeError,
    Stream,
    check_array,
    check_count,
    check_energy,
    check_number,
    flat_size,
)
from ..noise import noise_normal
from ..specs import SGLD, ULA, Box, Update, check_box
from .chain import chain_column, chain_finite, chain_keep, chain_norm, check_like


def langevin_step(
    x: Array,
    g: Array,
    xi: Array,
    eta: float,
    sigma: float,
    clip: float | None = None,
    clip_norm: float | None = None,
    box: Box | None = None,
) -> Array:
    """x' = box(x - eta clip(g) + sigma xi).

    x, g, xi: (N, *shape), one dtype   clip: bound of each element of g   clip_norm: bound of each sample's
    2-norm of g, after clip   box: (low, high) of each element of x'   returns like x.
    Raises ShapeError, DTypeError, RangeError. Non-finite input gives non-finite output, except where a clip
    of elements or the box bounds an infinity.
    """
    check_like("g", g, x)
    check_like("xi", xi, x)
    SGLD(eta, sigma, clip, clip_norm, box)  # checks the numbers
    if clip is not None:
        g = np.clip(g, -float(clip), float(clip))
    if clip_norm is not None:
        norm = chain_column(chain_norm(g), g)  # (N, 1, ...)
        bound = min(float(clip_norm), float(np.finfo(g.dtype).max))  # one beyond all numbers bounds nothing
        g = g * (bound / np.maximum(norm, bound))
    x = x - float(eta) * g + float(sigma) * xi
    return x if box is None else np.clip(x, float(box[0]), float(box[1]))


def langevin_jitter(x: Array, xi: Array, sigma: float, box: Box | None = None) -> Array:
    """x~ = box(x + sigma xi).

    x, xi: (N, *shape), one dtype   returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_like("xi", xi, x)
    check_number("sigma", sigma, low=0.0)
    check_box(box)
    x = x + float(sigma) * xi
    return x if box is None else np.clip(x, float(box[0]), float(box[1]))


def langevin_run(
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    update: Update,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
    stream: int = Stream.CHAIN_NOISE,
) -> tuple[Array, ChainInfo]:
    """K steps of `update` from x0; step k draws xi at (seed, stream, step + k, chains[n], element).

    x0: (N, *shape), untouched   chains: (N,) integer addresses, None = 0..N-1   returns x_K like x0 and
    ChainInfo: energy and grad_norm (K, N) where the gradient was taken (before clips), alive (N,).
    Raises NonFiniteError when x0 is not finite, ShapeError, DTypeError, RangeError.
    """
    check_energy("energy", energy)
    check_array("x0", x0, shape=(None, *energy.shape), finite=True)
    check_count("K", K, low=0)
    check_count("step", step, low=0, high=2**32 - max(int(K), 1))
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    N, D, step = x0.shape[0], flat_size(energy.shape), int(step)
    chains = np.arange(N) if chains is None else chains
    noise_normal(seed, stream, step, chains, 0)  # refuses a bad address, even where K = 0 draws nothing
    if chains.shape != (N,):
        raise ShapeError(f"chains: expected shape ({N},), found {chains.shape}")
    noise_first = update.order == "noise_first"
    clips = (update.clip, update.clip_norm, update.box)

    x = x0.copy()
    alive = np.ones(N, bool)
    info = ChainInfo(np.empty((K, N), x.dtype), np.empty((K, N), x.dtype), alive)
    for k in range(K):
        xi = noise_normal(seed, stream, step + k, chains, D, x.dtype).reshape(x.shape)  # (N, *shape)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            at = x
            if noise_first:
                moved = langevin_jitter(x, xi, update.sigma, update.box)
                alive &= chain_finite(moved)
                at = chain_keep(alive, moved, x)
            E, g = energy.energy_and_grad_x(theta, at)  # (N,), (N, *shape)
            check_array("energy", E, shape=(N,))
            info.energy[k], info.grad_norm[k] = E, chain_norm(g)
            moved = langevin_step(at, g, xi, update.eta, 0.0 if noise_first else update.sigma, *clips)
            alive &= chain_finite(E) & chain_finite(g) & chain_finite(moved)
            x = chain_keep(alive, moved, x)
    info.nonfinite = int(N - np.count_nonzero(alive))
    return x, info
