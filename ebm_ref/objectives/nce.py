"""Noise-contrastive estimation: learn E, and log Z with it, by telling data from noise of known density.

    nce         G(x) = -E(x) - c - log p_n(x) - log nu,   c = theta["log_z"]
                L = mean_pos softplus(-G) + nu mean_neg softplus(G)
                grad_theta L = sum_pos (1 - s(G)) grad E / N_pos - nu sum_neg s(G) grad E / N_neg
                dL/dc = mean_pos (1 - s(G)) - nu mean_neg s(G)
    nce_start   theta with log_z;   nce_split: the two apart again

s is the logistic function; nu = (noise samples) / (data). The posterior of "x is data" is s(G); at nu = 1 it says data
where exp(-E - c) > p_n. The expected gradient is 0 where exp(-E - c) is the data's density, whatever p_n and nu, so
there c = log Z; elsewhere c is only a parameter. An output bias of the energy and c are redundant: fix one. Noise must
have p_n > 0 wherever data live, and should be close to them: where the two hardly overlap, s saturates and nothing is
learned, which is the common case in many dimensions.

c travels in theta under the name "log_z", beside the energy's own: nce_start adds it, nce_split takes it off, gradients
carry it too, and the optimisers see one dict.

Source: Gutmann & Hyvarinen 2012, Noise-contrastive estimation of unnormalized statistical models, section 2.
Level: 1. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from math import log
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    Energy,
    Params,
    RangeError,
    ShapeError,
    check_array,
    check_count,
    check_number,
    check_params,
)
from .contrast_noise import ContrastNoise
from .parts import Info, check_rows, check_samples, energy_gap, logistic, softplus

LOG_Z = "log_z"


def nce_start(energy: Energy, theta: Params, x_neg: Array | None = None, log_noise_neg: Array | None = None) -> Params:
    """theta with log_z (1,): c = mean(-E(x_neg) - log p_n(x_neg)), so that mean G = -log nu on noise; 0 without noise.

    theta: the energy's own   x_neg: (N, *shape) noise   log_noise_neg: (N,)
    Raises ShapeError, DTypeError, NonFiniteError.
    """
    check_params("theta", theta)
    if LOG_Z in theta:
        raise ShapeError(f"theta: expected the energy's names, found {LOG_Z} among them")
    c = np.zeros_like(next(iter(theta.values())), shape=(1,))  # (1,)
    if x_neg is not None:
        check_samples("x_neg", x_neg, energy)
        check_rows("log_noise_neg", log_noise_neg, x_neg.shape[:1], x_neg)
        c = c + np.mean(-energy.energy(theta, x_neg) - log_noise_neg)
    return theta | {LOG_Z: c}


def nce_split(theta: Params) -> tuple[Params, Array]:
    """The energy's own theta, and c = theta["log_z"], (1,). Raises ShapeError, DTypeError."""
    check_params("theta", theta)
    if LOG_Z not in theta:
        raise ShapeError(f"theta: expected {LOG_Z} beside the energy's names, found {', '.join(theta)}; see nce_start")
    check_array(f"theta[{LOG_Z!r}]", theta[LOG_Z], shape=(1,))
    return {name: value for name, value in theta.items() if name != LOG_Z}, theta[LOG_Z]


def nce(
    energy: Energy,
    theta: Params,
    x_pos: Array,
    x_neg: Array,
    log_noise_pos: Array,
    log_noise_neg: Array,
    nu: float | None = None,
) -> tuple[Array, Params, Info]:
    """L = mean_pos softplus(-G) + nu mean_neg softplus(G),  G = -E - c - log p_n - log nu.

    theta: the energy's names and log_z (1,)   x_pos: (N_pos, *shape) data   x_neg: (N_neg, *shape) noise
    log_noise_pos, log_noise_neg: log p_n at each   nu: None = N_neg / N_pos
    returns loss (), grads like theta, info: energy_pos, energy_neg, gap, log_z, accuracy (of the sign of G).
    Raises ShapeError, DTypeError, RangeError, NonFiniteError: so data where p_n = 0 are refused. Arrays on a device
    are not read back; there such data make the loss NaN.
    """
    theta, c = nce_split(theta)
    check_samples("x_pos", x_pos, energy)
    check_samples("x_neg", x_neg, energy)
    check_rows("log_noise_pos", log_noise_pos, x_pos.shape[:1], x_pos)
    check_rows("log_noise_neg", log_noise_neg, x_neg.shape[:1], x_neg)
    N_pos, N_neg = x_pos.shape[0], x_neg.shape[0]
    nu = N_neg / N_pos if nu is None else nu
    check_number("nu", nu, low=0.0, open_low=True)
    nu = float(nu)
    e_pos, e_neg = energy.energy(theta, x_pos), energy.energy(theta, x_neg)  # (N_pos,), (N_neg,)
    G_pos = -e_pos - c - log_noise_pos - log(nu)  # (N_pos,)
    G_neg = -e_neg - c - log_noise_neg - log(nu)  # (N_neg,)
    poison: Any = 0 * np.mean(log_noise_pos)  # () 0, but NaN where p_n = 0: such data must not drop out unseen
    loss = np.mean(softplus(-G_pos)) + nu * np.mean(softplus(G_neg)) + poison  # ()
    w_pos = logistic(-G_pos) / N_pos  # (N_pos,) (1 - s(G)) / N_pos
    w_neg = logistic(G_neg) * (-nu / N_neg)  # (N_neg,)
    g_pos = energy.grad_theta(theta, x_pos, w_pos)
    g_neg = energy.grad_theta(theta, x_neg, w_neg)
    grads = {name: g_pos[name] + g_neg[name] for name in g_pos}
    grads[LOG_Z] = np.sum(w_pos, keepdims=True) + np.sum(w_neg, keepdims=True)  # (1,)
    right = (np.mean(1.0 * (G_pos > 0)) + np.mean(1.0 * (G_neg < 0))) / 2  # ()
    return loss, grads, energy_gap(e_pos, e_neg) | {"log_z": np.sum(c), "accuracy": right}


def nce_step(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x: Array,
    noise: ContrastNoise,
    seed: int,
    step: int,
    nu: int = 1,
) -> tuple[Array, Params, Info]:
    """`nce` on x and N nu draws of the noise, chains 0 .. N nu - 1 of Stream.CONTRAST_NOISE.

    theta: with log_z (`nce_start`)   x: (N, *shape) data. Raises as nce, and RangeError where p_n(x) = 0.
    """
    check_samples("x", x, energy)
    check_count("nu", nu, low=1)
    x_neg, log_pos, log_neg = nce_contrast(backend, energy, x, noise, seed, step, x.shape[0] * int(nu))
    return nce(energy, theta, x, x_neg, log_pos, log_neg)


def nce_contrast(
    backend: ModuleType, energy: Energy, x: Array, noise: ContrastNoise, seed: int, step: int, N_neg: int
) -> tuple[Array, Array, Array]:
    """x_neg (N_neg, *shape), drawn at chains 0 .. N_neg - 1, and log p_n(x), log p_n(x_neg).

    Raises ShapeError, and RangeError where log p_n is not finite, at x or at a draw; an array on a device is not read
    back, and its loss is NaN.
    """
    log_pos = noise.log_density(x)  # (N,)
    _check_density(log_pos, "data live")
    x_neg = noise.sample(backend, seed, step, np.arange(N_neg), x.dtype)  # (N_neg, *shape)
    check_array("noise.sample", x_neg, shape=(N_neg, *energy.shape))
    log_neg = noise.log_density(x_neg)  # (N_neg,)
    _check_density(log_neg, "it draws")
    return x_neg, log_pos, log_neg


def _check_density(log_p: Array, where: str) -> None:
    bad = int(np.count_nonzero(~np.isfinite(log_p))) if isinstance(log_p, np.ndarray) else 0
    if bad:
        raise RangeError(f"noise: expected a positive density wherever {where}, found none at {bad} of {len(log_p)}")
