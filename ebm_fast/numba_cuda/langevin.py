"""Twin of `langevin`: steps and chains, a thread for four elements of one chain.

What differs: noise is made inside the update from the same addresses. A step is three launches around the energy's:
`chain_measure` (a thread a chain: energy, norm, whether both are finite), `chain_move` (a thread a Philox block:
noise, move, box) and `chain_keep` (a thread an element: a stopped chain keeps its state); noise first, two more.
Several threads may stop one chain: all of them write the same value. Bytes: x, g and x' read or written about six
times a step. Deterministic.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import numpy as np

from ebm_ref.contracts import (
    ChainInfo,
    DTypeError,
    ShapeError,
    Stream,
    check_array,
    check_count,
    check_energy,
    check_number,
    flat_size,
)
from ebm_ref.specs import SGLD, ULA, check_box

from ..checks import WORD, check_address, check_like, check_samples
from .chain import (
    INF,
    chain_jitter,
    chain_keep,
    chain_measure,
    chain_move,
    chain_start,
    jitter_move,
    step_move,
    step_scale,
)
from .device import Device, current, launch
from .network import Network
from .noise import address_words, chain_ids

# --------------------------------------------------------------------------------------- public


def check_step_numbers(eta: Any, sigma: Any, clip: Any, clip_norm: Any, box: Any) -> None:
    check_number("eta", eta, low=0.0)
    check_number("sigma", sigma, low=0.0)
    for name, value in (("clip", clip), ("clip_norm", clip_norm)):
        if value is not None:
            check_number(name, value, low=0.0, open_low=True)
    check_box(box)


def bounds(clip: Any, clip_norm: Any, box: Any) -> tuple[float, float, float, float]:
    """clip, clip_norm, low, high with infinity for None."""
    low, high = (-INF, INF) if box is None else box
    return INF if clip is None else float(clip), INF if clip_norm is None else float(clip_norm), float(low), float(high)


def check_rows(name: str, x: Any) -> None:
    """Raise unless `x` is float32 or float64 with at least one axis."""
    check_array(name, x)
    if x.ndim == 0:
        raise ShapeError(f"{name}: expected (N, *shape), found a number")


def rows(x: Any) -> Any:
    """(N, *shape) as (N, D)."""
    return x.reshape(x.shape[0], flat_size(x.shape[1:]))


def langevin_step(
    x: Any,
    g: Any,
    xi: Any,
    eta: float,
    sigma: float,
    clip: float | None = None,
    clip_norm: float | None = None,
    box: tuple[float, float] | None = None,
) -> Any:
    """x' = box(x - eta clip(g) + sigma xi).

    x, g, xi: (N, *shape); returns like x. `clip` bounds each element of g, then `clip_norm` each sample's
    2-norm; `box` = (low, high) bounds x'. Raises ShapeError, DTypeError, RangeError. NaN stays NaN.
    """
    dev = current()
    x, g, xi = dev.array("x", x), dev.array("g", g), dev.array("xi", xi)
    check_rows("x", x)
    check_like("g", g, x)
    check_like("xi", xi, x)
    check_step_numbers(eta, sigma, clip, clip_norm, box)
    clip, clip_norm, low, high = bounds(clip, clip_norm, box)
    scale, out = dev.empty((x.shape[0],), x.dtype), dev.empty(x.shape, x.dtype)
    launch(step_scale, x.dtype, x.shape[0], rows(g), clip, clip_norm, scale)
    numbers = (float(eta), float(sigma), clip, low, high)
    launch(step_move, x.dtype, x.size, rows(x), rows(g), rows(xi), scale, *numbers, rows(out))
    return out


def langevin_jitter(x: Any, xi: Any, sigma: float, box: tuple[float, float] | None = None) -> Any:
    """x~ = box(x + sigma xi): the first half of a noise-first step.

    x, xi: (N, *shape); returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    dev = current()
    x, xi = dev.array("x", x), dev.array("xi", xi)
    check_rows("x", x)
    check_like("xi", xi, x)
    check_step_numbers(0.0, sigma, None, None, box)
    _, _, low, high = bounds(None, None, box)
    out = dev.empty(x.shape, x.dtype)
    launch(jitter_move, x.dtype, x.size, rows(x), rows(xi), float(sigma), low, high, rows(out))
    return out


def langevin_run(
    energy: Any,
    theta: dict[str, Any],
    x0: Any,
    K: int,
    update: ULA | SGLD,
    seed: int,
    step: int = 0,
    chains: Any = None,
    stream: int = Stream.CHAIN_NOISE,
) -> tuple[Any, ChainInfo]:
    """K steps of x' = box(x - eta clip(grad_x E(x)) + sigma xi); step k draws xi at counter step + k.

    x0: (N, *shape), finite, left alone; chains: (N,) ids, on the host or on the device, None = 0..N-1;
    returns (x, ChainInfo). noise_first: x~ = box(x + sigma xi), then the gradient step from x~ without noise.
    A chain whose energy, gradient or next state is not finite stops at its last finite state. `energy` is any object
    with the energy protocol on arrays of the device. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    dev = current()
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    check_energy("energy", energy)
    x0 = dev.array("x0", x0)
    check_samples("x0", x0, tuple(energy.shape))
    check_array("x0", x0, finite=True)
    check_count("K", K, low=0)
    check_address(seed, stream, step)
    check_count("step + K - 1", int(step) + max(K, 1) - 1, low=0, high=WORD)
    shape, dtype, N = x0.shape, x0.dtype, x0.shape[0]
    ids = chain_ids(dev, np.arange(N) if chains is None else chains, N)
    forces = own_forces(energy, theta, x0) or any_forces(dev, energy, theta, x0)
    noise_first = update.order == "noise_first"
    clip, clip_norm, low, high = bounds(update.clip, update.clip_norm, update.box)
    eta, sigma = float(update.eta), float(update.sigma)

    start = rows(x0)
    D = start.shape[1]
    x, alive = dev.empty((N, D), dtype), dev.empty((N,), np.bool_)
    launch(chain_start, dtype, N * D, start, x, alive)
    energies, norms, scale = dev.empty((K, N), dtype), dev.empty((K, N), dtype), dev.empty((N,), dtype)
    blocks = N * ((D + 3) // 4)
    for k in range(K):
        address = (ids, *address_words(seed, stream, int(step) + k))
        at = x
        if noise_first:
            at = dev.empty((N, D), dtype)
            launch(chain_jitter, dtype, blocks, x, sigma, low, high, *address, at, alive)
            launch(chain_keep, dtype, N * D, x, alive, at)
        E, g = forces(at.reshape(shape))
        launch(chain_measure, dtype, N, E, rows(g), clip, clip_norm, energies[k], norms[k], scale, alive)
        moved = dev.empty((N, D), dtype)  # a new array: the energy may keep what it was handed
        numbers = (eta, 0.0 if noise_first else sigma, clip, low, high)
        launch(chain_move, dtype, blocks, at, rows(g), scale, *numbers, *address, moved, alive)
        launch(chain_keep, dtype, N * D, x, alive, moved)
        x = moved
    info = ChainInfo(energies, norms, alive, N - int(np.count_nonzero(alive)))
    return x.reshape(shape), info


def own_forces(energy: Any, theta: dict[str, Any], x0: Any) -> Any:
    """x -> E, grad_x E of a network of this backend, whose arguments are checked once; None for any other energy."""
    method = getattr(type(energy), "energy_and_grad_x", None)
    if not isinstance(energy, Network) or unwrap(method) is not Network.energy_and_grad_x:  # overridden
        return None
    theta = energy.adopt_theta(theta, x0)
    return lambda x: energy.forces(theta, x)


def any_forces(dev: Device, energy: Any, theta: dict[str, Any], x0: Any) -> Any:
    """x -> E, grad_x E of an energy that is known by its protocol alone, with what it returns checked."""

    def forces(x: Any) -> tuple[Any, Any]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            E, g = energy.energy_and_grad_x(theta, x)
        E, g = dev.array("energy_and_grad_x[0]", E), dev.array("energy_and_grad_x[1]", g)
        check_array("energy_and_grad_x[0]", E, shape=(x0.shape[0],))
        check_like("energy_and_grad_x[1]", g, x0, "x0")
        return E, g

    return forces
