"""Mixture of isotropic Gaussians.

    forward:       E(x) = -log sum_k exp(a_k - |x - mu_k|^2 / (2 sigma_k^2)),  sigma_k = exp(log_sigma_k)
    backward:      with p_k(x) = exp(a_k - |x - mu_k|^2 / (2 sigma_k^2) + E(x)), the responsibility of k,
                   and c_nk = dy_n p_k(x_n):
                   dx_n = sum_k c_nk (x_n - mu_k) / sigma_k^2
                   da_k = -sum_n c_nk,   dmu_k = -sum_n c_nk (x_n - mu_k) / sigma_k^2
                   dlog_sigma_k = -sum_n c_nk |x_n - mu_k|^2 / sigma_k^2
    log_z:         log int exp(-E) = log sum_k exp(a_k + (D/2) log 2 pi + D log_sigma_k)
    sample_exact:  k by its share of Z,  x = mu_k + sigma_k xi

Source: Bishop 2006, Pattern Recognition and Machine Learning, eqs. 9.7 and 9.13.
Level: provides 1, 2 and 3.
Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np

from ..contracts import Array, Params, Shapes, check_array, check_count, check_sizes, flat_size, theta_check
from ..layers import logsumexp_backward, logsumexp_forward
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class GaussianMixtureEnergy(EnergyBase):
    """E(x) = -log sum_k exp(a_k - |x - mu_k|^2 / (2 sigma_k^2)), x flattened.

    theta: `logit` a (components,), `mu` (components, D), `log_sigma` (components,).
    """

    shape: tuple[int, ...]
    components: int

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        check_count("components", self.components, low=1)

    def theta_shapes(self) -> Shapes:
        k = self.components
        return {"logit": (k,), "mu": (k, flat_size(self.shape)), "log_sigma": (k,)}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        x = x.reshape((x.shape[0], 1, flat_size(self.shape)))  # (N, 1, D)
        d = (x - theta["mu"]) * np.exp(-theta["log_sigma"])[:, None]  # (N, components, D)
        square = (d * d).sum(axis=2)  # (N, components)
        logs = theta["logit"] - 0.5 * square
        return -logsumexp_forward(logs), [d, square, logs]  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        logs, square, d = tape.pop(), tape.pop(), tape.pop()
        c = logsumexp_backward(logs, dy)  # (N, components)
        pull = c[:, :, None] * d * np.exp(-theta["log_sigma"])[:, None]  # (N, components, D)
        grads = {
            "logit": -c.sum(axis=0),  # (components,)
            "mu": -pull.sum(axis=0),  # (components, D)
            "log_sigma": -(c * square).sum(axis=0),  # (components,)
        }
        dx = pull.sum(axis=1)  # (N, D)
        return dx.reshape((dx.shape[0], *self.shape)), grads  # (N, *shape)

    def log_z(self, theta: Params) -> float:
        """log int exp(-E(x)) dx = log sum_k exp(a_k + (D/2) log 2 pi + D log_sigma_k)."""
        return float(logsumexp_forward(self._log_masses(theta)))

    def sample_exact(self, theta: Params, u: Array, xi: Array) -> Array:
        """k = first component whose cumulative share of Z reaches u;  x = mu_k + sigma_k xi.

        u: (N,), uniforms in (0, 1]   xi: (N, D), standard normals   returns x: (N, *shape).
        Raises ShapeError, DTypeError.
        """
        masses = self._log_masses(theta)
        check_array("u", u, ndim=1)
        check_array("xi", xi, shape=(u.shape[0], flat_size(self.shape)))
        shares = np.cumsum(logsumexp_backward(masses, np.ones(())))  # (components,)
        k = np.minimum(np.searchsorted(shares, u), self.components - 1)  # (N,); the last share may round below 1
        x: Array = theta["mu"][k] + np.exp(theta["log_sigma"][k])[:, None] * xi  # (N, D)
        return x.reshape((u.shape[0], *self.shape)).astype(xi.dtype)  # (N, *shape)

    def _log_masses(self, theta: Params) -> Array:
        """log of the mass of each component, (components,), in float64."""
        theta_check(self, theta)
        D = flat_size(self.shape)
        logit, log_sigma = theta["logit"].astype(np.float64), theta["log_sigma"].astype(np.float64)
        masses: Array = logit + 0.5 * D * log(2 * pi) + D * log_sigma
        return masses
