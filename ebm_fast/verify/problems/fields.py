"""Problems of the fields and of the energy on one: a spec, its weights, a batch, directions and cotangents."""

from __future__ import annotations

from typing import Any

from ebm_ref.field_specs import HEADS, ConvFieldSpec, MLPFieldSpec
from ebm_ref.specs import ACTIVATIONS

from ..case import Case, EnergyOf, built
from .draw import Draw
from .energies import draw_channels, draw_theta, energy_args, mlp_fields

FIELD_SPECS = {"mlp_field": MLPFieldSpec, "conv_field": ConvFieldSpec}
BATCHES = {"mlp_field": (1, 2, 3, 5, 17, 67), "conv_field": (1, 2, 3, 5, 9)}


def mlp_field_fields(draw: Draw) -> dict[str, Any]:
    """Fields of an MLPFieldSpec."""
    fields = mlp_fields(draw)
    del fields["layer_norm"]
    return fields | {"out_channels": draw.choice((None, 1, 2, 9))}


def conv_field_fields(draw: Draw) -> dict[str, Any]:
    """Fields of a ConvFieldSpec: one size, or two or three with a skip between; at most one of them one pixel wide."""
    max_groups, channels = draw_channels(draw, draw.choice((2, 1, 3)))
    factor = 2 ** (len(channels) - 1)
    return {
        "shape": (factor * draw.choice((2, 1, 3)), factor * draw.choice((2, 3)), draw.choice((1, 2, 3))),
        "channels": channels,
        "kernel": draw.choice((3, 1, 2, 5)),
        "activation": draw.choice(ACTIVATIONS),
        "max_groups": max_groups,
        "out_channels": draw.choice((None, 1, 4)),
    }


FIELD_FIELDS = {"mlp_field": mlp_field_fields, "conv_field": conv_field_fields}


def field_case(draw: Draw, kind: str) -> Case:
    fields = FIELD_FIELDS[kind](draw)
    spec = FIELD_SPECS[kind](**fields)
    N = draw.choice(BATCHES[kind])
    draw.seed()
    args: dict[str, Any] = {"theta": draw_theta(draw, spec)}
    kinds, scale = ("normal", "ties", "normal", "zeros", "normal", "tiny"), draw.choice((1.0, 0.1, 10.0))
    args["x"] = draw.array("x", (N, *spec.shape), kinds, scale)
    args["v"] = draw.array("v", (N, *spec.shape), ("normal", "zeros", "ties"))
    for name in ("g", "h"):
        args[name] = draw.array(name, (N, *spec.out_shape), ("normal", "zeros", "ties"))
    return draw.case(kind, args, **fields)


def mlp_field(draw: Draw) -> Case:
    return field_case(draw, "mlp_field")


def conv_field(draw: Draw) -> Case:
    return field_case(draw, "conv_field")


def field_energy(draw: Draw) -> Case:
    """A head on a small field; a dot head needs f like x."""
    kind, head = draw.choice(("mlp_field", "conv_field")), draw.choice(HEADS)
    fields = FIELD_FIELDS[kind](draw)
    if head == "dot":
        fields["out_channels"] = None
    options = {"field": EnergyOf(kind, fields), "head": head}
    return draw.case("field_energy", energy_args(draw, built(options)["field"], BATCHES[kind]), **options)
