"""Problems of couplings, of repulsion, and of a few steps of descent on a small energy or field."""

from __future__ import annotations

from typing import Any

from ebm_ref.descent_specs import AdamDescent, GradientDescent, LookAheadDescent, NesterovDescent

from ..case import Case, EnergyOf
from .draw import SIZES, Draw
from .energies import SPECS, conv_fields, draw_theta, mlp_fields
from .fields import FIELD_FIELDS, FIELD_SPECS

POINTS = ("normal", "zeros", "ties", "large", "offset", "spread")


def coupling_cost(draw: Draw) -> Case:
    """Two batches; as many samples as one tile, two, or parts of one, and more elements than one piece of a sum."""
    shape = (draw.choice(SIZES), *draw.sample_shape((*SIZES, 129)))
    draw.seed()
    args = {"x0": draw.array("x0", shape, POINTS), "x1": draw.array("x1", shape, POINTS)}
    return draw.case("coupling_cost", args)


def coupling_assign(draw: Draw) -> Case:
    """Costs of any kind, negative ones and ties among them."""
    B = draw.choice(SIZES)
    draw.seed()
    return draw.case("coupling_assign", {"cost": draw.array("cost", (B, B), ("normal", "zeros", "ties", "large"))})


def repulsion(draw: Draw) -> Case:
    shape = (draw.choice((1, 2, 3)), draw.choice(SIZES), *draw.sample_shape())
    tau, sigma = draw.choice((1.0, 0.0, 0.01)), draw.choice((1.0, 0.3, 10.0))
    draw.seed()
    return draw.case("repulsion", {"x": draw.array("x", shape, POINTS), "tau": tau, "sigma": sigma})


def descent_run(draw: Draw) -> Case:
    """A few steps, so that no trajectory has the time to diverge; a bound that few, some or all samples meet.

    eps of Adam is of the size of a gradient: where it is small, the step is the gradient's sign, rounding or not.
    """
    kind = draw.choice(("mlp_energy", "conv_energy", "mlp_field", "conv_field"))
    if kind in SPECS:
        fields = (mlp_fields if kind == "mlp_energy" else conv_fields)(draw)
        spec: Any = SPECS[kind](**fields)
    else:
        fields = FIELD_FIELDS[kind](draw) | {"out_channels": None}
        spec = FIELD_SPECS[kind](**fields)
    N, K, eta = draw.choice((1, 2, 3, 5, 17)), draw.choice((1, 2, 3, 4, 0)), draw.choice((0.01, 0.1, 0.0))
    rules = (GradientDescent(eta), NesterovDescent(eta, 0.5), LookAheadDescent(eta), AdamDescent(eta, eps=1.0))
    rule = draw.choice(rules)
    g_min = draw.choice((0.0, 0.7, 1e9))
    draw.seed()
    theta = draw_theta(draw, spec)
    x0 = draw.array("x0", (N, *spec.shape), ("normal", "zeros", "ties"))
    args = {"energy": EnergyOf(kind, fields), "theta": theta, "x0": x0, "K": K, "rule": rule, "g_min": g_min}
    state: dict[str, Any] | None = None
    if draw.flag() or g_min > 1:  # all stop at once, where their velocity takes them
        names = {NesterovDescent: ("velocity",), LookAheadDescent: ("velocity",), AdamDescent: ("m", "square")}
        state = {name: abs(draw.array(name, x0.shape, ("normal", "zeros"), 0.1)) for name in names.get(type(rule), ())}
        if isinstance(rule, AdamDescent):
            state["t"] = draw.integer(0, 3)
    return draw.case("descent_run", args, state=state)
