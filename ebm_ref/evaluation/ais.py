"""Annealed importance sampling: log Z from below, and from above.

    path      log gamma_k(x) = (1 - beta_k) log p_0(x) - beta_k E(x),   0 = beta_0 < ... < beta_K = 1
    forward   x ~ p_0; for k = 1 .. K:   log w += log gamma_k(x) - log gamma_(k-1)(x), then a move that keeps gamma_k
    reverse   x ~ exp(-E)/Z; for k = K .. 1:   a move that keeps gamma_k, then log w += the same difference

    forward   E[w] = Z, so in expectation   mean log w <= log mean w <= log Z                        (lower bounds)
    reverse   E[1/w] = 1/Z, so in expectation   log Z <= -log mean 1/w <= mean log w                 (upper bounds)

The weight is updated before the move in the one and after it in the other: K = 1 forward is importance sampling. Both
hold for moves that leave their gamma_k invariant (MALA, HMC, bit flips with their acceptance test; ULA does not) and
for a normalised base that is positive wherever the model is; on a `UniformBase` Z is the integral over its box.

The upper bound needs start samples that are exact draws from the model. From any others, the end of a forward run or
of a long chain among them, the number can lie on either side of log Z: for E = |x|^2 / 2, a wider base and starts
from N(0, 3^2 I) it falls below. So a reverse run says "upper" only where the caller states `exact=True`: samples of
a closed-form or enumerable model, or data drawn from the model itself (bidirectional Monte Carlo).

NLL = mean E(data) + log Z: the lower bound of log Z makes it look better than it is, the upper one worse.

Source: Neal 2001, Annealed importance sampling, section 2; Grosse, Ghahramani & Adams 2015, arXiv:1511.02543
(bidirectional Monte Carlo); Burda, Grosse & Salakhutdinov 2015, arXiv:1412.8566 (reverse AIS).
Level: 1. Twins: none; the sums run on any array that answers NumPy's calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ..contracts import (
    Array,
    Energy,
    Params,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_flag,
    check_number,
)
from ..noise import noise_bits
from .ais_result import LOWER, NO_BOUND, UPPER, AISResult, ais_result, check_betas
from .bases import Base, TemperedEnergy

FORWARD, REVERSE = 1, 2  # steps of Stream.ANNEALING at which each draws the seed of its moves; 0 is the base's


class Transition(Protocol):
    """A move that leaves exp(-energy) invariant."""

    def __call__(
        self, backend: ModuleType, energy: Energy, theta: Params, x: Array, k: int, seed: int, step: int
    ) -> tuple[Array, Array]:
        """x', like x, and the share of accepted proposals of each chain, (N,).

        energy: the TemperedEnergy at beta_k   k: 1 .. K   seed, step: the call's own address, step = 0, 1, ...
        """


def ais_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    base: Base,
    betas: Sequence[float],
    N: int,
    transition: Transition,
    seed: int,
    dtype: DTypeLike = np.float64,
) -> AISResult:
    """N chains from the base to the model: stochastic lower bounds of log Z.

    backend: module with noise_normal, noise_uniform   betas: 0 = beta_0 < ... < beta_K = 1
    N: chains   transition: the move at each temperature   dtype: of x, which must be theta's
    Chain n draws its start at (seed, ANNEALING, 0, n); the moves draw under a seed derived at (seed, ANNEALING, 1).
    Raises RangeError, DTypeError, ShapeError. NaN energies give NaN weights, which are not replaced.
    """
    betas = check_betas(betas)
    check_count("N", N, low=1)
    x = base.draw(backend, seed, N, energy.shape, np.dtype(dtype))  # (N, *shape)
    log_w, x, acceptance = ais_forward(backend, energy, theta, base, betas, x, transition, _seed(seed, FORWARD))
    return ais_result(log_w, acceptance, betas, x, 1.0, "lower", LOWER)


def ais_reverse_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    base: Base,
    betas: Sequence[float],
    x: Array,
    transition: Transition,
    seed: int,
    exact: bool = False,
) -> AISResult:
    """Chains from model samples back to the base: stochastic upper bounds of log Z, if the samples are exact.

    x: (N, *shape), samples of the model   exact: the caller's statement that they are independent exact draws of
    exp(-E)/Z; without it the result says `bound = None`   the rest as in `ais_run`.
    Raises RangeError, DTypeError, ShapeError, NonFiniteError (x).
    """
    betas = check_betas(betas)
    check_flag("exact", exact)
    log_w, x, acceptance = ais_backward(backend, energy, theta, base, betas, x, transition, _seed(seed, REVERSE))
    return ais_result(log_w, acceptance, betas, x, -1.0, "upper" if exact else None, UPPER if exact else NO_BOUND)


def ais_forward(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    base: Base,
    betas: Sequence[float],
    x: Array,
    transition: Transition,
    seed: int,
) -> tuple[Array, Array, list[Any]]:
    """For k = 1 .. K: log w += (beta_k - beta_(k-1)) (-E(x) - log p_0(x)), then the move at beta_k.

    x: (N, *shape) from the base   returns log_w (N,), x like x, and the K mean acceptances.
    Raises RangeError, DTypeError, ShapeError, NonFiniteError (x).
    """
    betas = _check_start(energy, betas, x, seed)
    log_w: Any = 0.0
    acceptance = []
    for k in range(1, len(betas)):
        log_w = log_w + _increment(energy, theta, base, betas, x, k)  # (N,)
        tempered = TemperedEnergy(energy, base, betas[k])
        x, accept = transition(backend, tempered, theta, x, k, seed, k - 1)
        acceptance.append(np.mean(accept))
    return log_w, x, acceptance


def ais_backward(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    base: Base,
    betas: Sequence[float],
    x: Array,
    transition: Transition,
    seed: int,
) -> tuple[Array, Array, list[Any]]:
    """For k = K .. 1: the move at beta_k, then log w += (beta_k - beta_(k-1)) (-E(x) - log p_0(x)).

    x: (N, *shape) from the model   returns log_w (N,), x like x, and the mean acceptances at beta_1 .. beta_K.
    Raises RangeError, DTypeError, ShapeError, NonFiniteError (x).
    """
    betas = _check_start(energy, betas, x, seed)
    log_w: Any = 0.0
    acceptance = []
    K = len(betas) - 1
    for k in range(K, 0, -1):
        tempered = TemperedEnergy(energy, base, betas[k])
        x, accept = transition(backend, tempered, theta, x, k, seed, K - k)
        acceptance.append(np.mean(accept))
        log_w = log_w + _increment(energy, theta, base, betas, x, k)  # (N,)
    return log_w, x, acceptance[::-1]


def beta_ladder(K: int, kind: str = "uniform", rad: float = 4.0) -> tuple[float, ...]:
    """beta_k = k / K, or "sigmoid": (s(rad (2 k / K - 1)) - s(-rad)) / (s(rad) - s(-rad)), s(a) = 1 / (1 + e^-a).

    K >= 1   rad > 0: the larger, the finer both ends. Raises RangeError, DTypeError.
    """
    check_count("K", K, low=1)
    check_choice("kind", kind, ("uniform", "sigmoid"))
    check_number("rad", rad, low=0.0, high=30.0, open_low=True)
    if kind == "uniform":
        return tuple(k / K for k in range(K + 1))
    s = [1 / (1 + exp(-rad * (2 * k / K - 1))) for k in range(K + 1)]
    return (0.0, *((s[k] - s[0]) / (s[K] - s[0]) for k in range(1, K)), 1.0)


def _increment(energy: Energy, theta: Params, base: Base, betas: Sequence[float], x: Array, k: int) -> Array:
    """log gamma_k(x) - log gamma_(k-1)(x), (N,), float64."""
    difference = -energy.energy(theta, x).astype(np.float64) - base.log_density(x).astype(np.float64)
    increment: Array = (betas[k] - betas[k - 1]) * difference
    return increment


def _check_start(energy: Energy, betas: Sequence[float], x: Array, seed: int) -> tuple[float, ...]:
    """`betas` as floats; raises on bad ones, on states that are no samples, and on a seed that is none."""
    check_array("x", x, shape=(None, *energy.shape), finite=isinstance(x, np.ndarray))
    if x.shape[0] == 0:
        raise ShapeError("x: expected at least one sample, found none")
    check_count("seed", seed, low=0, high=2**64 - 1)
    return check_betas(betas)


def _seed(seed: int, purpose: int) -> int:
    """64 bits of a seed for the moves, so that they share no address with training or with the other direction."""
    low, high = noise_bits(seed, Stream.ANNEALING, purpose, np.zeros(1, np.int64), 2)[0]
    return int(low) | int(high) << 32
