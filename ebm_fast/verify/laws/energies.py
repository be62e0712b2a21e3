"""Laws of an energy network: samples do not see each other, and gradients are slopes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ebm_ref.contracts import Array

from ..close import references
from .trial import Trial, law, total, within


def samples_are_their_own(t: Trial) -> None:
    """A sample's energy and gradient depend on no neighbour and no place; parameter gradients add up over parts.

    Both at once: the samples in reverse order, in two parts.
    """
    rows = {name: a[::-1] for name, a in t.args.items() if isinstance(a, np.ndarray)}
    N = len(rows["x"])
    halves = slice(0, -(-N // 2)), slice(-(-N // 2), N)
    parts = [t.again(**{name: a[part] for name, a in rows.items()}) for part in halves if len(rows["x"][part])]
    for name, budget in t.budget.items():
        want = t.got[name].astype(np.float64)
        if "grad_theta" in name:
            whole = sum(part[name].astype(np.float64) for part in parts)
            law("gradients of parts add up", name, whole, want, 4 * budget)
        else:
            whole = np.concatenate([part[name] for part in parts])[::-1].astype(np.float64)
            law("a sample sees neither its neighbours nor its place", name, whole, want, 2 * budget)


def slope(f: Callable[[float], float], h: float, wobble: float) -> tuple[float, float]:
    """(f'(0), its doubt) by central differences; `wobble` is how wrong one value of f may be.

    The doubt holds what h and h/2 disagree on, in the slope and in the bend: a smooth f bends 4 times as much over
    twice the distance, and what is left of that at a kink is its jump: there is no derivative to miss.
    """
    before, at, after = f(-h), f(0.0), f(h)
    left, right = f(-h / 2), f(h / 2)
    wide, near = (after - before) / (2 * h), (right - left) / h
    bend, half_bend = after - 2 * at + before, right - 2 * at + left
    return near, 4 * abs(wide - near) + abs(bend - 4 * half_bend) / h + 4 * wobble / h


def slope_is(
    text: str, f: Callable[[float], float], steps: tuple[float, ...], wobble: float, mine: float, slack: float
) -> None:
    """`mine` is the slope of f, to within `slack` and the doubt of the step that doubts least.

    The first step is enough where it is sharp: a bent f needs the shorter ones, an f of large values the longer.
    """
    found, doubt = 0.0, float("inf")
    for h in steps:
        found, doubt = min((found, doubt), slope(f, h, wobble), key=lambda pair: pair[1])
        if abs(mine - found) <= doubt + slack and doubt <= SHARP * abs(found):
            return
    within(text, mine, found, doubt + slack)


SHARP = 1e-3  # of the slope: a doubt that is good enough to stop at


def moved(theta: Any, along: Any, h: float) -> Any:
    return {name: a + h * along[name] for name, a in theta.items()}


def off_the_edge(t: Trial, far: float) -> Trial:
    """The same trial a little way off: zeros sit on kinks and in norms without variance, where no step is short."""
    rng = np.random.default_rng(1)
    theta = {name: a + far * rng.standard_normal(a.shape) for name, a in t.args["theta"].items()}
    x = t.args["x"] + far * rng.standard_normal(t.args["x"].shape)
    case = replace(t.case, args=t.args | {"theta": theta, "x": x})
    return replace(t, case=case, got=case.run(t.fn, t.module), budget=references(case, t.dtype)[1])


def gradients_are_slopes(t: Trial) -> None:
    """Central differences, in float64: of E along v and along theta, of grad_x along v and along theta."""
    if t.dtype == np.float64:
        t = settled(t)
        slopes(t, t.energy(), "")


def settled(t: Trial, second: str = "hvp") -> Trial:
    """The trial itself, or one off the edge where its numbers sit on one: its result `second` is refused at a kink."""
    x = t.args["x"]
    if np.abs(x).reshape(len(x), -1).max(axis=1).min() < 1e-3:
        return off_the_edge(t, 0.3)
    return off_the_edge(t, 0.01) if isinstance(t.got.get(second), str) else t


def slopes(t: Trial, energy: Any, result: str) -> None:
    """The four derivatives of `energy`, whose results are called `result`energy, `result`grad_x, ..."""
    theta, x, v, w = (t.args[name] for name in ("theta", "x", "v", "w"))
    rng, unit = np.random.default_rng(0), float(np.finfo(np.float64).eps)
    along = {name: rng.standard_normal(a.shape) for name, a in theta.items()}
    u, ones = rng.standard_normal(x.shape), np.ones(len(x))

    def roughly(name: str, weight: Array) -> float:
        """How wrong the sum of weight times that result may be."""
        return total(t.budget[result + name] + 4 * unit * np.abs(t.got[result + name]), np.abs(weight))

    def compare_slope(text: str, f: Callable[[float], float], wobble: float, name: str, direction: Any) -> None:
        parts = (
            {f"{name}[{key}]": d for key, d in direction.items()} if isinstance(direction, dict) else {name: direction}
        )
        mine = sum(total(t.got[result + key], d) for key, d in parts.items())
        slack = sum(roughly(key, d) for key, d in parts.items())
        slope_is(text, f, (1e-5, 1e-7, 1e-8), wobble, mine, slack)

    f = energy.energy
    compare_slope(
        "v . grad_x is the slope of E along v",
        lambda s: total(f(theta, x + s * v), ones), roughly("energy", ones), "grad_x", v,
    )  # fmt: skip
    compare_slope(
        "grad_theta is the slope of sum w E along theta",
        lambda s: total(f(moved(theta, along, s), x), w), roughly("energy", w), "grad_theta", along,
    )  # fmt: skip
    if isinstance(t.got["hvp"], str):
        return
    g = energy.grad_x
    compare_slope(
        "u . hvp is the slope of u . grad_x along v",
        lambda s: total(g(theta, x + s * v), u), roughly("grad_x", u), "hvp", u,
    )  # fmt: skip
    compare_slope(
        "grad_theta_along is the slope of v . grad_x along theta",
        lambda s: total(g(moved(theta, along, s), x), v), roughly("grad_x", v), "grad_theta_along", along,
    )  # fmt: skip
