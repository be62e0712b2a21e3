"""Twin of `langevin_run`: K steps of chains whose state stays on the device.

What differs: three ways to run, which `path` names.

    chain    all K steps of a ConvEnergy or MLPEnergy of this backend in one launch (chain.cu)
    layers   a network of this backend layer by layer: a few launches a step, recorded once as a CUDA graph
    auto     chain for those two, layers for a DeepConvEnergy; any other energy that has `energy_and_grad_x` is called
             once a step with all chains, and answers with arrays of any library on the same device

Noise is made inside the kernels, by address. What comes back lies on the device; only the count of the chains
that stopped is waited for, once, and x0 looked over at the start.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import numpy as np

from ebm_ref.contracts import (
    ChainInfo,
    DTypeError,
    RangeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_energy,
)
from ebm_ref.specs import SGLD, ULA, ConvSpec, MLPSpec

from ..checks import WORD, check_address, check_like
from .chain import chain_launch
from .device import current
from .langevin import begin_launch, check_rows, noise_first_launch, tick_launch, update_launch
from .limits import ELEMENTS, INT, NUMBERS, SAMPLES, check_fits
from .network import Network
from .noise import chain_ids

PATHS = ("auto", "chain", "layers")


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
    *,
    path: str = "auto",
) -> tuple[Any, ChainInfo]:
    """K steps of x' = box(x - eta clip(grad_x E(x)) + sigma xi); step k draws xi at counter step + k.

    x0: (N, *shape) on the device, finite, left alone; theta: arrays on the device; chains: (N,) ids on the host or the
    device, None = 0..N-1; path: see above; returns (x, ChainInfo) of device arrays.
    noise_first: x~ = box(x + sigma xi), then the gradient step from x~ without noise. A chain whose
    energy, gradient or next state is not finite stops at its last finite state. `energy` is any object with the
    energy protocol. Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    dev = current()
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    check_choice("path", path, PATHS)
    check_energy("energy", energy)
    samples = INT if isinstance(energy, Network) else SAMPLES
    check_fits("x0", x0, samples=samples, elements=ELEMENTS, numbers=NUMBERS)
    x0 = dev.array("x0", x0)
    check_array("x0", x0, shape=(None, *energy.shape), finite=True)
    check_rows("x0", x0)
    check_count("K", K, low=0)
    check_address(seed, stream, step)
    check_count("step + K - 1", int(step) + max(K, 1) - 1, low=0, high=WORD)
    N, K = x0.shape[0], int(K)
    ids = chain_ids(np.arange(N) if chains is None else chains, N)
    address = (int(seed), int(step), ids, int(stream))

    run = runner(energy, path)
    if run is not chain_of_energy:
        theta = energy.adopt_theta(theta, x0.dtype)
    x, energies, norms, alive = run(energy, theta, x0, K, update, *address)
    info = ChainInfo(energies, norms, alive)
    info.nonfinite = int(N - np.count_nonzero(dev.get(alive)))
    return x, info


def runner(energy: Any, path: str) -> Any:
    """The function that runs `energy` on `path`. Raises RangeError where there is none."""
    own = isinstance(energy, Network) and unwrap(type(energy).energy_and_grad_x) is Network.energy_and_grad_x
    fits = own and isinstance(energy, (ConvSpec, MLPSpec))
    if path == "chain" and not fits:
        raise RangeError(f"path: chain runs this backend's ConvEnergy and MLPEnergy, found {type(energy).__name__}")
    if path == "layers" and not own:
        raise RangeError(f"path: layers runs this backend's networks, found {type(energy).__name__}")
    if fits and path != "layers":
        return chain_launch
    return chain_of_layers if own else chain_of_energy


def chain_of_layers(
    energy: Network, theta: dict[str, Any], x0: Any, K: int, update: Any, seed: int, step: int, ids: Any, stream: int
) -> tuple[Any, Any, Any, Any]:
    """The chain of a network, launch by launch: one step is recorded and replayed."""
    dev, N, dtype = current(), x0.shape[0], x0.dtype
    x, g, alive, counter, energies, norms = chain_arrays(x0, K)
    noise_first = update.order == "noise_first"
    t = dev.empty(x0.shape, dtype) if noise_first else x
    E, space = dev.empty((N,), dtype), energy.workspace(N, dtype)
    begin_launch(alive, counter, step, dtype)

    def body() -> None:
        if noise_first:
            noise_first_launch(x, t, ids, alive, counter, update, seed, stream)
        energy.launch_energy_and_grad_x(theta, t, E, g, space)
        update_launch(x, t, g, E, ids, alive, energies, norms, counter, update, seed, stream)
        tick_launch(counter, dtype)

    dev.repeat(K, body)
    return x, energies, norms, alive


def chain_of_energy(
    energy: Any, theta: dict[str, Any], x0: Any, K: int, update: Any, seed: int, step: int, ids: Any, stream: int
) -> tuple[Any, Any, Any, Any]:
    """The chain of any energy: one call of its `energy_and_grad_x` a step."""
    dev, N, dtype = current(), x0.shape[0], x0.dtype
    x, _, alive, counter, energies, norms = chain_arrays(x0, K)
    noise_first = update.order == "noise_first"
    begin_launch(alive, counter, step, dtype)
    for _ in range(K):
        if noise_first:
            t = dev.empty(x0.shape, dtype)  # a new one each step: the energy may keep what it is handed
            noise_first_launch(x, t, ids, alive, counter, update, seed, stream)
        else:
            t = np.copy(x)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            E, g = energy.energy_and_grad_x(theta, t)
        E, g = dev.array("energy_and_grad_x[0]", E), dev.array("energy_and_grad_x[1]", g)
        check_array("energy_and_grad_x[0]", E, shape=(N,))
        check_like("energy_and_grad_x[1]", g, x0, "x0")
        update_launch(x, t, g, E.astype(dtype), ids, alive, energies, norms, counter, update, seed, stream)
        tick_launch(counter, dtype)
    return x, energies, norms, alive


def chain_arrays(x0: Any, K: int) -> tuple[Any, ...]:
    """A copy of x0, room for a gradient, alive, the step counter, and the records of K steps."""
    dev, N, dtype = current(), x0.shape[0], x0.dtype
    return (
        np.copy(x0), dev.empty(x0.shape, dtype), dev.empty((N,), np.bool_), dev.empty((2,), np.uint32),
        dev.empty((K, N), dtype), dev.empty((K, N), dtype),
    )  # fmt: skip
