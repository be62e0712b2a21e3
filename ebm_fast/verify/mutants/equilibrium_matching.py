"""Equilibrium matching: the sign of its target, a head that cannot start, what its sampler follows, guidance."""

from __future__ import annotations

from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, RangeError

from .parts import gaussian, minimiser, normals, trace
from .table import Function, check_of, mutant_of, refused

# ------------------------------------------------------------------------------------------ checks


@check_of("eqm_explicit", want=1.0)
def eqm_explicit_minimiser(fn: Function) -> float:
    """data N(0, 1), c = 4 (1 - gamma): the best slope of grad E = a x is 4 (2 - s^2) / (2 (1 + s^2)) = 1."""
    return minimiser(lambda a: trace(fn(*gaussian(a), *_exact(), ebm_ref.EquilibriumTarget("linear"))[1]))


@check_of("eqm_explicit", want=1.0)
def eqm_explicit_refuses_a_dead_head(fn: Function) -> float:
    """E = |f|^2 / 2 with a last layer of zeros: every gradient is 0 and stays so; it is refused."""
    energy, theta, x = _network("norm")
    dead = theta | {name: np.zeros_like(theta[name]) for name in ("out.w", "out.b")}
    gamma = np.full(len(x), 0.5)
    return refused(lambda: fn(energy, dead, x, -x, gamma, ebm_ref.EquilibriumTarget()), RangeError)


@check_of("descent_run", want=0.0, allowed=1e-6)
def descent_run_follows_the_explicit_energy(fn: Function) -> float:
    """one step of 0.1 on E = x . f(x), a network: (x_0 - x_1) / 0.1 less central differences of E."""
    energy, theta, x = _network("dot")
    x_1 = fn(energy, theta, x, 1, ebm_ref.GradientDescent(0.1))[0]
    h, unit = 1e-4, np.eye(2)
    rise = [energy.energy(theta, x + h * unit[d]) - energy.energy(theta, x - h * unit[d]) for d in range(2)]
    return float(np.abs((x - x_1) / 0.1 - np.stack(rise, axis=1) / (2 * h)).max())


@check_of("GuidedField", want=3.0)
def guided_field_guides_every_channel(fn: Function) -> float:
    """w = 3 on a network of four channels: least of (f - f_none) / (f_y - f_none)."""
    labels = ebm_ref.LabelField(ebm_ref.MLPField((6,), (8,), out_channels=4), 2)
    theta, x = ebm_ref.theta_init(labels, 1, np.float64), normals(4, 0, 5, 4)
    none, given = labels.at(-1).field(theta, x), labels.at(1).field(theta, x)
    return float(((fn(labels, 1, 3.0).field(theta, x) - none) / (given - none)).min())


def _exact() -> tuple[Array, Array, Array]:
    """x and e of signs, gamma at two Gauss nodes: means of polynomials of degree 3 in gamma are exact. (8, 1)."""
    node = np.sqrt(1 / 12)
    x, e, gamma = np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [0.5 - node, 0.5 + node], indexing="ij")
    return x.reshape(-1, 1), e.reshape(-1, 1), gamma.ravel()


def _network(head: str) -> tuple[Any, Params, Array]:
    """A small energy, its start and eight points."""
    energy = ebm_ref.FieldEnergy(ebm_ref.MLPField((2,), (8,)), head)
    return energy, ebm_ref.theta_init(energy, 1, np.float64), normals(5, 0, 8, 2)


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("eqm_explicit_minimiser", "raywang4/EqM transport.py: the sign its sampler adds, not the paper's")
def learns_the_negative(energy: Any, theta: Params, x: Array, e: Array, gamma: Array, target: Any) -> Any:
    """learns c (x - e), to be added by its sampler, in a house whose samplers subtract"""
    at, wanted = _pair(x, e, gamma, target)
    r = energy.grad_x(theta, at) + wanted
    return np.mean(r * r), energy.grad_theta_along(theta, at, 2 * r / x.size), {}


@mutant_of("eqm_explicit_refuses_a_dead_head", "raywang4/EqM models.py, l2 head and zeroed final layer")
def starts_dead(energy: Any, theta: Params, x: Array, e: Array, gamma: Array, target: Any) -> Any:
    """trains for ever on gradients that are exactly 0"""
    at, wanted = _pair(x, e, gamma, target)
    r = energy.grad_x(theta, at) - wanted
    return np.mean(r * r), energy.grad_theta_along(theta, at, 2 * r / x.size), {}


@mutant_of("descent_run_follows_the_explicit_energy", "raywang4/EqM sample_gd.py, under no_grad")
def follows_the_raw_field(energy: Any, theta: Params, x0: Array, K: int, rule: Any, *rest: Any) -> Any:
    """samples the network's output f and not the gradient of the energy that was trained"""
    return ebm_ref.descent_run(energy.field, theta, x0, K, rule, *rest)


@mutant_of("guided_field_guides_every_channel", "raywang4/EqM models.py, forward_with_cfg, as in DiT")
def guides_three_channels(network: Any, y: Any, w: float) -> Any:
    """guidance acts on the first three channels of four"""
    return ThreeChannels(network, y, w)


class ThreeChannels(ebm_ref.GuidedField):
    """The first three channels guided, the labelled field in the rest."""

    def field(self, theta: Params, x: Array) -> Array:
        guided, given = super().field(theta, x), self.network.at(self.y).field(theta, x)
        return np.concatenate([guided[..., :3], given[..., 3:]], axis=-1)


def _pair(x: Array, e: Array, gamma: Array, target: Any) -> tuple[Array, Array]:
    """x_gamma and c (e - x)."""
    part = gamma[:, None]
    return part * x + (1 - part) * e, target.at(gamma)[:, None] * (e - x)
