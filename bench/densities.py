"""Densities in the plane on a grid: what a trained energy is compared with, exactly.

    density_grid     centres of n x n cells of BOX, their area
    density_target   log p of a toy on the grid, normalised there; noised: p * N(0, level^2 I), by two sums of n terms
    moons_log_density  log p of two_moons: the mean of N(x; arc(a), 0.12^2 I) over the angle a, by Gauss-Legendre
    density_model    log p_theta = -E - log Z on the grid, Z by the sum over the cells
    divergence       KL(p || q) = sum_i p_i (log p_i - log q_i) area
    parts            KL = between + within: KL of the masses of the parts of the plane, and the mean of that inside them
    density_sample   points of a density on the grid: a cell by its mass, a place in it

The midpoint sum of a smooth density whose narrowest width is s has a relative error of about exp(-2 (pi s / h)^2),
h the width of a cell: 1e-17 for s = 0.1, h = 0.05. What lies outside BOX is not seen.
"""

from __future__ import annotations

from functools import partial
from math import pi, sqrt
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params
from ebm_ref.toys import EIGHT_MEANS, RING_RADII, SQUARE, SQUARES

BOX = (-4.5, 4.5)
CELLS = 360  # the edges of the checkerboard are edges of cells
CHUNK = 8192
NODES, MOON = 80, 0.12  # of the integral along a moon; the noise across it
TINY = 1e-300  # log of a density of 0 is the log of this


def density_grid() -> tuple[Array, float]:
    """Centres (CELLS^2, 2) and the area of a cell."""
    points, w = ebm_ref.quadrature_grid(BOX, CELLS, 2)
    return points, float(w[0])


def density_target(name: str, level: float = 0.0) -> Array:
    """log of the toy's density (CELLS^2,), of data that had normal noise of standard deviation `level` added."""
    points, area = density_grid()
    p = np.exp(moons_log_density(points) if name == "two_moons" else ebm_ref.toy_log_density(name, points))
    if level:
        h = sqrt(area)
        axis = np.arange(CELLS) * h
        blur = np.exp(-(((axis[:, None] - axis) / level) ** 2) / 2) * (h / (level * sqrt(2 * pi)))  # (CELLS, CELLS)
        p = (blur @ p.reshape(CELLS, CELLS) @ blur).ravel()
    return np.log(np.maximum(p / (p.sum() * area), TINY))


def moons_log_density(x: Array) -> Array:
    """log p(x) of the toy two_moons, (N,), in float64. x: (N, 2).

    The arc has radius 1.5: a normal of 0.12 is 0.08 wide in a, 1.3 times the spacing of 80 nodes, and the error of
    the sum is that of rounding.
    """
    z, w = np.polynomial.legendre.leggauss(NODES)
    means, weights = moon_nodes(pi * (z + 1) / 2), np.concatenate([w, w]) / 4  # (2 NODES, 2), (2 NODES,)
    mixture = partial(ebm_ref.toys._mixture_log_density, means=means, stds=np.full(2 * NODES, MOON), weights=weights)
    return np.concatenate([mixture(x[i : i + CHUNK].astype(np.float64)) for i in range(0, len(x), CHUNK)])


def moon_nodes(a: Array) -> Array:
    """The points of both arcs of two_moons at the angles a (n,), (2 n, 2)."""
    arc = 1.5 * np.stack([np.cos(a) - 0.5, np.sin(a) - 0.25], axis=1)
    return np.concatenate([arc, -arc])


def density_model(energy: Any, theta: Params) -> Array:
    """log p_theta (CELLS^2,), of a float64 energy of ebm_ref."""
    points, area = density_grid()
    parts = [energy.energy(theta, points[i : i + CHUNK]) for i in range(0, len(points), CHUNK)]
    log_p = -np.concatenate(parts)
    top = log_p.max()
    log_q: Array = log_p - (top + np.log(np.exp(log_p - top).sum() * area))
    return log_q


def divergence(log_p: Array, log_q: Array) -> float:
    """KL(p || q) in nats; cells where p is 0 add nothing."""
    p, (_, area) = np.exp(log_p), density_grid()
    return float((p * (log_p - log_q)).sum() * area)


def parts_of(name: str) -> Array:
    """The part that each cell of the grid belongs to, (CELLS^2,): the nearest mode, ring or square; else one part."""
    points, _ = density_grid()
    if name == "rings":
        return np.abs(np.hypot(*points.T)[:, None] - RING_RADII).argmin(axis=1)
    centres = {"eight_gaussians": EIGHT_MEANS, "checkerboard": (SQUARES + 0.5) * SQUARE}.get(name, np.zeros((1, 2)))
    return ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)


def divergence_between(log_p: Array, log_q: Array, parts: Array) -> float:
    """KL between the masses that p and q give to the parts; the rest of KL(p || q) is inside them."""
    _, area = density_grid()
    P, Q = (np.bincount(parts, weights=np.exp(log) * area) for log in (log_p, log_q))
    return float((P * np.log(P / Q)).sum())


def density_sample(log_p: Array, n: int, seed: int) -> Array:
    """n points (n, 2) of the density: the cell by its mass, the place in the cell uniform."""
    points, area = density_grid()
    u = ebm_ref.noise_uniform(seed, ebm_ref.Stream.EVALUATION, 0, np.arange(n), 3)  # (n, 3)
    mass = np.cumsum(np.exp(log_p))
    idx = np.minimum(np.searchsorted(mass, u[:, 0] * mass[-1]), len(points) - 1)
    sample: Array = points[idx] + (u[:, 1:] - 0.5) * sqrt(area)
    return sample
