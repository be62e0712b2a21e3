"""Our chains on a card: the persistent kernel and the graph of layers, on every net.

Each path is checked by what it computes itself: the gradient, from one step without noise, and three steps with noise
against the float64 oracle at the same addresses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import EbmError
from ebm_ref.specs import SGLD

from .bench_rows import our_row, right
from .context import SKIP, Context
from .nets import CHECKED, GRAD_BUDGET, SEED, UPDATE, Net, chain_work, fixture, nets, starts_of, step_of, theta
from .nets import relative_error as relative
from .timing import CupyClock, Timed, measure

PATHS = ("chain", "layers")
STEPS = 3  # of the chain that is compared with the oracle's
ROTATED = 4  # starts of a timed chain


def chains(context: Context) -> None:
    context.need_card()
    cp = context.need("cupy")
    module = context.need("ebm_fast.cupy_raw")
    device = context.need("ebm_fast.cupy_raw.device").current()
    for net, n, k in nets(context.quick):
        for path in PATHS:
            context.part(f"{net.name} {path}", chain, context, cp, module, device, net, n, k, path)


def chain(context: Context, cp: Any, module: Any, device: Any, net: Net, n: int, k: int, path: str) -> None:
    case, twin = f"{net.name}-N{n}-K{k}", f"cupy_raw {path}"
    if context.left() < 3:
        context.row("bench", SKIP, "no time left", bench="langevin_run", case=case, twin=twin)
        return
    try:
        error = chain_error(context.files, module, device, net, path)
    except EbmError as refusal:  # a path that this net does not have
        context.row("bench", SKIP, str(refusal), bench="langevin_run", case=case, twin=twin)
        return
    if not right(context, "langevin_run", case, twin, error, GRAD_BUDGET):
        return
    timed = time_chain(cp, module, device, net, n, k, path)
    our_row(context, "langevin_run", case, twin, timed, error, chain_work(net, n, k))


def time_chain(cp: Any, module: Any, device: Any, net: Net, n: int, k: int, path: str) -> Timed:
    """K steps on N chains, parameters and starts on the device."""
    energy = net.energy(module)
    params = {name: device.put(value) for name, value in theta(net).items()}
    x = starts_of(net, n)
    starts = [device.put(np.roll(x, i, axis=0)) for i in range(ROTATED)]

    def call(i: int) -> Any:
        return module.langevin_run(energy, params, starts[i % ROTATED], k, UPDATE, SEED + i, path=path)[0]

    return measure(call, CupyClock(cp))


def chain_error(folder: Path, module: Any, device: Any, net: Net, path: str) -> float:
    """The worst of: the gradient that one noiseless step moves along; STEPS steps with noise; both on `path`."""
    energy, exact = net.energy(module), fixture(net, folder)
    params = {name: device.put(value) for name, value in theta(net).items()}
    x = device.put(exact["x"])

    def run(steps: int, update: SGLD) -> np.ndarray:
        moved: np.ndarray = device.get(module.langevin_run(energy, params, x, steps, update, SEED, path=path)[0])
        return moved

    eta = step_of(exact)
    along = (exact["x"].astype(np.float64) - run(1, SGLD(eta, 0.0, box=UPDATE.box))) / eta
    doubled = {name: value.astype(np.float64) for name, value in theta(net).items()}
    few = slice(0, CHECKED // 4)
    steps = ebm_ref.langevin_run(net.energy(ebm_ref), doubled, exact["x"][few].astype(np.float64), STEPS, UPDATE, SEED)[
        0
    ]
    return max(relative(along, exact["g"]), relative(run(STEPS, UPDATE)[few], steps))
