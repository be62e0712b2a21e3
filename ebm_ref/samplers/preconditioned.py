"""Preconditioned SGLD: Langevin dynamics whose step in each coordinate follows the size of its gradients.

    psgld_step   V' = beta V + (1 - beta) g^2,   G = 1 / (lam + sqrt(V')),   g = grad_x E, all elementwise
                 x' = x - (eps/2) (G g - Gamma) + sqrt(eps G) xi
                 Gamma = dG/dx at fixed V = -(1 - beta) G^2 h g / sqrt(V'),   h = the diagonal of the Hessian;
                 0 where V' = 0, and 0 where it is dropped (h None)
    psgld_run    K steps, xi drawn by address; V is state and is returned

BIASED, and `PSGLD.biased` says when. Diffusion with a G that moves with x needs the drift (1/2) dG/dx. As eps -> 0 with
beta fixed, V' follows g(x)^2 and G = 1 / (lam + |g|), so that
    without Gamma   the law of one dimension is proportional to (lam + |g(x)|) exp(-E(x)), not exp(-E(x));
    with Gamma      a share (1 - beta) of the missing drift is there: exact as eps -> 0 for beta = 0 alone.
beta = 1 freezes V and is plain ULA with step eps G, exact as eps -> 0. The customary beta = 0.99 without Gamma is
neither; it is a noisy optimiser with the scale of an adaptive one. Nothing is rejected.
Gamma costs D Hessian-vector products a step.

A chain whose energy, gradient, Gamma or next state is not finite stops: it keeps the state that it had before that
step, x and V, and is counted.

Source: Li, Chen, Carlson & Carin 2016, arXiv:1512.07666 (also for dropping Gamma). The shares of
the missing drift are derived here.
Level: 1, and 2 with gamma. Twins: none; it takes the module to draw with, and works on any array that answers
NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    BackendError,
    ChainInfo,
    DTypeError,
    Energy,
    Params,
    Stream,
    check_array,
    check_flag,
    check_number,
    flat_size,
)
from .chain import chain_count, chain_finite, chain_keep, chain_norm, chain_rows, chain_start, check_like


@dataclass(frozen=True)
class PSGLD:
    """x' = x - (eps_step/2) (G g - Gamma) + sqrt(eps_step G) xi, G = 1 / (lam + sqrt(V')).

    eps_step > 0   beta: [0, 1], the memory of V   lam > 0   gamma: keep Gamma, which needs `hvp` of the energy
    """

    eps_step: float
    beta: float = 0.99
    lam: float = 1e-5
    gamma: bool = False

    def __post_init__(self) -> None:
        check_number("eps_step", self.eps_step, low=0.0, open_low=True)
        check_number("beta", self.beta, low=0.0, high=1.0)
        check_number("lam", self.lam, low=0.0, open_low=True)
        check_flag("gamma", self.gamma)

    @property
    def biased(self) -> bool:
        """Whether the law differs from exp(-E)/Z even as eps_step -> 0: unless beta = 1, or beta = 0 with gamma."""
        return not (self.beta == 1 or (self.beta == 0 and self.gamma))


def psgld_step(x: Array, g: Array, V: Array, xi: Array, update: PSGLD, h: Array | None = None) -> tuple[Array, Array]:
    """V' = beta V + (1 - beta) g^2;  x' = x - (eps/2) (G g - Gamma) + sqrt(eps G) xi.

    x, g, V, xi: (N, *shape), one dtype; V >= 0   h: like x, the diagonal of the Hessian of E at x, where
    update.gamma   returns x' and V', like x. Raises ShapeError, DTypeError.
    """
    for name, value in (("g", g), ("V", V), ("xi", xi)):
        check_like(name, value, x)
    if (h is None) == update.gamma:
        raise DTypeError(f"h: expected {'like x' if update.gamma else 'None'} with gamma {update.gamma}")
    eps, beta = float(update.eps_step), float(update.beta)
    V = beta * V + (1 - beta) * g * g
    root = np.sqrt(V)
    G = 1 / (float(update.lam) + root)
    drift = G * g
    if h is not None:
        check_like("h", h, x)
        drift = drift + (1 - beta) * G * G * h * g / np.where(root > 0, root, 1)  # - Gamma
    return x - (eps / 2) * drift + sqrt(eps) * np.sqrt(G) * xi, V


def psgld_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    update: PSGLD,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
    V: Array | None = None,
) -> tuple[Array, Array, ChainInfo]:
    """K steps of `update` from x0; step k draws xi at (seed, CHAIN_NOISE, step + k, chains[n], element).

    backend: module with noise_normal   x0: (N, *shape), untouched   chains: (N,) integer addresses, None = 0..N-1
    V: like x0, what the last run returned; None = 0   returns x_K, V_K like x0 and ChainInfo: energy, grad_norm
    (K, N); alive, nonfinite: chains that stopped; extra: nfe (N,), the evaluations of E and its gradient, and with
    gamma hvp (N,), the Hessian-vector products.
    Raises NonFiniteError (x0, V), ShapeError, DTypeError, RangeError; with gamma BackendError where the energy has no
    `hvp`, SmoothnessError where it is only piecewise smooth.
    """
    chains = chain_start(backend, energy, x0, K, seed, step, chains)
    if not isinstance(update, PSGLD):
        raise DTypeError(f"update: expected PSGLD, found {type(update).__name__}")
    if update.gamma:
        _require_hvp(energy)
    N, D, step = x0.shape[0], flat_size(energy.shape), int(step)
    x = np.copy(x0)
    V = np.zeros_like(x) if V is None else V
    check_array("V", V, shape=x.shape, finite=isinstance(V, np.ndarray))
    check_like("V", V, x)
    alive = np.ones_like(x, shape=(N,), dtype=bool)
    V = np.copy(V)
    info = ChainInfo(np.empty_like(x, shape=(K, N)), np.empty_like(x, shape=(K, N)), alive)
    for k in range(K):
        xi = backend.noise_normal(seed, Stream.CHAIN_NOISE, step + k, chains, D, x.dtype).reshape(x.shape)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            E, g = energy.energy_and_grad_x(theta, x)  # (N,), (N, *shape)
            check_array("energy", E, shape=(N,))
            info.energy[k], info.grad_norm[k] = E, chain_norm(g)
            h = hessian_diagonal(energy, theta, x) if update.gamma else None
            moved, V_new = psgld_step(x, g, V, xi, update, h)
            alive = alive & np.isfinite(E) & chain_finite(g) & chain_finite(moved) & chain_finite(V_new)
            x, V = chain_keep(alive, moved, x), chain_keep(alive, V_new, V)
    info.alive, info.nonfinite = alive, chain_count(~alive)
    info.extra = {"nfe": np.full_like(alive, K, dtype=np.int64)}
    if update.gamma:
        info.extra["hvp"] = np.full_like(alive, K * D, dtype=np.int64)
    return x, V, info


def hessian_diagonal(energy: Any, theta: Params, x: Array) -> Array:
    """H_dd(x_n) for every d, by D products H e_d. x: (N, *shape), returns like x. Raises as the energy's `hvp`."""
    check_array("x", x, shape=(None, *energy.shape))
    diagonal = np.zeros_like(chain_rows(x))  # (N, D)
    for d in range(diagonal.shape[1]):
        e = np.zeros_like(diagonal)
        e[:, d] = 1.0
        diagonal[:, d] = chain_rows(energy.hvp(theta, x, e.reshape(x.shape)))[:, d]
    return diagonal.reshape(x.shape)


def _require_hvp(energy: Any) -> None:
    if not hasattr(energy, "hvp"):
        kind = type(energy)
        raise BackendError(f"gamma needs hvp, which {kind.__module__}.{kind.__name__} lacks; drop it, or use ebm_ref's")
    if hasattr(energy, "require_smooth"):
        energy.require_smooth("psgld_run with gamma")
