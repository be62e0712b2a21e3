"""Objectives: (loss, grads, info) from samples; written once, for every backend's arrays."""

from .contrastive import cd_step, contrastive, pcd_step

__all__ = ["cd_step", "contrastive", "pcd_step"]
