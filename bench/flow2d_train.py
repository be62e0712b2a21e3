"""What flow2d trains, and how: a plan for each density and method, and the loops that follow it.

    matching_train     energy matching in phases: transport alone, transport with the contrast, the contrast alone, or
                       with transport far from the data (pin)
    matching_sample    heated descent from N(0, I) of the trained potential
    equilibrium_train  equilibrium matching of a field, or of the energy of a head on it
    equilibrium_path   descent from N(0, I): the samples after each of some numbers of steps

Transport and the likelihood disagree wherever the way of the noise leads through the data, so that exp(-V / tau) is
biased as long as both are there: the weight of transport falls to 0 at t = 1, and the last phase is without it where
data are. That phase starts all chains at data, and hot. Chains do not travel between far modes: such starts leave the
masses of the modes as the joint phase has set them, where starts from noise would move them until the basins are equal,
not the masses. Transport up to t = pin keeps the basins meanwhile, from which such samples take their masses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast.extras import require
from ebm_ref.contracts import Array, Params

BOX = (-4.5, 4.5)
SEED, POOL = 0, 400_000
PHASES = ("transport", "joint", "contrast")
TARGET = ebm_ref.EquilibriumTarget("truncated", a=0.8, scale=4.0)


@dataclass(frozen=True)
class Phase:
    """steps, and lr, which a cosine brings down to its share `last`."""

    steps: int
    lr: float
    last: float


@dataclass(frozen=True)
class Matching:
    """Energy matching: the terms, the phases, samples of transport and chains a step, sampling up to `time`.

    Of the last phase: K, steps of a chain, at most terms.K; weight of the contrast, None: that of the terms; pin, the
    last t of transport, None: no transport.
    """

    terms: ebm_ref.EMTerms
    phases: tuple[Phase, Phase, Phase]  # PHASES
    batch: int = 128
    chains: int = 256
    K: int = 30
    weight: float | None = None
    pin: float | None = None
    hidden: tuple[int, ...] = (64, 64, 64)
    time: float = 2.0


@dataclass(frozen=True)
class Equilibrium:
    """Equilibrium matching, for all densities: training, the step of descent and the numbers of steps looked at.

    spread: the data are so many times as wide as the toy, next to N(0, I): the farther they are from the noise, the
    better a point tells how far on its way it is, which is what an f without time must know; samples are divided by it
    """

    phase: Phase = Phase(1500, 3e-3, 0.01)
    batch: int = 256
    hidden: tuple[int, ...] = (64, 64, 64)
    spread: float = 3.0
    eta: float = 0.00625
    stops: tuple[int, ...] = (20, 30, *range(36, 66, 2), 80, 120, 240)


FIRST = (Phase(300, 3e-3, 0.02), Phase(150, 2e-3, 0.25))
MATCHING = {
    "eight_gaussians": Matching(
        ebm_ref.EMTerms(tau=0.4, s_star=0.8, weight=5.0, K=100, dt=0.013, cutoff=0.6),
        (Phase(500, 3e-3, 0.02), Phase(250, 2e-3, 0.1), Phase(1000, 2e-3, 0.01)),
        batch=256,
        weight=50.0,
        pin=0.2,  # or the basins of the noise drift apart
    ),
    "two_moons": Matching(
        ebm_ref.EMTerms(tau=0.4, s_star=0.6, weight=12.5, K=120, dt=0.01, cutoff=0.0),
        (*FIRST, Phase(1000, 2e-3, 0.01)),
        time=20.0,  # what a chain takes to travel along a moon is about length^2 / (pi^2 tau) = 6
    ),
    "checkerboard": Matching(
        ebm_ref.EMTerms(tau=1.0, s_star=0.6, weight=5.0, K=180, dt=0.006, cutoff=0.0),
        (*FIRST, Phase(1500, 4e-3, 0.01)),
        time=20.0,
    ),
}


@dataclass
class Descender:
    """theta under Adam with a norm clip of 10, and its running mean, which is what is judged."""

    theta: Params

    def begin(self, phase: Phase) -> None:
        """Go on from the running mean, with a fresh state."""
        self.theta = ebm_ref.ema_init(self.ema) if hasattr(self, "ema") else self.theta
        self.ema, self.state = ebm_ref.ema_init(self.theta), ebm_ref.adam_init(self.theta)
        self.phase, self.step = phase, 0

    def move(self, grads: Params) -> None:
        """One step."""
        steps, lr = self.phase.steps, self.phase.lr
        rate = ebm_ref.schedule_value(self.step, steps, lr, min(20, steps // 10), "cosine", lr * self.phase.last)
        grads, _ = ebm_ref.clip_global_norm(grads, 10.0)
        self.theta, self.state = ebm_ref.adam_step(self.theta, grads, self.state, rate)
        self.ema = ebm_ref.ema_step(self.ema, self.theta, min(0.99, (self.step + 1) / (self.step + 10)))
        self.step += 1


def batch_of(pool: Array, number: int, n: int) -> Array:
    """Batch `number` of n points of the pool, round and round."""
    return pool[(number * n + np.arange(n)) % len(pool)]


def normals(n: int, draw: int) -> Array:
    """(n, 2) normals, others for each `draw`."""
    return ebm_ref.noise_normal(SEED, ebm_ref.Stream.SAMPLE_START, draw, np.arange(n), 2, np.float32)


# ----------------------------------------------------------------------------------- energy matching


def matching_train(module: Any, density: str, plan: Matching) -> Iterator[tuple[str, Params]]:
    """Each phase's name with the theta after it."""
    energy = module.MLPEnergy((2,), plan.hidden)
    pool = ebm_ref.toy_sample(density, POOL, SEED)
    solver = require("scipy.optimize", "data").linear_sum_assignment

    def assign(cost: Array) -> Array:
        return solver(cost)[1]

    learner, before = Descender(ebm_ref.theta_init(energy, SEED)), 0
    for stage, phase in zip(PHASES, plan.phases, strict=True):
        learner.begin(phase)
        for step in range(before, before + phase.steps):
            x, x_pos = batch_of(pool, step, plan.batch), batch_of(pool, step, plan.chains)
            if stage == "contrast":
                run = (plan.K, plan.terms.dt, plan.terms.tau, plan.terms.s_star, SEED, step * plan.terms.K)
                x_neg, _ = ebm_ref.heated_run(module, energy, learner.theta, x_pos, *run, box=BOX, hot=True)
                _, grads, _ = ebm_ref.energy_contrast(
                    energy, learner.theta, x_pos, x_neg, plan.weight or plan.terms.weight
                )
                if plan.pin is not None:
                    early = replace(plan.terms, s_star=plan.pin, cutoff=1.0)
                    few = x[: plan.batch // 4]  # of data, for a field that is known already
                    _, more, _ = ebm_ref.em_step(module, energy, learner.theta, few, None, early, SEED, step, assign)
                    grads = {name: grads[name] + more[name] for name in grads}
            else:
                also = x_pos if stage == "joint" else None
                _, grads, _ = ebm_ref.em_step(
                    module, energy, learner.theta, x, also, plan.terms, SEED, step, assign, BOX
                )
            learner.move(grads)
        before += phase.steps
        yield stage, learner.ema


def matching_sample(module: Any, theta: Params, plan: Matching, n: int) -> tuple[Array, int]:
    """n samples (n, 2) and the gradients that each took."""
    energy, K = module.MLPEnergy((2,), plan.hidden), ceil(plan.time / plan.terms.dt)
    run = (K, plan.terms.dt, plan.terms.tau, plan.terms.s_star, SEED)
    x, _ = ebm_ref.heated_run(module, energy, theta, normals(n, 0), *run, step=2**31, box=BOX)
    return x, K


# ------------------------------------------------------------------------------ equilibrium matching


def equilibrium_model(head: str | None, plan: Equilibrium) -> Any:
    """The field, or the energy of a head on it."""
    trunk = ebm_ref.MLPField((2,), plan.hidden)
    return trunk if head is None else ebm_ref.FieldEnergy(trunk, head)


def equilibrium_train(density: str, head: str | None, plan: Equilibrium) -> Params:
    """The theta after all steps."""
    model, pool = equilibrium_model(head, plan), np.float32(plan.spread) * ebm_ref.toy_sample(density, POOL, SEED)
    learner = Descender(ebm_ref.theta_init(model, SEED))
    learner.begin(plan.phase)
    for step in range(plan.phase.steps):
        x = batch_of(pool, step, plan.batch)
        learner.move(ebm_ref.eqm_step(ebm_ref, model, learner.theta, x, TARGET, SEED, step)[1])
    return learner.ema


def equilibrium_slope(model: Any, theta: Params, x: Array) -> Array:
    """f, or the energy's gradient, like x."""
    slope: Array = model.grad_x(theta, x) if hasattr(model, "grad_x") else model.field(theta, x)
    return slope


def equilibrium_path(model: Any, theta: Params, plan: Equilibrium, n: int, draw: int) -> Iterator[tuple[int, Array]]:
    """Each number of steps in plan.stops, with the n samples (n, 2) there, in the toy's own units."""
    x, done = normals(n, draw), 0
    for stop in plan.stops:
        x, _, _ = ebm_ref.descent_run(model, theta, x, stop - done, ebm_ref.GradientDescent(plan.eta))
        done = stop
        yield stop, x / np.float32(plan.spread)
