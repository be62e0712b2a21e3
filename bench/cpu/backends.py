"""Backends of this project as stacks: ours, and ebm_ref in float32, which is the plain NumPy that one would write.

prepare(backend, case) -> Prepared: the call that is timed, and the answers that are checked before
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Stream
from ebm_ref.specs import SGLD

from ..gpu.nets import SEED, starts_of
from .cases import Case, function_of
from .oracle import (
    RECIPE,
    UPDATE,
    WALK,
    buffer_samples,
    buffer_slots,
    buffer_turn,
    first_moment,
    joined,
    moments,
    parameters,
    rows_of,
    trained,
)


@dataclass(frozen=True)
class Prepared:
    """call: what is timed; it returns when the result is there   answers(eta): by name, eta that of the walk.

    own_clock: the call returns seconds and megabytes that it has measured itself.
    """

    call: Callable[[], Any]
    answers: Callable[[float], dict[str, Any]]
    own_clock: bool = False


def prepare(backend: Any, case: Case) -> Prepared:
    """A case on a backend."""
    return PREPARE[case.bench](backend, case)


def prepare_chain(backend: Any, case: Case) -> Prepared:
    energy, theta, x0 = case.energy.energy(backend), parameters(case), starts_of(case.energy, case.n)

    def call() -> Any:
        return backend.langevin_run(energy, theta, x0, case.K, UPDATE, SEED)[0]

    def answers(eta: float) -> dict[str, Any]:
        rows = rows_of(case)
        walk = SGLD(eta=eta, sigma=0.0, box=UPDATE.box)
        moved = backend.langevin_run(energy, theta, x0, WALK, walk, SEED)[0]
        return {
            "grad": energy.grad_x(theta, x0)[rows],
            "walk": (moved.astype(np.float64) - x0)[rows],
            "run": call()[rows],
        }

    return Prepared(call, answers)


def prepare_pcd(backend: Any, case: Case) -> Prepared:
    energy, theta, x = case.energy.energy(backend), parameters(case), starts_of(case.energy, case.n)

    def answers(eta: float) -> dict[str, Any]:
        state, _ = trained(backend, case)()
        moved = {name: np.abs(state.theta[name] - theta[name]).astype(np.float64) for name in theta}
        ema = {name: np.abs(state.ema[name] - theta[name]).astype(np.float64) for name in theta}
        return {
            "grad_theta": joined(ebm_ref.contrastive(energy, theta, x, -x, RECIPE.alpha)[1]),
            "moved": moved_far(moved, ema),
            "run": first_moment(backend, case, np.float32),
        }

    return Prepared(trained(backend, case), answers)


def moved_far(moved: dict[str, Any], ema: dict[str, Any]) -> Any:
    """The median of |theta' - theta| / lr over the filters, and of |ema' - theta| / ((1 - decay) lr).

    Adam's first update is lr wherever the gradient is far above its eps.
    """
    large = [name for name in moved if moved[name].ndim > 1]
    sizes = [float(np.median(joined({name: y[name] for name in large}))) for y in (moved, ema)]
    return np.array([sizes[0] / RECIPE.lr, sizes[1] / ((1 - RECIPE.ema_decay) * RECIPE.lr)])


def prepare_noise(backend: Any, case: Case) -> Prepared:
    def call() -> Any:
        return backend.noise_normal(SEED, Stream.CHAIN_NOISE, 0, np.arange(case.n), case.size, np.float32)

    def answers(eta: float) -> dict[str, Any]:
        xi = call()
        return {"moments": moments(xi), "run": xi[rows_of(case)]}

    return Prepared(call, answers)


def prepare_buffer(backend: Any, case: Case) -> Prepared:
    slots, x, steps = buffer_slots(case), buffer_samples(case), count()

    def answers(eta: float) -> dict[str, Any]:
        before = buffer_slots(case)
        x0, idx = buffer_turn(backend, before, x, 0)
        sums = before.sum(axis=tuple(range(1, before.ndim)), dtype=np.float64)
        found = np.isin(np.unique(before), x).sum() / len(np.unique(idx))
        origin = np.isin(x0[np.ptp(x0.reshape(len(x0), -1), axis=1) == 0], buffer_slots(case)).mean()
        return {"kept": np.array([origin, found]), "run": (x0, idx.astype(np.float64), sums)}

    return Prepared(lambda: buffer_turn(backend, slots, x, next(steps)), answers)


def prepare_function(backend: Any, case: Case) -> Prepared:
    function = function_of(case)

    def answers(eta: float) -> dict[str, Any]:
        return {"run": function.make(backend, np.float32)()}

    return Prepared(function.make(backend, np.float32), answers)


PREPARE: dict[str, Callable[[Any, Case], Prepared]] = {
    "chain": prepare_chain,
    "start": prepare_chain,
    "pcd": prepare_pcd,
    "noise": prepare_noise,
    "buffer": prepare_buffer,
    "functions": prepare_function,
}
