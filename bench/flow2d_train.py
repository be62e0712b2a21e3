"""What flow2d trains, and how: a plan for each density and method, and the loops that follow it.

    matching_train     energy matching in phases: transport alone, transport with the contrast, the contrast alone, or
                       with transport far from the data (pin)
    matching_sample    heated descent from N(0, I) of the trained potential
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
POOL_SEED, POOL = 0, 400_000  # training data, other than those of flow2d's seeds, for every plan's seed
PIECE = 2000  # steps of sampling in one call, which keeps an energy a step and sample
PHASES = ("transport", "joint", "contrast")


@dataclass(frozen=True)
class Phase:
    """steps, and lr, which a cosine brings down to its share `last`."""

    steps: int
    lr: float
    last: float


@dataclass(frozen=True)
class Matching:
    """Energy matching: the terms, the phases, samples of transport and chains a step, sampling up to `time`.

    Of the last phase: K, steps of a chain, at most terms.K; fine, to which their dt falls, by the same factor a step,
    None: it stays; weight of the contrast, None: that of the terms; pin, the last t of transport, None: no transport.
    """

    terms: ebm_ref.EMTerms
    phases: tuple[Phase, Phase, Phase]  # PHASES
    batch: int = 128
    chains: int = 256
    K: int = 30
    fine: float | None = None
    weight: float | None = None
    pin: float | None = None
    hidden: tuple[int, ...] = (64, 64, 64)
    time: float = 2.0
    seed: int = 0

    def dt_at(self, done: float) -> float:
        """The step of the last phase's chains where a share `done` of it is behind."""
        dt = self.terms.dt
        return dt * ((self.fine or dt) / dt) ** done


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
FINE = replace(  # noise of a step, sqrt(2 dt tau), narrower than the edges; but chains cross less, and masses drift
    MATCHING["checkerboard"], phases=(*FIRST, Phase(3000, 4e-3, 0.01)), fine=0.001, time=30.0
)


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

    learner, before = Descender(ebm_ref.theta_init(energy, plan.seed)), 0
    for stage, phase in zip(PHASES, plan.phases, strict=True):
        learner.begin(phase)
        for step in range(before, before + phase.steps):
            x, x_pos = batch_of(pool, step, plan.batch), batch_of(pool, step, plan.chains)
            if stage == "contrast":
                dt = plan.dt_at((step - before) / phase.steps)
                run = (plan.K, dt, plan.terms.tau, plan.terms.s_star, plan.seed, step * plan.terms.K)
                x_neg, _ = ebm_ref.heated_run(module, energy, learner.theta, x_pos, *run, box=BOX, hot=True)
                _, grads, _ = ebm_ref.energy_contrast(
                    energy, learner.theta, x_pos, x_neg, plan.weight or plan.terms.weight
                )
                if plan.pin is not None:
                    early = replace(plan.terms, s_star=plan.pin, cutoff=1.0)
                    few = x[: plan.batch // 4]  # of data, for a field that is known already
                    _, more, _ = ebm_ref.em_step(
                        module, energy, learner.theta, few, None, early, plan.seed, step, assign
                    )
                    grads = {name: grads[name] + more[name] for name in grads}
            else:
                also = x_pos if stage == "joint" else None
                _, grads, _ = ebm_ref.em_step(
                    module, energy, learner.theta, x, also, plan.terms, plan.seed, step, assign, BOX
                )
            learner.move(grads)
        before += phase.steps
        yield stage, learner.ema


def matching_sample(module: Any, theta: Params, plan: Matching, n: int, dt: float) -> tuple[Array, int]:
    """n samples (n, 2) by steps of dt, and the gradients that each took."""
    energy, K = module.MLPEnergy((2,), plan.hidden), ceil(plan.time / dt)
    x, numbers = normals(n, 0, plan.seed), (dt, plan.terms.tau, plan.terms.s_star, plan.seed)
    for done in range(0, K, PIECE):
        few = min(PIECE, K - done)
        x, _ = ebm_ref.heated_run(module, energy, theta, x, few, *numbers, step=2**31 + done, box=BOX, done=done)
    return x, K


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
