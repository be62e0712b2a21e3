"""MALA, the Metropolis-adjusted Langevin algorithm: ULA as proposal, and a test that makes it exact.

    mala_propose     x' = x - (eps/2) g(x) + sqrt(eps) xi,   g = grad_x E
    mala_log_ratio   l = E(x) - E(x') + s . (xi - s/2),   s = (sqrt(eps)/2) (g(x) + g(x'))
    mala_step        x' where log u < l, else x
    mala_run         K steps, xi and u drawn by address
    mala_adapt       the same with a step size that adapts: burn-in

With q(x -> x') = N(x'; x - (eps/2) g(x), eps I), l = log [exp(-E(x')) q(x' -> x) / (exp(-E(x)) q(x -> x'))]
    = E(x) - E(x') - (1/(2 eps)) [ |x - x' + (eps/2) g(x')|^2 - |x' - x + (eps/2) g(x)|^2 ]
    = E(x) - E(x') - |xi~|^2 / 2 + |xi|^2 / 2,   xi~ = -xi + s: the noise of the way back.
The last line, with its two squares subtracted by hand, is what is written here: it needs no 1/eps and no difference
of two large sums. The factor in s is sqrt(eps)/2, not eps/2.

On E = x' P x / 2 the energies cancel: l = (eps/8) (|P x|^2 - |P x'|^2).
Cost: one evaluation of E and grad_x E a step, and one at the start.

Source: Roberts & Tweedie 1996, Exponential convergence of Langevin distributions and their discrete approximations.
Level: 1. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from functools import partial
from math import sqrt
from types import ModuleType

from ..contracts import Array, ChainInfo, Energy, Params, Stream, check_number
from .adaptation import AdaptationState, Rule
from .chain import chain_dot, chain_finite, chain_keep, check_like
from .langevin import langevin_step
from .metropolis import check_state, metropolis_ratio, metropolis_run, metropolis_step


def mala_propose(x: Array, g: Array, xi: Array, eps_step: float) -> Array:
    """x' = x - (eps/2) g + sqrt(eps) xi.

    x, g, xi: (N, *shape), one dtype   eps_step > 0   returns like x. Raises ShapeError, DTypeError, RangeError.
    """
    check_number("eps_step", eps_step, low=0.0, open_low=True)
    return langevin_step(x, g, xi, eps_step / 2, sqrt(eps_step))


def mala_log_ratio(E: Array, E_new: Array, g: Array, g_new: Array, xi: Array, eps_step: float) -> Array:
    """l = E - E_new + s . (xi - s/2),  s = (sqrt(eps)/2) (g + g_new).

    E, E_new: (N,)   g, g_new, xi: (N, *shape)   returns (N,); non-finite input gives non-finite output.
    Raises ShapeError, DTypeError, RangeError.
    """
    check_like("E_new", E_new, E, "E")
    check_like("g_new", g_new, g, "g")
    check_like("xi", xi, g, "g")
    check_number("eps_step", eps_step, low=0.0, open_low=True)
    s = (sqrt(eps_step) / 2) * (g + g_new)  # (N, *shape)
    return E - E_new + chain_dot(s, xi - s / 2)


def mala_step(
    energy: Energy, theta: Params, x: Array, E: Array, g: Array, xi: Array, u: Array, eps_step: float
) -> tuple[Array, Array, Array, Array, Array]:
    """x' = mala_propose(x, g, xi) where log u < l, else x; with x its E and g.

    x, g, xi: (N, *shape)   E: (N,), E and g = grad_x E at x   u: (N,), uniforms in (0, 1]   eps_step > 0
    returns x, E, g of the next state; accept: (N,) bool; l: (N,), -inf where the proposal is not finite.
    One evaluation of the energy. Raises ShapeError, DTypeError, RangeError.
    """
    check_state(x, E, g, xi, u)
    moved = mala_propose(x, g, xi, eps_step)
    finite = chain_finite(moved)  # (N,)
    moved = chain_keep(finite, moved, x)  # where it is not, the energy is asked at x, and the proposal rejected
    E_new, g_new = energy.energy_and_grad_x(theta, moved)
    l = metropolis_ratio(mala_log_ratio(E, E_new, g, g_new, xi, eps_step), finite)
    return *metropolis_step(l, u, (x, E, g), (moved, E_new, g_new)), l


def mala_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    eps_step: float,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> tuple[Array, ChainInfo]:
    """K steps of MALA from x0 with one eps_step; step k draws at counter step + k, for chain chains[n].

    backend: module with noise_normal, noise_uniform   x0: (N, *shape), untouched   eps_step > 0
    chains: (N,) integer addresses, None = 0..N-1   returns x_K like x0 and ChainInfo:
    energy, grad_norm (K, N) of the state before each step; alive (N,): E and its gradient are finite at x0;
    nonfinite: proposals that were not finite; extra: accept (K, N) bool, log_ratio (K, N), eps_step (K,), nfe (N,),
    the evaluations of E and its gradient, 1 + K.
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    args = (backend, energy, theta, x0, K, AdaptationState(eps_step), None, seed, step, chains)
    x, _, info = _run(*args)
    return x, info


def mala_adapt(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    rule: Rule,
    state: AdaptationState,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> tuple[Array, AdaptationState, ChainInfo]:
    """`mala_run` with eps_step = state.eps_step, which `rule` changes after every step: burn-in, not draws.

    returns x_K, the state after K steps, ChainInfo as `mala_run` (extra["eps_step"] is what each step used).
    Raises as `mala_run`.
    """
    return _run(backend, energy, theta, x0, K, state, rule, seed, step, chains)


def _run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    state: AdaptationState,
    rule: Rule | None,
    seed: int,
    step: int,
    chains: Array | None,
) -> tuple[Array, AdaptationState, ChainInfo]:
    move = partial(mala_step, energy, theta)
    return metropolis_run(backend, energy, theta, x0, K, move, 1, Stream.CHAIN_NOISE, state, rule, seed, step, chains)
