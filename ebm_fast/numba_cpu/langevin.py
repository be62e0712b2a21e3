"""Twin of `langevin`: steps and chains, tiles of chains on several threads.

What differs: noise is made inside the update, one tile at a time, from the same addresses; no (N, D)
array of normals exists. A network of this backend runs all K steps of a tile in one call, its state
never leaving the cache; any other energy is called once a step with all chains.
Reads and writes x and g once a step; results do not depend on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from ebm_ref.contracts import ChainInfo, DTypeError, Stream, check_array, check_count, check_energy, check_number
from ebm_ref.specs import SGLD, ULA, check_box

from ..checks import WORD, check_address, check_chains, check_like, check_samples, flat
from . import chain
from . import machine as m
from .network import Network
from .noise import key_words
from .program import Program
from .runner import NO_RECORDS

INF = float("inf")
SMALL = 1 << 14  # numbers below which one thread is faster than two


def step_numbers(
    dtype: Any, eta: float, sigma: float, clip: float | None, clip_norm: float | None, box: Any
) -> np.ndarray:
    """eta, sigma, clip, clip_norm, low, high with infinity for None, and for a number too large for `dtype`."""
    low, high = (-INF, INF) if box is None else box
    bounds = (INF if clip is None else clip, INF if clip_norm is None else clip_norm)
    with np.errstate(over="ignore"):
        return np.array([eta, sigma, *bounds, low, high], dtype)


def check_step_numbers(eta: Any, sigma: Any, clip: Any, clip_norm: Any, box: Any) -> None:
    check_number("eta", eta, low=0.0)
    check_number("sigma", sigma, low=0.0)
    for name, value in (("clip", clip), ("clip_norm", clip_norm)):
        if value is not None:
            check_number(name, value, low=0.0, open_low=True)
    check_box(box)


@lru_cache(maxsize=256)
def step_program(D: int, dtype: np.dtype, jitter: bool) -> Program:
    """One step with given noise: inputs x, xi, g."""
    P = Program(dtype)
    x, xi, g, bad, alive, norm, p = P.rows(D), P.rows(D), P.rows(D), P.rows(1), P.rows(1), P.rows(1), P.pack("", 6)
    P.emit(m.FILL, alive, 1, 1)
    P.emit(m.FILL, bad, 1, 0)
    for i, rows in enumerate((x, xi) if jitter else (x, xi, g)):
        P.emit(m.LOAD, rows, i, D)
    if jitter:
        P.emit(chain.jitter_tile, x, xi, x, D, p, bad, alive)
    else:
        P.emit(chain.move_tile, x, g, xi, x, D, p, bad, norm, bad)
    P.emit(m.STORE, x, D)
    P.freeze()
    return P


@lru_cache(maxsize=256)
def jitter_program(D: int, dtype: np.dtype) -> Program:
    """Where alive (record 0), box(x + sigma xi), xi by address; a chain where that is not finite stops at x."""
    P = Program(dtype)
    x, bad, alive, p = P.rows(D), P.rows(1), P.rows(1), P.pack("", 6)
    P.emit(m.FILL, bad, 1, 0)
    P.emit(m.READ, alive, 0, 0)
    P.emit(m.LOAD, x, 0, D)
    xi = P.noise(D)
    P.emit(chain.jitter_tile, x, xi, xi, D, p, bad, alive)
    P.emit(chain.keep_tile, x, xi, D, alive, bad)
    P.emit(m.WRITE, alive, 0, 0)
    P.emit(m.STORE, x, D)
    P.freeze()
    return P


@lru_cache(maxsize=256)
def update_program(D: int, dtype: np.dtype, draw: bool) -> Program:
    """x = where alive, box(t - eta clip(g) [+ sigma xi]): inputs x, t, g; records alive, |g|, E."""
    P = Program(dtype)
    x, t, g = P.rows(D), P.rows(D), P.rows(D)
    bad, alive, norm, E, p = P.rows(1), P.rows(1), P.rows(1), P.rows(1), P.pack("", 6)
    for i, rows in enumerate((x, t, g)):
        P.emit(m.LOAD, rows, i, D)
    P.emit(m.FILL, bad, 1, 0)
    P.emit(m.READ, alive, 0, 0)
    P.emit(m.READ, E, 2, 0)
    xi = P.noise(D) if draw else -1
    P.emit(chain.move_tile, t, g, xi, t, D, p, bad, norm, E)
    P.emit(chain.keep_tile, x, t, D, alive, bad)
    P.emit(m.WRITE, alive, 0, 0)
    P.emit(m.WRITE, norm, 1, 0)
    P.emit(m.STORE, x, D)
    P.freeze()
    return P


def step_all(inputs: tuple[np.ndarray, ...], p: np.ndarray, jitter: bool) -> np.ndarray:
    """One step of all samples with given noise."""
    x = inputs[0]
    flats = tuple(flat(a, x.shape[1:]) for a in inputs)
    out = np.empty_like(flats[0])
    P = step_program(out.shape[1], x.dtype, jitter)
    P.run(P.weights({"": p}), flats, out, NO_RECORDS[x.dtype], threads=1 + x.size // SMALL)
    return out.reshape(x.shape)


def langevin_step(
    x: np.ndarray,
    g: np.ndarray,
    xi: np.ndarray,
    eta: float,
    sigma: float,
    clip: float | None = None,
    clip_norm: float | None = None,
    box: tuple[float, float] | None = None,
) -> np.ndarray:
    """x' = box(x - eta clip(g) + sigma xi).

    x, g, xi: (N, *shape); returns like x. `clip` bounds each element of g, then `clip_norm` each sample's
    2-norm; `box` = (low, high) bounds x'. Raises ShapeError, DTypeError, RangeError. NaN stays NaN.
    """
    check_array("x", x)
    check_like("g", g, x)
    check_like("xi", xi, x)
    check_step_numbers(eta, sigma, clip, clip_norm, box)
    return step_all((x, xi, g), step_numbers(x.dtype, eta, sigma, clip, clip_norm, box), False)


def langevin_jitter(x: np.ndarray, xi: np.ndarray, sigma: float, box: tuple[float, float] | None = None) -> np.ndarray:
    """x~ = box(x + sigma xi): the first half of a noise-first step.

    x, xi: (N, *shape); returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    check_like("xi", xi, x)
    check_step_numbers(0.0, sigma, None, None, box)
    return step_all((x, xi), step_numbers(x.dtype, 0.0, sigma, None, None, box), True)


def langevin_run(
    energy: Any,
    theta: dict[str, np.ndarray],
    x0: np.ndarray,
    K: int,
    update: ULA | SGLD,
    seed: int,
    step: int = 0,
    chains: np.ndarray | None = None,
    stream: int = Stream.CHAIN_NOISE,
) -> tuple[np.ndarray, ChainInfo]:
    """K steps of x' = box(x - eta clip(grad_x E(x)) + sigma xi); step k draws xi at counter step + k.

    x0: (N, *shape), finite, left alone; chains: (N,) ids, None = 0..N-1; returns (x, ChainInfo).
    noise_first: x~ = box(x + sigma xi), then the gradient step from x~ without noise. A chain whose
    energy, gradient or next state is not finite stops at its last finite state. `energy` is any object with the
    energy protocol. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    check_energy("energy", energy)
    check_samples("x0", x0, tuple(energy.shape))
    check_array("x0", x0, finite=True)
    check_count("K", K, low=0)
    check_address(seed, stream, step)
    check_count("step + K - 1", int(step) + max(K, 1) - 1, low=0, high=WORD)
    N = x0.shape[0]
    ids = check_chains(np.arange(N) if chains is None else chains, N)
    p = step_numbers(x0.dtype, update.eta, update.sigma, update.clip, update.clip_norm, update.box)
    address = (*key_words(seed), int(stream), int(step))
    own = getattr(type(energy), "energy_and_grad_x", None) is Network.energy_and_grad_x  # not overridden
    run = energy.run_chain if own else partial(run_energy, energy)
    x, info = run(theta, x0, K, p, update.order == "noise_first", address, ids)
    info.nonfinite = int(N - np.count_nonzero(info.alive))
    return x, info


def run_energy(
    energy: Any,
    theta: dict[str, np.ndarray],
    x0: np.ndarray,
    K: int,
    p: np.ndarray,
    noise_first: bool,
    address: tuple[Any, ...],
    ids: np.ndarray,
) -> tuple[np.ndarray, ChainInfo]:
    """The chain of any energy: one call of `energy_and_grad_x` and one pass over the tiles a step."""
    x = flat(x0, x0.shape[1:]).copy()
    (N, D), dtype = x.shape, x.dtype
    records = np.ones((3, 1, N), dtype)  # alive, |g|, E
    energies, norms = np.empty((K, N), dtype), np.empty((K, N), dtype)
    move, jitter = update_program(D, dtype, not noise_first), jitter_program(D, dtype)
    W, threads = move.weights({"": p}), 1 + x.size // SMALL
    for k in range(K):
        t = x.copy()  # the energy may keep what it is handed
        at = ((*address[:3], address[3] + k), ids, threads)
        if noise_first:
            jitter.run(W, (x,), t, records, 0, *at)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            E, g = energy.energy_and_grad_x(theta, t.reshape(x0.shape))
        check_array("energy_and_grad_x[0]", E, shape=(N,))
        check_like("energy_and_grad_x[1]", g, x0, "x0")
        energies[k] = records[2, 0] = E
        move.run(W, (x, t, flat(g, x0.shape[1:])), x, records, 0, *at)
        norms[k] = records[1, 0]
    return x.reshape(x0.shape), ChainInfo(energies, norms, records[0, 0] > 0)
