"""Energies and optimisers: what a law is, what an activation does, whether a step moves."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params

from .parts import normals
from .table import Function, check_of, mutant_of

# ------------------------------------------------------------------------------------------ checks


@check_of("adam_step", want=0.1, allowed=1e-6)
def adam_step_moves(fn: Function) -> float:
    """the first step of Adam moves every parameter by lr: |theta' - theta|."""
    theta = {"w": np.array([2.0])}
    moved, _ = fn(theta, {"w": np.array([3.0])}, ebm_ref.adam_init(theta), 0.1)
    return float(abs(moved["w"] - theta["w"])[0])


@check_of("clip_global_norm", want=0.1)
def clip_global_norm_spares_short_gradients(fn: Function) -> float:
    """a gradient of norm 0.1 under a bound of 1 keeps its norm."""
    return float(np.linalg.norm(fn({"w": np.array([0.06, 0.08])}, 1.0)[0]["w"]))


@check_of("QuadraticEnergy", want=0.5, allowed=5 * 0.5 * sqrt(2 / 20000))
def quadratic_energy_has_its_law(fn: Function) -> float:
    """E = x^2 is N(0, 1/2): variance of its exact draws (20,000)."""
    theta = {"mu": np.zeros(1), "P": 2 * np.eye(1)}
    return float(np.var(fn((1,)).sample_exact(theta, normals(1, 0, 20000))))


@check_of("activation_forward", want=-0.2)
def leaky_relu_leaks(fn: Function) -> float:
    """leaky_relu(-1) = -0.2."""
    return float(fn(np.array([-1.0]), "leaky_relu")[0])


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("adam_step_moves", "artifex models/energy/ebm.py:104, train_step", "parameters never change")
def step_that_stays(theta: Params, grads: Params, state: Any, lr: float, *rest: Any) -> Any:
    """gradients are computed, the state advances, the parameters are handed back as they were"""
    return theta, ebm_ref.adam_step(theta, grads, state, lr, *rest)[1]


@mutant_of("clip_global_norm_spares_short_gradients", "artifex trainers/energy_trainer.py:244", "0.1 -> 0.01")
def ratio_of_norms(grads: Params, max_norm: float | None) -> Any:
    """min(n, c) / max(n, c) for min(1, c / n)"""
    _, n = ebm_ref.clip_global_norm(grads, None)
    scale = min(n, max_norm) / max(n, max_norm) if max_norm is not None else 1.0
    return {name: g * scale for name, g in grads.items()}, n


@mutant_of("quadratic_energy_has_its_law", "artifex tests, energy/test_properties.py", "variance 0.5 -> 1")
class taken_for_standard(ebm_ref.QuadraticEnergy):  # noqa: N801 - named as the other mutants are
    """E = |x|^2 taken for a standard normal"""

    def sample_exact(self, theta: Params, xi: Array) -> Array:
        return xi.reshape((len(xi), *self.shape))


@mutant_of("leaky_relu_leaks", "ruiqigao DRL network.py, final_act lrelu", "option without effect")
def result_is_dropped(x: Array, name: str) -> Array:
    """leaky_relu is computed and its result thrown away"""
    y = ebm_ref.activation_forward(x, name)
    return x if name == "leaky_relu" else y
