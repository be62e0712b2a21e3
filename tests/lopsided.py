"""One-dimensional targets for samplers: one with a hard wall, its moments by quadrature, and what draws of it show."""

from __future__ import annotations

from math import sqrt

import numpy as np

import ebm_ref
from ebm_ref import effective_sample_size, noise_uniform

EDGES = (0.6, 1.8, 2.6, 3.2, 3.8, 4.6, 5.8)


class Lopsided:
    """E(x) = (x - 3)^2 / 2 - sqrt(x) for x > 0, +inf elsewhere, where its gradient is NaN. No parameters."""

    shape = (1,)

    def theta_shapes(self):
        return {}

    def energy_and_grad_x(self, theta, x):
        with np.errstate(invalid="ignore", divide="ignore"):
            root = np.sqrt(x)
            E = np.where(x > 0, (x - 3) ** 2 / 2 - root, np.inf)[:, 0]
            return E, x - 3 - 1 / (2 * root)

    def energy(self, theta, x):
        return self.energy_and_grad_x(theta, x)[0]


def quadrature():
    """(x, p): midpoints and their probabilities under exp(-E)."""
    x = (np.arange(60_000) + 0.5) * 2e-4
    p = np.exp(-Lopsided().energy({}, x[:, None]))
    return x, p / p.sum()


def exact_start(N):
    x, p = quadrature()
    u = noise_uniform(77, ebm_ref.Stream.SAMPLE_START, 0, np.arange(N), 1)[:, 0]
    return x[np.minimum(np.searchsorted(np.cumsum(p), u), len(x) - 1)][:, None]


def check_law(draws, sigmas=5.0):
    """Moments and histogram of (T, N) draws against quadrature, each by its own effective sample size."""
    x, p = quadrature()
    wanted = {f"x^{k}": (draws**k, x**k) for k in (1, 2, 3)}
    wanted |= {f"x < {edge}": ((draws < edge).astype(float), (x < edge).astype(float)) for edge in EDGES}
    assert (draws > 0).all()
    for name, (seen, f) in wanted.items():
        mean = p @ f
        error = sqrt(p @ (f - mean) ** 2 / effective_sample_size(seen))
        assert abs(seen.mean() - mean) < sigmas * error, f"{name}: {seen.mean()} not {mean} +- {error}"


def trajectory(step, x, T):
    """x after each of T calls x = step(x, t), (T, N)."""
    states = []
    for t in range(T):
        x = step(x, t)
        states.append(x[:, 0])
    return np.stack(states)
