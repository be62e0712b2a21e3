"""What the tests of the JEM family share: two classifiers, all terms on, and arguments for them."""

from __future__ import annotations

import numpy as np
from derivatives import random_theta

from ebm_ref.energies import ClassifierEnergy, ConvEnergy, MLPEnergy
from ebm_ref.objectives import (
    JEMTerms,
)
from ebm_ref.samplers import (
    buffer_start,
)
from ebm_ref.specs import SGLD

MLP = ClassifierEnergy(MLPEnergy((3,), (5, 4)), classes=4)
CONV = ClassifierEnergy(ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2), classes=3)
ALL = JEMTerms(w_x=0.7, w_yx=1.3, w_xy=0.9, w_mi=0.4, alpha=0.1)
BOX = (-1.0, 1.0)
UPDATE = SGLD(0.05, 0.1, clip=0.5, box=BOX)


def case(energy=MLP, n=6, dtype=np.float64, seed=3):
    rng = np.random.default_rng(seed)
    x, x_neg, x_lab, x_neg_y = (rng.uniform(-1, 1, (n, *energy.shape)).astype(dtype) for _ in range(4))
    return random_theta(energy, rng, dtype), x, x_neg, x_lab, rng.integers(0, energy.classes, n), x_neg_y, rng


def step_case(M=12, dtype=np.float64):
    theta, x, _, x_lab, y, _, _ = case(dtype=dtype)
    return theta, x, x_lab[:4], y[:4], buffer_start(M, (3,), seed=2, box=BOX, dtype=dtype)
