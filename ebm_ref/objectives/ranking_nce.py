"""Noise-contrastive estimation in which the constant cancels: nothing to learn but E.

    ranking_nce       l_k = -E(x_k) - log p_n(x_k), x_0 data, x_1 .. x_K noise,   pi = softmax(l)
                      L = -mean(l_0 - logsumexp_k l_k),   grad_theta L = mean sum_k ([k = 0] - pi_k) grad E(x_k)
    conditional_nce   x' ~ q(x' | x),  G = -E(x) + E(x') + log q(x' | x) - log q(x | x')
                      L = 2 mean softplus(-G),   grad_theta L = 2 mean (1 - s(G)) (grad E(x) - grad E(x'))

Without -log p_n in l_k the energy would learn the ratio of data to noise and not the data. In conditional NCE e^G are
the odds that x, not x', is the datum of the pair: p(x) q(x' | x) to p(x') q(x | x'). It needs only the ratio of q; as a
Gaussian q narrows it becomes score matching: L = 2 log 2 + (sigma^2 / 2) J + O(sigma^4), J = E[|grad E|^2 / 2 - tr H].

Source: Ma & Collins 2018, arXiv:1809.01812 (ranking); Ceylan & Gutmann 2018, arXiv:1806.03664 (conditional).
Level: 1. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import Array, Energy, Params, ShapeError, Stream, check_array, check_count, check_number, flat_size
from .contrast_noise import ContrastNoise
from .nce import nce_contrast
from .parts import Info, check_rows, check_samples, energy_gap, logistic, softplus


def ranking_nce(
    energy: Energy, theta: Params, x_pos: Array, x_neg: Array, log_noise_pos: Array, log_noise_neg: Array
) -> tuple[Array, Params, Info]:
    """L = -mean(l_0 - logsumexp_{k=0..K} l_k),  l_k = -E(x_k) - log p_n(x_k).

    x_pos: (N, *shape) data, x_0   x_neg: (N, K, *shape) noise of each   log_noise_pos: (N,)   log_noise_neg: (N, K)
    returns loss (), grads like theta, info: energy_pos, energy_neg, gap, accuracy (l_0 above every other).
    Raises ShapeError, DTypeError, NonFiniteError: so data where p_n = 0 are refused. Arrays on a device are not read
    back; there such data make the loss NaN.
    """
    check_samples("x_pos", x_pos, energy)
    N = x_pos.shape[0]
    check_array("x_neg", x_neg, shape=(N, None, *energy.shape), finite=isinstance(x_neg, np.ndarray))
    K = x_neg.shape[1]
    if K == 0:
        raise ShapeError("x_neg: expected at least one noise sample for each of the data, found none")
    check_rows("log_noise_pos", log_noise_pos, (N,), x_pos)
    check_rows("log_noise_neg", log_noise_neg, (N, K), x_neg)
    flat = x_neg.reshape((N * K, *energy.shape))  # (N K, *shape)
    e_pos, e_neg = energy.energy(theta, x_pos), energy.energy(theta, flat)  # (N,), (N K,)
    l_0 = (-e_pos - log_noise_pos)[:, None]  # (N, 1)
    l_k = -e_neg.reshape((N, K)) - log_noise_neg  # (N, K)
    l = np.concatenate([l_0, l_k], axis=1)  # (N, 1 + K)
    top = np.max(l, axis=1, keepdims=True)  # (N, 1)
    mass = np.exp(l - top)  # (N, 1 + K)
    total = np.sum(mass, axis=1, keepdims=True)  # (N, 1)
    loss: Any = np.mean(top + np.log(total) - l_0)  # ()
    pi = mass / total  # (N, 1 + K)
    w_pos = np.sum(pi[:, 1:], axis=1) / N  # (N,) (1 - pi_0) / N, without cancellation
    w_neg = -pi[:, 1:].reshape((N * K,)) / N  # (N K,)
    g_pos = energy.grad_theta(theta, x_pos, w_pos)
    g_neg = energy.grad_theta(theta, flat, w_neg)
    grads = {name: g_pos[name] + g_neg[name] for name in g_pos}
    right = np.mean(1.0 * np.all(l_0 > l_k, axis=1))  # ()
    return loss, grads, energy_gap(e_pos, e_neg) | {"accuracy": right}


def conditional_nce(
    energy: Energy, theta: Params, x: Array, x_near: Array, log_ratio: Array | None = None
) -> tuple[Array, Params, Info]:
    """L = 2 mean softplus(-G),  G = -E(x) + E(x') + log_ratio,  log_ratio = log q(x' | x) - log q(x | x').

    x: (N, *shape) data   x_near: (N, *shape), x' drawn from q( . | x)   log_ratio: (N,), None = 0, a symmetric q
    returns loss (), grads like theta, info: energy_pos, energy_neg, gap, accuracy.
    Raises ShapeError, DTypeError, NonFiniteError.
    """
    check_samples("x", x, energy)
    check_rows("x_near", x_near, x.shape, x)
    N = x.shape[0]
    if log_ratio is not None:
        check_rows("log_ratio", log_ratio, (N,), x)
    e_pos, e_neg = energy.energy(theta, x), energy.energy(theta, x_near)  # (N,), (N,)
    G = e_neg - e_pos  # (N,)
    if log_ratio is not None:
        G = G + log_ratio
    loss: Any = 2 * np.mean(softplus(-G))  # ()
    w = logistic(-G) * (2 / N)  # (N,)
    g_pos, g_neg = energy.grad_theta(theta, x, w), energy.grad_theta(theta, x_near, -w)
    grads = {name: g_pos[name] + g_neg[name] for name in g_pos}
    return loss, grads, energy_gap(e_pos, e_neg) | {"accuracy": np.mean(1.0 * (G > 0))}


def ranking_nce_step(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x: Array,
    noise: ContrastNoise,
    seed: int,
    step: int,
    K: int = 1,
) -> tuple[Array, Params, Info]:
    """`ranking_nce` on x and K draws of the noise for each; draw k of sample n is chain n K + k.

    x: (N, *shape) data. Raises as ranking_nce, and RangeError where p_n(x) = 0.
    """
    check_samples("x", x, energy)
    check_count("K", K, low=1)
    N, K = x.shape[0], int(K)
    x_neg, log_pos, log_neg = nce_contrast(backend, energy, x, noise, seed, step, N * K)
    x_neg = x_neg.reshape((N, K, *energy.shape))  # (N, K, *shape)
    return ranking_nce(energy, theta, x, x_neg, log_pos, log_neg.reshape((N, K)))


def conditional_nce_step(
    backend: ModuleType, energy: Energy, theta: Params, x: Array, sigma: float, seed: int, step: int
) -> tuple[Array, Params, Info]:
    """`conditional_nce` with x' = x + sigma xi, xi at (seed, CONTRAST_NOISE, step, n, element): a symmetric q.

    x: (N, *shape) data   sigma > 0. Raises ShapeError, DTypeError, RangeError.
    """
    check_samples("x", x, energy)
    check_number("sigma", sigma, low=0.0, open_low=True)
    N, D = x.shape[0], flat_size(energy.shape)
    xi = backend.noise_normal(seed, Stream.CONTRAST_NOISE, step, np.arange(N), D, x.dtype)  # (N, D)
    return conditional_nce(energy, theta, x, x + float(sigma) * xi.reshape(x.shape))
