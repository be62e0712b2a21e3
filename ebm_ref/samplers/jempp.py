"""Several moves along one gradient: the inner loop of JEM++ (YOPO).

    jempp_run   M times:  g = grad_x E(x)
                    N times:  x' = box(x - eta clip(g) + sigma xi)      with that same g

JEM++ calls its update proximal SGLD: x' = box(x - eta clip(g) + sigma xi) with clip = 1, box = (-1, 1). That is
SGLD(eta, sigma, clip=..., box=...) of specs.py, and `langevin_run` runs it; nothing is written again here.

What it adds is YOPO's inner loop. Split E after its first layer z = L(x), freeze p = dE/dz, and move N times along
g(x) = L'(x)^T p. Where L is linear, as in every network of this project (and in the released code of JEM++), L'(x)^T p
does not depend on x and is grad_x E at the point where p was taken. So frozen p is frozen g, whatever the energy, and
level 1 of the protocol is enough. Without noise the N moves are one move of N eta to the bit of rounding,

    box(... box(x - eta g') ... - eta g') = box(x - N eta g'),      g' = clip(g),

since along a constant direction an element that has met the box stays there. So (N, eta) matters through N eta alone:
the published N = 5, eta = 0.2, clip = 1 is a clipped gradient step of 1, M = 10 times. With noise the N moves differ
from one, by the box between them.

Order of operations and the stopping of chains are those of `langevin_run`, gradient_first.

Source: Yang & Ji 2021, JEM++, arXiv:2109.09032, section 3; Zhang et al. 2019, arXiv:1905.00877 (YOPO).
Level: 1. Twins: none; each move is the backend's `langevin_step`.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    ChainInfo,
    DTypeError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_count,
    flat_size,
)
from ..specs import SGLD, ULA, Update


def jempp_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    M: int,
    N: int,
    update: Update,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
    stream: int = Stream.CHAIN_NOISE,
) -> tuple[Array, ChainInfo]:
    """M gradients, N moves along each; move n of gradient m draws xi at counter step + m N + n.

    backend: module with noise_normal, langevin_step   x0: (chains, *shape), untouched   update: gradient_first
    returns x like x0 and ChainInfo: energy, grad_norm (M, chains), alive (chains,). With N = 1 it is `langevin_run`.
    Raises NonFiniteError when x0 is not finite, ShapeError, DTypeError, RangeError.
    """
    check_array("x0", x0, shape=(None, *energy.shape), finite=True)
    check_count("M", M, low=0)
    check_count("N", N, low=1)
    check_count("step", step, low=0, high=2**32 - max(int(M) * int(N), 1))
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    if update.order != "gradient_first":
        raise RangeError("update: expected order gradient_first, since a frozen gradient sees no new noise")
    count, D = x0.shape[0], flat_size(energy.shape)
    chains = np.arange(count) if chains is None else chains
    backend.noise_normal(seed, stream, step, chains, 0)  # refuses a bad address, even where M = 0 draws nothing
    if chains.shape != (count,):
        raise ShapeError(f"chains: expected shape ({count},), found {chains.shape}")
    clips = (update.clip, update.clip_norm, update.box)

    x = x0.copy()
    alive = np.ones(count, bool)
    info = ChainInfo(np.empty((M, count), x.dtype), np.empty((M, count), x.dtype), alive)
    for m in range(M):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            E, g = energy.energy_and_grad_x(theta, x)  # (chains,), (chains, *shape)
            info.energy[m] = E
            info.grad_norm[m] = np.sqrt(np.sum(_rows(g) ** 2, axis=1))
            alive &= np.isfinite(E) & np.isfinite(_rows(g)).all(axis=1)
            for n in range(N):
                xi = backend.noise_normal(seed, stream, step + m * N + n, chains, D, x.dtype).reshape(x.shape)
                moved = backend.langevin_step(x, g, xi, update.eta, update.sigma, *clips)  # (chains, *shape)
                alive &= np.isfinite(_rows(moved)).all(axis=1)
                x = np.where(alive.reshape((count,) + (1,) * (x.ndim - 1)), moved, x)
    info.nonfinite = int(count - np.count_nonzero(alive))
    return x, info


def _rows(x: Array) -> Array:
    """(N, *shape) -> (N, D)."""
    return x.reshape((x.shape[0], flat_size(x.shape[1:])))
