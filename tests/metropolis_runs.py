"""MALA and HMC behind one call, for tests that hold for both."""

from __future__ import annotations

import numpy as np

import ebm_ref
from ebm_ref import hmc_run, mala_run, noise_normal

METHODS = ["mala", "hmc"]
SHAPE, LAM = (2, 2), (0.5, 1.0, 2.0, 4.0)


def run(method, energy, theta, x0, K, size=0.6, L=3, backend=ebm_ref, **rest):
    rest = {"seed": 7} | rest
    if method == "mala":
        return mala_run(backend, energy, theta, x0, K, size, **rest)
    return hmc_run(backend, energy, theta, x0, K, size, L, **rest)


def normals(stream, *shape, dtype=np.float64):
    return noise_normal(37, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:])), dtype).reshape(shape)
