"""The training methods: for each its step, the settings that it reads, what it needs and what it carries.

    METHODS[name].step(job, state, x) -> (loss, grads, info)

A Job is what a run holds fixed (job.py). What it carries from step to step, the buffer, nce's log_z and the eta of
jem's energy_target, is in the TrainState: log_z travels in theta, beside the energy's own parameters. A step that moves
eta returns the next one in info["eta"].

A new method is one step function here (of energy flow: in flow_methods.py), one row of METHODS, and its fields in
recipe.py; method.py says what a row holds.

Level: that of each method: 1 energies and first derivatives, 2 grad_theta of slopes, 3 grad_theta of curvatures.
Twins: none; it takes the backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contracts import Array, Buffer, CheckpointError
from .flow_methods import FLOW_METHODS
from .method import Method, Result
from .objectives import (
    cd_step,
    conditional_nce_step,
    dsm_step,
    hsm_step,
    icd_step,
    jem_batch,
    jem_step,
    ml_step,
    multi_dsm_step,
    nce_step,
    pcd_step,
    ranking_nce_step,
    ssm_step,
)

if TYPE_CHECKING:
    from .job import Job
    from .state import TrainState

# ------------------------------------------------------------------------------------------- one step


def _cd(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    chain = (r.K, r.update(), r.alpha, r.sigma_data)
    return cd_step(job.backend, job.energy, state.theta, x, *chain, job.seed, state.step, r.box)


def _pcd(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    chain = (r.K, r.update(), r.alpha, r.sigma_data, r.rho)
    buffer = _buffer(job, state)
    return pcd_step(job.backend, job.energy, state.theta, x, buffer, *chain, job.seed, state.step, r.box, r.start)


def _ml(job: Job, state: TrainState, x: Array) -> Result:
    assert job.points is not None
    return ml_step(job.backend, job.energy, state.theta, x, job.points, job.w, job.seed, state.step)


def _hsm(job: Job, state: TrainState, x: Array) -> Result:
    return hsm_step(job.backend, job.energy, state.theta, x, job.seed, state.step)


def _ssm(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    law = (r.projections, r.directions, r.variance_reduced)
    return ssm_step(job.backend, job.energy, state.theta, x, job.seed, state.step, *law)


def _dsm(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    if r.levels == 1:
        return dsm_step(job.backend, job.energy, state.theta, x, r.level, job.seed, state.step)
    return multi_dsm_step(job.backend, job.energy, state.theta, x, r.sigmas(), job.seed, state.step)


def _nce(job: Job, state: TrainState, x: Array) -> Result:
    assert job.noise is not None
    return nce_step(job.backend, job.energy, state.theta, x, job.noise, job.seed, state.step, job.recipe.nu)


def _ranking_nce(job: Job, state: TrainState, x: Array) -> Result:
    assert job.noise is not None
    return ranking_nce_step(job.backend, job.energy, state.theta, x, job.noise, job.seed, state.step, job.recipe.nu)


def _conditional_nce(job: Job, state: TrainState, x: Array) -> Result:
    return conditional_nce_step(job.backend, job.energy, state.theta, x, job.recipe.level, job.seed, state.step)


def _jem(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    x_lab = y = None
    if r.w_yx or r.w_xy:
        n = job.data.shape[0]
        assert job.labels is not None and job.labelled is not None
        _, idx = jem_batch(n, job.labelled, r.batch, job.seed, state.step)
        x_lab, y = job.data[idx], job.labels[idx]  # (batch, *shape), (batch,)
    frozen = r.burn_in is not None and state.step >= r.burn_in  # energy_target moves eta no more
    return jem_step(
        job.backend,
        job.energy,
        state.theta,
        x,
        x_lab,
        y,
        _buffer(job, state),
        r.K,
        r.update(state.eta),
        r.terms(),
        r.sigma_data,
        r.rho,
        job.seed,
        state.step,
        r.box,
        job.start,
        r.conditional,
        r.inner,
        None if frozen else r.balance,
        r.delta,
        r.K_max,
        r.kappa,
        (r.eta_low, r.eta_high),
    )


def _icd(job: Job, state: TrainState, x: Array) -> Result:
    r = job.recipe
    chain = (r.K, r.update(), r.icd_terms(), r.sigma_data, r.rho)
    buffer = _buffer(job, state)
    return icd_step(job.backend, job.energy, state.theta, x, buffer, *chain, job.seed, state.step, r.box, r.start)


def _buffer(job: Job, state: TrainState) -> Buffer:
    if state.buffer is None:
        raise CheckpointError(
            f"state: expected a buffer for method {job.recipe.method}, found none; it belongs to a run of another"
        )
    return state.buffer


SMOOTHING = ("smoothing", "smoothing_until")
BUFFERED = ("alpha", "sigma_data", "rho", "M", "policy", "start")
RUN = ("noise_normal", "langevin_run")
BUFFER = ("noise_bits", "noise_uniform", *RUN, "buffer_draw", "buffer_push")
GAP = ("gap", "energy_pos", "energy_neg")
BALANCING = ("balance", "K_max", "delta", "kappa", "eta_low", "eta_high", "burn_in")
JEM = ("w_x", "w_yx", "w_xy", "w_mi", "conditional", "inner", *BALANCING, "labelled", "ridge")
ICD = ("kappa_opt", "kappa_ent", "references", "depth", "augment_shift", "augment_flip", "augment_sigma")
JEM_RECORDS = (*GAP, "loss_x", "loss_yx", "loss_xy", "mutual_information", "accuracy", "ratio")

METHODS = {
    "cd": Method(_cd, "chains from the data", RUN, ("alpha", "sigma_data", *SMOOTHING), GAP),
    "pcd": Method(_pcd, "persistent chains", BUFFER, (*BUFFERED, *SMOOTHING), GAP, buffer=True),
    "ml": Method(_ml, "exact maximum likelihood on a grid", (), ("cells", *SMOOTHING), (*GAP, "log_z")),
    "hsm": Method(_hsm, "exact score matching", (), SMOOTHING, ("square", "trace"), level=3),
    "ssm": Method(
        _ssm,
        "sliced score matching",
        ("noise_bits", "noise_normal"),
        ("projections", "directions", "variance_reduced", *SMOOTHING),
        ("square", "trace"),
        level=3,
    ),
    "dsm": Method(
        _dsm,
        "denoising score matching",
        ("noise_bits", "noise_index", "noise_normal"),
        ("level", "levels", "level_high"),
        ("centred", "paired"),
        level=2,
    ),
    "nce": Method(
        _nce,
        "noise-contrastive estimation",
        ("noise_normal", "noise_uniform"),
        ("noise", "noise_floor", "nu"),
        (*GAP, "log_z", "accuracy"),
        log_z=True,
    ),
    "ranking_nce": Method(
        _ranking_nce,
        "noise-contrastive estimation by ranking",
        ("noise_normal", "noise_uniform"),
        ("noise", "noise_floor", "nu"),
        (*GAP, "accuracy"),
    ),
    "conditional_nce": Method(
        _conditional_nce, "data against noised data", ("noise_normal",), ("level",), (*GAP, "accuracy")
    ),
    "icd": Method(
        _icd,
        "persistent chains, and theta sees where they end",
        (*BUFFER, "langevin_step", "langevin_jitter"),
        (*BUFFERED, *ICD),
        (*GAP, "loss_contrastive", "loss_opt", "loss_ent"),
        level=2,
        buffer=True,
    ),
    "jem": Method(
        _jem,
        "a classifier that generates",
        BUFFER,
        (*BUFFERED, *JEM),
        JEM_RECORDS,
        buffer=True,
        labels=True,
    ),
    **FLOW_METHODS,
}
