"""One training step of energy matching: what is drawn, what is coupled, where the negatives come from.

    em_step   x0 ~ N(0, I),  t ~ U(0, s_star),  x1 = x[idx],  idx the coupling of x0 and x
              x_neg = K steps of heated_run: half from x_pos, hot (tau throughout), half from N(0, I), on the ramp
              loss, grads = energy_matching, with w = flow_weight(t, cutoff)

Draws at training step t: x0 at (FLOW_NOISE, t, n), the times at (FLOW_TIME, t, n), starts of negatives at (FLOW_START,
t, n); chain step k of the negatives at (CHAIN_NOISE, t K + k, n). The chains move on one held theta.

The time K dt of the negatives should be well above 1, where the ramp ends (published: 2). Half of the negatives start
at data, where the first steps of a ramp would be descent without noise: they are hot from their first step.

Source: Balcerak et al. 2025, Energy Matching, arXiv:2504.10612, algorithms 1 and 2.
Level: 2. Twins: none; it takes the module to draw and sample with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy,
    Energy2,
    Params,
    Stream,
    check_count,
    check_derivatives,
    check_number,
    flat_size,
)
from ..samplers.chain import chain_count
from ..samplers.heated import check_ramp, heated_run
from ..specs import Box, check_box
from .coupling import Assign, coupling_permutation
from .energy_matching import check_clip, check_contrast, energy_matching, flow_weight, transport
from .parts import Info, check_samples


@dataclass(frozen=True)
class EMTerms:
    """The numbers of energy matching.

    tau > 0: temperature of the law   s_star: (0, 1], where noise sets in and the last t of transport
    weight >= 0 of the contrast   K, dt: steps of the negatives, of time K dt > 1
    trim: [0, 1), share of negatives dropped   clamp > 0 or None   cutoff: [0, 1] of flow_weight   clip > 0 or None
    """

    tau: float
    s_star: float = 1.0
    weight: float = 1e-3
    K: int = 200
    dt: float = 0.01
    trim: float = 0.0
    clamp: float | None = None
    cutoff: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        check_ramp(self.tau, self.s_star)
        check_count("K", self.K, low=0)
        check_number("dt", self.dt, low=0.0, open_low=True)
        check_number("cutoff", self.cutoff, low=0.0, high=1.0)
        check_contrast(self.weight, self.trim, self.clamp)
        check_clip(self.clip)


def em_step(
    backend: ModuleType,
    energy: Energy2,
    theta: Params,
    x: Array,
    x_pos: Array | None,
    terms: EMTerms,
    seed: int,
    step: int,
    assign: Assign | None = None,
    box: Box | None = None,
) -> tuple[Array, Params, Info]:
    """`energy_matching` on drawn x0, t ~ U(0, s_star), the coupling by `assign`, and negatives by `heated_run`.

    backend: module with noise_uniform, noise_normal, langevin_run   x: (N, *shape) data of transport
    x_pos: (B, *shape) data of the contrast and of the starts; None: transport alone, the first phase of training
    assign: of coupling_permutation; None: independent pairs   box: (low, high) of every state of a negative
    The first B // 2 negatives start at x_pos and are hot; the others start at N(0, I) and follow the ramp.
    returns loss, grads, info; info adds idx (N,) and t (N,), and with x_pos x_neg (B, *shape) and nonfinite, the chains
    that stopped. Raises ShapeError, DTypeError, RangeError, NonFiniteError, BackendError, SmoothnessError.
    """
    check_derivatives("em_step", energy, "grad_theta_along")
    if not isinstance(terms, EMTerms):
        raise DTypeError(f"terms: expected EMTerms, found {type(terms).__name__}")
    check_box(box)
    check_samples("x", x, energy)
    if x_pos is not None:
        check_samples("x_pos", x_pos, energy)
    N = x.shape[0]
    x0 = _normals(backend, x, Stream.FLOW_NOISE, seed, step, np.arange(N))  # (N, *shape)
    u = backend.noise_uniform(seed, Stream.FLOW_TIME, step, np.arange(N), 1, x.dtype)[:, 0]  # (N,)
    t = float(terms.s_star) * u
    idx = np.asarray(np.arange(N), like=x) if assign is None else coupling_permutation(assign, x0, x)  # (N,)
    w = flow_weight(t, terms.cutoff)
    drawn = {"idx": idx, "t": t}
    if x_pos is None:
        loss, grads, info = transport(energy, theta, x0, x[idx], t, w, terms.clip)
        return loss, grads, info | drawn
    x_neg, stopped = _negatives(backend, energy, theta, x_pos, terms, seed, step, box)
    numbers = (terms.weight, terms.trim, terms.clamp, w, terms.clip)
    loss, grads, info = energy_matching(energy, theta, x0, x[idx], t, x_pos, x_neg, *numbers)
    return loss, grads, info | drawn | {"x_neg": x_neg, "nonfinite": stopped}


def _negatives(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x_pos: Array,
    terms: EMTerms,
    seed: int,
    step: int,
    box: Box | None,
) -> tuple[Array, int]:
    """K steps from data, hot, and from noise, on the ramp: x_neg like x_pos, and how many chains stopped."""
    half, ids = x_pos.shape[0] // 2, np.arange(x_pos.shape[0])
    noise = _normals(backend, x_pos, Stream.FLOW_START, seed, step, ids[half:])
    numbers, first = (terms.K, terms.dt, terms.tau, terms.s_star, seed), step * terms.K
    parts, alive = [], []
    for start, chains, hot in ((x_pos[:half], ids[:half], True), (noise, ids[half:], False)):
        moved, info = heated_run(backend, energy, theta, start, *numbers, step=first, chains=chains, box=box, hot=hot)
        parts.append(moved)
        alive.append(info.alive)
    return np.concatenate(parts), chain_count(~np.concatenate(alive))


def _normals(backend: ModuleType, x: Array, stream: Stream, seed: int, step: int, chains: Array) -> Array:
    """(len(chains), *shape) standard normals in x's dtype."""
    xi: Array = backend.noise_normal(seed, stream, step, chains, flat_size(x.shape[1:]), x.dtype)
    return xi.reshape((chains.shape[0], *x.shape[1:]))
