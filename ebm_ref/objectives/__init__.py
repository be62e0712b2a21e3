"""Objectives: (loss, grads, info) from samples; written once, for every backend's arrays."""

from .balance import (
    BALANCES,
    balance_ratio,
    balance_reached,
)
from .classify import (
    cross_entropy,
    log_softmax,
    mutual_information,
    one_hot,
)
from .contrast_noise import (
    ContrastNoise,
    GaussianNoise,
    UniformNoise,
    gaussian_noise_fit,
)
from .contrastive import (
    cd_step,
    contrastive,
    pcd_step,
)
from .coupling import (
    coupling_assign,
    coupling_cost,
    coupling_exact,
    coupling_permutation,
    coupling_sort,
)
from .denoising import (
    denoising,
    denoising_ladder,
    denoising_levels,
    dsm_step,
    multi_dsm_step,
)
from .distill import (
    eulerian,
    lagrangian,
    progressive,
    teacher_run,
    teacher_velocity,
    trajectory_regression,
)
from .distill_step import (
    distill_step,
    student_draw,
    student_pairs,
    trajectory_step,
)
from .em_step import (
    EMTerms,
    em_step,
)
from .energy_matching import (
    energy_contrast,
    energy_matching,
    flow_weight,
    transport,
)
from .equilibrium_matching import (
    EquilibriumTarget,
    eqm_explicit,
    eqm_implicit,
    eqm_step,
)
from .flow_matching import (
    flow_draw,
    flow_matching,
    flow_point,
    flow_step,
)
from .improved_contrastive import (
    ICDTerms,
    icd_step,
    improved_contrastive,
)
from .jem import (
    JEMTerms,
    jem,
)
from .jem_step import (
    jem_batch,
    jem_step,
)
from .maximum_likelihood import (
    maximum_likelihood,
    ml_step,
    quadrature_grid,
)
from .nce import (
    nce,
    nce_split,
    nce_start,
    nce_step,
)
from .neighbours import (
    nearest_neighbour,
    neighbour_entropy,
    neighbour_spread,
)
from .penalties import (
    gradient_penalty,
)
from .projection import (
    projection,
    projection_fourier,
    projection_step,
)
from .ranking_nce import (
    conditional_nce,
    conditional_nce_step,
    ranking_nce,
    ranking_nce_step,
)
from .score_matching import (
    hsm_step,
    score_matching,
    score_matching_sliced,
    ssm_step,
)
from .smoothing import smooth_data, smoothing_level

__all__ = [
    "BALANCES",
    "ContrastNoise",
    "EMTerms",
    "EquilibriumTarget",
    "GaussianNoise",
    "ICDTerms",
    "JEMTerms",
    "UniformNoise",
    "balance_ratio",
    "balance_reached",
    "cd_step",
    "conditional_nce",
    "conditional_nce_step",
    "contrastive",
    "coupling_assign",
    "coupling_cost",
    "coupling_exact",
    "coupling_permutation",
    "coupling_sort",
    "cross_entropy",
    "denoising",
    "denoising_ladder",
    "denoising_levels",
    "distill_step",
    "dsm_step",
    "em_step",
    "energy_contrast",
    "energy_matching",
    "eqm_explicit",
    "eqm_implicit",
    "eqm_step",
    "eulerian",
    "flow_draw",
    "flow_matching",
    "flow_point",
    "flow_step",
    "flow_weight",
    "gaussian_noise_fit",
    "gradient_penalty",
    "hsm_step",
    "icd_step",
    "improved_contrastive",
    "jem",
    "jem_batch",
    "jem_step",
    "lagrangian",
    "log_softmax",
    "maximum_likelihood",
    "ml_step",
    "multi_dsm_step",
    "mutual_information",
    "nce",
    "nce_split",
    "nce_start",
    "nce_step",
    "nearest_neighbour",
    "neighbour_entropy",
    "neighbour_spread",
    "one_hot",
    "pcd_step",
    "progressive",
    "projection",
    "projection_fourier",
    "projection_step",
    "quadrature_grid",
    "ranking_nce",
    "ranking_nce_step",
    "score_matching",
    "score_matching_sliced",
    "smooth_data",
    "smoothing_level",
    "ssm_step",
    "student_draw",
    "student_pairs",
    "teacher_run",
    "teacher_velocity",
    "trajectory_regression",
    "trajectory_step",
    "transport",
]
