"""Annealing in a box whose walls are mirrors, against a Gaussian on the box and by hand."""

from __future__ import annotations

from math import erf, log, pi, sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import RangeError
from ebm_ref.evaluation import (
    HMCTransition,
    MALATransition,
    MirroredBase,
    MirroredEnergy,
    TemperedEnergy,
    ais_run,
    beta_ladder,
    fold,
)

BOX = (-1.0, 3.0)


def log_z(lam: tuple[float, ...], T: float) -> float:
    """log of the integral of exp(-lam x^2 / (2 T)) over the box, one factor for each axis."""
    ends = [(BOX[1] * sqrt(k / (2 * T)), BOX[0] * sqrt(k / (2 * T))) for k in lam]
    parts = [sqrt(pi * T / (2 * k)) * (erf(b) - erf(a)) for k, (b, a) in zip(lam, ends, strict=True)]
    return sum(map(log, parts))


def test_fold__is_a_mirror_at_both_walls():
    y = np.array([-1.0, 3.0, -1.25, 3.5, 0.5, -5.0, 7.5, -9.0])
    assert np.allclose(fold(y, BOX), [-1.0, 3.0, -0.75, 2.5, 0.5, 3.0, -0.5, -1.0])
    far = np.linspace(-40, 40, 999, dtype=np.float32)
    assert fold(far, BOX).dtype == np.float32 and fold(far, BOX).min() >= -1 and fold(far, BOX).max() <= 3
    with pytest.raises(RangeError, match="box"):
        fold(y, None)


def test_mirrored_energy__gradient_is_that_of_its_energy():
    energy, theta = MirroredEnergy(Bowl((2,)), BOX, T=0.5), bowl_theta(2.0, 0.7)
    x = np.random.default_rng(0).uniform(-9, 9, (50, 2))
    E, g = energy.energy_and_grad_x(theta, x)
    assert np.allclose(E, Bowl((2,)).energy(theta, fold(x, BOX)) / 0.5) and np.array_equal(g, energy.grad_x(theta, x))
    for d in range(2):
        step = 1e-6 * np.eye(2)[d]
        slope = (energy.energy(theta, x + step) - energy.energy(theta, x - step)) / 2e-6
        assert np.allclose(slope, g[:, d], atol=1e-6)
    assert energy.theta_shapes() == Bowl((2,)).theta_shapes() and energy.shape == (2,)
    grads = energy.grad_theta(theta, x, np.ones(50))
    assert np.allclose(grads["lam"], (fold(x, BOX) ** 2).sum(axis=0) / 2 / 0.5)


@pytest.mark.parametrize("T", [0.0, -1.0])
def test_mirrored_energy__needs_a_temperature(T):
    with pytest.raises(RangeError, match="T"):
        MirroredEnergy(Bowl(), BOX, T)


@pytest.mark.parametrize("move", [MALATransition(0.3), HMCTransition(0.4, L=3)], ids=["mala", "hmc"])
def test_ais__in_a_mirrored_box_finds_log_z(move):
    """The minimum, at 0, is near one wall: mass piles up there, and moves cross it."""
    lam, T = (2.0, 0.1), 0.25
    energy, base = MirroredEnergy(Bowl((2,)), BOX, T), MirroredBase(BOX)
    found = ais_run(ebm_ref, energy, bowl_theta(*lam), base, beta_ladder(60), 800, move, seed=3)
    assert abs(found.log_mean_w.value - log_z(lam, T)) < 4 * found.log_mean_w.se < 0.2
    assert (np.abs(found.x - 1) > 2).any() and found.acceptance.mean() > 0.5
    assert np.allclose(fold(found.x, BOX).mean(axis=0), moments(lam, T), atol=0.15)


def moments(lam: tuple[float, ...], T: float) -> list[float]:
    """The mean of exp(-lam x^2 / (2 T)) on the box, axis by axis, by a sum."""
    x = np.linspace(*BOX, 20001)
    weights = [np.exp(-k * x**2 / (2 * T)) for k in lam]
    return [float((w * x).sum() / w.sum()) for w in weights]


def test_mirrored_base__is_uniform_wherever_it_is_asked():
    base, x = MirroredBase(BOX), np.array([[0.0, 0.0], [50.0, -7.0]])
    assert np.allclose(base.log_density(x), -2 * log(4)) and not base.grad_log_density(x).any()
    drawn = base.draw(ebm_ref, 1, 500, (2,), np.float32)
    assert drawn.dtype == np.float32 and drawn.min() >= -1 and drawn.max() <= 3
    E = TemperedEnergy(MirroredEnergy(Bowl((2,)), BOX), base, 0.0).energy(bowl_theta(1.0, 1.0), x)
    assert np.allclose(E, 2 * log(4))
