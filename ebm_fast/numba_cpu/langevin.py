"""Twin of `langevin`: steps and chains, tiles of chains on several threads.

What differs: noise is made inside the update, one tile at a time, from the same addresses; no (N, D)
array of normals exists. A network of this backend runs all K steps of a tile in one call, its state
never leaving the cache; any other energy is called once a step with all chains.
Reads and writes x and g once a step; results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import ChainInfo, DTypeError, Stream, check_array, check_count, check_number
from ebm_ref.specs import SGLD, ULA, check_box

from ..checks import WORD, check_address, check_chains, check_like, check_samples, flat
from .build import kernel
from .chain import jitter_tile, keep_tile, load_tile, move_tile, noise_tile, store_tile, zero_rows
from .lanes import lane_count
from .noise import key_words
from .threads import parallel, scratch

INF = float("inf")


def tile_width(dtype: Any) -> int:
    """Chains of a tile: two registers."""
    return 2 * lane_count(dtype)


def tile_count(N: int, dtype: Any) -> int:
    """Tiles that hold N chains."""
    return -(-N // tile_width(dtype))


def step_numbers(
    dtype: Any, eta: float, sigma: float, clip: float | None, clip_norm: float | None, box: Any
) -> np.ndarray:
    """eta, sigma, clip, clip_norm, low, high with infinity for None."""
    low, high = (-INF, INF) if box is None else box
    bounds = (INF if clip is None else clip, INF if clip_norm is None else clip_norm)
    return np.array([eta, sigma, *bounds, low, high], dtype)


def check_step_numbers(eta: Any, sigma: Any, clip: Any, clip_norm: Any, box: Any) -> None:
    check_number("eta", eta, low=0.0)
    check_number("sigma", sigma, low=0.0)
    for name, value in (("clip", clip), ("clip_norm", clip_norm)):
        if value is not None:
            check_number(name, value, low=0.0, open_low=True)
    check_box(box)


@kernel
def step_tiles(x, g, xi, y, p, jitter, S, width, part, parts):
    """y = one step of every tile part, part + parts, ...; jitter: without the gradient."""
    N, D = x.shape
    size = D * width
    bad = np.empty(width, x.dtype)
    norm = np.empty(width, x.dtype)
    for n0 in range(part * width, N, parts * width):
        bad[:] = 0
        load_tile(x, n0, D, width, S, 0)
        load_tile(xi, n0, D, width, S, size)
        if jitter:
            jitter_tile(S, 0, size, 2 * size, D, width, p, bad)
        else:
            load_tile(g, n0, D, width, S, 2 * size)
            move_tile(S, 0, 2 * size, size, 2 * size, D, width, p, bad, norm)
        store_tile(S, 2 * size, n0, D, width, y)


@kernel
def jitter_tiles(x, y, wrong, p, k0, k1, stream, step, chains, S, width, part, parts):
    """y = box(x + sigma xi), xi by address; wrong[n] becomes NaN where that is not finite."""
    N, D = x.shape
    size = D * width
    words = np.empty((4, width), np.uint64)
    blocks = np.empty(width, np.uint64)
    raw = np.empty(4 * width, x.dtype)
    bad = np.empty(width, x.dtype)
    for n0 in range(part * width, N, parts * width):
        bad[:] = 0
        load_tile(x, n0, D, width, S, 0)
        noise_tile(k0, k1, stream, step, chains[n0 : n0 + width], D, width, words, blocks, raw, S, 2 * size)
        jitter_tile(S, 0, 2 * size, size, D, width, p, bad)
        store_tile(S, size, n0, D, width, y)
        for l in range(min(width, N - n0)):
            wrong[n0 + l] = bad[l]


@kernel
def update_tiles(x, t, g, wrong, alive, norms, p, k0, k1, stream, step, chains, draw, S, width, part, parts):
    """x = where alive: box(t - eta clip(g) + sigma xi), with xi by address if `draw`, else 0."""
    N, D = x.shape
    size = D * width
    rows = 4 * ((D + 3) // 4) * width
    words = np.empty((4, width), np.uint64)
    blocks = np.empty(width, np.uint64)
    raw = np.empty(4 * width, x.dtype)
    bad = np.empty(width, x.dtype)
    norm = np.empty(width, x.dtype)
    live = np.empty(width, x.dtype)
    for n0 in range(part * width, N, parts * width):
        keep = min(width, N - n0)
        for l in range(width):
            bad[l] = wrong[n0 + l] if l < keep else 0
            live[l] = alive[n0 + l] if l < keep else 0
        load_tile(t, n0, D, width, S, 0)
        load_tile(g, n0, D, width, S, size)
        load_tile(x, n0, D, width, S, 2 * size)
        if draw:
            noise_tile(k0, k1, stream, step, chains[n0 : n0 + width], D, width, words, blocks, raw, S, 3 * size)
        else:
            zero_rows(S, 3 * size, rows)
        move_tile(S, 0, size, 3 * size, 0, D, width, p, bad, norm)
        keep_tile(S, 2 * size, 0, D, width, live, bad)
        store_tile(S, 2 * size, n0, D, width, x)
        for l in range(keep):
            norms[n0 + l] = norm[l]
            alive[n0 + l] = live[l]


def step_all(x: np.ndarray, g: np.ndarray, xi: np.ndarray, p: np.ndarray, jitter: bool) -> np.ndarray:
    """One step of all samples with given noise."""
    X, G, XI = (flat(a, x.shape[1:]) for a in (x, g, xi))
    out = np.empty_like(X)
    width = tile_width(x.dtype)

    def task(part: int, parts: int) -> None:
        step_tiles(X, G, XI, out, p, jitter, scratch(3 * X.shape[1] * width, x.dtype), width, part, parts)

    parallel(task, min(tile_count(len(X), x.dtype), 1 + X.size // (1 << 15)))
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
    return step_all(x, g, xi, step_numbers(x.dtype, eta, sigma, clip, clip_norm, box), False)


def langevin_jitter(x: np.ndarray, xi: np.ndarray, sigma: float, box: tuple[float, float] | None = None) -> np.ndarray:
    """x~ = box(x + sigma xi): the first half of a noise-first step.

    x, xi: (N, *shape); returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("x", x)
    check_like("xi", xi, x)
    check_step_numbers(0.0, sigma, None, None, box)
    return step_all(x, x, xi, step_numbers(x.dtype, 0.0, sigma, None, None, box), True)


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
    gradient or next state is not finite stops at its last finite state. `energy` is any object with the
    energy protocol. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    check_samples("x0", x0, tuple(energy.shape))
    check_array("x0", x0, finite=True)
    check_count("K", K, low=0)
    check_address(seed, stream, step)
    check_count("step + K - 1", step + max(K, 1) - 1, low=0, high=WORD)
    N = x0.shape[0]
    ids = check_chains(np.arange(N) if chains is None else chains, N)
    ids = np.concatenate([ids, np.zeros(-N % tile_width(x0.dtype), np.uint64)])  # whole tiles
    p = step_numbers(x0.dtype, update.eta, update.sigma, update.clip, update.clip_norm, update.box)
    address = (*key_words(seed), np.uint64(int(stream)))
    x, info = run_energy(energy, theta, x0, K, p, update.order == "noise_first", address, step, ids)
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
    step: int,
    ids: np.ndarray,
) -> tuple[np.ndarray, ChainInfo]:
    """The chain of any energy: one call of `energy_and_grad_x` and one pass over the tiles a step."""
    N, shape, dtype = x0.shape[0], x0.shape[1:], x0.dtype
    x = flat(x0, shape).copy()
    D, width = x.shape[1], tile_width(dtype)
    t = np.empty_like(x) if noise_first else x
    energies, norms = np.empty((K, N), dtype), np.empty((K, N), dtype)
    wrong, alive = np.zeros(N, dtype), np.ones(N, dtype)
    pieces = min(tile_count(N, dtype), 1 + x.size // (1 << 13))
    for k in range(K):
        at = (*address, np.uint64(step + k), ids)
        if noise_first:

            def jitter(part: int, parts: int, at: Any = at) -> None:
                S = scratch((3 * D + 3) * width, dtype)
                jitter_tiles(x, t, wrong, p, *at, S, width, part, parts)

            parallel(jitter, pieces)
        energies[k], gradient = energy.energy_and_grad_x(theta, t.reshape(x0.shape))
        check_like("energy_and_grad_x", gradient, x0, "x0")
        g = flat(gradient, shape)

        def update(part: int, parts: int, at: Any = at, k: int = k, g: Any = g) -> None:
            S = scratch((4 * D + 3) * width, dtype)
            update_tiles(x, t, g, wrong, alive, norms[k], p, *at, not noise_first, S, width, part, parts)

        parallel(update, pieces)
    return x.reshape(x0.shape), ChainInfo(energies, norms, alive > 0)
