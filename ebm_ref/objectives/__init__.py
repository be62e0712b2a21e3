"""Objectives: (loss, grads, info) from samples; written once, for every backend's arrays."""

from .contrastive import cd_step, contrastive, pcd_step
from .denoising import denoising, denoising_ladder, denoising_levels, dsm_step, multi_dsm_step
from .score_matching import hsm_step, score_matching, score_matching_sliced, ssm_step

__all__ = [
    "cd_step",
    "contrastive",
    "denoising",
    "denoising_ladder",
    "denoising_levels",
    "dsm_step",
    "hsm_step",
    "multi_dsm_step",
    "pcd_step",
    "score_matching",
    "score_matching_sliced",
    "ssm_step",
]
