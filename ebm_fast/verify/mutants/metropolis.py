"""MALA and HMC: what is proposed, and the test that makes it exact.

A leapfrog of step h turns the ellipse p^2 + lambda (1 - h^2 lambda / 4) q^2 by w, cos w = 1 - h^2 lambda / 2, exactly,
and its energy is off by O(h^2). Chains start from exact draws and must stay in their law.
"""

from __future__ import annotations

from math import acos, atan2, log2, pi, sqrt
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream

from .parts import design, gaussian, normals, uniforms
from .table import Function, check_of

N = 20000

# ------------------------------------------------------------------------------------------ checks


@check_of("mala_log_ratio", want=0.0)
def mala_log_ratio_of_a_gaussian(fn: Function) -> float:
    """on lambda x^2 / 2 the energies cancel: l = (eps/8) lambda^2 (x^2 - x'^2); largest difference."""
    lam, eps = 4.0, 0.25
    x, xi = normals(1, 0, 50), normals(1, 1, 50)
    y = x - eps / 2 * lam * x + sqrt(eps) * xi
    l = fn(*(lam / 2 * z[:, 0] ** 2 for z in (x, y)), lam * x, lam * y, xi, eps)
    return float(np.max(np.abs(l - eps / 8 * lam**2 * (x**2 - y**2)[:, 0])))


@check_of("mala_step", want=0.25, allowed=5 * 0.25 * sqrt(2 / N))
def mala_step_keeps_its_law(fn: Function) -> float:
    """N(0, 1/4), eps = 1/4: stationary variance 1/4."""
    return float(np.var(_drive(fn, *gaussian(4.0), normals(2, 0, N) / 2, 10, 0.25)))


@check_of("mala_step", want=1.0, allowed=5 * sqrt(2 / N))
def mala_step_takes_long_steps(fn: Function) -> float:
    """N(0, 1), eps = 2: variance 1, where the step without its test has 1 / (1 - eps/4)."""
    return float(np.var(_drive(fn, *gaussian(1.0), normals(3, 0, N), 10, 2.0)))


@check_of("metropolis_step", want=0.0, allowed=5 / sqrt(500 * 120))
def metropolis_step_decides_for_each(fn: Function) -> float:
    """chains accept independently: mean correlation of two chains' decisions (500 steps, 16 chains)."""
    x = np.zeros((16, 1))
    ratios = normals(4, 0, 500 * 16).reshape(500, 16) / 4
    flags = [
        fn(l, u, (x, l, x), (x, l, x))[3] for l, u in zip(ratios, uniforms(4, 1, 8000).reshape(500, 16), strict=True)
    ]
    c = np.corrcoef(np.array(flags, np.float64).T)
    return float((c.sum() - 16) / (16 * 15))


@check_of("hmc_leapfrog", want=2.0, allowed=0.1)
def leapfrog_is_of_second_order(fn: Function) -> float:
    """half the step, a quarter of the energy error: log2 of the ratio."""
    long, short = (_energy_error(fn, h, round(1 / h)) for h in (0.1, 0.05))
    return log2(long / short)


@check_of("hmc_leapfrog", want=7.0)
def leapfrog_counts_its_steps(fn: Function) -> float:
    """seven leapfrogs turn by seven times w: the angle over w."""
    h = 0.3
    energy, theta = gaussian(1.0)
    q, p = np.ones((1, 1)), np.zeros((1, 1))
    q, p, *_ = fn(energy, theta, q, p, energy.grad_x(theta, q), h, 7)
    angle = atan2(-float(p[0, 0]), sqrt(1 - h * h / 4) * float(q[0, 0])) % (2 * pi)
    return angle / acos(1 - h * h / 2)


@check_of("hmc_log_ratio", want=0.0)
def kinetic_energy_of_images(fn: Function) -> float:
    """l of 16 numbers does not depend on their being (1, 4, 4): largest difference."""
    p, q = design(32, 1, 16)[:5] / 3, design(32, 16, 16)[:5] / 2
    E = np.arange(5.0)
    l = fn(E, 0 * E, p.reshape(5, 1, 4, 4), q.reshape(5, 1, 4, 4))
    return float(np.max(np.abs(l - (E + (p**2 - q**2).sum(axis=1) / 2))))


@check_of("hmc_step", want=3.2885, allowed=5 / sqrt(8000))
def hmc_step_at_a_wall(fn: Function) -> float:
    """density exp(-(x - 3)^2 / 2 + sqrt x) on x > 0: mean 3.288 (quadrature)."""
    grid = np.linspace(0, 14, 140001)[1:]
    mass = np.cumsum(np.exp(-((grid - 3) ** 2) / 2 + np.sqrt(grid)))
    start = grid[np.searchsorted(mass / mass[-1], (np.arange(8000) + 0.5) / 8000)]
    return float(np.mean(_drive(fn, HalfLine(), {}, start[:, None], 40, 1.0, 10)))


@check_of("hmc_step", want=0.1, allowed=5 * 0.1 / sqrt(2 * N))
def hmc_step_keeps_its_law(fn: Function) -> float:
    """N(0, 0.1^2), h = 0.1, two leapfrogs: sd 0.1."""
    return float(np.std(_drive(fn, *gaussian(100.0), 0.1 * normals(5, 0, N), 10, 0.1, 2)))


@check_of("hmc_run", want=1.0, allowed=5 / sqrt(2 * N))
def hmc_run_keeps_its_law(fn: Function) -> float:
    """N(0, 1), h = 1/2, three leapfrogs: sd 1."""
    return float(np.std(fn(ebm_ref, *gaussian(1.0), normals(6, 0, N), 10, 0.5, 3, 6)[0]))


class HalfLine:
    """E = (x - 3)^2 / 2 - sqrt x on x > 0, NaN elsewhere."""

    shape = (1,)

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        root = np.sqrt(x)
        return ((x - 3) ** 2 / 2 - root)[:, 0], x - 3 - 0.5 / root


def _drive(step: Function, energy: Any, theta: Params, x: Array, K: int, *size: float) -> Array:
    """K steps from x."""
    E, g = energy.energy_and_grad_x(theta, x)
    for k in range(K):
        xi = ebm_ref.noise_normal(9, Stream.MOMENTUM, k, np.arange(len(x)), x.shape[1])
        u = ebm_ref.noise_uniform(9, Stream.MH_UNIFORM, k, np.arange(len(x)), 1)[:, 0]
        x, E, g, *_ = step(energy, theta, x, E, g, xi, u, *size)
    return x


def _energy_error(fn: Function, h: float, L: int) -> float:
    energy, theta = gaussian(1.0)
    q, p = np.full((1, 1), 1.0), np.full((1, 1), 0.5)
    after, p_after, *_ = fn(energy, theta, q, p, energy.grad_x(theta, q), h, L)
    return abs(float((after**2 + p_after**2 - q**2 - p**2)[0, 0]) / 2)
