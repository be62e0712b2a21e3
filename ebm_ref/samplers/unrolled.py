"""Langevin chains that remember their steps, and back-propagation through them.

    unrolled_run        K steps as in langevin_run, keeping of each  x~_k, g_k = grad_x E(x~_k) and where no box cut:
                        noise_first     x~_k = box(x_k + sigma xi),  y_k = x~_k - eta c(g_k)
                        gradient_first  x~_k = x_k,                  y_k = x_k - eta c(g_k) + sigma xi
                        x_{k+1} = box(y_k)
    unrolled_backward   from u = dL/dx_K, last step to first:
                        v = u [y_k inside the box],   r = -eta c'(g_k)' v
                        grads += grad_theta(r . grad_x E(x~_k)),   u <- v + H(x~_k) r
                        noise_first: u <- u [x_k + sigma xi inside the box];   what is left at the end is dL/dx_0
    langevin_clip_backward   c'(g)' v for c = the clip of elements (g -> e), then of the norm; with e^ = e / |e|:
                        (v - e^ (e^ . v)) clip_norm / |e| where |e| > clip_norm, else v; then times [|g_d| < clip]

The noise is a constant. Each step costs a gradient forwards, and one grad_theta_along and one hvp backwards; memory
grows with K. A chain that stopped stays where it is, so u passes its steps unchanged and theta has no part in them.

Source: Du & Mordatch 2019, arXiv:1903.08689 (gradients through the sampler); Griewank & Walther 2008, chapter 3.
Level: 2. Twins: none; it takes the module to draw and step with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    ChainInfo,
    DTypeError,
    Energy,
    Energy2,
    Params,
    Stream,
    check_array,
    check_count,
    check_derivatives,
    check_number,
    flat_size,
)
from ..specs import SGLD, ULA, Box, Update
from .chain import chain_column, chain_count, chain_dot, chain_finite, chain_keep, chain_norm, chain_start, check_like


@dataclass(frozen=True)
class UnrolledStep:
    """One step of N chains: what its derivative needs.

    at: x~ (N, *shape), g: grad_x E(x~), both 0 for a chain that stopped   alive: (N,) bool
    moved: (N, *shape) bool, y inside the box   jittered: likewise of x + sigma xi, or None where there was no jitter
    """

    at: Array
    g: Array
    alive: Array
    moved: Array
    jittered: Array | None

    def part(self, n: int) -> UnrolledStep:
        """The step of the first n chains."""
        jittered = None if self.jittered is None else self.jittered[:n]
        return UnrolledStep(self.at[:n], self.g[:n], self.alive[:n], self.moved[:n], jittered)


def unrolled_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    update: Update,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> tuple[Array, list[UnrolledStep], ChainInfo]:
    """K >= 1 steps of `update` from x0 with the draws of langevin_run, and what unrolled_backward needs of each.

    backend: module with noise_normal, langevin_step, langevin_jitter   x0: (N, *shape), untouched
    chains: (N,) integer addresses, None = 0..N-1   returns x_K like x0, the K steps, ChainInfo as langevin_run's.
    Raises NonFiniteError when x0 is not finite, ShapeError, DTypeError, RangeError.
    """
    if not isinstance(update, (ULA, SGLD)):
        raise DTypeError(f"update: expected ULA or SGLD, found {type(update).__name__}")
    check_count("K", K, low=1)
    chains = chain_start(backend, energy, x0, K, seed, step, chains)
    D, noise_first, box = flat_size(energy.shape), update.order == "noise_first", update.box
    sigma, clips = 0.0 if noise_first else update.sigma, (update.clip, update.clip_norm)
    x, zero, alive = x0, np.zeros_like(x0), chain_finite(x0)
    steps: list[UnrolledStep] = []
    energies, norms = [], []
    for k in range(K):
        xi = backend.noise_normal(seed, Stream.CHAIN_NOISE, int(step) + k, chains, D, x.dtype).reshape(x.shape)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such chains stop, and are counted
            at, jittered = x, None
            if noise_first:
                y = backend.langevin_jitter(x, xi, update.sigma)  # (N, *shape)
                alive = alive & chain_finite(y)
                at, jittered = chain_keep(alive, _boxed(y, box), x), _inside(y, box)
            E, g = energy.energy_and_grad_x(theta, at)  # (N,), (N, *shape)
            y = backend.langevin_step(at, g, xi, update.eta, sigma, *clips)  # (N, *shape)
            energies.append(E)
            norms.append(chain_norm(g))
            alive = alive & chain_finite(E) & chain_finite(g) & chain_finite(y)
            at, g = chain_keep(alive, at, zero), chain_keep(alive, g, zero)
            steps.append(UnrolledStep(at, g, alive, _inside(y, box), jittered))
            x = chain_keep(alive, _boxed(y, box), x)
    info = ChainInfo(np.stack(energies), np.stack(norms), alive)
    info.nonfinite = chain_count(~alive)
    return x, steps, info


def unrolled_backward(
    energy: Energy2, theta: Params, steps: list[UnrolledStep], u: Array, update: Update, to_start: bool = True
) -> tuple[Params, Array | None]:
    """dL/dtheta through x_K(theta), and dL/dx_0, from u = dL/dx_K. What theta does in L itself is not counted.

    steps: of unrolled_run; its last ones alone cut the derivative off there   u: (N, *shape)   update: the run's
    to_start: False spares the hvp of the first step and returns None for dL/dx_0
    returns grads like theta, u_0 like u.
    Raises SmoothnessError, BackendError, ShapeError, DTypeError, RangeError, NonFiniteError.
    """
    hvp = ("hvp",) if to_start or len(steps) > 1 else ()
    check_derivatives("unrolled_backward", energy, "grad_theta_along", *hvp)
    check_count("len(steps)", len(steps), low=1)
    check_array("u", u, shape=steps[-1].at.shape, finite=isinstance(u, np.ndarray))
    check_like("u", u, steps[-1].at)
    zero = np.zeros_like(u)
    grads: Params = {}
    for k, s in reversed(list(enumerate(steps))):
        v = np.where(chain_column(s.alive, u) & s.moved, u, zero)  # (N, *shape) dL/dy
        r = langevin_clip_backward(s.g, v, update.clip, update.clip_norm) * -update.eta  # (N, *shape)
        along = energy.grad_theta_along(theta, s.at, r)
        grads = {name: along[name] + grads[name] for name in along} if grads else along
        if k == 0 and not to_start:
            return grads, None
        v = v + energy.hvp(theta, s.at, r)  # (N, *shape) dL/dx~
        v = v if s.jittered is None else np.where(s.jittered, v, zero)
        u = chain_keep(s.alive, v, u)
    return grads, u


def langevin_clip_backward(g: Array, u: Array, clip: float | None, clip_norm: float | None) -> Array:
    """c'(g)' u of the clips of langevin_step: elements to [-clip, clip], then each sample's 2-norm to clip_norm.

    g, u: (N, *shape)   returns like u; None switches a clip off. Raises ShapeError, DTypeError, RangeError.
    """
    check_like("u", u, g, "g")
    for name, value in (("clip", clip), ("clip_norm", clip_norm)):
        if value is not None:
            check_number(name, value, low=0.0, open_low=True)
    cut = g if clip is None else np.clip(g, -float(clip), float(clip))  # (N, *shape)
    if clip_norm is not None:
        norm = chain_norm(cut)  # (N,)
        over = norm > float(clip_norm)  # (N,)
        norm = np.where(over, norm, np.ones_like(norm))  # (N,)
        unit = cut / chain_column(norm, cut)  # (N, *shape)
        across = (u - unit * chain_column(chain_dot(unit, u), u)) * chain_column(float(clip_norm) / norm, u)
        u = np.where(chain_column(over, u), across, u)
    return u if clip is None else np.where(np.abs(g) < float(clip), u, np.zeros_like(u))


def _boxed(y: Array, box: Box | None) -> Array:
    return y if box is None else np.clip(y, float(box[0]), float(box[1]))


def _inside(y: Array, box: Box | None) -> Array:
    """Where box(y) = y, (N, *shape) bool."""
    return y == y if box is None else (y >= float(box[0])) & (y <= float(box[1]))
