"""Objectives: (loss, grads, info) from samples; written once, for every backend's arrays."""

from .balance import balance_ratio, balance_reached
from .classify import cross_entropy, log_softmax, mutual_information, one_hot
from .contrastive import cd_step, contrastive, pcd_step
from .jem import JEMTerms, jem
from .jem_step import jem_batch, jem_step

__all__ = [
    "JEMTerms",
    "balance_ratio",
    "balance_reached",
    "cd_step",
    "contrastive",
    "cross_entropy",
    "jem",
    "jem_batch",
    "jem_step",
    "log_softmax",
    "mutual_information",
    "one_hot",
    "pcd_step",
]
