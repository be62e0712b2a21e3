"""What the score matching tests share: a bowl with all three levels, networks, data, and arrays of a device."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from derivatives import random_theta
from duck import Duck
from gaussian import Bowl

from ebm_ref import ConvEnergy, MLPEnergy, noise, noise_normal
from ebm_ref.objectives import denoising, denoising_ladder, score_matching, score_matching_sliced

NETWORKS = {
    "mlp": MLPEnergy((3,), (5, 4), "silu"),
    "mlp_image": MLPEnergy((2, 3), (6,), "softplus", layer_norm=True),
    "conv": ConvEnergy((4, 3, 2), channels=(4, 6), strides=(2, 1), max_groups=2, activation="tanh"),
}


SIGMAS = denoising_ladder(1.0, 0.1, 3)
TRUNKS = {
    "mlp": MLPEnergy((4,), (5, 4), "silu"),
    "conv": ConvEnergy((4, 3, 3), channels=(4, 6), strides=(2, 1), max_groups=2, activation="tanh"),
}


def normals(stream, *shape, dtype=np.float64):
    return noise_normal(13, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:])), dtype).reshape(shape)


def objectives(x, dtype=np.float64):
    """Name -> (energy, theta) -> (loss, grads, info), all draws fixed."""
    v = np.stack([normals(21 + m, *x.shape, dtype=dtype) for m in range(2)])
    xi = normals(23, *x.shape, dtype=dtype)
    return {
        "exact": lambda energy, theta: score_matching(energy, theta, x),
        "sliced": lambda energy, theta: score_matching_sliced(energy, theta, x, v, False),
        "reduced": lambda energy, theta: score_matching_sliced(energy, theta, x, v),
        "denoising": lambda energy, theta: denoising(energy, theta, x, xi, 0.4),
    }


NAMES = ("exact", "sliced", "reduced", "denoising")


def case(network, N=4, dtype=np.float64):
    energy = NETWORKS[network]
    return energy, random_theta(energy, np.random.default_rng(7), dtype), normals(20, N, *energy.shape, dtype=dtype)


@dataclass(frozen=True)
class SmoothBowl(Bowl):
    """E(x) = sum_d lam_d x_d^2 / 2 + bias with levels 2 and 3, in calls that any array answers."""

    def _flat(self, x):
        return x.reshape((x.shape[0], int(np.prod(self.shape))))

    def grad_theta_along(self, theta, x, v):
        return {"lam": np.sum(self._flat(x) * self._flat(v), axis=0), "bias": np.zeros_like(theta["bias"])}

    def hvp(self, theta, x, v):
        return (self._flat(v) * theta["lam"]).reshape(v.shape)

    def curvature(self, theta, x, v):
        return np.sum(self._flat(v) * self._flat(v) * theta["lam"], axis=1)

    def grad_theta_curvature(self, theta, x, v, w):
        squares = self._flat(v) * self._flat(v)
        return {"lam": np.sum(w[:, None] * squares, axis=0), "bias": np.zeros_like(theta["bias"])}


class Level1(Bowl):
    """A bowl that knows no second derivative."""


def signs(D):
    """All 2^D vectors of signs, (2^D, D)."""
    return 1.0 - 2.0 * ((np.arange(2**D)[:, None] >> np.arange(D)) & 1)


def all_signs(x):
    """Every vector of signs as a direction of every sample, (2^D, *x.shape)."""
    N, D = len(x), x[0].size
    return np.repeat(signs(D), N, axis=0).reshape((2**D, *x.shape))


def ducks(theta):
    return {name: Duck.of(value) for name, value in theta.items()}


def same_on_ducks(want, found):
    """Whether (loss, grads, info) of ducks is that of arrays."""
    assert found[0].get() == want[0]
    for wanted, got in ((want[1], found[1]), (want[2], found[2])):
        assert list(wanted) == list(got)
        for name, value in wanted.items():
            np.testing.assert_array_equal(got[name].get(), value)


def _on_device(function):
    def call(*args):
        return Duck.of(function(*(arg.get() if isinstance(arg, Duck) else arg for arg in args)))

    return call


DUCK_BACKEND = SimpleNamespace(
    **{f"noise_{name}": _on_device(getattr(noise, f"noise_{name}")) for name in ("bits", "uniform", "normal", "index")}
)
