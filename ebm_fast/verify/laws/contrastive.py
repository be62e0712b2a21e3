"""Contrastive divergence on a backend's functions."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.specs import SGLD

from ..close import compare
from .trial import law

CD_NEEDS = ("noise_normal", "langevin_run")


def check_cd(module: ModuleType, dtype: Any) -> tuple[float, int]:
    """CD on a backend's functions: K = 0 is loss 0 and gradient 0; K = 2 is the oracle's loss, gradients included.

    Returns (largest error over its budget, number of cases).
    """
    fields, worst, cases = {"shape": (3,), "hidden": (8, 5)}, 0.0, 0
    mine = getattr(module, "MLPEnergy", ebm_ref.MLPEnergy)(**fields)
    unit = float(np.finfo(dtype).eps)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        spread = {name: rng.standard_normal(shape) / 2 for name, shape in mine.theta_shapes().items()}
        theta, x = {name: a.astype(dtype) for name, a in spread.items()}, rng.standard_normal((7, 3)).astype(dtype)
        update = SGLD(eta=0.05, sigma=0.02, order="noise_first" if seed % 2 else "gradient_first")
        for sigma_data in (0.0, 0.1):
            loss, grads, _ = ebm_ref.cd_step(module, mine, theta, x, 0, update, 0.0, sigma_data, seed, 3)
            law("CD without steps has loss 0", "loss", np.asarray(loss, float), np.zeros(()), np.full((), 8 * unit))
            for name, grad in grads.items():
                law("CD without steps has gradient 0", name, grad, np.zeros(grad.shape), np.full(grad.shape, 8 * unit))
            args = (2, update, 0.1, sigma_data, seed, 3)
            loss, grads, _ = ebm_ref.cd_step(module, mine, theta, x, *args)
            wide = ({name: a.astype(np.float64) for name, a in theta.items()}, x.astype(np.float64))
            want, wanted, _ = ebm_ref.cd_step(ebm_ref, ebm_ref.MLPEnergy(**fields), *wide, *args)
            for name, got, exact in [("loss", loss, want), *((n, grads[n], wanted[n]) for n in wanted)]:
                exact = np.asarray(exact, float)
                budget = np.full(exact.shape, 64 * unit * max(1.0, float(np.abs(exact).max())))
                worst = max(worst, compare(name, np.asarray(got, float), exact, budget))
            cases += 2
    return worst, cases
