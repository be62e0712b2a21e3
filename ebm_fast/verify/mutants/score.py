"""Score matching: exact, sliced, denoising.

On E = a |x|^2 / 2 and data of variance s^2 every loss is a parabola in a: its value and its minimum are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params

from .parts import design, gaussian, minimiser, trace
from .table import Function, check_of, mutant_of

# ------------------------------------------------------------------------------------------ checks


@check_of("denoising", want=0.8)
def denoising_minimiser(fn: Function) -> float:
    """data N(0, 1), sigma = 1/2: the best precision is 1 / (1 + sigma^2)."""
    x, xi = design(4, 1, 1), design(4, 2, 1)
    return minimiser(lambda a: trace(fn(*gaussian(a), x, xi, 0.5)[1]))


@check_of("denoising", want=1 / 1.01)
def denoising_minimiser_of_a_batch(fn: Function) -> float:
    """data N(0, 1), sigma = 0.1, a batch of 16: the best precision is 1 / (1 + sigma^2), whatever the batch."""
    x, xi = design(16, 1, 1), design(16, 2, 1)
    return minimiser(lambda a: trace(fn(*gaussian(a), x, xi, 0.1)[1]))


@check_of("denoising", want=0.0, allowed=0.0)
def denoising_leaves_its_arguments(fn: Function) -> float:
    """the caller's arrays keep their bytes and their flags."""
    energy, theta = gaussian(1.0)
    arrays = [design(4, 1, 1), design(4, 2, 1), *theta.values()]
    before = [(a.tobytes(), a.flags.writeable) for a in arrays]
    fn(energy, theta, arrays[0], arrays[1], 0.5)
    return sum(was != (a.tobytes(), a.flags.writeable) for was, a in zip(before, arrays, strict=True))


@check_of("score_matching", want=-4.0)
def score_matching_value(fn: Function) -> float:
    """N(0, I) in 8 dimensions under itself: J = 8/2 - 8."""
    return float(fn(*gaussian(1.0, (8,)), design(16, 1, 8))[0])


@check_of("score_matching", want=1.0)
def score_matching_minimiser(fn: Function) -> float:
    """data N(0, I) in 8 dimensions: the best precision is 1."""
    return minimiser(lambda a: trace(fn(*gaussian(a, (8,)), design(16, 1, 8))[1]))


@check_of("score_matching", want=-1.0, allowed=1e-6)
def score_matching_value_in_float32(fn: Function) -> float:
    """N(0, I) in 2 dimensions under itself, in float32: J = 1 - 2, within rounding."""
    return float(fn(*gaussian(1.0, (2,), np.float32), design(4, 1, 2, np.float32))[0])


@check_of("score_matching", want=-4.0)
def score_matching_of_images(fn: Function) -> float:
    """J of 8 numbers does not depend on their being (2, 2, 2)."""
    return float(fn(*gaussian(1.0, (2, 2, 2)), design(16, 1, 8).reshape(16, 2, 2, 2))[0])


@check_of("score_matching_sliced", want=-32.0)
def sliced_value_of_images(fn: Function) -> float:
    """N(0, I) of 64 numbers, laid out (2, 4, 8), under itself: J = 64/2 - 64."""
    x, v = (design(256, first, 64).reshape(256, 2, 4, 8) for first in (1, 65))
    return float(fn(*gaussian(1.0, (2, 4, 8)), x, v[None])[0])


# ----------------------------------------------------------------------------------------- mutants


@mutant_of("denoising_minimiser", "torchebm losses/score_matching.py:359 (fixed since)", "0.80 -> -0.80")
def target_sign(energy: Any, theta: Params, x: Array, xi: Array, sigma: float) -> Any:
    """+grad E against the target -xi/sigma: learns -E"""
    at = x + sigma * xi
    r = energy.grad_x(theta, at) + xi / sigma
    return 0.5 * np.mean(np.sum(r * r, axis=1)), energy.grad_theta_along(theta, at, r / len(x)), {}


@mutant_of("denoising_minimiser_of_a_batch", "artifex trainers/energy_trainer.py:395", "0.99 -> 15.5 (batch 16)")
def score_over_batch(energy: Any, theta: Params, x: Array, xi: Array, sigma: float) -> Any:
    """the gradient of the mean energy taken for each sample's score"""
    at, N = x + sigma * xi, len(x)
    r = energy.grad_x(theta, at) / N - xi / sigma
    return 0.5 * np.mean(np.sum(r * r, axis=1)), energy.grad_theta_along(theta, at, r / N**2), {}


@mutant_of("denoising_leaves_its_arguments", "torchebm core/base_loss.py:793", "requires_grad of x flipped")
def flips_a_flag(energy: Any, theta: Params, x: Array, xi: Array, sigma: float) -> Any:
    """a flag of the caller's array is changed"""
    x.flags.writeable = False
    return ebm_ref.denoising(energy, theta, x, xi, sigma)


@mutant_of("score_matching_value", "torchebm losses/score_matching.py:215, approx", "-4.00 -> +3.00")
def trace_over_dimensions(energy: Any, theta: Params, x: Array, chunk: int | None = None) -> Any:
    """the trace of the Hessian is divided by D"""
    _, grads, info = ebm_ref.score_matching(energy, theta, x, chunk)
    return info["square"] - info["trace"] / x[0].size, grads, info


@mutant_of("score_matching_minimiser", "torchebm losses/score_matching.py:215, approx", "minimum at 1/D")
def minimum_over_dimensions(energy: Any, theta: Params, x: Array, chunk: int | None = None) -> Any:
    """the same, seen from its gradient"""
    loss, grads, info = ebm_ref.score_matching(energy, theta, x, chunk)
    along = energy.grad_theta_along(theta, x, energy.grad_x(theta, x) / len(x))
    return loss, {name: along[name] - (along[name] - grads[name]) / x[0].size for name in grads}, info


@mutant_of(
    "score_matching_value_in_float32",
    "torchebm losses/score_matching.py:233, approx",
    "-1.00 -> -0.003, with the division",
)
def difference_of_1e_minus_5(energy: Any, theta: Params, x: Array, chunk: int | None = None) -> Any:
    """second derivatives by differences of 1e-5 in float32"""
    _, grads, info = ebm_ref.score_matching(energy, theta, x, chunk)
    bent = np.zeros(len(x), x.dtype)
    for d in range(x.shape[1]):
        e = np.zeros_like(x)
        e[:, d] = 1e-5
        bent += (energy.grad_x(theta, x + e) - energy.grad_x(theta, x - e))[:, d] / x.dtype.type(2e-5)
    return info["square"] - np.mean(bent), grads, info


@mutant_of("score_matching_of_images", "torchebm losses/score_matching.py:178", "fails on a convolution")
def flat_to_the_model(energy: Any, theta: Params, x: Array, chunk: int | None = None) -> Any:
    """x is flattened before the energy sees it"""
    return ebm_ref.score_matching(energy, theta, x.reshape(len(x), -1), chunk)


@mutant_of("sliced_value_of_images", "torchebm losses/score_matching.py:555, sliced", "-32.4 -> -3.99")
def last_axis_only(energy: Any, theta: Params, x: Array, v: Array, variance_reduced: bool = True) -> Any:
    """projections are added over the last axis alone"""
    _, grads, info = ebm_ref.score_matching_sliced(energy, theta, x, v, variance_reduced)
    g, Hv = energy.grad_x(theta, x), np.stack([energy.hvp(theta, x, one) for one in v])
    return np.mean(np.sum(0.5 * g * g, axis=-1)) - np.mean(np.sum(v * Hv, axis=-1)), grads, info
