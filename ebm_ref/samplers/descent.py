"""Descent on x: optimisers, not samplers. They add no noise and end at stationary points of E, not at draws of exp(-E).

    GradientDescent   x' = x - eta g(x)                                                g = grad_x E, or a field f
    NesterovDescent   y = x + mu v,   x' = y - eta g(y),   v' = x' - x
    LookAheadDescent  y = x + mu v,   x' = x - eta g(y),   v' = x' - x: the gradient is taken ahead, but momentum is
                      not carried. It is what released Equilibrium Matching code calls NAG
    AdamDescent       m' = b1 m + (1 - b1) g,   v' = b2 v + (1 - b2) g^2,
                      x' = x - eta (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)
    descent_point     where the gradient is taken: y, or x
    descent_step      x, state -> x', state'
    descent_run       K steps, each sample on its own; sample n stops where |g(y_n)|_2 < g_min

An energy always moves along its own gradient, also where it is made of a field; a field f that is no gradient moves
along f and has no energy to show. A product of models is a sum: of energies (SumEnergy) or of fields (SumField). Start
anywhere: from noise, or from an input that is noisy in part.

What is returned is the point where the gradient was found small: a sample that stops moves to its y, and its
velocity becomes 0. So a second run from what was returned stops at once and changes nothing; and no gradient is
spent on checking. A stopped sample is not evaluated again: `nfe` counts the gradients of each sample. What a sample
does depends on it alone, not on the batch. g_min = 0 never stops.

On E = lam x^2 / 2 with a = eta lam the factors of a step are 1 - a (descent) and the roots of
    z^2 - (1 + mu) (1 - a) z + mu (1 - a) = 0   (Nesterov),     z^2 - (1 - a (1 + mu)) z - mu a = 0   (look-ahead).
Look-ahead is stable iff a < 2 / (1 + 2 mu), and never faster than descent there. For eta <= 1/L (L the largest
curvature) descent meets |g| < g_min within ceil(2 (E(x_0) - min E) / (eta g_min^2)) gradients. Adam does not see the
scale of E: as eps -> 0 it takes the same path on c E.

Stopping on |g| is for descent only. A Langevin chain that stops where |g| is small is biased towards the modes.
A sample whose energy, gradient or next state is not finite stops at its last finite x and is counted.

Source: Nesterov 1983; Kingma & Ba 2015, arXiv:1412.6980, algorithm 1; Wang & Du 2025, arXiv:2510.02300 (look-ahead,
stop on the norm; the bound is the standard descent lemma).
Level: 1; of a field, field alone. Twins of descent_run: numba_cpu, numba_cuda, cupy_raw; it works on any array that
answers NumPy's calls. The stop reads one count back from a device at each step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts import (
    Array,
    ChainInfo,
    DTypeError,
    Energy,
    Field,
    Params,
    ShapeError,
    check_array,
    check_count,
    check_number,
)
from ..descent_specs import MOMENTUM, AdamDescent, Descent, GradientDescent, NesterovDescent
from .chain import chain_count, chain_finite, chain_keep, chain_norm, check_like

State = dict[str, Array]


def descent_start(rule: Descent, x: Array) -> State:
    """The state before the first step: velocity = 0, or m = square = 0 and t = 0; {} for GradientDescent.

    Raises DTypeError.
    """
    check_array("x", x)
    if isinstance(rule, MOMENTUM):
        return {"velocity": np.zeros_like(x)}
    if isinstance(rule, AdamDescent):
        return {"m": np.zeros_like(x), "square": np.zeros_like(x), "t": np.zeros((), np.int64)}
    if isinstance(rule, GradientDescent):
        return {}
    raise DTypeError(f"rule: expected one of {', '.join(_NAMES)}, found {type(rule).__name__}")


def descent_point(rule: Descent, x: Array, state: State) -> Array:
    """Where the gradient is taken: x + mu velocity, or x. x: (N, *shape), returns like x.

    Raises ShapeError, DTypeError.
    """
    _check_state(rule, x, state)
    return x + float(rule.mu) * state["velocity"] if isinstance(rule, MOMENTUM) else x


def descent_step(rule: Descent, x: Array, g: Array, state: State) -> tuple[Array, State]:
    """x', state' from g = grad_x E at descent_point(rule, x, state).

    x, g: (N, *shape)   returns like x and like state. Raises ShapeError, DTypeError.
    """
    check_like("g", g, x)
    _check_state(rule, x, state)
    eta = float(rule.eta)
    if isinstance(rule, AdamDescent):
        t = int(state["t"]) + 1
        b1, b2 = float(rule.beta1), float(rule.beta2)
        m = b1 * state["m"] + (1 - b1) * g
        square = b2 * state["square"] + (1 - b2) * g * g
        m_hat, square_hat = m / (1 - b1**t), square / (1 - b2**t)
        x = x - eta * m_hat / (np.sqrt(square_hat) + float(rule.eps))
        return x, {"m": m, "square": square, "t": np.full((), t, np.int64)}
    start = descent_point(rule, x, state) if isinstance(rule, NesterovDescent) else x
    moved = start - eta * g
    return moved, {"velocity": moved - x} if isinstance(rule, MOMENTUM) else {}


def descent_run(
    energy: Energy | Field,
    theta: Params,
    x0: Array,
    K: int,
    rule: Descent,
    g_min: float = 0.0,
    state: State | None = None,
) -> tuple[Array, State, ChainInfo]:
    """At most K steps of `rule` from x0; sample n stops, at its descent_point, where |g|_2 < g_min there.

    energy: an energy, or a field with f like x; held at something for each sample (labels, times), it must have
    `of_rows`, since samples that have stopped are not evaluated
    x0: (N, *shape), untouched   g_min >= 0   state: what the last run returned, None = descent_start
    returns x like x0, state, ChainInfo: energy, grad_norm (K, N) where the gradient was taken, kept from the last
    evaluation once a sample has stopped (energy is (0, N) for a field); alive (N,), nonfinite: samples that met no
    number that is not finite, and the others; extra: stopped (N,) bool, nfe (N,), the evaluations of E and its
    gradient, or of f.
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    explicit = _is_explicit(energy)
    check_array("x0", x0, shape=(None, *energy.shape), finite=isinstance(x0, np.ndarray))
    check_count("K", K, low=0)
    check_number("g_min", g_min, low=0.0)
    x, N = np.copy(x0), x0.shape[0]
    state = descent_start(rule, x) if state is None else state
    _check_state(rule, x, state)
    state = {name: np.copy(value) for name, value in state.items()}
    shown = (K if explicit else 0, N)
    info = ChainInfo(np.empty_like(x, shape=shown), np.empty_like(x, shape=(K, N)), _all(x, True))
    E, norm, stopped = np.zeros_like(x, shape=(N,)), np.zeros_like(x, shape=(N,)), _all(x, False)
    nfe = np.zeros_like(x, shape=(N,), dtype=np.int64)
    for k in range(K):
        rows = np.flatnonzero(info.alive & ~stopped)  # the samples that still move, (n,)
        if rows.size:
            part, held = x[rows], _rows(state, rows)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such samples stop, and are counted
                at = descent_point(rule, part, held)
                finite = chain_finite(at)
                at = chain_keep(finite, at, part)
                E_at, g = _slope(energy, theta, at, rows, N)  # (n,), (n, *shape)
                norm_at = chain_norm(g)
                moved, after = descent_step(rule, part, g, held)
                small = finite & (norm_at < float(g_min)) & np.isfinite(E_at)
                finite = small | (finite & np.isfinite(E_at) & chain_finite(g) & chain_finite(moved))
            x[rows] = chain_keep(small, at, chain_keep(finite, moved, part))
            for name, value in after.items():
                if name == "t":
                    state["t"] = value
                else:
                    rest = np.zeros_like(value) if name == "velocity" else held[name]  # of a sample that stops
                    state[name][rows] = chain_keep(finite & ~small, value, rest)
            E[rows], norm[rows], nfe[rows] = E_at, norm_at, nfe[rows] + 1
            info.alive[rows], stopped[rows] = finite, small
        info.grad_norm[k] = norm
        if explicit:
            info.energy[k] = E
    info.nonfinite = chain_count(~info.alive)
    info.extra = {"stopped": stopped, "nfe": nfe}
    return x, state, info


_NAMES = ("GradientDescent", "NesterovDescent", "LookAheadDescent", "AdamDescent")


def _is_explicit(energy: Energy | Field) -> bool:
    """Whether it is an energy; raises DTypeError, ShapeError unless it is one, or a field with f like x."""
    if hasattr(energy, "energy_and_grad_x"):
        return True
    if not (hasattr(energy, "out_shape") and hasattr(energy, "field")) or hasattr(energy, "at"):
        raise DTypeError(
            f"energy: expected an energy or a field, of labels or times held by its at(), found {type(energy).__name__}"
        )
    if energy.out_shape != energy.shape:
        raise ShapeError(f"energy: expected a field with f like x, {energy.shape}, found {energy.out_shape}")
    return False


def _slope(energy: Any, theta: Params, at: Array, rows: Array, N: int) -> tuple[Array, Array]:
    """E (n,), or zeros for a field, and grad_x E or f (n, *shape) of the samples `rows` of N."""
    if rows.size < N and hasattr(energy, "of_rows"):
        energy = energy.of_rows(rows)
    if hasattr(energy, "energy_and_grad_x"):
        E, g = energy.energy_and_grad_x(theta, at)
        return E, g
    return np.zeros_like(at, shape=at.shape[:1]), energy.field(theta, at)


def _all(x: Array, value: bool) -> Array:
    """(N,) of one truth value."""
    full: Array = np.full_like(x, value, shape=x.shape[:1], dtype=bool)
    return full


def _rows(state: State, rows: Array) -> State:
    """The state of some samples; t is the batch's."""
    return {name: value if name == "t" else value[rows] for name, value in state.items()}


def _check_state(rule: Descent, x: Array, state: State) -> None:
    check_array("x", x)
    names = set(descent_start(rule, x[:0]))
    if not isinstance(state, dict):
        raise DTypeError(f"state: expected a dict of arrays, found {type(state).__name__}")
    if set(state) != names:
        raise ShapeError(f"state: expected the names {sorted(names)}, found {sorted(state)}")
    for name, value in state.items():
        if name != "t":
            check_like(f"state[{name!r}]", value, x)
