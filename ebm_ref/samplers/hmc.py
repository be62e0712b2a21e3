"""Hamiltonian Monte Carlo with unit mass: L leapfrogs as proposal, and a test that makes it exact.

    hmc_leapfrog   L times:  p <- p - (h/2) g(x),   x <- x + h p,   p <- p - (h/2) g(x),   g = grad_x E
    hmc_log_ratio  l = E(x) + |p|^2 / 2 - E(x') - |p'|^2 / 2
    hmc_step       x' where log u < l, else x
    hmc_run        K steps, p and u drawn by address
    hmc_adapt      the same with a step size h that adapts: burn-in

A leapfrog is reversible (from (x', -p') it returns to (x, -p)) and keeps volume, which is why l needs no Jacobian;
the flip of p that makes the proposal its own inverse is left out, because p is drawn anew. |p|^2 runs over every
axis but the first. L leapfrogs are L, not L + 1 or L - 1: L evaluations of E and grad_x E, the first half kick uses
the carried gradient. With L = 1, h = sqrt(eps) and p = xi, proposal and l are MALA's.

On E = lambda q^2 / 2 a leapfrog conserves p^2 / 2 + lambda (1 - h^2 lambda / 4) q^2 / 2 and is stable iff
h^2 lambda < 4; elsewhere the error of E + |p|^2 / 2 is O(h^2) however long the path. There L leapfrogs turn by L w,
cos w = 1 - h^2 lambda / 2: where L w is pi, x goes to -x and the chain mixes by rejection alone. Keep L h below half
the shortest period, or vary it between runs.

A gradient that is not finite sends the path to a position that is not: it stays at its last finite one and is
rejected. The way back would meet the same points, so the rule leaves exp(-E) invariant. E counts at the two ends
alone: a path may cross a wall of infinite energy where the gradient is finite.

Source: Neal 2011, MCMC using Hamiltonian dynamics, sections 5.2.3 (leapfrog) and 5.3.
Level: 1. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType

from ..contracts import Array, ChainInfo, Energy, Params, Stream, check_count, check_number
from .adaptation import AdaptationState, Rule
from .chain import chain_dot, chain_finite, chain_keep, check_like
from .metropolis import check_state, metropolis_ratio, metropolis_run, metropolis_step


def hmc_leapfrog(
    energy: Energy, theta: Params, x: Array, p: Array, g: Array, h: float, L: int
) -> tuple[Array, Array, Array, Array, Array]:
    """L times p <- p - (h/2) g, x <- x + h p, p <- p - (h/2) g(x).

    x, p: (N, *shape), position and momentum   g: grad_x E at x, like x   h > 0   L >= 1
    returns x, p, E (N,), g at the end, and finite (N,): whether every position was; where not, x is the last that
    was. L evaluations of the energy. Raises ShapeError, DTypeError, RangeError.
    """
    check_like("p", p, x)
    check_like("g", g, x)
    check_number("h", h, low=0.0, open_low=True)
    check_count("L", L, low=1)
    h = float(h)
    finite = chain_finite(x)  # (N,)
    for _ in range(L):
        p = p - (h / 2) * g
        moved = x + h * p
        finite = finite & chain_finite(moved)
        x = chain_keep(finite, moved, x)
        E, g = energy.energy_and_grad_x(theta, x)
        p = p - (h / 2) * g
    return x, p, E, g, finite


def hmc_log_ratio(E: Array, E_new: Array, p: Array, p_new: Array) -> Array:
    """l = E + |p|^2 / 2 - E_new - |p_new|^2 / 2, the squares subtracted as (p - p_new) . (p + p_new) / 2.

    E, E_new: (N,)   p, p_new: (N, *shape)   returns (N,). Raises ShapeError, DTypeError.
    """
    check_like("E_new", E_new, E, "E")
    check_like("p_new", p_new, p, "p")
    return E - E_new + chain_dot(p - p_new, p + p_new) / 2


def hmc_step(
    energy: Energy, theta: Params, x: Array, E: Array, g: Array, p: Array, u: Array, h: float, L: int
) -> tuple[Array, Array, Array, Array, Array]:
    """x' = hmc_leapfrog(x, p) where log u < l, else x; with x its E and g.

    x, g: (N, *shape)   E: (N,), E and g = grad_x E at x   p: (N, *shape), standard normals   u: (N,), uniforms in
    (0, 1]   h > 0   L >= 1   returns x, E, g of the next state; accept: (N,) bool; l: (N,), -inf where it or the path
    is not finite. L evaluations of the energy. Raises ShapeError, DTypeError, RangeError.
    """
    check_state(x, E, g, p, u, "p")
    moved, p_new, E_new, g_new, finite = hmc_leapfrog(energy, theta, x, p, g, h, L)
    l = metropolis_ratio(hmc_log_ratio(E, E_new, p, p_new), finite)
    return *metropolis_step(l, u, (x, E, g), (moved, E_new, g_new)), l


def hmc_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    h: float,
    L: int,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> tuple[Array, ChainInfo]:
    """K steps of HMC from x0 with one h; step k draws p at (seed, MOMENTUM, step + k, chains[n], element).

    backend: module with noise_normal, noise_uniform   x0: (N, *shape), untouched   h > 0   L >= 1
    chains: (N,) integer addresses, None = 0..N-1   returns x_K like x0 and ChainInfo as `mala_run`; extra["eps_step"]
    is h, nfe = 1 + K L. Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    check_number("h", h, low=0.0, open_low=True)
    x, _, info = _run(backend, energy, theta, x0, K, L, AdaptationState(h), None, seed, step, chains)
    return x, info


def hmc_adapt(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    L: int,
    rule: Rule,
    state: AdaptationState,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> tuple[Array, AdaptationState, ChainInfo]:
    """`hmc_run` with h = state.eps_step, which `rule` changes after every step: burn-in, not draws.

    returns x_K, the state after K steps, ChainInfo as `hmc_run`. Raises as `hmc_run`.
    """
    return _run(backend, energy, theta, x0, K, L, rule=rule, state=state, seed=seed, step=step, chains=chains)


def _run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    L: int,
    state: AdaptationState,
    rule: Rule | None,
    seed: int,
    step: int,
    chains: Array | None,
) -> tuple[Array, AdaptationState, ChainInfo]:
    check_count("L", L, low=1)
    move = partial(hmc_step, energy, theta, L=L)
    return metropolis_run(backend, energy, theta, x0, K, move, L, Stream.MOMENTUM, state, rule, seed, step, chains)
