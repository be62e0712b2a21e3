"""Objectives: (loss, grads, info) from samples; written once, for every backend's arrays."""

from .contrast_noise import ContrastNoise, GaussianNoise, UniformNoise, gaussian_noise_fit
from .contrastive import cd_step, contrastive, pcd_step
from .denoising import denoising, denoising_ladder, denoising_levels, dsm_step, multi_dsm_step
from .maximum_likelihood import maximum_likelihood, ml_step, quadrature_grid
from .nce import nce, nce_split, nce_start, nce_step
from .ranking_nce import conditional_nce, conditional_nce_step, ranking_nce, ranking_nce_step
from .score_matching import hsm_step, score_matching, score_matching_sliced, ssm_step

__all__ = [
    "ContrastNoise",
    "GaussianNoise",
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
    "hsm_step",
    "maximum_likelihood",
    "ml_step",
    "multi_dsm_step",
    "nce",
    "nce_split",
    "nce_start",
    "nce_step",
    "pcd_step",
    "quadrature_grid",
    "ranking_nce",
    "ranking_nce_step",
    "score_matching",
    "score_matching_sliced",
    "ssm_step",
]
