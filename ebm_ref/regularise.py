"""What a recipe adds to every method's training step: spectral normalisation, and a gradient penalty.

    acting_theta      y = w / |W u| for each weight that has a u, the rest of theta as it is: what the energy is given
    penalised         loss + gp P,  P = mean_n (|grad_x E(x_n; y)| - gp_target)^2, and its gradient in y
    spectral_pull     gradients in theta from those in y, u held
    spectral_iterate  u' = one power iteration at the theta that the optimiser has just made

    step     loss, grads = method(y) + gp P(y) -> grads in theta -> theta' -> u' -> y' = acting_theta(theta', u')
             ema' = decay ema + (1 - decay) y'

So (theta, u) of a state say which weights act, and u stands still until the next training step: chains, from the
first to the last of a step, and everything after training see one energy. ema averages the weights that act, not
theta: it needs no u, and as an average of matrices its spectral norm is at most the average of theirs.

The normalised weights are those named w: all convolutions and linear layers, the last one too. u starts from
SPECTRAL_START iterations, so that |W u| is near the largest singular value before the first step.

The penalty is on the batch's data as they are, before data noise: the one set of points that every method has. With
target 0 it is R1.

Source: Miyato, Kataoka, Koyama & Yoshida 2018, arXiv:1802.05957, algorithm 1; Mescheder, Geiger & Nowozin 2018,
arXiv:1801.04406, eq. 9 (R1: target 0, on data).
Level: 2 where gp > 0, none otherwise. Twins: none; it works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .contracts import Array, NonFiniteError, Params, ShapeError, check_array
from .layers import spectral_norm_grads, spectral_norm_iterate, spectral_norm_start, spectral_norm_theta
from .objectives import gradient_penalty
from .recipe import Recipe

SPECTRAL_START = 15  # power iterations before the first step


def spectral_start(recipe: Recipe, theta: Params, seed: int) -> Params:
    """{name: u (O,)} of the weights (..., O) of the energy's `theta`; empty without spectral_norm.

    Raises ShapeError (no such weight), NonFiniteError (a weight W with W u = 0).
    """
    if not recipe.spectral_norm:
        return {}
    names = spectral_names(theta)
    if not names:
        raise ShapeError(f"spectral_norm: expected an energy with weights named w, found {', '.join(theta)}")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # raised below, by name
        spectral = spectral_norm_iterate(theta, spectral_norm_start(theta, names, seed), SPECTRAL_START)
        acting = spectral_norm_theta(theta, spectral)
    for name in names:
        if not bool(np.isfinite(acting[name]).all()):
            raise NonFiniteError(f"spectral_norm: expected a weight {name} that is not zero, found W u = 0")
    return spectral


def spectral_names(theta: Params) -> tuple[str, ...]:
    """The weights that spectral_norm normalises: those named w, of two axes or more."""
    return tuple(name for name, w in theta.items() if name.rpartition(".")[2] == "w" and w.ndim > 1)


def acting_theta(theta: Params, spectral: Params) -> Params:
    """y = w / |W u| for each weight of `spectral`, the rest of theta as it is; theta itself where spectral is empty."""
    return spectral_norm_theta(theta, spectral) if spectral else theta


def spectral_pull(theta: Params, spectral: Params, grads: Params) -> Params:
    """Gradients in theta from those in acting_theta(theta, spectral)."""
    return spectral_norm_grads(theta, spectral, grads) if spectral else grads


def spectral_iterate(theta: Params, spectral: Params) -> Params:
    """u after one power iteration at `theta`."""
    return spectral_norm_iterate(theta, spectral) if spectral else {}


def penalised(
    energy: Any, recipe: Recipe, theta: Params, x: Array, loss: Array, grads: Params
) -> tuple[Array, Params, dict[str, float]]:
    """loss + gp P(x) with its gradient, P = mean_n (|grad_x E(x_n)| - gp_target)^2; the record's numbers of it.

    theta: the weights that act; what a method trains beside the energy's own has no part in P   x: (batch, *shape)
    """
    if not recipe.gp:
        return loss, grads, {}
    own = {name: theta[name] for name in energy.theta_shapes()}
    penalty, more, info = gradient_penalty(energy, own, x, recipe.gp_target, recipe.gp)
    numbers = {"penalty": float(penalty), "slope": float(info["grad_norm"])}
    return loss + penalty, grads | {name: grads[name] + more[name] for name in own}, numbers


def check_spectral(recipe: Recipe, theta: Params, spectral: Params) -> None:
    """Raise ShapeError or NonFiniteError unless `spectral` is one of this recipe and theta."""
    names = spectral_names(theta) if recipe.spectral_norm else ()
    if set(names) != set(spectral):
        raise ShapeError(
            f"spectral: expected u of {', '.join(names) or 'no weight'}, found {', '.join(spectral) or 'none'}"
        )
    for name in names:
        check_array(f"spectral[{name!r}]", spectral[name], shape=theta[name].shape[-1:], finite=True)
