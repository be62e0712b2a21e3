"""Twin of `descent`'s run: descent on x by one of its rules, each sample until it stops.

What differs: an energy or a field of this backend makes several steps in one compiled call, its samples never leaving
the cache: CHUNK of them, or LONG where nothing can stop (g_min = 0), after which only those that still move go on,
closed up. Any other energy is called once a step with those. A sample is not evaluated after it has stopped, but for
the rest of a chunk, which is thrown away. Results do not depend on the chunk, on the batch or on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ebm_ref.contracts import (
    Array,
    ChainInfo,
    Params,
    check_array,
    check_count,
    check_number,
)
from ebm_ref.descent_specs import AdamDescent, Descent, GradientDescent, LookAheadDescent, NesterovDescent

from ..checks import DESCENT_STATES, check_like, check_samples, descent_names, flat, is_explicit
from . import descent_tile as d
from . import machine as m
from .field_network import FieldNetwork
from .network import Network
from .program import Program

CHUNK, LONG = 8, 256  # steps between two looks at who has stopped, and where only a number that is not finite stops
SMALL = 1 << 14  # numbers below which one thread is faster than two
KINDS = {GradientDescent: d.GRADIENT, NesterovDescent: d.NESTEROV, LookAheadDescent: d.LOOK_AHEAD, AdamDescent: d.ADAM}
State = dict[str, Array]


def network_step(P: Program, network: Any, x: Any) -> tuple[int, int]:
    """Emit E (zeros for a field) and the descent direction at the input rows x; return their addresses."""
    if isinstance(network, FieldNetwork):
        E = P.rows(1)
        P.emit(m.FILL, E, 1, 0)
        return E, network.emit(P, x, False)[0].at
    value, dx = network.emit(P, x, "x")
    return value.at, dx.at


@lru_cache(maxsize=256)
def descent_program(network: Any, D: int, dtype: np.dtype, kind: int, width: int) -> Program:
    """Up to LONG steps of a tile from input 0, x and state; stored alike. Records: see `run_network`.

    Without a network, one step: the gradient is input 1, and E record 0.
    """
    P = Program(dtype, width=width)
    size, states = D * P.width, d.STATES[kind]
    x = P.rows(D * (1 + states))
    f, p = P.rows(d.FLAGS), P.pack("", d.NUMBERS + 2 * LONG)
    P.emit(m.LOAD, x, 0, D * (1 + states))
    P.emit(m.FILL, f, d.FLAGS, 0)
    P.emit(m.FILL, f + d.GO * P.width, 1, 1)
    if network is None:
        at, g, E = P.rows(D), P.rows(D), P.rows(1)
        P.emit(m.LOAD, g, 1, D)
        P.emit(m.READ, E, 0, 1)
    else:
        place = network.input(P)
        at = place.at
    P.section()
    P.emit(d.descent_place, at, x, x + size, D, p, kind, f)
    if network is not None:
        E, g = network_step(P, network, place)
    P.emit(d.descent_move, x, at, g, x + size, D, p, kind, f, E)
    for record, flag in enumerate((d.ENERGY, d.NORM)):
        P.emit(m.WRITE, f + flag * P.width, record, 1)
    P.section()
    for record, flag in enumerate((d.ALIVE, d.STOPPED, d.NFE), 2):
        P.emit(m.WRITE, f + flag * P.width, record, 0)
    P.emit(m.STORE, x, D * (1 + states))
    P.freeze()
    return P


def descent_run(
    energy: Any,
    theta: Params,
    x0: Array,
    K: int,
    rule: Descent,
    g_min: float = 0.0,
    state: State | None = None,
) -> tuple[Array, State, ChainInfo]:
    """At most K steps of `rule` from x0; sample n stops, at its descent_point, where |g|_2 < g_min there.

    energy: any energy, or a field with f like x   x0: (N, *shape), untouched   g_min >= 0   state: what the last run
    returned, None = the start   returns x like x0, state, ChainInfo: energy (no rows for a field), grad_norm (K, N)
    where the gradient was taken, kept from the last evaluation once a sample has stopped; alive (N,), nonfinite; extra:
    stopped (N,) bool, nfe (N,). Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    explicit = is_explicit(energy)
    check_samples("x0", x0, tuple(energy.shape))
    check_array("x0", x0, finite=True)
    check_count("K", K, low=0)
    check_number("g_min", g_min, low=0.0)
    parts = start_of(rule, x0, state)
    t = 0 if state is None or "t" not in state else int(state["t"])
    N, D = x0.shape[0], int(np.prod(x0.shape[1:]))
    rows = np.concatenate([flat(a, x0.shape[1:]) for a in (x0, *parts)], axis=1)  # (N, D (1 + states)), a copy
    info = ChainInfo(np.empty((K if explicit else 0, N), x0.dtype), np.empty((K, N), x0.dtype), np.ones(N, bool))
    stopped, nfe, last = np.zeros(N, bool), np.zeros(N, np.int64), np.zeros((2, N), x0.dtype)
    fused = is_fused(energy)
    if fused:
        energy.check_theta(theta, x0)
    moving, k = np.arange(N), 0
    while k < K and moving.size:
        steps = min(K - k, 1 if not fused else CHUNK if g_min > 0 else LONG)
        batch = (theta, rows[moving], x0.shape[1:], rule, numbers(rule, g_min, t))
        if fused:
            part, records = run_network(energy, *batch, steps)
        else:
            held = moving.size < N and hasattr(energy, "of_rows")  # at something for each sample
            part, records = run_any(energy.of_rows(moving) if held else energy, *batch)
        rows[moving] = part
        for i, kept in enumerate((info.energy, info.grad_norm)):
            if len(kept):
                kept[k : k + steps] = last[i]
                kept[k : k + steps, moving] = records[i]
            last[i, moving] = records[i, -1]
        info.alive[moving], stopped[moving] = records[2, 0] > 0, records[3, 0] > 0
        done = records[4, 0].astype(np.int64)
        nfe[moving] += done
        t, k = t + int(done.max()), k + steps
        moving = moving[info.alive[moving] & ~stopped[moving]]
    for i, kept in enumerate((info.energy, info.grad_norm)):
        kept[k:] = last[i]
    info.nonfinite = int(N - np.count_nonzero(info.alive))
    info.extra = {"stopped": stopped, "nfe": nfe}
    x, *parts = (np.ascontiguousarray(rows[:, i : i + D]).reshape(x0.shape) for i in range(0, rows.shape[1], max(D, 1)))
    after = dict(zip(DESCENT_STATES[type(rule)], parts, strict=True))
    return x, after | ({"t": np.full((), t, np.int64)} if isinstance(rule, AdamDescent) else {}), info


def start_of(rule: Descent, x: Array, state: State | None) -> list[Array]:
    """The arrays of a rule's state, checked; zeros where there is no state yet."""
    names = descent_names(rule, state)
    if state is None:
        return [np.zeros_like(x) for _ in names]
    for name in names:
        check_like(f"state[{name!r}]", state[name], x)
    return [state[name] for name in names]


def numbers(rule: Descent, g_min: float, t: int) -> np.ndarray:
    """What `descent_tile` finds in W, for the steps t + 1, t + 2, ..."""
    W = np.zeros(d.NUMBERS + 2 * LONG)
    W[d.ETA], W[d.MU], W[d.G_MIN] = rule.eta, getattr(rule, "mu", 0.0), g_min
    if isinstance(rule, AdamDescent):
        W[d.BETA1], W[d.BETA2], W[d.EPS] = rule.beta1, rule.beta2, rule.eps
        for i, beta in enumerate((rule.beta1, rule.beta2)):
            W[d.NUMBERS + i :: 2] = 1 - float(beta) ** (t + 1 + np.arange(LONG, dtype=float))
    return W


def is_fused(energy: Any) -> bool:
    """Whether its layers can be part of a program: a network of this backend that holds no data of the batch."""
    if isinstance(energy, FieldNetwork):
        return True
    kind = type(energy)
    own = getattr(kind, "energy_and_grad_x", None) is Network.energy_and_grad_x  # not overridden
    return own and kind.extra is Network.extra


def run_network(
    network: Any, theta: Params, rows: Array, shape: tuple[int, ...], rule: Descent, W: Array, steps: int
) -> tuple[Array, Array]:
    """Some steps of a network's samples: x and state; the records E, |g| of each step, alive, stopped, evaluations."""
    planned = network.planned()
    P = descent_program(planned, int(np.prod(shape)), rows.dtype, KINDS[type(rule)], planned.tile_width(rows))
    out, records = np.empty_like(rows), np.empty((5, steps, len(rows)), rows.dtype)
    P.run(P.weights({**network.folded(theta), "": W.astype(rows.dtype)}), (rows,), out, records, steps)
    return out, records


def run_any(
    energy: Any, theta: Params, rows: Array, shape: tuple[int, ...], rule: Descent, W: Array
) -> tuple[Array, Array]:
    """One step of samples of any energy or field; returns as `run_network`."""
    D, kind = int(np.prod(shape)), KINDS[type(rule)]
    at, records = rows[:, :D], np.zeros((5, 1, len(rows)), rows.dtype)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such samples stop, and are counted
        if kind in (d.NESTEROV, d.LOOK_AHEAD):
            at = at + rows.dtype.type(rule.mu) * rows[:, D:]
            at = np.where(np.isfinite(at).all(axis=1, keepdims=True), at, rows[:, :D])
        at = at.reshape(-1, *shape)
        if hasattr(energy, "energy_and_grad_x"):
            records[0, 0], g = energy.energy_and_grad_x(theta, at)
        else:
            g = energy.field(theta, at)
    check_like("g", g, at, "x0")
    P, out = descent_program(None, D, rows.dtype, kind, 0), np.empty_like(rows)
    inputs = (rows, flat(g, shape))
    P.run(P.weights({"": W.astype(rows.dtype)}), inputs, out, records, 1, threads=1 + rows.size // SMALL)
    return out, records
