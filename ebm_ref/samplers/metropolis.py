"""Metropolis-Hastings: the accept test and the loop that MALA and HMC share.

    metropolis_step   x'_n = proposal_n where log u_n < l_n, else x_n
    metropolis_run    K such steps; E and grad_x E of the current state are carried, never computed twice

l is the log acceptance ratio, log [p(x') q(x' -> x) / (p(x) q(x -> x'))]. Every chain decides by its own u and l.
l = -inf, so no acceptance, wherever the proposal, its energy, its gradient or l itself is not finite: such proposals
are rejected and counted, and nothing is replaced. An energy of +inf outside its support is that case: density 0.
A chain that starts where E or grad_x E is not finite rejects for ever, and `alive` says so.

There is no box and no gradient clip: a clamped proposal has another density q than the one in l, and the law would
no longer be exp(-E). A hard wall is an energy of +inf.

Source: Metropolis et al. 1953; Hastings 1970.
Level: 1. Twins: none; they take the module to draw with, and work on any array that answers NumPy's calls.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from ..contracts import Array, ChainInfo, Energy, Params, ShapeError, Stream, check_array, flat_size
from .adaptation import AdaptationState, Rule, adaptation_rate, adaptation_step
from .chain import chain_count, chain_finite, chain_keep, chain_norm, chain_start, check_like

Draws = tuple[Array, Array, Array]  # x (N, *shape), E (N,), grad_x E (N, *shape)
Transition = Callable[[Array, Array, Array, Array, Array, float], tuple[Array, Array, Array, Array, Array]]


def metropolis_ratio(log_ratio: Array, finite: Array) -> Array:
    """l where the proposal and l itself are finite, else -inf. log_ratio, finite: (N,), returns (N,).

    E and g of a proposal enter l, which is therefore not finite where one of them is not.
    """
    l: Array = np.where(finite & np.isfinite(log_ratio), log_ratio, -np.inf)
    return l


def metropolis_step(log_ratio: Array, u: Array, old: Draws, new: Draws) -> tuple[Array, Array, Array, Array]:
    """(x, E, g)_n = new_n where log u_n < l_n, else old_n.

    log_ratio: (N,), NaN rejects   u: (N,), uniforms in (0, 1]   old, new: x (N, *shape), E (N,), g (N, *shape)
    returns x, E, g, accept: (N,) bool. Raises ShapeError, DTypeError.
    """
    check_array("log_ratio", log_ratio, ndim=1)
    check_array("u", u, shape=log_ratio.shape)
    accept = np.log(u) < log_ratio  # (N,)
    x, E, g = (chain_keep(accept, after, before) for before, after in zip(old, new, strict=True))
    return x, E, g, accept


def metropolis_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    transition: Transition,
    gradients: int,
    stream: Stream,
    state: AdaptationState,
    rule: Rule | None,
    seed: int,
    step: int,
    chains: Array | None,
) -> tuple[Array, AdaptationState, ChainInfo]:
    """K times x, E, g, accept, l = transition(x, E, g, xi, u, eps); what `mala_run` and `hmc_run` share.

    xi: normals at (seed, stream, step + k, chains[n], element)   u: at (seed, MH_UNIFORM, step + k, chains[n], 0)
    gradients: evaluations of E and grad_x E in one transition   rule: None keeps `state`, and with it eps, as it is
    returns x_K like x0, state, ChainInfo: see `mala_run`.
    """
    chains = chain_start(backend, energy, x0, K, seed, step, chains)
    N, D, step = x0.shape[0], flat_size(energy.shape), int(step)
    if rule is not None and N == 0:
        raise ShapeError("x0: expected at least one chain to adapt on, found none")
    x = np.copy(x0)
    alive = np.ones_like(x, shape=(N,), dtype=bool)
    info = ChainInfo(np.empty_like(x, shape=(K, N)), np.empty_like(x, shape=(K, N)), alive)
    log_ratio, accepted = np.empty_like(x, shape=(K, N)), np.empty_like(x, shape=(K, N), dtype=bool)
    sizes = np.empty_like(x, shape=(K,))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such proposals are rejected, and counted
        if K:
            E, g = energy.energy_and_grad_x(theta, x)  # (N,), (N, *shape): the only one that no proposal needs
            check_array("energy", E, shape=(N,))
            info.alive = np.isfinite(E) & chain_finite(g)
        for k in range(K):
            xi = backend.noise_normal(seed, stream, step + k, chains, D, x.dtype).reshape(x.shape)  # (N, *shape)
            u = backend.noise_uniform(seed, Stream.MH_UNIFORM, step + k, chains, 1)[:, 0]  # (N,)
            info.energy[k], info.grad_norm[k], sizes[k] = E, chain_norm(g), state.eps_step
            x, E, g, accepted[k], log_ratio[k] = transition(x, E, g, xi, u, state.eps_step)
            if rule is not None:
                state = adaptation_step(rule, state, float(adaptation_rate(log_ratio[k])))
    info.nonfinite = chain_count(~np.isfinite(log_ratio))
    nfe = np.full_like(info.alive, 1 + K * gradients if K else 0, dtype=np.int64)  # (N,)
    info.extra = {"accept": accepted, "log_ratio": log_ratio, "eps_step": sizes, "nfe": nfe}
    return x, state, info


def check_state(x: Array, E: Array, g: Array, xi: Array, u: Array, noise: str = "xi") -> None:
    """Raise unless x, g, xi are (N, *shape) and E, u (N,). noise: the name of xi."""
    check_like("g", g, x)
    check_like(noise, xi, x)
    check_array("E", E, shape=(x.shape[0],))
    check_array("u", u, shape=(x.shape[0],))
