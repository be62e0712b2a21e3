"""Energy matching: one potential V that carries noise to data, and whose law exp(-V / tau) is the data's.

    flow_weight      w(t) = clamp((1 - t) / (1 - cutoff), 0, 1); 1 everywhere where cutoff = 1
    transport        x_t = (1 - t) x0 + t x1,  r = grad_x V(x_t) + x1 - x0:  L_OT = mean_n w_n mean_d r_nd^2
                     grad_theta L_OT = (2 / (N D)) grad_theta sum_n w_n r_n . grad_x V(x_t_n), r held
        clip         r_n in the gradient is cut to the norm `clip`: Huber's loss, |r|^2 or clip (2 |r| - clip), of each
    energy_contrast  L_CD = mean V(x_pos) - mean_kept V(x_neg), kept: all but the floor(trim B) of highest V
                     max(weight L_CD, -clamp): the gradient is exactly 0 where weight L_CD < -clamp
    energy_matching  L_OT + max(weight L_CD, -clamp)

Signs: descending V goes from noise (t = 0) to data (t = 1), so -grad V is regressed on x1 - x0; V falls on data and
rises on negatives. p(x) = exp(-V(x) / tau): L_CD's gradient is tau times that of -mean log p, so `weight` tau is the
weight of the likelihood (published: 1e-3 x 0.01 for CIFAR-10, 2 x 0.15 in two dimensions).

The two parts disagree at data: transport asks for |grad V| of the length of the way, the law for grad V = -tau grad
log p. exp(-V / tau) can be the data's law only where the weight of transport vanishes near t = 1: s_star < 1, or
cutoff < 1. Trim and clamp are biases, for training that does not run away. Losses are means over the D elements, as in
the released code; the paper writes sums.

Source: Balcerak et al. 2025, Energy Matching, arXiv:2504.10612, algorithms 1 and 2; released code (trim, clamp, mean
over D). The clip of each sample is ours: a clip by the norm of the batch makes one sample depend on the others.
Level: 2 (transport), 1 (contrast). Twins: none; they work on any array that answers NumPy's calls.
"""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Energy,
    Energy2,
    Params,
    RangeError,
    check_array,
    check_derivatives,
    check_number,
    flat_size,
)
from ..samplers.chain import chain_column, chain_dot, chain_norm, check_like
from .parts import Info, check_rows, check_samples, energy_gap


def flow_weight(t: Array, cutoff: float) -> Array:
    """w(t) = clamp((1 - t) / (1 - cutoff), 0, 1): 1 up to the cutoff, then a line down to 0 at t = 1.

    t: (N,) in [0, 1]   cutoff: [0, 1]; 1: all ones   returns (N,). Raises ShapeError, DTypeError, RangeError.
    """
    check_number("cutoff", cutoff, low=0.0, high=1.0)
    _check_time(t, None)
    if cutoff == 1:
        return np.ones_like(t)
    w: Array = np.clip((1 - t) / (1 - float(cutoff)), 0, 1)
    return w


def transport(
    energy: Energy2,
    theta: Params,
    x0: Array,
    x1: Array,
    t: Array,
    w: Array | None = None,
    clip: float | None = None,
) -> tuple[Array, Params, Info]:
    """L_OT = mean_n w_n mean_d (grad_x V(x_t) + x1 - x0)_nd^2 and its gradient in theta.

    x0: (N, *shape) noise   x1: like x0, the datum that goes with it   t: (N,) in [0, 1]   w: (N,), >= 0; None = 1
    clip > 0: the largest norm of r_n in the gradient, loss and gradient are then Huber's; None: none
    returns loss (), grads like theta, info: residual (N,), the mean squares of r_n before any clip and weight, and
    clipped, the share of samples with |r_n| > clip. A sample's part depends on it alone.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError, BackendError (no level 2), SmoothnessError (relu).
    """
    check_derivatives("transport", energy, "grad_theta_along")
    check_clip(clip)
    check_samples("x0", x0, energy)
    _check_like("x1", x1, x0)
    _check_time(t, x0)
    if w is not None:
        check_rows("w", w, (x0.shape[0],), x0)
        if isinstance(w, np.ndarray) and bool((w < 0).any()):
            raise RangeError(f"w: expected weights >= 0, found {w.min()}")
    w = np.ones_like(t) if w is None else w
    N, D = x0.shape[0], flat_size(energy.shape)
    time = chain_column(t, x0)  # (N, 1, ...)
    at = (1 - time) * x0 + time * x1  # (N, *shape)
    r = energy.grad_x(theta, at) + (x1 - x0)
    squares = chain_dot(r, r)  # (N,)
    losses, held, over = squares, r, np.zeros_like(squares)
    if clip is not None:
        c, norm = float(clip), chain_norm(r)
        over = np.where(norm > c, np.ones_like(norm), over)
        losses = np.where(norm > c, c * (2 * norm - c), squares)
        held = r * chain_column(c / np.maximum(norm, c), r)
    grads = energy.grad_theta_along(theta, at, chain_column(w * (2 / (N * D)), held) * held)
    loss: Any = np.mean(w * losses / D)  # ()
    return loss, grads, {"residual": squares / D, "clipped": np.mean(over)}


def energy_contrast(
    energy: Energy,
    theta: Params,
    x_pos: Array,
    x_neg: Array,
    weight: float,
    trim: float = 0.0,
    clamp: float | None = None,
) -> tuple[Array, Params, Info]:
    """max(weight (mean V(x_pos) - mean_kept V(x_neg)), -clamp) and its gradient in theta, 0 below -clamp.

    x_pos: (N_pos, *shape) data   x_neg: (B, *shape) model samples, constants   weight >= 0
    trim: [0, 1); the floor(trim B) negatives of highest V are dropped, of equal ones the last   clamp > 0, None: none
    returns loss (), grads like theta, info: energy_pos, energy_neg (means over all), gap = energy_neg - energy_pos,
    trimmed (how many), clamped (0 or 1).
    An energy that is not finite is not trimmed away: the loss is then NaN, and so are the weights of the gradient,
    which the energies of this project refuse by NonFiniteError.
    Raises ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    check_samples("x_pos", x_pos, energy)
    check_samples("x_neg", x_neg, energy)
    check_contrast(weight, trim, clamp)
    weight, B = float(weight), x_neg.shape[0]
    dropped = floor(float(trim) * B + 1e-9)  # 0.29 x 100 is 29
    v_pos = energy.energy(theta, x_pos)  # (N_pos,)
    v_neg = energy.energy(theta, x_neg)  # (B,)
    kept = np.argsort(v_neg, kind="stable")[: B - dropped] if dropped else slice(None)  # (B - dropped,)
    doubt = np.sum(0 * v_neg)  # 0, or NaN
    scaled = weight * (np.mean(v_pos) - np.mean(v_neg[kept])) + doubt
    slope, loss, clamped = np.ones_like(scaled) * weight, scaled, np.zeros_like(scaled)
    if clamp is not None:
        below = scaled < -float(clamp)
        loss = np.where(below, -float(clamp) + 0 * scaled, scaled)
        slope, clamped = np.where(below, clamped, slope), np.where(below, np.ones_like(scaled), clamped)
    slope = slope + doubt
    w_pos = np.ones_like(v_pos) * (slope / x_pos.shape[0])  # (N_pos,)
    w_neg = np.zeros_like(v_neg)
    w_neg[kept] = -slope / (B - dropped)
    g_pos = energy.grad_theta(theta, x_pos, w_pos)
    g_neg = energy.grad_theta(theta, x_neg, w_neg)
    grads = {name: g_pos[name] + g_neg[name] for name in g_pos}
    return loss, grads, energy_gap(v_pos, v_neg) | {"trimmed": dropped, "clamped": clamped}


def energy_matching(
    energy: Energy2,
    theta: Params,
    x0: Array,
    x1: Array,
    t: Array,
    x_pos: Array,
    x_neg: Array,
    weight: float,
    trim: float = 0.0,
    clamp: float | None = None,
    w: Array | None = None,
    clip: float | None = None,
) -> tuple[Array, Params, Info]:
    """`transport` + `energy_contrast`: their sum and its gradient in theta. Arguments as there.

    returns loss (), grads like theta, info: both parts', and transport and contrast, the two losses.
    Raises what they raise.
    """
    check_derivatives("energy_matching", energy, "grad_theta_along")
    check_samples("x_pos", x_pos, energy)
    check_samples("x_neg", x_neg, energy)
    check_contrast(weight, trim, clamp)
    loss, grads, info = transport(energy, theta, x0, x1, t, w, clip)
    more, pulls, notes = energy_contrast(energy, theta, x_pos, x_neg, weight, trim, clamp)
    grads = {name: grads[name] + pulls[name] for name in grads}
    return loss + more, grads, info | notes | {"transport": loss, "contrast": more}


def _check_time(t: Array, x0: Array | None) -> None:
    if x0 is None:
        check_array("t", t, ndim=1, finite=isinstance(t, np.ndarray))
    else:
        check_rows("t", t, (x0.shape[0],), x0)
    if isinstance(t, np.ndarray) and t.size and not (t.min() >= 0 and t.max() <= 1):
        raise RangeError(f"t: expected times in [0, 1], found {t.min()} to {t.max()}")


def _check_like(name: str, y: Array, x: Array) -> None:
    check_array(name, y, shape=x.shape, finite=isinstance(y, np.ndarray))
    check_like(name, y, x, "x0")


def check_contrast(weight: float, trim: float, clamp: float | None) -> None:
    """Raise unless weight >= 0, trim lies in [0, 1) and clamp > 0 or None."""
    check_number("weight", weight, low=0.0)
    check_number("trim", trim, low=0.0, high=1.0)
    if trim == 1:
        raise RangeError(f"trim: expected a number in [0, 1), found {trim}")
    if clamp is not None:
        check_number("clamp", clamp, low=0.0, open_low=True)


def check_clip(clip: float | None) -> None:
    """Raise unless clip > 0 or None."""
    if clip is not None:
        check_number("clip", clip, low=0.0, open_low=True)
