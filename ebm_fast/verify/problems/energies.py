"""Problems of the energies: the fields of a network, its weights, and a batch with what weighs its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Array, RangeError
from ebm_ref.specs import ACTIVATIONS, PADDINGS, POOLS, ClassifierSpec, ConvSpec, DeepConvSpec, MLPSpec, NetworkSpec

from ..case import LAYOUTS, Case, EnergyOf, built, lay
from .draw import SIZES, Draw


def conv_fields(draw: Draw) -> dict[str, Any]:
    """Fields of a ConvSpec; where VALID leaves no map to convolve, the padding is SAME."""
    max_groups, channels = draw_channels(draw, draw.choice((1, 2, 3)))
    shape = (draw.choice((4, 1, 7, 8, 13)), draw.choice((4, 3, 5, 8)), draw.choice((1, 2, 3)))
    fields = {
        "shape": shape,
        "channels": channels,
        "strides": tuple(draw.choice((1, 2, 1, 3)) for _ in channels),
        "kernel": draw.choice((3, 1, 2, 5)),
        "padding": draw.choice(PADDINGS),
        "activation": draw.choice(ACTIVATIONS),
        "residual": draw.flag(),
        "pool": draw.choice(POOLS),
        "max_groups": max_groups,
    }
    try:
        ConvSpec(**fields)
    except RangeError:
        fields["padding"] = "SAME"
    return fields


def draw_channels(draw: Draw, count: int) -> tuple[int, tuple[int, ...]]:
    """(max_groups, so many channel counts that its groups divide)."""
    max_groups = draw.choice((32, 1, 2, 4))
    channels = [draw.choice((4, 1, 2, 3, 6, 8, 17)) for _ in range(count)]
    return max_groups, tuple(size if size <= max_groups else size - size % max_groups for size in channels)


def deep_conv_fields(draw: Draw) -> dict[str, Any]:
    """Fields of a DeepConvSpec: skips that are the input, and skips that convolve for stride or channels.

    At most 3 blocks, 7 norms: where all maps are flat each magnifies by eps^-1/2 = 316, and float32 has to hold it.
    """
    blocks = draw.choice(((1,), (2,), (1, 1), (1, 2), (2, 1), (1, 1, 1)))
    max_groups, channels = draw_channels(draw, len(blocks))
    return {
        "shape": (draw.choice((4, 1, 5, 7)), draw.choice((4, 3, 6)), draw.choice((1, 2, 3))),
        "channels": channels,
        "blocks": blocks,
        "stem_stride": draw.choice((1, 2, 3)),
        "activation": draw.choice(ACTIVATIONS),
        "pool": draw.choice(POOLS),
        "max_groups": max_groups,
    }


def mlp_fields(draw: Draw) -> dict[str, Any]:
    """Fields of an MLPSpec."""
    return {
        "shape": draw.sample_shape(),
        "hidden": tuple(draw.choice(SIZES) for _ in range(draw.choice((1, 2, 3)))),
        "activation": draw.choice(ACTIVATIONS),
        "layer_norm": draw.flag(),
    }


SPECS = {"conv_energy": ConvSpec, "mlp_energy": MLPSpec, "deep_conv_energy": DeepConvSpec}


def draw_theta(draw: Draw, spec: NetworkSpec | ClassifierSpec) -> dict[str, Array]:
    """Weights of the size that an initialisation gives; gains around 1, biases around 0, or exactly so."""
    spread, layout = draw.choice((0.3, 0.0)), draw.choice(LAYOUTS)
    theta = {}
    for name, shape in spec.theta_shapes().items():
        normal = draw.rng.standard_normal(shape)
        if name.endswith(".w"):
            normal *= np.prod(shape[:-1]) ** -0.5
        else:
            normal = normal * spread + name.endswith(".gamma")
        theta[name] = lay(normal.astype(draw.dtype), layout)
    return theta


# N beyond 8, the samples of one partial sum of a gradient; as few as that for images, whose cost grows with them.
BATCHES = {"conv_energy": (1, 2, 3, 5, 9), "mlp_energy": (1, 2, 3, 5, 17, 67), "deep_conv_energy": (1, 2, 3, 9)}


def energy_args(draw: Draw, spec: NetworkSpec | ClassifierSpec, batches: tuple[int, ...]) -> dict[str, Any]:
    shape = (draw.choice(batches), *spec.shape)
    draw.seed()
    args: dict[str, Any] = {"theta": draw_theta(draw, spec)}
    args["x"] = draw.array(
        "x", shape, ("normal", "ties", "normal", "zeros", "normal", "tiny"), draw.choice((1.0, 0.1, 10.0))
    )
    args["v"] = draw.array("v", shape, ("normal", "zeros", "ties"))
    args["w"] = draw.array("w", shape[:1], ("normal", "zeros", "ties"))
    return args


def energy_case(draw: Draw, kind: str, fields: dict[str, Any]) -> Case:
    return draw.case(kind, energy_args(draw, SPECS[kind](**fields), BATCHES[kind]), **fields)


def conv_energy(draw: Draw) -> Case:
    return energy_case(draw, "conv_energy", conv_fields(draw))


def mlp_energy(draw: Draw) -> Case:
    return energy_case(draw, "mlp_energy", mlp_fields(draw))


def deep_conv_energy(draw: Draw) -> Case:
    return energy_case(draw, "deep_conv_energy", deep_conv_fields(draw))


def classifier_energy(draw: Draw) -> Case:
    """A few classes on a network; a label for all or one a sample; the bias of a class may tower over the others."""
    kind = draw.choice(("mlp_energy", "conv_energy"))
    trunk = EnergyOf(kind, (mlp_fields if kind == "mlp_energy" else conv_fields)(draw))
    fields = {"trunk": trunk, "classes": draw.choice((2, 1, 3, 9, 17))}
    one, tower = draw.flag(), draw.choice((0.0, 0.0, 1e3, -1e3))  # e^1000 is no number, e^-1000 is 0
    args = energy_args(draw, ClassifierSpec(**built(fields)), BATCHES[kind])
    N, C = len(args["x"]), fields["classes"]
    args["theta"]["out.b"][draw.rng.integers(C)] += tower
    args["y"] = int(draw.rng.integers(C)) if one else lay(draw.rng.integers(0, C, N), draw.choice(LAYOUTS))
    args["dy"] = draw.array("dy", (N, C), ("normal", "zeros", "ties"))
    draw.story.append(f"a bias raised by {tower:g}")
    return draw.case("classifier_energy", args, **fields)
