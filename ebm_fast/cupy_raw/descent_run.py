"""Twin of `descent`'s run: descent on x by one of its rules, each sample until it stops.

What differs: x, the state and who has stopped stay on the device. A network or a field of this backend makes CHUNK
steps (all, where nothing can stop: g_min = 0), recorded once as a CUDA graph, between two looks at who has stopped;
after a look only the samples that still move are evaluated, closed up. Any other energy is called once a step with
those, and answers with arrays of any library on the same device. A sample is not evaluated after it has stopped, but
for the rest of a chunk, which is thrown away. Results do not depend on the chunk or on the batch. Not yet measured on a
GPU.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import numpy as np

from ebm_ref.contracts import ChainInfo, Params, check_array, check_count, check_number
from ebm_ref.descent_specs import AdamDescent, Descent

from ..checks import WORD, check_like, check_samples, descent_names, is_explicit
from .descent import Walk
from .device import current
from .field_network import FieldNetwork
from .langevin import check_rows
from .limits import INT, NUMBERS, SAMPLES, check_fits
from .network import Network

CHUNK = 16  # steps between two looks at who has stopped
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

    energy: any energy, or a field with f like x   x0: (N, *shape) on the device, untouched   g_min >= 0   state: what
    the last run returned, None = the start   returns x like x0, state, ChainInfo of device arrays: energy (no rows for
    a field), grad_norm (K, N) where the gradient was taken, kept from the last evaluation once a sample has stopped;
    alive (N,), nonfinite; extra: stopped (N,) bool, nfe (N,). Raises NonFiniteError (x0), ShapeError, DTypeError,
    RangeError.
    """
    dev, explicit = current(), is_explicit(energy)
    own = is_own(energy)
    check_fits("x0", x0, samples=INT if own else SAMPLES, numbers=NUMBERS)
    x0 = dev.array("x0", x0)
    check_samples("x0", x0, tuple(energy.shape))
    check_array("x0", x0, finite=True)
    check_rows("x0", x0)
    check_count("K", K, low=0, high=WORD)
    check_number("g_min", g_min, low=0.0)
    parts = start_of(rule, x0, state)
    t = 0 if state is None or "t" not in state else int(state["t"])
    if own:
        theta = energy.adopt_theta(theta, x0.dtype)
    walk = Walk(rule, float(g_min), np.copy(x0), list(parts.values()), int(K), t, explicit)
    descend(walk, energy, theta, own)
    walk.fill()
    info = ChainInfo(walk.energies, walk.grad_norms, walk.alive)
    info.nonfinite = int(x0.shape[0] - np.count_nonzero(dev.get(walk.alive)))
    info.extra = {"stopped": walk.stopped, "nfe": walk.nfe}
    after = dict(zip(parts, walk.parts, strict=True))
    if isinstance(rule, AdamDescent):
        after["t"] = np.full((), t + int(dev.get(walk.nfe).max(initial=0)), np.int64)
    return walk.x, after, info


def descend(walk: Walk, energy: Any, theta: Params, own: bool) -> None:
    """All steps, chunk by chunk, of the samples that still move."""
    dev, N, k = current(), walk.x.shape[0], 0
    rows, n, step = None, N, None
    while k < walk.K and n:
        steps = min(walk.K - k, 1 if not own else CHUNK if walk.g_min > 0 else walk.K)
        if not own:
            step_any(walk, energy, theta, rows, n)
        else:
            step = step or NetworkStep(walk, energy, theta, rows, n)
            dev.repeat(steps, step)
        k += steps
        if k < walk.K:
            moving = np.flatnonzero(dev.get(walk.alive) & ~dev.get(walk.stopped))
            if len(moving) != n:
                rows, n, step = dev.put(moving.astype(np.int64)), len(moving), None


class NetworkStep:
    """One step of a network's or a field's samples `rows`: launches and nothing else, into arrays of its own."""

    def __init__(self, walk: Walk, network: Any, theta: Params, rows: Any, n: int) -> None:
        dev, dtype, shape = current(), walk.x.dtype, (n, *walk.x.shape[1:])
        self.walk, self.network, self.theta, self.rows = walk, network, theta, rows
        self.at, self.g, self.point = dev.empty(shape, dtype), dev.empty(shape, dtype), dev.empty((n,), np.bool_)
        self.E = dev.empty((n,), dtype) if walk.explicit else None
        self.space = (network.workspace if walk.explicit else network.field_space)(n, dtype)

    def __call__(self) -> None:
        self.walk.place(self.at, self.point, self.rows)
        if self.E is None:
            self.network.launch_field(self.theta, self.at, self.g, self.space)
        else:
            self.network.launch_energy_and_grad_x(self.theta, self.at, self.E, self.g, self.space)
        self.walk.move(self.at, self.g, self.E, self.point, self.rows)


def step_any(walk: Walk, energy: Any, theta: Params, rows: Any, n: int) -> None:
    """One step of the samples `rows`: one call of the energy's or field's own method."""
    dev, dtype = current(), walk.x.dtype
    at = dev.empty((n, *walk.x.shape[1:]), dtype)  # a new one each step: the energy may keep what it is handed
    point = dev.empty((n,), np.bool_)
    walk.place(at, point, rows)
    if rows is not None and hasattr(energy, "of_rows"):
        energy = energy.of_rows(rows)  # at something for each sample
    E = None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such samples stop, and are counted
        if walk.explicit:
            E, g = energy.energy_and_grad_x(theta, at)
        else:
            g = energy.field(theta, at)
    name = "energy_and_grad_x" if walk.explicit else "field"
    if E is not None:
        E = dev.array(f"{name}[0]", E)
        check_array(f"{name}[0]", E, shape=(n,))
        E = E.astype(dtype)
    g = dev.array(f"{name}[1]" if walk.explicit else name, g)
    check_like(f"{name}[1]" if walk.explicit else name, g, at, "x0")
    walk.move(at, g, E, point, rows)


# ---------------------------------------------------------------------------------------------- arguments


def is_own(energy: Any) -> bool:
    """Whether its layers can be launched one by one: a network or field of this backend, its method not overridden."""
    if isinstance(energy, FieldNetwork):
        return unwrap(type(energy).field) is FieldNetwork.field
    return isinstance(energy, Network) and unwrap(type(energy).energy_and_grad_x) is Network.energy_and_grad_x


def start_of(rule: Descent, x: Any, state: State | None) -> State:
    """Copies of the arrays of a rule's state, checked; zeros where there is no state yet."""
    names = descent_names(rule, state)
    if state is None:
        return {name: np.zeros_like(x) for name in names}
    parts = {}
    for name in names:
        check_fits(f"state[{name!r}]", state[name], samples=SAMPLES, numbers=NUMBERS)
        mine = current().array(f"state[{name!r}]", state[name])
        check_like(f"state[{name!r}]", mine, x, "x0")
        parts[name] = np.copy(mine)
    return parts
