"""Samplers, optimisers on x, and the replay buffer; they see energies only through the protocol."""

from ..descent_specs import (
    AdamDescent,
    GradientDescent,
    LookAheadDescent,
    NesterovDescent,
)
from .adaptation import (
    HMC_TARGET,
    MALA_TARGET,
    AdaptationState,
    Band,
    Multiplicative,
    RobbinsMonro,
    adaptation_rate,
    adaptation_start,
    adaptation_step,
    energy_target,
)
from .annealed import (
    annealed_run,
    annealed_steps,
)
from .augment import (
    Augmentation,
    augment,
    augment_run,
)
from .buffer import (
    buffer_draw,
    buffer_push,
    buffer_start,
)
from .class_buffer import (
    ClassGaussians,
    class_block,
    class_buffer_draw,
    class_buffer_index,
    class_buffer_start,
    class_gaussian_draw,
    class_gaussians,
)
from .descent import (
    descent_point,
    descent_run,
    descent_start,
    descent_step,
)
from .flow import (
    flow_run,
    student_run,
)
from .heated import (
    heated_run,
    heated_temperature,
)
from .hmc import (
    hmc_adapt,
    hmc_leapfrog,
    hmc_log_ratio,
    hmc_run,
    hmc_step,
)
from .jempp import (
    jempp_run,
)
from .langevin import (
    langevin_jitter,
    langevin_run,
    langevin_step,
)
from .mala import (
    mala_adapt,
    mala_log_ratio,
    mala_propose,
    mala_run,
    mala_step,
)
from .metropolis import (
    metropolis_step,
)
from .preconditioned import (
    PSGLD,
    hessian_diagonal,
    psgld_run,
    psgld_step,
)
from .unrolled import (
    UnrolledStep,
    langevin_clip_backward,
    unrolled_backward,
    unrolled_run,
)

__all__ = [
    "HMC_TARGET",
    "MALA_TARGET",
    "PSGLD",
    "AdamDescent",
    "AdaptationState",
    "Augmentation",
    "Band",
    "ClassGaussians",
    "GradientDescent",
    "LookAheadDescent",
    "Multiplicative",
    "NesterovDescent",
    "RobbinsMonro",
    "UnrolledStep",
    "adaptation_rate",
    "adaptation_start",
    "adaptation_step",
    "annealed_run",
    "annealed_steps",
    "augment",
    "augment_run",
    "buffer_draw",
    "buffer_push",
    "buffer_start",
    "class_block",
    "class_buffer_draw",
    "class_buffer_index",
    "class_buffer_start",
    "class_gaussian_draw",
    "class_gaussians",
    "descent_point",
    "descent_run",
    "descent_start",
    "descent_step",
    "energy_target",
    "flow_run",
    "heated_run",
    "heated_temperature",
    "hessian_diagonal",
    "hmc_adapt",
    "hmc_leapfrog",
    "hmc_log_ratio",
    "hmc_run",
    "hmc_step",
    "jempp_run",
    "langevin_clip_backward",
    "langevin_jitter",
    "langevin_run",
    "langevin_step",
    "mala_adapt",
    "mala_log_ratio",
    "mala_propose",
    "mala_run",
    "mala_step",
    "metropolis_step",
    "psgld_run",
    "psgld_step",
    "student_run",
    "unrolled_backward",
    "unrolled_run",
]
