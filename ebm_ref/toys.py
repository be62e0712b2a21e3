"""Two-dimensional distributions to look at, most of them with a closed-form density to measure against.

    toy_sample        n points of a toy; point i draws at chain i of Stream.TOY, so the first points do not depend on n
    toy_log_density   log p(x), normalised, for the names in TOYS_WITH_DENSITY

    gaussian          N(mu, S), lopsided and correlated
    gaussian_mixture  three lopsided normals of unequal weight
    eight_gaussians   (1/8) sum_k N(2.5 (cos k pi/4, sin k pi/4), 0.2^2 I)
    checkerboard      uniform on the 8 squares [i, i+1) x [j, j+1), times 1.5, i + j even, i, j = -2 .. 1
    rings             angle uniform, radius R_k + 0.1 xi, R = 1, 2, 3:  p(x) = sum_k (phi_k(r) + phi_k(-r)) / (3 2 pi r)
    spiral_mixture    (1/40) sum_k N(0.3 a_k (cos a_k, sin a_k), 0.2^2 I), a_k = 3 pi sqrt((k + 1/2) / 40): a valley
    banana            x = (0.7 z_1, 0.4 z_2 + (z_1^2 - 1) / 8), z normal: a shear, which keeps area
    pinwheel          5 radial normals, twisted by an angle that depends on the radius; a twist keeps area
    two_moons, two_spirals, swiss_roll    curves with normal noise; no closed form

All lie in [-4, 4]^2, but for about one point in a million.
Source: the sets are customary; pinwheel after Johnson et al. 2016, arXiv:1603.06277, figure 1.
Twins: none.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi

import numpy as np
from numpy.typing import DTypeLike

from .contracts import Array, DTypeError, RangeError, Stream, check_array, check_count
from .noise import noise_normal, noise_uniform

Draw = tuple[Array, Array]  # u (n, 2) uniform in (0, 1), xi (n, 2) normal

GAUSSIAN_MEAN = np.array([0.3, -0.2])
GAUSSIAN_ROOT = np.array([[0.7, 0.0], [0.4, 0.3]])  # S = root root'
MIXTURE_MEANS = np.array([[-1.5, 0.5], [1.2, 1.0], [0.6, -1.4]])
MIXTURE_STDS = np.array([0.5, 0.3, 0.4])
MIXTURE_WEIGHTS = np.array([0.5, 0.2, 0.3])
EIGHT_MEANS = 2.5 * np.stack([np.cos(np.arange(8) * pi / 4), np.sin(np.arange(8) * pi / 4)], axis=1)
EIGHT_STDS, EIGHT_WEIGHTS = np.full(8, 0.2), np.full(8, 0.125)
SPIRAL_ANGLES = 3 * pi * np.sqrt((np.arange(40) + 0.5) / 40)
SPIRAL_MEANS = 0.3 * SPIRAL_ANGLES[:, None] * np.stack([np.cos(SPIRAL_ANGLES), np.sin(SPIRAL_ANGLES)], axis=1)
SPIRAL_STDS, SPIRAL_WEIGHTS = np.full(40, 0.2), np.full(40, 1 / 40)
SQUARES = np.array([(i, j) for i in range(-2, 2) for j in range(-2, 2) if (i + j) % 2 == 0])  # (8, 2)
SQUARE = 1.5
RING_RADII, RING_STD = np.array([1.0, 2.0, 3.0]), 0.1
BLADES, BLADE_RADIUS, BLADE_STDS, BLADE_TWIST = 5, 1.8, np.array([0.35, 0.12]), 0.9


def toy_sample(name: str, n: int, seed: int, dtype: DTypeLike = np.float32) -> Array:
    """n points of TOYS[name], computed in float64 and rounded.

    returns (n, 2). Raises RangeError, DTypeError.
    """
    if name not in TOYS:
        raise RangeError(f"name: expected one of {', '.join(TOYS)}, found {name!r}")
    check_count("n", n, low=1)
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise DTypeError(f"dtype: expected float32 or float64, found {dtype!r}")
    u = noise_uniform(seed, Stream.TOY, 0, np.arange(int(n)), 2)  # (n, 2)
    xi = noise_normal(seed, Stream.TOY, 1, np.arange(int(n)), 2)  # (n, 2)
    points: Array = TOYS[name](u, xi).astype(dtype)
    return points


def toy_log_density(name: str, x: Array) -> Array:
    """log p(x) of TOYS[name], normalised; -inf where the density is 0.

    x: (N, 2)   returns (N,). Raises RangeError for a toy without a closed form, ShapeError, DTypeError.
    """
    if name not in DENSITIES:
        raise RangeError(f"name: expected one of {', '.join(DENSITIES)}, which have a closed form, found {name!r}")
    check_array("x", x, shape=(None, 2), finite=True)
    log_density: Array = DENSITIES[name](x.astype(np.float64)).astype(x.dtype)
    return log_density


# ------------------------------------------------------------------------------------------ normals


def _mixture_sample(draw: Draw, means: Array, stds: Array, weights: Array) -> Array:
    u, xi = draw
    k = _pick(u[:, 0], weights)  # (n,)
    points: Array = means[k] + stds[k][:, None] * xi
    return points


def _mixture_log_density(x: Array, means: Array, stds: Array, weights: Array) -> Array:
    """log sum_k w_k N(x; mu_k, s_k^2 I)."""
    square = np.sum((x[:, None] - means) ** 2, axis=2)  # (N, k)
    return _log_sum_exp(np.log(weights) - square / (2 * stds**2) - np.log(2 * pi * stds**2))


def _gaussian(u: Array, xi: Array) -> Array:
    points: Array = GAUSSIAN_MEAN + xi @ GAUSSIAN_ROOT.T
    return points


def _gaussian_log_density(x: Array) -> Array:
    z = (x - GAUSSIAN_MEAN) @ np.linalg.inv(GAUSSIAN_ROOT).T  # (N, 2)
    return _log_normal(z) - log(abs(float(np.linalg.det(GAUSSIAN_ROOT))))


def _gaussian_mixture(u: Array, xi: Array) -> Array:
    return _mixture_sample((u, xi), MIXTURE_MEANS, MIXTURE_STDS, MIXTURE_WEIGHTS)


def _gaussian_mixture_log_density(x: Array) -> Array:
    return _mixture_log_density(x, MIXTURE_MEANS, MIXTURE_STDS, MIXTURE_WEIGHTS)


def _eight_gaussians(u: Array, xi: Array) -> Array:
    return _mixture_sample((u, xi), EIGHT_MEANS, EIGHT_STDS, EIGHT_WEIGHTS)


def _eight_gaussians_log_density(x: Array) -> Array:
    return _mixture_log_density(x, EIGHT_MEANS, EIGHT_STDS, EIGHT_WEIGHTS)


def _spiral_mixture(u: Array, xi: Array) -> Array:
    return _mixture_sample((u, xi), SPIRAL_MEANS, SPIRAL_STDS, SPIRAL_WEIGHTS)


def _spiral_mixture_log_density(x: Array) -> Array:
    return _mixture_log_density(x, SPIRAL_MEANS, SPIRAL_STDS, SPIRAL_WEIGHTS)


def _banana(u: Array, xi: Array) -> Array:
    return np.stack([0.7 * xi[:, 0], 0.4 * xi[:, 1] + (xi[:, 0] ** 2 - 1) / 8], axis=1)


def _banana_log_density(x: Array) -> Array:
    z1 = x[:, 0] / 0.7
    z2 = (x[:, 1] - (z1**2 - 1) / 8) / 0.4
    return _log_normal(np.stack([z1, z2], axis=1)) - log(0.7 * 0.4)


# ------------------------------------------------------------------------------- squares and circles


def _checkerboard(u: Array, xi: Array) -> Array:
    cell = u[:, 0] * len(SQUARES)  # the integer part picks a square, the rest is uniform in it
    k = np.minimum(cell.astype(int), len(SQUARES) - 1)
    within = np.stack([cell - k, u[:, 1]], axis=1)
    points: Array = SQUARE * (SQUARES[k] + within)
    return points


def _checkerboard_log_density(x: Array) -> Array:
    cell = np.floor(x / SQUARE)  # (N, 2)
    inside = (np.abs(cell + 0.5) < 2).all(axis=1) & (cell.sum(axis=1) % 2 == 0)
    return np.where(inside, -log(len(SQUARES) * SQUARE**2), -np.inf)


def _rings(u: Array, xi: Array) -> Array:
    k = _pick(u[:, 1], np.full(len(RING_RADII), 1 / len(RING_RADII)))
    return _polar(RING_RADII[k] + RING_STD * xi[:, 0], 2 * pi * u[:, 0])


def _rings_log_density(x: Array) -> Array:
    r = np.hypot(x[:, 0], x[:, 1])  # (N,); a negative radius is the opposite angle
    signed = np.stack([r, -r], axis=1)[:, :, None]  # (N, 2, 1)
    square = ((signed - RING_RADII) / RING_STD) ** 2  # (N, 2, k)
    log_radius = _log_sum_exp(-square.reshape(len(x), -1) / 2) - log(len(RING_RADII) * RING_STD) - log(2 * pi) / 2
    with np.errstate(divide="ignore"):  # infinite at the origin
        return log_radius - np.log(2 * pi * r)


def _pinwheel(u: Array, xi: Array) -> Array:
    k = _pick(u[:, 0], np.full(BLADES, 1 / BLADES))
    blade = np.array([BLADE_RADIUS, 0.0]) + BLADE_STDS * xi  # (n, 2) along the first axis
    r, a = np.hypot(blade[:, 0], blade[:, 1]), np.arctan2(blade[:, 1], blade[:, 0])
    return _polar(r, a + BLADE_TWIST * r + 2 * pi * k / BLADES)


def _pinwheel_log_density(x: Array) -> Array:
    r, a = np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])
    logs = []
    for k in range(BLADES):
        blade = _polar(r, a - BLADE_TWIST * r - 2 * pi * k / BLADES)  # untwisted
        logs.append(_log_normal((blade - np.array([BLADE_RADIUS, 0.0])) / BLADE_STDS))
    return _log_sum_exp(np.stack(logs, axis=1)) - log(BLADES * float(BLADE_STDS.prod()))


# ------------------------------------------------------------------------------------ noisy curves


def _two_moons(u: Array, xi: Array) -> Array:
    a = pi * u[:, 0]
    upper = np.stack([np.cos(a) - 0.5, np.sin(a) - 0.25], axis=1)
    moon = np.where(u[:, 1:] < 0.5, upper, -upper)
    return 1.5 * moon + 0.12 * xi


def _two_spirals(u: Array, xi: Array) -> Array:
    a = 3 * pi * np.sqrt(u[:, 0])
    arm = _polar(0.3 * a, a)
    return np.where(u[:, 1:] < 0.5, arm, -arm) + 0.08 * xi


def _swiss_roll(u: Array, xi: Array) -> Array:
    a = 1.5 * pi * (1 + 2 * u[:, 0])
    return _polar(0.22 * a, a) + 0.1 * xi


# ----------------------------------------------------------------------------------------- helpers


def _pick(u: Array, weights: Array) -> Array:
    """Index k with probability weights[k], (n,)."""
    k: Array = np.searchsorted(np.cumsum(weights)[:-1], u)
    return k


def _polar(r: Array, a: Array) -> Array:
    """(r cos a, r sin a), (n, 2)."""
    return np.stack([r * np.cos(a), r * np.sin(a)], axis=1)


def _log_normal(z: Array) -> Array:
    """log N(z; 0, I) in two dimensions, (N,)."""
    value: Array = -np.sum(z**2, axis=1) / 2 - log(2 * pi)
    return value


def _log_sum_exp(a: Array) -> Array:
    """log sum_k exp a_k, (N,)."""
    top = a.max(axis=1)
    value: Array = top + np.log(np.sum(np.exp(a - top[:, None]), axis=1))
    return value


TOYS: dict[str, Callable[[Array, Array], Array]] = {
    "gaussian": _gaussian,
    "gaussian_mixture": _gaussian_mixture,
    "eight_gaussians": _eight_gaussians,
    "checkerboard": _checkerboard,
    "rings": _rings,
    "spiral_mixture": _spiral_mixture,
    "banana": _banana,
    "pinwheel": _pinwheel,
    "two_moons": _two_moons,
    "two_spirals": _two_spirals,
    "swiss_roll": _swiss_roll,
}
DENSITIES: dict[str, Callable[[Array], Array]] = {
    "gaussian": _gaussian_log_density,
    "gaussian_mixture": _gaussian_mixture_log_density,
    "eight_gaussians": _eight_gaussians_log_density,
    "checkerboard": _checkerboard_log_density,
    "rings": _rings_log_density,
    "spiral_mixture": _spiral_mixture_log_density,
    "banana": _banana_log_density,
    "pinwheel": _pinwheel_log_density,
}
TOYS_WITH_DENSITY = tuple(DENSITIES)
