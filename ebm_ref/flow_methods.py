"""The methods of energy flow, rows of METHODS: fields, potentials, and what is learned from either.

    flow           a velocity v(x, t) from noise to data                              flow matching
    projection     a potential whose descent is nearest to a teacher's velocity       teacher: flow
    em             transport, then transport and contrast, of one potential V         energy matching
    eqm            a field f whose length falls to 0 at the data, an implicit one     equilibrium matching
    eqm-dot        the same of the gradient of x . f(x)
    eqm-l2         the same of the gradient of |f(x)|^2 / 2
    student        where a teacher's descent ends, in one evaluation                  teacher: eqm, eqm-dot, eqm-l2, em

Of em, eta is the step dt of its chains and sigma their noise when they are hot, so that the recipe's temperature is
the one of the law exp(-V / tau) that the contrast trains; the first `transport_steps` steps are without contrast.

Level: 2 of energies, that of field_grad_theta of fields. Twins: none; it takes the backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contracts import Array
from .method import Method, Result
from .objectives import distill_step, em_step, eqm_step, flow_step, projection_step, trajectory_step

if TYPE_CHECKING:
    from .job import Job
    from .state import TrainState


def _flow(job: Job, state: TrainState, x: Array) -> Result:
    return flow_step(job.backend, job.energy, state.theta, x, job.seed, state.step)


def _projection(job: Job, state: TrainState, x: Array) -> Result:
    assert job.teacher is not None  # train_job has refused it
    taught = (job.teacher.model, job.teacher.theta)
    return projection_step(job.backend, job.energy, state.theta, *taught, x, job.seed, state.step)


def _em(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    x_pos = None if state.step < r.transport_steps else x
    terms = r.em_terms()
    drawn = (job.seed, state.step, job.assign, r.box)
    loss, grads, info = em_step(job.backend, job.energy, state.theta, x, x_pos, terms, *drawn)
    return loss, grads, {"transport": loss} | info  # of transport alone it is all of the loss


def _eqm(job: Job, state: TrainState, x: Array) -> Result:
    drawn = (job.recipe.equilibrium_target(), job.seed, state.step, job.assign)
    return eqm_step(job.backend, job.energy, state.theta, x, *drawn)


def _student(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    assert job.teacher is not None
    if r.lesson == "trajectory":
        return trajectory_step(job.backend, job.energy, state.theta, job.pairs, r.batch, job.seed, state.step)
    lesson = (r.batch, r.lesson, r.eta)
    return distill_step(job.backend, job.energy, state.theta, job.teacher.velocity, *lesson, job.seed, state.step)


DRAWS = ("noise_uniform", "noise_normal")
NO_CHAIN = ("sigma", "clip", "clip_norm", "order")
OF_FIELDS = (*NO_CHAIN, "gp", "gp_target")
TARGET = ("coupling", "target", "target_a", "target_b", "target_scale", "descent", "mu", "g_min")
EM = (
    "transport_steps",
    "lr_joint",
    "ema_joint",
    "start_scale",
    "s_star",
    "contrast",
    "trim",
    "clamp",
    "cutoff",
    "clip_transport",
    "coupling",
    "time",
)
EM_RECORDS = ("transport", "contrast", "gap", "energy_pos", "energy_neg", "trimmed", "clamped", "nonfinite")

FLOW_METHODS = {
    "flow": Method(
        _flow,
        "a velocity from noise to data",
        DRAWS,
        (),
        (),
        level=0,
        unread=(*OF_FIELDS, "eta"),
        sampler="flow",
        model="time_field",
    ),
    "projection": Method(
        _projection,
        "the potential nearest to a flow",
        DRAWS,
        ("time", "start_scale"),
        ("power",),
        level=2,
        teacher=True,
        unread=("K", "clip", "clip_norm", "order"),
        sampler="heated",
    ),
    "em": Method(
        _em,
        "energy matching",
        (*DRAWS, "langevin_run"),
        EM,
        EM_RECORDS,
        level=2,
        unread=("clip", "clip_norm", "order"),
        sampler="heated",
    ),
    "eqm": Method(
        _eqm,
        "equilibrium matching",
        DRAWS,
        TARGET,
        ("zero",),
        level=0,
        unread=OF_FIELDS,
        sampler="descent",
        model="field",
    ),
    "eqm-dot": Method(
        _eqm,
        "equilibrium matching of the gradient of x . f(x)",
        DRAWS,
        TARGET,
        ("zero",),
        level=2,
        unread=NO_CHAIN,
        sampler="descent",
        model="dot",
    ),
    "eqm-l2": Method(
        _eqm,
        "equilibrium matching of the gradient of norm(f(x))^2 / 2",
        DRAWS,
        TARGET,
        ("zero",),
        level=2,
        unread=NO_CHAIN,
        sampler="descent",
        model="norm",
    ),
    "student": Method(
        _student,
        "a teacher's descent in one evaluation",
        (*DRAWS, "noise_bits", "noise_index"),
        ("lesson", "horizon", "pairs"),
        (),
        level=0,
        teacher=True,
        unread=("K", *OF_FIELDS),
        sampler="student",
        model="flow_map",
    ),
}
