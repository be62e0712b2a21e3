"""What the tests of the evaluations share: addressed draws, Phi, and a classifier that is linear in x."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

from ebm_ref.contracts import Stream
from ebm_ref.noise import noise_normal, noise_uniform


def normals(N, D, purpose=0):
    return noise_normal(7, Stream.EVALUATION, purpose, np.arange(N), D)


def uniforms(N, D, purpose=0):
    return noise_uniform(7, Stream.EVALUATION, purpose, np.arange(N), D)


def phi(a):
    """P(N(0, 1) < a)."""
    return 0.5 * (1 + erf(a / sqrt(2)))


@dataclass(frozen=True)
class LinearLogits:
    """F(x) = x W + c. theta: W (D, C), c (C,)."""

    shape: tuple[int, ...]

    def logits(self, theta, x):
        return x.reshape((len(x), -1)) @ theta["W"] + theta["c"]

    def logits_backward(self, theta, x, dy):
        return (dy @ theta["W"].T).reshape(x.shape), {"W": x.reshape((len(x), -1)).T @ dy, "c": dy.sum(axis=0)}


def rbm_theta(energy, scale=1.0):
    rng = np.random.default_rng(7)
    return {name: scale * rng.normal(size=shape) for name, shape in energy.theta_shapes().items()}
