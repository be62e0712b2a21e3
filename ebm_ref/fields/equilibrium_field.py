"""The minimiser of equilibrium matching over all fields, for data that are known: what a trained field is compared to.

    data      x ~ (1/M) sum_i N(m_i, sigma^2 I):   M points at sigma = 0, one Gaussian at M = 1
    f*        f*(y) = E[ c(gamma) (e - x) | gamma x + (1 - gamma) e = y ],   e ~ N(0, I),  gamma ~ U(0, 1)

With u = 1 - gamma and d_i = y - m_i, y given i and gamma is N(gamma m_i, v I), v = gamma^2 sigma^2 + u^2, and

    E[e - x | y, i, gamma] = A d_i - B m_i,     A = (u - gamma sigma^2) / v,   B = gamma sigma^2 / v
    p(i, gamma | y)        ~ v^(-D/2) exp(-|d_i + u m_i|^2 / (2 v))
    forward                f* = sum_{i, gamma} p c (A d_i - B m_i)
    backward               J' g = (sum p c A) g - sum_{i, gamma} h (d_i + u m_i) / v,
                           h = p (c (A d_i - B m_i) - f*) . g

At sigma = 0 it is sum_i a_i (y - m_i) with a_i > 0, and 0 in the limit at a point m_i (D > 1: c(gamma) / u and v^(-D/2)
have their largest values there): data are stationary. Of smooth data they are not, in low dimensions: the noise level
must be known from y alone. J is not symmetric in general: f* has no energy.

The integral over gamma is Gauss-Legendre, 8 nodes in each of `cells` panels an octave of u, from 1 down to 2^-40, with
c's kinks between panels. At sigma = 0 a y within about 2^-40 of a point is beyond its reach. In D dimensions the
integrand is as narrow as sqrt(2 / D) in log v: take cells ~ sqrt(D) / 4 at least.

Source: Wang & Du 2025, arXiv:2510.02300 (the loss); its minimum is the conditional mean.
Level: every method of the protocol. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Params,
    ShapeError,
    Shapes,
    check_array,
    check_count,
    check_number,
    flat_size,
)
from ..jet import jet_coefficient
from .base import FieldBase, Tape

NODES, OCTAVES = 8, 40


class Remaining(Protocol):
    """c(1 - u), and the gamma where c has no derivative; EquilibriumTarget has both."""

    @property
    def kinks(self) -> tuple[float, ...]: ...

    def remaining(self, u: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class EquilibriumField(FieldBase):
    """f*(y) = E[c(gamma) (e - x) | gamma x + (1 - gamma) e = y], x ~ (1/M) sum_i N(points_i, sigma^2 I); no parameters.

    points: (M, *shape), M >= 1, finite   target: c, an EquilibriumTarget   sigma >= 0   cells: >= 1, panels an octave
    Raises ShapeError, DTypeError, NonFiniteError, RangeError.
    """

    points: Array
    target: Remaining
    sigma: float = 0.0
    cells: int = 2

    def __post_init__(self) -> None:
        check_array("points", self.points, finite=True)
        if self.points.ndim < 2 or self.points.shape[0] == 0:
            raise ShapeError(f"points: expected (M, *shape) with M >= 1, found {self.points.shape}")
        if not hasattr(self.target, "remaining"):
            raise DTypeError(f"target: expected an EquilibriumTarget, found {type(self.target).__name__}")
        check_number("sigma", self.sigma, low=0.0)
        check_count("cells", self.cells, low=1)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of one point."""
        return self.points.shape[1:]

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return self.shape

    def theta_shapes(self) -> Shapes:
        """None."""
        return {}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        u, log_w, v, cA, cB = (part.astype(x.dtype) for part in self.nodes())  # (T,) each
        m = self._points(x)  # (M, D)
        d = x.reshape((x.shape[0], 1, m.shape[1])) - m  # (N, M, D)
        d_m, d_d = (d * m).sum(axis=2)[:, :, None], (d * d).sum(axis=2)[:, :, None]  # (N, M, 1)
        m_m = (m * m).sum(axis=1)[:, None]  # (M, 1)
        log_p = log_w - (d_d + 2 * u * d_m + u * u * m_m) * (0.5 / v)  # (N, M, T)
        p = np.exp(log_p - jet_coefficient(log_p, 0).max(axis=(1, 2), keepdims=True))
        p = p / p.sum(axis=(1, 2), keepdims=True)  # (N, M, T)
        a, b = (p * cA).sum(axis=2)[:, :, None], (p * cB).sum(axis=2)[:, :, None]  # (N, M, 1)
        f = (a * d - b * m).sum(axis=1)  # (N, D)
        return f.reshape(x.shape), [(d, p, a, f)]

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        d, p, a, f = tape.pop()
        u, _, v, cA, cB = (part.astype(d.dtype) for part in self.nodes())  # (T,) each
        m = self._points(d)  # (M, D)
        g = dy.reshape(f.shape)  # (N, D)
        d_g, m_g = (d * g[:, None, :]).sum(axis=2)[:, :, None], (g @ m.T)[:, :, None]  # (N, M, 1)
        h = p * (cA * d_g - cB * m_g - (f * g).sum(axis=1)[:, None, None])  # (N, M, T)
        along_d, along_m = (h * (1 / v)).sum(axis=2)[:, :, None], (h * (u / v)).sum(axis=2)[:, :, None]  # (N, M, 1)
        dx = a.sum(axis=1) * g - (along_d * d + along_m * m).sum(axis=1)  # (N, D)
        return dx.reshape((dx.shape[0], *self.shape)), {}

    def nodes(self) -> tuple[Array, Array, Array, Array, Array]:
        """u, log(weight v^(-D/2)), v, c A and c B at the T nodes of the integral over gamma, in float64."""
        z, w = np.polynomial.legendre.leggauss(NODES)  # on [-1, 1]
        ends = np.exp2(-np.arange(OCTAVES * self.cells + 1) / self.cells)  # from 1 down
        ends = np.unique(np.concatenate([ends, [1 - kink for kink in self.target.kinks]]))
        low, half = ends[:-1, None], np.diff(ends)[:, None] / 2  # (panels, 1)
        u, weight = (low + half * (z + 1)).ravel(), (half * w).ravel()  # (T,)
        gamma, spread = 1 - u, float(self.sigma) ** 2
        v = gamma**2 * spread + u**2
        c = self.target.remaining(u)
        log_w = np.log(weight) - 0.5 * flat_size(self.shape) * np.log(v)
        return u, log_w, v, c * (u - gamma * spread) / v, c * gamma * spread / v

    def _points(self, x: Any) -> Array:
        """(M, D) in x's dtype."""
        return self.points.reshape((self.points.shape[0], flat_size(self.shape))).astype(x.dtype)
