"""Heated descent: gradient flow that turns into Langevin dynamics, from noise to data to a law.

    heated_temperature   tau(s) = 0                                 s < s_star
                                  tau (s - s_star) / (1 - s_star)   s_star <= s < 1
                                  tau                               1 <= s,  at once where s_star = 1
    heated_run           dx = -grad V(x) ds + sqrt(2 tau(s)) dW,  s_k = (done + k) dt
        euler            x' = box(x - dt g(x) + sigma_k xi),  sigma_k = sqrt(2 dt tau(s_k)),  g = grad_x V
        heun             x~ = box(x - dt g(x) + sigma_k xi),
                         x' = box(x - (dt/2) (g(x) + g(x~)) + (sigma_k + sigma_{k+1}) xi / 2): two gradients a step

While tau(s) = 0 this is plain descent on the potential V, which transports noise to data; from s = 1 on it has the
stationary law exp(-V / tau), for small dt. So V is no energy in the sense of exp(-E): E = V / tau. `hot` chains run at
tau from the first step: they start at data. The clock is real: K steps take K dt, whoever runs them.

Where the temperature stays the same over several steps of euler, they are one call of the backend's `langevin_run` with
SGLD(dt, sigma_k): a fast backend runs the whole stretch at once, under the same addresses. On a ramp it is called for
each step.

On V = k x^2 / 2 at a fixed tau, with a = k dt: euler has the mean factor 1 - a and the stationary variance
(tau / k) / (1 - a/2); heun the factor 1 - a + a^2/2 and the variance (tau / k) (1 - a/2) / (1 - a/2 + a^2/4).

An energy with `heated(tau)` is asked for the energy at each temperature (a repulsion that is as strong as the noise),
and one with `check_step(dt, tau)` may refuse the step.

A chain whose energy, gradient, predictor or next state is not finite stops: it keeps the state that it had before that
step, through all that follow, and is counted.

Source: Balcerak et al. 2025, Energy Matching, arXiv:2504.10612 (the ramp, algorithm 2); Kloeden & Platen 1992, section
15.1 (Heun; with noise that does not depend on x, Ito and Stratonovich are the same).
Level: 1. Twins: none; it calls the `langevin_run` of the module that it is handed.
"""

from __future__ import annotations

from itertools import groupby
from math import sqrt
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    ChainInfo,
    Energy,
    Params,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_flag,
    check_number,
    flat_size,
)
from ..specs import SGLD, Box, check_box
from .chain import chain_count, chain_finite, chain_keep, chain_norm, chain_start
from .langevin import langevin_step

SCHEMES = ("euler", "heun")


def heated_temperature(s: float, tau: float, s_star: float) -> float:
    """tau(s): 0 below s_star, then a line, tau from s = 1 on; a step at 1 where s_star = 1.

    s >= 0   tau > 0   s_star: (0, 1]. Raises RangeError, DTypeError.
    """
    check_number("s", s, low=0.0)
    check_ramp(tau, s_star)
    if s >= 1:
        return float(tau)
    return 0.0 if s < s_star else float(tau) * (float(s) - float(s_star)) / (1 - float(s_star))


def check_ramp(tau: float, s_star: float) -> None:
    """Raise unless tau > 0 and s_star lies in (0, 1]."""
    check_number("tau", tau, low=0.0, open_low=True)
    check_number("s_star", s_star, low=0.0, high=1.0, open_low=True)


def heated_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    dt: float,
    tau: float,
    s_star: float,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
    stream: int = Stream.CHAIN_NOISE,
    box: Box | None = None,
    scheme: str = "euler",
    hot: bool = False,
    done: int = 0,
) -> tuple[Array, ChainInfo]:
    """K steps of dx = -grad V ds + sqrt(2 tau(s)) dW; step k draws xi at (seed, stream, step + k, chains[n], element).

    backend: module with noise_normal, langevin_run   energy: the potential V   x0: (N, *shape), untouched
    dt, tau > 0   s_star: (0, 1], where the ramp begins   chains: (N,) integer addresses, None = 0..N-1
    box: (low, high) of every state   scheme: "euler" or "heun"   hot: tau at every s   done: steps that are behind
    returns x like x0 and ChainInfo: energy V, grad_norm (K, N) at x_k; alive; nonfinite; extra: nfe (N,), the
    evaluations of the gradient, and tau (K,), the temperatures. To go on: x0 = x, step = step + K, done = done + K.
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    check_number("dt", dt, low=0.0, open_low=True)
    check_ramp(tau, s_star)
    check_box(box)
    check_choice("scheme", scheme, SCHEMES)
    check_count("done", done, low=0)
    check_flag("hot", hot)
    chains = chain_start(backend, energy, x0, K, seed, step, chains)
    backend.noise_normal(seed, stream, step, chains, 0)  # refuses a bad stream, even where K = 0 draws nothing
    if hasattr(energy, "check_step"):
        energy.check_step(dt, tau)
    dt, step, done = float(dt), int(step), int(done)
    taus = [float(tau) if hot else heated_temperature((done + k) * dt, tau, s_star) for k in range(K + 1)]

    x = np.copy(x0)
    alive = np.ones_like(x, shape=x.shape[:1], dtype=bool)
    V, grad_norm = (np.empty_like(x, shape=(K, x.shape[0])) for _ in range(2))
    k = 0
    for tau_k, same in groupby(taus[:K]):
        n = len(list(same))  # steps at this temperature
        at = energy.heated(tau_k) if hasattr(energy, "heated") else energy
        sigma = sqrt(2 * dt * tau_k)
        if scheme == "euler":
            update = SGLD(dt, sigma, box=box)
            moved, info = backend.langevin_run(at, theta, x, n, update, seed, step + k, chains=chains, stream=stream)
            V[k : k + n], grad_norm[k : k + n] = info.energy, info.grad_norm
            x, alive = chain_keep(alive, moved, x), alive & info.alive
        else:
            for j in range(k, k + n):
                xi = backend.noise_normal(seed, stream, step + j, chains, flat_size(energy.shape), x.dtype)
                sigma_mean = (sigma + sqrt(2 * dt * taus[j + 1])) / 2
                x, alive, V[j], grad_norm[j] = _heun_step(
                    at, theta, x, alive, xi.reshape(x.shape), dt, sigma, sigma_mean, box
                )
        k += n
    nfe = np.full_like(alive, K if scheme == "euler" else 2 * K, dtype=np.int64)
    extra = {"nfe": nfe, "tau": np.asarray(taus[:K], dtype=x.dtype, like=x)}
    return x, ChainInfo(V, grad_norm, alive, chain_count(~alive), extra)


def _heun_step(
    energy: Any,
    theta: Params,
    x: Array,
    alive: Array,
    xi: Array,
    dt: float,
    sigma: float,
    sigma_mean: float,
    box: Box | None,
) -> tuple[Array, Array, Array, Array]:
    """x', alive', V(x) and |grad V(x)|. x, xi: (N, *shape)   alive: (N,)."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
        V, g = energy.energy_and_grad_x(theta, x)  # (N,), (N, *shape)
        check_array("energy", V, shape=(x.shape[0],))
        ahead = langevin_step(x, g, xi, dt, sigma, box=box)
        alive = alive & np.isfinite(V) & chain_finite(g) & chain_finite(ahead)
        g_ahead = energy.grad_x(theta, chain_keep(alive, ahead, x))
        moved = langevin_step(x, (g + g_ahead) / 2, xi, dt, sigma_mean, box=box)
        alive = alive & chain_finite(g_ahead) & chain_finite(moved)
    return chain_keep(alive, moved, x), alive, V, chain_norm(g)
