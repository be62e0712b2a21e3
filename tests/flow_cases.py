"""What the flow, projection and distillation tests share: fields and maps with closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from ebm_ref import FieldBase, linear_backward, linear_forward, noise_normal


def normals(stream, *shape, dtype=np.float64):
    return noise_normal(17, stream, 0, np.arange(shape[0]), int(np.prod(shape[1:])), dtype).reshape(shape)


@dataclass(frozen=True)
class AffineField(FieldBase):
    """f(x) = x w + b on vectors; with one channel more than f it is a trunk."""

    shape: tuple[int, ...]
    out_channels: int

    @property
    def out_shape(self):
        return (self.out_channels,)

    def theta_shapes(self):
        return {"w": (self.shape[0], self.out_channels), "b": (self.out_channels,)}

    def forward(self, theta, x):
        return linear_forward(x, theta["w"], theta["b"]), [x]

    def backward(self, theta, tape, dy):
        dx, dw, db = linear_backward(tape.pop(), theta["w"], dy)
        return dx, {"w": dw, "b": db}


def flat(theta):
    return np.concatenate([value.ravel() for value in theta.values()])


def unflat(vector, theta):
    ends = np.cumsum([value.size for value in theta.values()])[:-1]
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(theta.items(), np.split(vector, ends), strict=True)
    }


def quadratic_minimum(gradient, theta):
    """Where an affine gradient vanishes, the solution of least norm; gradient: theta -> like theta."""
    zero = np.zeros_like(flat(theta))
    at_zero = flat(gradient(unflat(zero, theta)))
    columns = [flat(gradient(unflat(e, theta))) - at_zero for e in np.eye(len(zero))]
    return unflat(np.linalg.lstsq(np.array(columns).T, -at_zero, rcond=1e-11)[0], theta)


# --------------------------------------------------------------------- flows of Gaussians and of mixtures


class Held:
    """x -> function(x), a field without parameters."""

    def __init__(self, function, shape):
        self.field, self.shape, self.out_shape = (lambda theta, x: function(x)), shape, shape


class ExactFlow:
    """v*(x, t) = E[x1 - x0 | x_t = x] of noise N(0, I) and a mixture of isotropic Gaussians, drawn independently.

    v* = (x + (1 - t) grad log p_t(x)) / t, and of one component m + (t s^2 - (1 - t)) (x - t m) / q,
    q = t^2 s^2 + (1 - t)^2, the components weighted by their share of p_t at x.
    """

    low, high = 0.0, 1.0

    def __init__(self, weights, means, deviations):
        self.weights, self.means, self.deviations = map(np.asarray, (weights, means, deviations))
        self.shape = self.out_shape = self.means.shape[1:]

    def theta_shapes(self):
        return {}

    def variances(self, t):
        return t * t * self.deviations**2 + (1 - t) ** 2  # (k,) or (N, k)

    def logs(self, x, t):
        """log of weight times density of each component, (N, k); t: a number, or (N, 1)."""
        q, D = self.variances(t), x.shape[1]
        square = ((x[:, None] - np.expand_dims(t, -1) * self.means) ** 2).sum(axis=2)
        return np.log(self.weights) - 0.5 * square / q - 0.5 * D * np.log(2 * np.pi * q)

    def log_density(self, x, t):
        return np.logaddexp.reduce(self.logs(x, t), axis=1)

    def velocity(self, x, t):
        logs, q = self.logs(x, t), self.variances(t)
        shares = np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None])  # (N, k)
        slope = (t * self.deviations**2 - (1 - t)) / q
        parts = self.means + slope[..., None] * (x[:, None] - np.expand_dims(t, -1) * self.means)  # (N, k, D)
        return (shares[:, :, None] * parts).sum(axis=1)

    def at(self, t):
        def each(x):
            return self.velocity(x, t if np.ndim(t) == 0 else t[:, None])

        return Held(each, self.shape)


def gaussian_flow(m, s):
    return ExactFlow([1.0], [m], [s])


def two_by_two(m, s):
    """x0 and x1 of four pairs with the means, variances and zero correlation of independent N(0, 1) and N(m, s^2)."""
    return np.array([[-1.0], [-1.0], [1.0], [1.0]]), m + s * np.array([[-1.0], [1.0], [-1.0], [1.0]])


# ------------------------------------------------------------------------------------------- exact students


class ExactMap:
    """Phi(x, h) = expm(-A h) x, A symmetric, theta: A; u = (expm(-A h) - I) x / h, with its derivatives."""

    h_max = 8.0

    def __init__(self, D):
        self.shape = (D,)

    def theta_shapes(self):
        return {"A": self.shape * 2}

    def _parts(self, theta, h, N):
        """(expm(-A h) - I) / h and its slope in h, (N, D, D)."""
        lam, Q = np.linalg.eigh(theta["A"])
        z = -np.broadcast_to(np.asarray(h), (N,))[:, None] * lam  # (N, D)
        safe = np.where(np.abs(z) < 1e-4, 1.0, z)
        mean = np.where(np.abs(z) < 1e-4, 1 + z / 2 + z * z / 6, np.expm1(safe) / safe)  # (e^z - 1) / z
        slope = np.where(np.abs(z) < 1e-4, 0.5 + z / 3, (np.exp(safe) - mean) / safe)
        return (np.einsum("ij,nj,kj->nik", Q, part, Q) for part in (-lam * mean, lam * lam * slope))

    def u(self, theta, x, h):
        return np.einsum("nij,nj->ni", next(self._parts(theta, h, len(x))), x)

    def u_dot(self, theta, x, h, v, h_dot):
        M, dM = self._parts(theta, h, len(x))
        rate = np.broadcast_to(np.asarray(h_dot), (len(x),))[:, None]
        return np.einsum("nij,nj->ni", M, x), np.einsum("nij,nj->ni", M, v) + rate * np.einsum("nij,nj->ni", dM, x)

    def flow(self, theta, x, h):
        return x + np.broadcast_to(np.asarray(h), (len(x),))[:, None] * self.u(theta, x, h)

    def u_grad_theta(self, theta, x, h, g):
        self.cotangent = g
        return {"A": np.zeros_like(theta["A"])}


def rms(x):
    return sqrt(float(np.mean(np.square(x))))
