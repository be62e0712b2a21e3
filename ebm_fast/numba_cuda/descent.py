"""Twin of `descent`'s run: descent on x by one of its rules, each sample until it stops.

What differs: the whole batch goes through the energy at every step, and what a sample that has stopped gets is thrown
away: `nfe` counts the evaluations up to its stop, as everywhere. Every LOOK steps one count is read back, and the run
ends where no sample moves. A step is three to six launches around the energy's (`descent_steps`), a thread an element,
or a thread a sample for norms and flags. Results do not depend on the batch. Deterministic.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import numpy as np

from ebm_ref.contracts import ChainInfo, Params, check_array, check_count, check_number
from ebm_ref.descent_specs import MOMENTUM, AdamDescent, Descent, NesterovDescent

from ..checks import DESCENT_STATES, check_like, check_samples, descent_names, is_explicit
from .chain import chain_keep
from .descent_steps import (
    descent_adam,
    descent_alive,
    descent_hold,
    descent_keep,
    descent_look,
    descent_move,
    descent_place,
    descent_start,
    descent_velocity,
)
from .device import current, launch
from .field_network import FieldNetwork
from .langevin import any_forces, own_forces, rows

LOOK = 16  # steps between two looks at whether any sample moves
State = dict[str, Any]


def descent_run(
    energy: Any,
    theta: Params,
    x0: Any,
    K: int,
    rule: Descent,
    g_min: float = 0.0,
    state: State | None = None,
) -> tuple[Any, State, ChainInfo]:
    """At most K steps of `rule` from x0; sample n stops, at its descent_point, where |g|_2 < g_min there.

    energy: any energy, or a field with f like x, on arrays of the device   x0: (N, *shape), untouched   g_min >= 0
    state: what the last run returned, None = the start; its t is the host's   returns x like x0, state, ChainInfo:
    energy (no rows for a field), grad_norm (K, N) where the gradient was taken, kept from the last evaluation once a
    sample has stopped; alive (N,), nonfinite; extra: stopped (N,) bool, nfe (N,).
    Raises NonFiniteError (x0), ShapeError, DTypeError, RangeError.
    """
    dev, explicit = current(), is_explicit(energy)
    x0 = dev.array("x0", x0)
    check_samples("x0", x0, tuple(energy.shape))
    check_array("x0", x0, finite=True)
    check_count("K", K, low=0)
    check_number("g_min", g_min, low=0.0)
    held = start_of(rule, x0, state)
    t = 0 if state is None or "t" not in state else int(state["t"])
    slopes = slopes_of(energy, theta, x0, explicit)
    shape, dtype, x = x0.shape, x0.dtype, np.copy(rows(x0))
    N, D = x.shape
    going, moves, stopped, point, alive = (dev.empty((N,), np.bool_) for _ in range(5))
    energies, norms, nfe = dev.empty((K, N), dtype), dev.empty((K, N), dtype), dev.empty((N,), np.int64)
    launch(descent_start, dtype, N, moves, stopped, point, nfe)
    k = 0
    while k < K and (k % LOOK or k == 0 or bool(np.count_nonzero(moves))):
        at = x
        if isinstance(rule, MOMENTUM):
            at = dev.empty((N, D), dtype)
            launch(descent_place, dtype, N * D, x, held["velocity"], float(rule.mu), at, point)
            launch(descent_hold, dtype, N * D, x, point, at)
        E, g = slopes(at.reshape(shape))
        g, last = rows(g), max(k - 1, 0)
        records = (energies[last], norms[last], energies[k], norms[k])
        launch(descent_look, dtype, N, E, g, point, float(g_min), *records, going, moves, stopped, nfe)
        moved = dev.empty((N, D), dtype)  # a new array: the energy may keep what it was handed
        fresh = stepped(rule, t + k + 1, x, at, g, held, moved, moves)
        launch(descent_keep, dtype, N * D, x, at, going, moves, stopped, moved)
        if isinstance(rule, MOMENTUM):
            launch(descent_velocity, dtype, N * D, x, moved, moves, held["velocity"])
        for name, value in fresh.items():
            launch(chain_keep, dtype, N * D, held[name], moves, value)
        x, held, k = moved, held | fresh, k + 1
    if 0 < k < K:  # all have stopped
        energies[k:], norms[k:] = energies[k - 1], norms[k - 1]
    launch(descent_alive, dtype, N, moves, stopped, alive)
    info = ChainInfo(energies if explicit else dev.empty((0, N), dtype), norms, alive, N - int(np.count_nonzero(alive)))
    info.extra = {"stopped": stopped, "nfe": nfe}
    after = {name: value.reshape(shape) for name, value in held.items()}
    if isinstance(rule, AdamDescent):  # a step counts where a sample took it
        after["t"] = np.full((), t + (int(nfe.max()) if N else 0), np.int64)
    return x.reshape(shape), after, info


def start_of(rule: Descent, x: Any, state: State | None) -> State:
    """The arrays of a rule's state as rows, checked and copied; zeros where there is no state yet."""
    names = descent_names(rule, state)
    if state is None:
        return {name: np.zeros_like(rows(x)) for name in names}
    held = {name: current().array(f"state[{name!r}]", state[name]) for name in names}
    for name, value in held.items():
        check_like(f"state[{name!r}]", value, x)
    return {name: np.copy(rows(value)) for name, value in held.items()}


def slopes_of(energy: Any, theta: Params, x0: Any, explicit: bool) -> Any:
    """x -> E (zeros for a field) and the descent direction; a network of this backend checks its theta once."""
    dev = current()
    if explicit:
        return own_forces(energy, theta, x0) or any_forces(dev, energy, theta, x0)
    none = dev.put(np.zeros(x0.shape[0], x0.dtype))
    if isinstance(energy, FieldNetwork) and unwrap(type(energy).field) is FieldNetwork.field:  # not overridden
        theta = energy.adopt_theta(theta, x0)
        return lambda x: (none, energy.values(theta, x))

    def slopes(x: Any) -> tuple[Any, Any]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such samples stop, and are counted
            f = dev.array("field", energy.field(theta, x))
        check_like("field", f, x0, "x0")
        return none, f

    return slopes


def stepped(rule: Descent, t: int, x: Any, at: Any, g: Any, held: State, moved: Any, moves: Any) -> State:
    """Write x' of every sample to `moved`; returns new m and square, which are to be kept, of Adam's step t."""
    if not isinstance(rule, AdamDescent):
        start = at if isinstance(rule, NesterovDescent) else x
        launch(descent_move, x.dtype, x.size, start, g, float(rule.eta), moved, moves)
        return {}
    beta1, beta2 = float(rule.beta1), float(rule.beta2)
    decays = (beta1, 1 - beta1, beta2, 1 - beta2, 1 - beta1**t, 1 - beta2**t, float(rule.eps))
    fresh = {name: current().empty(x.shape, x.dtype) for name in DESCENT_STATES[AdamDescent]}
    arrays = (held["m"], held["square"], fresh["m"], fresh["square"], moved, moves)
    launch(descent_adam, x.dtype, x.size, x, g, float(rule.eta), *decays, *arrays)
    return fresh
