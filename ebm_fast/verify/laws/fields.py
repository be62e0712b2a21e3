"""Laws of a field: J v and J' g are of one J, which is the slope of f; gradients in theta are slopes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Array

from .energies import moved, settled, slope_is
from .trial import Trial, law, total, within

STEPS = (1e-5, 1e-7, 1e-8)


def roughly(t: Trial, name: str, weight: Array) -> float:
    """How wrong the sum of weight times that result may be."""
    unit = float(np.finfo(t.dtype).eps)
    return total(t.budget[name] + 4 * unit * np.abs(t.got[name]), np.abs(weight))


def jacobian_has_one_transpose(t: Trial) -> None:
    """sum g . (J v) = sum (J' g) . v."""
    g, v = t.args["g"], t.args["v"]
    allowed = roughly(t, "jvp", g) + roughly(t, "vjp", v)
    within("g . (J v) = (J' g) . v", total(t.got["jvp"], g), total(t.got["vjp"], v), allowed)


def along_nothing_is_the_gradient(t: Trial) -> None:
    """With h = 0, grad_theta_along is grad_theta."""
    if "grad_theta_along" in t.got:  # refused
        return
    got = t.again(h=np.zeros_like(t.args["h"]))
    for name in t.got:
        if name.startswith("grad_theta["):
            along = name.replace("grad_theta", "grad_theta_along")
            budget = 2 * (t.budget[name] + t.budget[along])
            law("without h the gradient along v is that of g . f", name, got[along], t.got[name], budget)


def field_derivatives_are_slopes(t: Trial) -> None:
    """Central differences, in float64: of f along v, of g . f and of g . f + h . (J v) along theta."""
    if t.dtype != np.float64:
        return
    t = settled(t, "grad_theta_along")
    field, (theta, x, v, g, h) = t.energy(), t.args.values()
    rng = np.random.default_rng(0)
    along = {name: rng.standard_normal(a.shape) for name, a in theta.items()}

    def compare_slope(text: str, f: Any, wobble: float, parts: dict[str, Array]) -> None:
        mine = sum(total(t.got[name], d) for name, d in parts.items())
        slope_is(text, f, STEPS, wobble, mine, sum(roughly(t, name, d) for name, d in parts.items()))

    compare_slope(
        "g . (J v) is the slope of g . f along v",
        lambda s: total(field.field(theta, x + s * v), g), roughly(t, "field", g), {"jvp": g},
    )  # fmt: skip
    compare_slope(
        "grad_theta is the slope of g . f along theta",
        lambda s: total(field.field(moved(theta, along, s), x), g), roughly(t, "field", g),
        {f"grad_theta[{name}]": d for name, d in along.items()},
    )  # fmt: skip
    if "grad_theta_along" in t.got:
        return

    def both(s: float) -> float:
        f, Jv = field.field_jvp(moved(theta, along, s), x, v)
        return total(f, g) + total(Jv, h)

    compare_slope(
        "grad_theta_along is the slope of g . f + h . (J v) along theta",
        both, roughly(t, "field", g) + roughly(t, "jvp", h),
        {f"grad_theta_along[{name}]": d for name, d in along.items()},
    )  # fmt: skip
