"""How large the terms are that a result adds up: the sum of their absolute values, and how many there are.

A rounding is relative to a term, so a result that cancels may be as wrong as its terms make it, and no more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array

from .case import Case, Outputs
from .networks import of_network

SINGLE = float(np.finfo(np.float32).eps)
Magnitudes = dict[str, tuple[Array, int]]  # output -> (sum of |terms|, number of terms)


def of_noise_normal(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """|dn| <= R |d angle| + |dR|, |dR| = |du| / (u R): u is exact in float64, rounded in float32."""
    D = case.args["D"]
    pairs = ebm_ref.noise_normal(*list(case.args.values())[:-1], D + D % 2)
    radius = np.hypot(pairs[:, ::2], pairs[:, 1::2]).repeat(2, axis=1)[:, :D]
    return {"result": (3 * radius + (1 / np.maximum(radius, SINGLE**0.5) if single else 0.0), 1)}


def of_langevin_step(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """|x| + eta |clip(g)| + sigma |xi|; a 2-norm adds the rounding of its D terms to the gradient's."""
    x, g, xi, eta, sigma = case.args.values()
    clip, clip_norm = case.options.get("clip"), case.options.get("clip_norm")
    slope = np.abs(g) if clip is None else np.minimum(np.abs(g), clip)
    if clip_norm is not None:
        flat = slope.reshape(len(x), -1)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        flat = flat * np.minimum(1.0, clip_norm / np.maximum(norm, clip_norm)) * (2 + flat.shape[1] ** 0.5)
        slope = flat.reshape(x.shape)
    return {"result": (np.abs(x) + eta * slope + sigma * np.abs(xi), 1)}


def of_langevin_jitter(case: Case, want: Outputs, single: bool) -> Magnitudes:
    return {"result": (np.abs(case.args["x"]) + case.args["sigma"] * np.abs(case.args["xi"]), 1)}


def absolute(case: Case) -> list[Array]:
    return [np.abs(value) for value in case.args.values()]


def of_conv2d_forward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """The same convolution of absolute values."""
    R, S, C, _ = case.args["w"].shape
    return {"result": (ebm_ref.conv2d_forward(*absolute(case), **case.options), R * S * C + 1)}


def of_conv2d_backward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    R, S, _, O = case.args["w"].shape
    dx, dw, db = ebm_ref.conv2d_backward(*absolute(case), **case.options)
    terms = int(np.prod(case.args["dy"].shape[:3]))
    return {"dx": (dx, R * S * O), "dw": (dw, terms), "db": (db, terms)}


def grouped(x: Array, groups: int) -> Array:
    """(N, ..., C) -> (N, spatial, G, C/G)."""
    return x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)


def standard(case: Case) -> tuple[Array, Array, Array, int]:
    """|z|, its own error in roundings, 1 / sqrt(var + eps), and the size m of a group, in grouped shape."""
    x = grouped(case.args["x"], case.args["groups"])
    rstd = 1 / np.sqrt(x.var(axis=(1, 3), keepdims=True) + case.options.get("eps", 1e-5))
    z = np.abs(x - x.mean(axis=(1, 3), keepdims=True)) * rstd
    doubt = z + np.abs(x).max(axis=(1, 3), keepdims=True) * rstd  # x - mean is wrong by roundings of x, not of itself
    return z, np.broadcast_to(doubt, x.shape), rstd, x.shape[1] * x.shape[3]


def of_group_norm_forward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    _, doubt, _, m = standard(case)
    gamma, beta = np.abs(case.args["gamma"]), np.abs(case.args["beta"])
    return {"result": (doubt.reshape(case.args["x"].shape) * gamma + beta, m)}


def of_group_norm_backward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    z, doubt, rstd, m = standard(case)
    dy = np.abs(grouped(case.args["dy"], case.args["groups"]))
    pull = dy * np.abs(case.args["gamma"]).reshape(dy.shape[2:])

    def mean(t: Array) -> Array:
        return np.asarray(t.mean(axis=(1, 3), keepdims=True))

    # z (pull z): each factor z brings its own doubt, and doubt / z of rstd's relative error is below 1 + doubt
    dx = rstd * (pull + mean(pull) + z * mean(pull * doubt) + doubt * mean(pull * z) + doubt * mean(pull))
    dgamma, dbeta = (dy * doubt).sum(axis=(0, 1)), dy.sum(axis=(0, 1))
    terms = int(np.prod(case.args["x"].shape[:-1]))
    shape = case.args["gamma"].shape
    return {
        "dx": (dx.reshape(case.args["x"].shape), m),
        "dgamma": (dgamma.reshape(shape), m + terms),
        "dbeta": (dbeta.reshape(shape), terms),
    }


def of_noise_uniform(case: Case, want: Outputs, single: bool) -> Magnitudes:
    return {"result": (want["result"] * single, 1)}


def of_coupling_cost(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """A difference is rounded once, so every term is as right as it is large."""
    return {"result": (want["result"], case.args["x0"][0].size + 1)}


def of_repulsion(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """x - m is wrong by roundings of x and m, not of itself."""
    x, tau, sigma = case.args.values()
    strength = tau * x.shape[1] / sigma**2
    away = np.abs(x - x.mean(axis=1, keepdims=True))
    doubt = np.broadcast_to(np.abs(x).max(axis=1, keepdims=True), x.shape)
    unit = SINGLE if single else float(np.finfo(np.float64).eps)
    terms = away * (away + doubt) + unit * x.shape[1] * doubt**2
    W = strength * terms.reshape(len(x), -1).sum(axis=1)
    return {"W": (W, x[0].size), "gradient": (2 * strength * (away + doubt), x.shape[1])}


MAGNITUDES: dict[str, Callable[[Case, Outputs, bool], Magnitudes]] = {
    "noise_uniform": of_noise_uniform,
    "noise_normal": of_noise_normal,
    "langevin_step": of_langevin_step,
    "langevin_jitter": of_langevin_jitter,
    "langevin_run": of_network,
    "conv2d_forward": of_conv2d_forward,
    "conv2d_backward": of_conv2d_backward,
    "group_norm_forward": of_group_norm_forward,
    "group_norm_backward": of_group_norm_backward,
    "conv_energy": of_network,
    "mlp_energy": of_network,
    "deep_conv_energy": of_network,
    "classifier_energy": of_network,
    "mlp_field": of_network,
    "conv_field": of_network,
    "field_energy": of_network,
    "descent_run": of_network,
    "coupling_cost": of_coupling_cost,
    "repulsion": of_repulsion,
}
