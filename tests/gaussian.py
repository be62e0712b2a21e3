"""The smallest energies with closed forms, beside the library's own: E = gain x' diag(lam) x / 2 + bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bowl:
    """E(x) = sum_d lam_d x_d^2 / 2 + bias; theta: lam (D,), bias (1,)."""

    shape: tuple[int, ...] = (1,)

    def theta_shapes(self):
        return {"lam": (int(np.prod(self.shape)),), "bias": (1,)}

    def energy(self, theta, x):
        return self.energy_and_grad_x(theta, x)[0]

    def grad_x(self, theta, x):
        return self.energy_and_grad_x(theta, x)[1]

    def energy_and_grad_x(self, theta, x):
        flat = x.reshape((x.shape[0], int(np.prod(self.shape))))
        E = np.sum(flat * flat * theta["lam"], axis=1) / 2 + theta["bias"][0]
        return E, (flat * theta["lam"]).reshape(x.shape)

    def grad_theta(self, theta, x, w):
        flat = x.reshape((x.shape[0], int(np.prod(self.shape))))
        half = np.sum(w[:, None] * flat * flat, axis=0) / 2
        return {"lam": half, "bias": np.sum(w, keepdims=True)}


def bowl_theta(*lam, bias=0.0, dtype=np.float64):
    return {"lam": np.array(lam, dtype), "bias": np.array([bias], dtype)}
