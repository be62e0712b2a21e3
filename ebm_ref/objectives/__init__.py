"""Objectives: (loss, grads, info) from samples; written once, for every backend's arrays."""

from .contrast_noise import ContrastNoise, GaussianNoise, UniformNoise, gaussian_noise_fit
from .contrastive import cd_step, contrastive, pcd_step
from .denoising import denoising, denoising_ladder, denoising_levels, dsm_step, multi_dsm_step
from .improved_contrastive import ICDTerms, icd_step, improved_contrastive
from .maximum_likelihood import maximum_likelihood, ml_step, quadrature_grid
from .nce import nce, nce_split, nce_start, nce_step
from .neighbours import nearest_neighbour, neighbour_entropy, neighbour_spread
from .penalties import gradient_penalty
from .ranking_nce import conditional_nce, conditional_nce_step, ranking_nce, ranking_nce_step
from .score_matching import hsm_step, score_matching, score_matching_sliced, ssm_step

__all__ = [
    "ContrastNoise",
    "GaussianNoise",
    "ICDTerms",
    "UniformNoise",
    "cd_step",
    "conditional_nce",
    "conditional_nce_step",
    "contrastive",
    "denoising",
    "denoising_ladder",
    "denoising_levels",
    "dsm_step",
    "gaussian_noise_fit",
    "gradient_penalty",
    "hsm_step",
    "icd_step",
    "improved_contrastive",
    "maximum_likelihood",
    "ml_step",
    "multi_dsm_step",
    "nce",
    "nce_split",
    "nce_start",
    "nce_step",
    "nearest_neighbour",
    "neighbour_entropy",
    "neighbour_spread",
    "pcd_step",
    "quadrature_grid",
    "ranking_nce",
    "ranking_nce_step",
    "score_matching",
    "score_matching_sliced",
    "ssm_step",
]
