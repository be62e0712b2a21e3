"""Equilibrium matching: one field for all noise levels, its length falling to 0 at the data; descent on it samples.

    path                x_g = gamma x + (1 - gamma) e,   e ~ N(0, I),   gamma ~ U(0, 1) and no input of the network
    EquilibriumTarget   linear      c(gamma) = scale (1 - gamma)
                        truncated   c(gamma) = scale min(1, (1 - gamma) / (1 - a))
                        piecewise   c(gamma) = scale (b - (b - 1) gamma / a) up to a,  scale (1 - gamma) / (1 - a) after
    eqm_implicit        J = mean_n mean_d r^2,  r = f(x_g) - c(gamma) (e - x)
                        grad_theta J = 2 / (N D) grad_theta sum_n r_n . f(x_g), r held
    eqm_explicit        the same with f = grad_x E:  2 / (N D) grad_theta sum_n r_n . grad_x E(x_g), r held
    eqm_step            either, with e and gamma drawn

f points from the data to the noise, as a gradient does: samplers take x - eta f. (The published code learns -f and adds
it.) c(1) = 0, and c is continuous. The mean is over the D elements too, as in the published code: a loss of the sum is
D times this one. truncated is piecewise at b = 1; linear is piecewise at b = 1 / (1 - a) but for the factor 1 - a.
piecewise is scale min(b - (b - 1) gamma / a, (1 - gamma) / (1 - a)), as published, iff b <= 1 / (1 - a): both lines
pass through 1 at a, and below a the smaller one is the flatter.

The minimum over all f is E[c(gamma) (e - x) | x_g] (fields/equilibrium_field.py), which is no gradient in general: an
implicit field has no energy. The minimum over gradients is its projection under the density of x_g. Neither samples a
density: descent ends at stationary points, and its samples differ as their starts do and as they stop early. For
guidance learn f on labels, some of them taken away: `LabelField.at(y)` with y = -1 there.

Source: Wang & Du 2025, Equilibrium Matching, arXiv:2510.02300; the published code for the mean over D
and for the three c (its `min` form).
Level: 2 (explicit); of a field, field and field_grad_theta. Twins: none; it takes the module to draw with.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy2,
    Field,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_derivatives,
    check_levels,
    check_number,
    flat_size,
    theta_check,
)
from .parts import Info, check_rows

KINDS = ("linear", "truncated", "piecewise")


class Target(Protocol):
    """c(gamma), the length of the target at each time."""

    def at(self, gamma: Any) -> Any: ...


@dataclass(frozen=True)
class EquilibriumTarget:
    """c(gamma): linear, truncated or piecewise (formulas above).

    a: in (0, 1), where the fall to 0 begins   b: >= 0, c(0) / scale of piecewise   scale: > 0
    Raises DTypeError, RangeError.
    """

    kind: str = "truncated"
    a: float = 0.8
    b: float = 1.0
    scale: float = 4.0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_number("a", self.a, low=0.0, open_low=True)
        if self.a >= 1:
            raise RangeError(f"a: expected a number in (0, 1), found {self.a}")
        check_number("b", self.b, low=0.0)
        check_number("scale", self.scale, low=0.0, open_low=True)

    @property
    def kinks(self) -> tuple[float, ...]:
        """The times inside (0, 1) where c has no derivative."""
        return () if self.kind == "linear" else (float(self.a),)

    def at(self, gamma: Any) -> Any:
        """c(gamma). gamma: a number or (N,) in [0, 1], returns like it. Raises ShapeError, DTypeError, RangeError.

        An array on a device is not read back to check its range.
        """
        check_levels("gamma", gamma, 0.0, 1.0)
        return self.remaining(1 - gamma)

    def remaining(self, u: Any) -> Any:
        """c(1 - u), without the cancellation of 1 - gamma near the data. u: a number or an array in [0, 1]."""
        a, b, scale = float(self.a), float(self.b), float(self.scale)
        if self.kind == "linear":
            return scale * u
        start = 0 * u + 1 if self.kind == "truncated" else b - (b - 1) / a * (1 - u)
        return scale * np.where(u < 1 - a, u / (1 - a), start)


def eqm_implicit(
    field: Field, theta: Params, x: Array, e: Array, gamma: Array, target: Target
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d |f(x_g) - c(gamma_n) (e_n - x_n)|^2 and its gradient in theta.

    x: (N, *shape) data   e: like x, standard normals   gamma: (N,) in [0, 1]   target: c, an EquilibriumTarget
    returns loss (), grads like theta, info: losses (N,), the samples' own terms, and zero, the loss of f = 0.
    Raises ShapeError, DTypeError, RangeError.
    """
    if not hasattr(field, "field_grad_theta") or hasattr(field, "at"):
        raise DTypeError(f"field: expected a field, of labels or times held by its at(), found {type(field).__name__}")
    if field.out_shape != field.shape:
        raise ShapeError(f"field: expected f like x, {field.shape}, found {field.out_shape}")
    at, wanted = _path(field.shape, x, e, gamma, target)
    r = field.field(theta, at) - wanted  # (N, *shape)
    grads = field.field_grad_theta(theta, at, r * (2.0 / _size(x)))
    return _result(r, wanted, grads)


def eqm_explicit(
    energy: Energy2, theta: Params, x: Array, e: Array, gamma: Array, target: Target
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_d |grad_x E(x_g) - c(gamma_n) (e_n - x_n)|^2 and its gradient in theta.

    x: (N, *shape) data   e: like x, standard normals   gamma: (N,) in [0, 1]   target: c, an EquilibriumTarget
    returns as eqm_implicit. Raises ShapeError, DTypeError, RangeError (also of an energy that cannot start to learn, by
    its `check_live`), BackendError (no level 2), SmoothnessError (relu).
    """
    check_derivatives("eqm_explicit", energy, "grad_theta_along")
    theta_check(energy, theta)
    at, wanted = _path(energy.shape, x, e, gamma, target)
    if hasattr(energy, "check_live") and isinstance(x, np.ndarray):  # parameters on a device are not read back
        energy.check_live(theta)
    r = energy.grad_x(theta, at) - wanted  # (N, *shape)
    grads = energy.grad_theta_along(theta, at, r * (2.0 / _size(x)))
    return _result(r, wanted, grads)


def eqm_step(
    backend: ModuleType, model: Any, theta: Params, x: Array, target: Target, seed: int, step: int
) -> tuple[Array, Params, Info]:
    """eqm_explicit of an energy, eqm_implicit of a field; gamma is drawn at Stream.FLOW_TIME, e at Stream.FLOW_NOISE.

    backend: module with noise_uniform, noise_normal   x: (N, *shape) data   step: training step
    returns loss, grads, info. Raises as they do.
    """
    explicit = hasattr(model, "energy_and_grad_x")
    if hasattr(model, "at") or not (explicit or hasattr(model, "field_grad_theta")):
        raise DTypeError(
            f"model: expected an energy or a field, of labels or times held by its at(), found {type(model).__name__}"
        )
    _check_data(model.shape, x)
    N, D = x.shape[0], flat_size(model.shape)
    chains = np.arange(N)
    gamma = backend.noise_uniform(seed, Stream.FLOW_TIME, step, chains, 1, x.dtype)[:, 0]  # (N,)
    e = backend.noise_normal(seed, Stream.FLOW_NOISE, step, chains, D, x.dtype).reshape(x.shape)  # (N, *shape)
    return (eqm_explicit if explicit else eqm_implicit)(model, theta, x, e, gamma, target)


def _path(shape: tuple[int, ...], x: Array, e: Array, gamma: Array, target: Target) -> tuple[Array, Array]:
    """x_g = gamma x + (1 - gamma) e and c(gamma) (e - x), both like x."""
    _check_data(shape, x)
    check_rows("e", e, x.shape, x)
    check_rows("gamma", gamma, (x.shape[0],), x)
    check_levels("gamma", gamma, 0.0, 1.0)
    if not hasattr(target, "at"):
        raise DTypeError(f"target: expected an EquilibriumTarget, found {type(target).__name__}")
    wide = (x.shape[0],) + (1,) * (x.ndim - 1)
    part, c = gamma.reshape(wide), target.at(gamma).reshape(wide)  # (N, 1, ...)
    return part * x + (1 - part) * e, c * (e - x)


def _result(r: Array, wanted: Array, grads: Params) -> tuple[Array, Params, Info]:
    flat = (r.shape[0], flat_size(r.shape[1:]))
    losses = np.mean((r * r).reshape(flat), axis=1)  # (N,)
    loss: Any = np.mean(losses)  # ()
    return loss, grads, {"losses": losses, "zero": np.mean(wanted * wanted)}


def _size(x: Array) -> int:
    """N D."""
    return flat_size(x.shape)


def _check_data(shape: tuple[int, ...], x: Array) -> None:
    check_array("x", x, shape=(None, *shape), finite=isinstance(x, np.ndarray))
    if x.shape[0] == 0:
        raise ShapeError("x: expected at least one sample, found none")
