"""log Z, likelihood and bits per dimension of a run by annealed importance sampling: `ebm eval RUN --ais`.

    density       p(x) = exp(-E(x) / T) / Z on the box. T = sigma^2 / (2 eta) for the methods that train by chains: what
                  those sample, up to the size of their steps; exp(-E) itself they never see. T = 1 for the others
    path          uniform on the box -> p, by HMC on mirrored points, every move with its acceptance test
    pilot         a walk over PILOT temperatures, far apart: the step size h at each, by Robbins-Monro, and
                  sd(log p - log p_0); between them both are interpolated in log beta
    temperatures  beta_0 .. beta_K so that each step changes log w by the same share of its sd: a path of constant speed

forward   a lower bound of log Z
reverse   from the samples that stand for the model, after RELAX moves at beta = 1. They are no exact draws of it: this
          is no bound, and where they hold but a part of the mass, it falls below log Z: a negative width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, RangeError, check_count, flat_size
from ebm_ref.evaluation import (
    AISResult,
    Estimate,
    HMCTransition,
    MirroredBase,
    MirroredEnergy,
    TemperedEnergy,
    ais_reverse_run,
    ais_run,
    bits_per_dim_run,
    estimate_mean,
)
from ebm_ref.methods import METHODS
from ebm_ref.samplers import HMC_TARGET, RobbinsMonro, adaptation_start, hmc_adapt
from ebm_ref.specs import Box

from .figures import with_error
from .model import Model, choose
from .placement import to_backend, to_host
from .run import Run

CHAINS, TEMPERATURES = 128, 1000
CHAINED = ("cd", "pcd", "icd", "jem")  # methods whose energy is trained against its own chains
LEAPFROGS = 5
PILOT, BURN, PILOT_CHAINS = 40, 30, 32
RELAX = 200  # moves of the reverse run's starts before it begins
COLDEST = 1e-5  # the first temperature of the pilot, as beta
H = 0.5  # of the box's half width: where the pilot's step size starts
LEVELS = {"digits": 17, "mnist5k": 256}  # values that a pixel takes
PURPOSE = 2**32 - 3  # step of Stream.EVALUATION whose draws choose the reverse run's starts


@dataclass(frozen=True)
class Annealing:
    """chains: of either direction   temperatures: K, steps from base to model. Raises RangeError, DTypeError."""

    chains: int = CHAINS
    temperatures: int = TEMPERATURES

    def __post_init__(self) -> None:
        check_count("--chains", self.chains, low=2)
        check_count("--temperatures", self.temperatures, low=2)


def annealing_figures(run: Run, model: Model, chains: Array, plan: Annealing) -> dict[str, Any]:
    """log Z forward and in reverse, the mean -log p of held-out data and its bits per dimension by either.

    chains: (n, *shape), the samples that stand for the model.
    """
    T, box = temperature(run, model), density_box(run)
    energy, base = MirroredEnergy(model.energy, box, T), MirroredBase(box)
    betas, move = pilot(model, energy, base, run.seed, run.data.train.dtype)(plan.temperatures)
    starts = relaxed(model, energy, base, move, choose(model.backend, chains, plan.chains, run.seed, PURPOSE), run.seed)
    there = (model.backend, energy, model.theta, base, betas)
    forward = to_host(model.backend, ais_run(*there, plan.chains, move, run.seed, run.data.train.dtype))
    reverse = to_host(model.backend, ais_reverse_run(*there, starts, move, run.seed, exact=False))
    figures = {
        "ais_density": f"exp(-E / {T:.4g}) on [{box[0]:g}, {box[1]:g}]^{flat_size(run.data.shape)}",
        "ais_chains": [len(forward.log_w), len(reverse.log_w)],
        "ais_temperatures": plan.temperatures,
        **direction("ais", forward),
        **direction("ais_reverse", reverse),
        **with_error("ais_width", width(forward, reverse)),
    }
    energies = model.energies(run.data.test) / T
    for name, found in (("ais", forward), ("ais_reverse", reverse)):
        mean = estimate_mean(energies)
        log_z = found.log_mean_w
        figures |= with_error(f"{name}_nll", Estimate(mean.value + log_z.value, hypot(mean.se, log_z.se)))
        figures |= bits(run, model, energy, box, name, log_z)
    return figures


def temperature(run: Run, model: Model, asked: str = "--ais") -> float:
    """T of the density that `asked`, a flag, is about. Raises RangeError where chains without noise leave none."""
    method, update = run.config.train.method, model.update
    if METHODS[method].sampler not in ("langevin", "heated"):
        raise RangeError(f"{asked}: method {method} follows no density, found a run of it")
    if run.config.train.method not in CHAINED:
        return 1.0
    if update.sigma == 0:
        raise RangeError(f"{asked}: expected sigma > 0, found chains without noise: they follow no density")
    return update.sigma**2 / (2 * update.eta)


def relaxed(
    model: Model, energy: MirroredEnergy, base: MirroredBase, move: HMCTransition, x: Array, seed: int
) -> Array:
    """x after RELAX moves of HMC on the model, whose step size adapts as in the pilot; an array of the backend."""
    assert isinstance(move.h, tuple)
    last, rule = adaptation_start(move.h[-1]), RobbinsMonro(HMC_TARGET)
    model_itself, start = TemperedEnergy(energy, base, 1.0), to_backend(model.backend, x)
    args = (model.backend, model_itself, model.theta, start, RELAX, LEAPFROGS, rule, last, pilot_seed(seed))
    moved: Array = hmc_adapt(*args, PILOT * BURN)[0]
    return moved


def density_box(run: Run) -> tuple[float, float]:
    """The recipe's box, or the range of the data and half of it more on each side."""
    low, high = float(run.data.train.min()), float(run.data.train.max())
    return run.config.train.box or (low - (high - low) / 2, high + (high - low) / 2)


def direction(name: str, found: AISResult) -> dict[str, Any]:
    """What one direction says about log Z, and whether that is a bound."""
    return {
        **with_error(f"{name}_log_z", found.log_mean_w),
        **with_error(f"{name}_mean_log_w", found.mean_log_w),
        f"{name}_ess": found.ess,
        f"{name}_acceptance": float(np.mean(found.acceptance)),
        f"{name}_bound": found.bound,
        f"{name}_holds": found.holds,
    }


def width(forward: AISResult, reverse: AISResult) -> Estimate:
    """reverse - forward, in nats; a bracket only where both are bounds."""
    lower, upper = forward.log_mean_w, reverse.log_mean_w
    return Estimate(upper.value - lower.value, hypot(upper.se, lower.se))


def bits(run: Run, model: Model, energy: Any, box: Box, name: str, log_z: Estimate) -> dict[str, Any]:
    """Bits per dimension of the held-out images, of data sets whose pixels are known integers within the box."""
    levels = LEVELS.get(run.data.name)
    if levels is None or box is None or box[0] > -1 or box[1] < 1:
        return {}
    v = np.rint((run.data.test + 1) / 2 * (levels - 1)).astype(np.int64)  # (m, *shape), 0 .. levels - 1
    host = OnHost(model, energy)
    found = bits_per_dim_run(model.backend, host, model.theta, v, log_z, (-1.0, 1.0), run.seed, 8, levels)
    return with_error(f"{name}_bits_per_dim", found)


def pilot(model: Model, energy: MirroredEnergy, base: MirroredBase, seed: int, dtype: Any) -> Any:
    """K -> (betas, move), from one walk of PILOT_CHAINS chains over the temperatures of the pilot."""
    low, high = base.box  # type: ignore[misc]
    x = base.draw(model.backend, seed, PILOT_CHAINS, energy.shape, np.dtype(dtype))
    coarse = np.geomspace(COLDEST, 1.0, PILOT)
    h, sizes, spread = H * (high - low) / 2, [], []
    for k, beta in enumerate(coarse):
        tempered = TemperedEnergy(energy, base, float(beta))
        state, rule = adaptation_start(h), RobbinsMonro(HMC_TARGET)
        args = (model.backend, tempered, model.theta, x, BURN, LEAPFROGS, rule, state, pilot_seed(seed), k * BURN)
        x, state, _ = hmc_adapt(*args)
        h = min(state.eps_step, high - low)
        sizes.append(h)
        E = to_host(model.backend, energy.energy(model.theta, x)).astype(np.float64)
        spread.append(float(E.std()))

    def plan(K: int) -> tuple[tuple[float, ...], HMCTransition]:
        fine = np.concatenate([[0.0], np.geomspace(COLDEST, 1.0, 4000)])
        speed = np.interp(np.log(np.maximum(fine, COLDEST)), np.log(coarse), spread)
        length = np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(fine))])
        betas = np.interp(np.linspace(0, length[-1], K + 1), length, fine)
        betas[0], betas[-1] = 0.0, 1.0
        steps = np.exp(np.interp(np.log(np.maximum(betas[1:], COLDEST)), np.log(coarse), np.log(sizes)))
        return tuple(map(float, betas)), HMCTransition(tuple(map(float, steps)), LEAPFROGS)

    return plan


def pilot_seed(seed: int) -> int:
    """Another seed than the runs': what tuned a move must not be what it is used on."""
    return (seed + 0x9E3779B97F4A7C15) % 2**64


class OnHost:
    """An energy of the backend's arrays as one of NumPy's."""

    def __init__(self, model: Model, energy: Any) -> None:
        self.model, self.inner, self.shape = (
            Model(model.backend, energy, model.theta, model.update),
            energy,
            energy.shape,
        )

    def energy(self, theta: Any, x: Array) -> Array:
        return self.model.energies(x)
