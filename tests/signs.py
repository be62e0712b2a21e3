"""Chains without sampling error: every sample meets every sign of noise, so that second moments are exact."""

from __future__ import annotations

from math import sqrt

import numpy as np

import ebm_ref
from ebm_ref import binary_states


class Signs:
    """A backend whose normals are the next column of a table of -1 and 1: every sample meets every sign."""

    langevin_step, langevin_jitter = staticmethod(ebm_ref.langevin_step), staticmethod(ebm_ref.langevin_jitter)

    def __init__(self, table):
        self.table = table

    def noise_normal(self, seed, stream, step, chains, D, dtype=np.float64):
        return self.table[:, step : step + 1][:, :D]


def balanced(s0, K):
    """x_0 = +-sqrt(s_0) with every one of the 2^K signs of noise: second moments are exact."""
    bits = 2 * binary_states(K + 1) - 1
    return sqrt(s0) * bits[:, :1], Signs(bits[:, 1:])
