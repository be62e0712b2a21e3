"""What flow2d trains, and how: a plan for each density and method, and the loops that follow it.

    matching_train     energy matching in phases: transport alone, transport with the contrast, the contrast alone
    matching_sample    heated descent from N(0, I) of the trained potential, then the walk
    walk_run           Metropolis' walk with steps of several widths: the chains of the last phase
    equilibrium_train  equilibrium matching of a field, or of the energy of a head on it
    equilibrium_path   descent from N(0, I): the samples after each of some numbers of steps

A field without time moves the noise onto the data's law only where a point tells how far on its way it is. In the plane
it does not: at a point where data are, noise passes too, so the mean over both is no flow and does not vanish at data.
With the data lifted to a third coordinate `height`, and the noise N(0, I) around 0, gamma is that coordinate over the
height, give or take (1 - gamma) / height. Then x' = -f runs through gamma' = c(gamma), as the time of a flow does, and
f is 0 at data. truncated c (scale 1) reaches a = 0.8 after s = 0.8 and then halves 1 - gamma every 0.14: where samples
arrive, 1 - gamma is about 0.02, at s = 1.25, 50 steps of 0.025. An energy has the same law only roughly: its slopes
along x and along the height depend on each other, the less the greater the height.

Transport and the likelihood disagree wherever the way of the noise leads through the data, so that exp(-V / tau) is
biased as long as both are there: the weight of transport falls to 0 at t = 1, and the last phase is without it. That
phase leaves Langevin's chains, too: the noise of their steps blurs an edge that is narrower, and they do not travel
between far modes, whose masses then drift. It is maximum likelihood by persistent chains, from data when it begins, of
Metropolis' walk: the test makes steps of any width exact, and one as wide as the data takes a chain from mode to mode.
Of width 2, one in 4 is taken on the checkerboard, one in 16 on eight Gaussians; in many dimensions hardly one would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast.extras import require
from ebm_ref.contracts import Array, Params
from ebm_ref.samplers import metropolis_step

BOX = (-4.5, 4.5)
POOL_SEED, POOL = 0, 400_000  # training data, other than those of flow2d's seeds, for every plan's seed
WIDTHS = (0.1, 0.3, 1.0, 2.0)  # of the walk's steps, in turn
WALK = 400  # steps of sampling by the walk
PHASES = ("transport", "joint", "contrast")


@dataclass(frozen=True)
class Phase:
    """steps, and lr, which a cosine brings down to its share `last`."""

    steps: int
    lr: float
    last: float


@dataclass(frozen=True)
class Matching:
    """Energy matching: the terms, the phases, samples of transport and chains a step.

    Of the last phase: as many walkers, and data, a step of training, and K steps of the walk.
    """

    terms: ebm_ref.EMTerms
    phases: tuple[Phase, Phase, Phase]  # PHASES
    batch: int = 128
    chains: int = 256
    walkers: int = 2048
    K: int = 4
    hidden: tuple[int, ...] = (64, 64, 64)
    seed: int = 0


@dataclass(frozen=True)
class Equilibrium:
    """Equilibrium matching, for all densities: training, the rule of descent and the numbers of steps looked at.

    height: the data lie at this third coordinate, the noise is N(0, I) in three dimensions; None: both in the plane
    spread: the data are so many times as wide as the toy, and samples are divided by it
    """

    target: ebm_ref.EquilibriumTarget
    phase: Phase
    hidden: tuple[int, ...]
    rule: ebm_ref.GradientDescent | ebm_ref.LookAheadDescent
    stops: tuple[int, ...]
    height: float | None = None
    spread: float = 1.0
    batch: int = 256
    seed: int = 0

    @property
    def shape(self) -> tuple[int]:
        """Of a state."""
        return (2 if self.height is None else 3,)

    def lift(self, x: Array) -> Array:
        """States (N, D) of toys (N, 2)."""
        x = np.float32(self.spread) * x
        return x if self.height is None else np.concatenate([x, np.full_like(x[:, :1], self.height)], axis=1)

    def lower(self, x: Array) -> Array:
        """Toys (N, 2) of states (N, D)."""
        return x[:, :2] / np.float32(self.spread)


EQUILIBRIUM = Equilibrium(
    ebm_ref.EquilibriumTarget("truncated", a=0.8, scale=1.0),
    Phase(10000, 2e-3, 0.003),
    hidden=(128, 128, 128),
    rule=ebm_ref.LookAheadDescent(0.025, 0.5),  # of second order: descent is to follow the flow, not to be fast
    stops=(*range(40, 72, 2), 80, 120, 240),
    height=10.0,
)
PLANE = Equilibrium(
    ebm_ref.EquilibriumTarget("truncated", a=0.8, scale=4.0),
    Phase(1500, 3e-3, 0.01),
    hidden=(64, 64, 64),
    rule=ebm_ref.GradientDescent(0.00625),
    stops=(20, 30, *range(36, 66, 2), 80, 120, 240),
    spread=3.0,  # the farther data are from the noise, the better a point tells how far on its way it is
)
FIRST = (Phase(300, 3e-3, 0.02), Phase(150, 2e-3, 0.25))
MATCHING = {
    "eight_gaussians": Matching(
        ebm_ref.EMTerms(tau=0.4, s_star=0.8, weight=5.0, K=100, dt=0.013, cutoff=0.6),
        (Phase(500, 3e-3, 0.02), Phase(250, 2e-3, 0.1), Phase(3000, 3e-3, 0.01)),
        batch=256,
        K=8,  # few steps end in another mode: with 4 the masses are off by up to 6 %
    ),
    "two_moons": Matching(
        ebm_ref.EMTerms(tau=0.4, s_star=0.6, weight=12.5, K=120, dt=0.01, cutoff=0.0),
        (*FIRST, Phase(3000, 3e-3, 0.01)),
    ),
    "checkerboard": Matching(  # with hidden (64, 64, 64) it ends at a KL of 0.033 to 0.040 in half the time
        ebm_ref.EMTerms(tau=1.0, s_star=0.6, weight=5.0, K=180, dt=0.006, cutoff=0.0),
        (*FIRST, Phase(6000, 4e-3, 0.01)),
        hidden=(128, 128, 128),
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


def normals(n: int, draw: int, seed: int = 0, D: int = 2) -> Array:
    """(n, D) normals, others for each `draw`."""
    return ebm_ref.noise_normal(seed, ebm_ref.Stream.SAMPLE_START, draw, np.arange(n), D, np.float32)


# ----------------------------------------------------------------------------------- energy matching


def matching_train(module: Any, density: str, plan: Matching) -> Iterator[tuple[str, Params]]:
    """Each phase's name with the theta after it."""
    energy = module.MLPEnergy((2,), plan.hidden)
    pool = ebm_ref.toy_sample(density, POOL, POOL_SEED)
    solver = require("scipy.optimize", "data").linear_sum_assignment

    def assign(cost: Array) -> Array:
        return solver(cost)[1]

    learner, before, walkers = Descender(ebm_ref.theta_init(energy, plan.seed)), 0, batch_of(pool, 0, plan.walkers)
    for stage, phase in zip(PHASES, plan.phases, strict=True):
        learner.begin(phase)
        for step in range(before, before + phase.steps):
            if stage == "contrast":
                walk = (plan.K, plan.terms.tau, plan.seed, step * plan.K)
                walkers = walk_run(module, energy, learner.theta, walkers, *walk)
                x_pos, weight = batch_of(pool, step, plan.walkers), 1 / plan.terms.tau
                _, grads, _ = ebm_ref.energy_contrast(energy, learner.theta, x_pos, walkers, weight)
            else:
                x = batch_of(pool, step, plan.batch)
                also = batch_of(pool, step, plan.chains) if stage == "joint" else None
                _, grads, _ = ebm_ref.em_step(
                    module, energy, learner.theta, x, also, plan.terms, plan.seed, step, assign, BOX
                )
            learner.move(grads)
        before += phase.steps
        yield stage, learner.ema


def walk_run(module: Any, energy: Any, theta: Params, x: Array, K: int, tau: float, seed: int, step: int) -> Array:
    """K steps of Metropolis' walk for exp(-V / tau) on BOX: x' = x + w xi, taken where log u < (V(x) - V(x')) / tau.

    x: (N, 2) in BOX   w: the WIDTHS in turn   xi, u: at (seed, CHAIN_NOISE and MH_UNIFORM, step + k, chain)
    returns like x.
    """
    chains, V = np.arange(len(x)), energy.energy(theta, x)  # (N,), (N,)
    for k in range(step, step + K):
        xi = module.noise_normal(seed, ebm_ref.Stream.CHAIN_NOISE, k, chains, 2, x.dtype)  # (N, 2)
        u = module.noise_uniform(seed, ebm_ref.Stream.MH_UNIFORM, k, chains, 1)[:, 0]  # (N,)
        moved = x + x.dtype.type(WIDTHS[k % len(WIDTHS)]) * xi
        V_moved = energy.energy(theta, moved)
        inside = (np.abs(moved) <= BOX[1]).all(axis=1)
        l = np.where(inside, (V - V_moved) / tau, -np.inf)
        x, V, _, _ = metropolis_step(l, u, (x, V, V), (moved, V_moved, V_moved))  # no gradient to carry
    return x


def matching_sample(module: Any, theta: Params, plan: Matching, n: int) -> tuple[Array, int]:
    """n samples (n, 2) by descent up to s = 1, which heats on its way, and WALK steps; and the energies of each."""
    energy, K, terms = module.MLPEnergy((2,), plan.hidden), ceil(1 / plan.terms.dt), plan.terms
    ramp = (terms.dt, terms.tau, terms.s_star, plan.seed)
    x, _ = ebm_ref.heated_run(module, energy, theta, normals(n, 0, plan.seed), K, *ramp, step=2**31, box=BOX)
    return walk_run(module, energy, theta, x, WALK, terms.tau, plan.seed, 2**31 + K), K + 1 + WALK


# ------------------------------------------------------------------------------ equilibrium matching


def equilibrium_model(module: Any, head: str | None, plan: Equilibrium) -> Any:
    """The field, or the energy of a head on it."""
    trunk = module.MLPField(plan.shape, plan.hidden)
    return trunk if head is None else module.FieldEnergy(trunk, head)


def equilibrium_start(model: Any, plan: Equilibrium) -> Params:
    """The first theta; the units of the first layer see a height as wide as the toys, and 0 at the data's."""
    theta = ebm_ref.theta_init(model, plan.seed)
    if plan.height is not None:
        theta["linear0.w"][2] *= np.float32(3 / plan.height)
        theta["linear0.b"] -= theta["linear0.w"][2] * np.float32(plan.height)
    return theta


def equilibrium_train(module: Any, density: str, head: str | None, plan: Equilibrium) -> Params:
    """The theta after all steps."""
    model, pool = equilibrium_model(module, head, plan), plan.lift(ebm_ref.toy_sample(density, POOL, POOL_SEED))
    learner = Descender(equilibrium_start(model, plan))
    learner.begin(plan.phase)
    for step in range(plan.phase.steps):
        x = batch_of(pool, step, plan.batch)
        learner.move(ebm_ref.eqm_step(module, model, learner.theta, x, plan.target, plan.seed, step)[1])
    return learner.ema


def equilibrium_slope(model: Any, theta: Params, x: Array) -> Array:
    """f, or the energy's gradient, like x."""
    slope: Array = model.grad_x(theta, x) if hasattr(model, "grad_x") else model.field(theta, x)
    return slope


def equilibrium_path(
    module: Any, model: Any, theta: Params, plan: Equilibrium, n: int, draw: int
) -> Iterator[tuple[int, Array]]:
    """Each number of steps in plan.stops, with the n samples (n, 2) there, in the toy's own units."""
    x, state, done = normals(n, draw, plan.seed, plan.shape[0]), None, 0
    for stop in plan.stops:
        x, state, _ = module.descent_run(model, theta, x, stop - done, plan.rule, state=state)
        done = stop
        yield stop, plan.lower(x)
