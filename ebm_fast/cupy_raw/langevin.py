"""Twin of `langevin`: the step with given noise, and the launches of which the chain of any energy is made.

What differs: see langevin.cu. Everything here is launched on the current stream and waits for nothing.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ebm_ref.contracts import ShapeError, check_array
from ebm_ref.specs import SGLD, ULA, Box

from ..checks import check_like
from .device import blocks, current, launch
from .limits import NUMBERS, SAMPLES, check_fits
from .noise import key_words
from .source import kernel

FILE = "langevin.cu"
THREADS = 256  # of a block, where one sample needs no more
LANES = {np.dtype(np.float32): 1024, np.dtype(np.float64): 256}  # threads of a block at most, as the kernels are bound


def langevin_step(
    x: Any,
    g: Any,
    xi: Any,
    eta: float,
    sigma: float,
    clip: float | None = None,
    clip_norm: float | None = None,
    box: Box | None = None,
) -> Any:
    """x' = box(x - eta clip(g) + sigma xi).

    x, g, xi: (N, *shape) on the device, one dtype; returns a new array like x. `clip` bounds each element of g, then
    `clip_norm` each sample's 2-norm; `box` = (low, high) bounds x'. NaN stays NaN.
    Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x, g, xi = (adopted(name, a) for name, a in (("x", x), ("g", g), ("xi", xi)))
    check_rows("x", x)
    check_like("g", g, x)
    check_like("xi", xi, x)
    update = SGLD(eta, sigma, clip, clip_norm, box)  # checks the numbers
    out = dev.empty(x.shape, x.dtype)
    N, D = rows(x)
    launch(
        kernel(FILE, "langevin_step", x.dtype),
        *row_grid(N, D, x.dtype),
        (out, x, g, xi, N, D, *numbers(update, x.dtype)),
    )
    return out


def langevin_jitter(x: Any, xi: Any, sigma: float, box: Box | None = None) -> Any:
    """x~ = box(x + sigma xi): the first half of a noise-first step.

    x, xi: (N, *shape) on the device, one dtype; returns a new array like x. Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x, xi = adopted("x", x), adopted("xi", xi)
    check_rows("x", x)
    check_like("xi", xi, x)
    update = SGLD(0.0, sigma, box=box)  # checks the numbers
    out = dev.empty(x.shape, x.dtype)
    _, sigma, _, _, low, high = numbers(update, x.dtype)
    grid = blocks(x.size, 4 * THREADS)
    launch(kernel(FILE, "langevin_jitter", x.dtype), grid, THREADS, (out, x, xi, np.int64(x.size), sigma, low, high))
    return out


# ------------------------------------------------------------- one step of the chain of any energy


def begin_launch(alive: Any, counter: Any, step: int, dtype: Any) -> None:
    """All chains alive, counter = (0, step).   alive: (N,) bool, counter: (2,) uint32, both written."""
    args = (alive, counter, np.int64(alive.size), np.uint32(step))
    launch(kernel(FILE, "langevin_begin", dtype), blocks(max(alive.size, 1), THREADS), THREADS, args)


def tick_launch(counter: Any, dtype: Any) -> None:
    """counter += 1: the next step."""
    launch(kernel(FILE, "langevin_tick", dtype), 1, 1, (counter,))


def noise_first_launch(
    x: Any, t: Any, ids: Any, alive: Any, counter: Any, update: ULA | SGLD, seed: int, stream: int
) -> None:
    """t = box(x + sigma xi) where alive; a chain where that is not finite stops, and t is its x.

    x, t: (N, *shape), apart, t written; ids: (N,) uint32; alive: (N,) bool, written; xi at (seed, stream, counter[1]).
    """
    N, D = rows(x)
    _, sigma, _, _, low, high = numbers(update, x.dtype)
    args = (t, x, ids, alive, counter, N, D, sigma, low, high, *key_words(seed), np.uint32(stream))
    launch(kernel(FILE, "langevin_noise_first", x.dtype), *row_grid(N, D, x.dtype), args)


def update_launch(
    x: Any,
    t: Any,
    g: Any,
    E: Any,
    ids: Any,
    alive: Any,
    energies: Any,
    grad_norms: Any,
    counter: Any,
    update: ULA | SGLD,
    seed: int,
    stream: int,
) -> None:
    """x = box(t - eta clip(g) [+ sigma xi]) where alive; a chain where E, g or that is not finite stops at x.

    The noise is there in gradient_first only. energies[k] = E and grad_norms[k] = |g| of each sample, k = counter[0].
    x: (N, *shape), written; t: where E and g were taken, x itself in gradient_first; E: (N,); ids: (N,) uint32;
    alive: (N,) bool, written; energies, grad_norms: (K, N), written; xi at (seed, stream, counter[1]).
    """
    N, D = rows(x)
    draw = update.order == "gradient_first" and update.sigma > 0
    args = (x, t, g, E, ids, alive, energies, grad_norms, counter, N, D, *numbers(update, x.dtype))
    address = (*key_words(seed), np.uint32(stream))
    launch(kernel(FILE, "langevin_update", x.dtype), *row_grid(N, D, x.dtype), (*args, *address, np.int32(draw)))


def check_rows(name: str, x: Any) -> None:
    """Raise unless `x` is float32 or float64 with at least one axis."""
    check_array(name, x)
    if x.ndim == 0:
        raise ShapeError(f"{name}: expected (N, *shape), found a number")


def adopted(name: str, x: Any) -> Any:
    """`x` on the device. Raises RangeError where a launch cannot hold so much, DTypeError."""
    check_fits(name, x, samples=SAMPLES, numbers=NUMBERS)
    return current().array(name, x)


def rows(x: Any) -> tuple[np.int64, np.int64]:
    """(N, D) of (N, *shape)."""
    return np.int64(x.shape[0]), np.int64(prod(x.shape[1:]))


def row_grid(N: Any, D: Any, dtype: Any) -> tuple[int, tuple[int, int]]:
    """(grid, block): threads x over the quads of a sample, threads y over samples; nothing where there is nothing."""
    quads = blocks(int(D), 4)
    if quads <= 32:
        lanes = 1 << max(quads - 1, 0).bit_length()  # shuffles add up whole powers of two
    else:
        lanes = min(32 * blocks(quads, 32), LANES[np.dtype(dtype)])
    samples = max(1, THREADS // lanes)  # lanes * samples is whole warps
    return blocks(int(N), samples), (lanes, samples)


def numbers(update: ULA | SGLD, dtype: Any) -> tuple[Any, ...]:
    """eta, sigma, clip, clip_norm, low, high in `dtype`, infinity for None: a number too large for it is infinity."""
    inf, real = float("inf"), np.dtype(dtype).type
    low, high = (-inf, inf) if update.box is None else update.box
    bounds = (inf if bound is None else bound for bound in (update.clip, update.clip_norm))
    with np.errstate(over="ignore"):
        return tuple(real(value) for value in (update.eta, update.sigma, *bounds, low, high))
