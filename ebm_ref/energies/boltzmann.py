"""A potential at a temperature: the energy of its Boltzmann law.

    E(x) = V(x) / tau,   p(x) = exp(-V(x) / tau) / Z

and every derivative of E is V's over tau. Energy matching trains a potential V: what reads energies as -log p (scores
of outliers, log Z, AIS, MALA, ULA) must be handed this, not V; at the published tau = 0.01 the factor is 100. A chain
on V itself is SGLD(dt, sqrt(2 dt tau)), which is ULA(2 dt tau) on V / tau: a fast backend runs the former in one piece.

Source: Balcerak et al. 2025, Energy Matching, arXiv:2504.10612 (equilibrium at epsilon_max, here tau).
Level: provides 1, 2 and 3, where V does. Twins: none; a fast backend's energy is the trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Array, DTypeError, Params, check_number
from ..trunk import OnTrunk


@dataclass(frozen=True)
class BoltzmannEnergy(OnTrunk):
    """E(x) = V(x) / tau, V the trunk; theta is the trunk's.

    trunk: an energy of any backend   tau > 0. Raises DTypeError, RangeError; the methods what the trunk raises.
    """

    trunk: Any
    tau: float

    def __post_init__(self) -> None:
        if not (hasattr(self.trunk, "shape") and hasattr(self.trunk, "grad_x")):
            raise DTypeError(f"trunk: expected an energy, found {type(self.trunk).__name__}")
        check_number("tau", self.tau, low=0.0, open_low=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of x."""
        shape: tuple[int, ...] = self.trunk.shape
        return shape

    def energy(self, theta: Params, x: Array) -> Array:
        """V(x_n) / tau, (N,)."""
        y: Array = self.trunk.energy(theta, x) / float(self.tau)
        return y

    def grad_x(self, theta: Params, x: Array) -> Array:
        """grad_x V(x_n) / tau, like x."""
        dx: Array = self.trunk.grad_x(theta, x) / float(self.tau)
        return dx

    def energy_and_grad_x(self, theta: Params, x: Array) -> tuple[Array, Array]:
        """Both, from one pass of the trunk."""
        y, dx = self.trunk.energy_and_grad_x(theta, x)
        return y / float(self.tau), dx / float(self.tau)

    def grad_theta(self, theta: Params, x: Array, w: Array) -> Params:
        """sum_n w_n grad_theta V(x_n) / tau."""
        return self._over(self.trunk.grad_theta(theta, x, w))

    def grad_theta_along(self, theta: Params, x: Array, v: Array) -> Params:
        """grad_theta sum_n v_n . grad_x V(x_n) / tau."""
        return self._over(self.trunk.grad_theta_along(theta, x, v))

    def hvp(self, theta: Params, x: Array, v: Array) -> Array:
        """H(x_n) v_n / tau, like x."""
        hv: Array = self.trunk.hvp(theta, x, v) / float(self.tau)
        return hv

    def curvature(self, theta: Params, x: Array, v: Array) -> Array:
        """v_n' H(x_n) v_n / tau, (N,)."""
        vhv: Array = self.trunk.curvature(theta, x, v) / float(self.tau)
        return vhv

    def grad_theta_curvature(self, theta: Params, x: Array, v: Array, w: Array) -> Params:
        """sum_n w_n grad_theta v_n' H(x_n) v_n / tau."""
        return self._over(self.trunk.grad_theta_curvature(theta, x, v, w))

    def _over(self, grads: Params) -> Params:
        return {name: grad / float(self.tau) for name, grad in grads.items()}
