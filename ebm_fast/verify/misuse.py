"""Bad input, function by function: a twin must refuse what the oracle refuses, with the same type of error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import EbmError
from ebm_ref.descent_specs import NesterovDescent
from ebm_ref.field_specs import ConvFieldSpec
from ebm_ref.specs import SGLD, ConvSpec, DeepConvSpec

from .case import Case, EnergyOf, export
from .close import Failure

NAN, INF = float("nan"), float("inf")
Bad = tuple[str, Any]  # (argument, the bad value)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


NOISE = {"seed": 1, "stream": 7, "step": 0, "chains": np.arange(3), "D": 5}
BAD_NOISE: list[Bad] = [("seed", -1), ("seed", 2**64), ("seed", 0.5), ("step", 2**32), ("step", -1), ("D", -1)]
BAD_NOISE += [("stream", 2**32), ("chains", np.zeros((2, 2), int)), ("chains", np.zeros(2)), ("chains", np.array([-1]))]
BAD_NOISE += [("chains", [0, 1, 2])]
STEP = {"x": ones(2, 3), "g": ones(2, 3), "xi": ones(2, 3), "eta": 0.1, "sigma": 0.1}
CONV = {"x": ones(2, 4, 4, 3), "w": ones(3, 3, 3, 2)}
NORM = {"x": ones(2, 5, 4), "gamma": ones(4)}
MLP = {"shape": (3,), "hidden": (4,)}
THETA = {"linear0.w": ones(3, 4), "linear0.b": ones(4), "out.w": ones(4, 1), "out.b": ones(1)}
RUN = {"energy": EnergyOf("mlp_energy", MLP), "theta": THETA, "x0": ones(2, 3), "K": 1, "update": SGLD(0.1, 0.1)}
DRAW = {
    "slots": ones(4, 3),
    "filled": 4,
    "bits": np.zeros(2, np.uint32),
    "u": np.ones(2),
    "fresh": ones(2, 3),
    "rho": 0.1,
}
PUSH = {"slots": ones(4, 3), "filled": 4, "ptr": 0, "x": ones(2, 3), "policy": "in_place"}
ENERGY = {"theta": THETA, "x": ones(2, 3), "v": ones(2, 3), "w": ones(2)}
MAP = {"x": ones(2, 4, 4, 1), "v": ones(2, 4, 4, 1), "w": ones(2)}
BAD_MAP: list[Bad] = [("x", ones(2, 4, 1)), ("x", NAN * ones(2, 4, 4, 1)), ("v", ones(1, 4, 4, 1)), ("w", ones(2, 1))]
BAD_MAP += [("v", INF * ones(2, 4, 4, 1)), ("w", NAN * ones(2)), ("theta", {}), ("x", np.ones((2, 4, 4, 1)))]
BAD_MAP += [("shape", (4, 4)), ("channels", (4, 3)), ("pool", "max"), ("activation", "sine"), ("max_groups", 0)]
CLASSES = ENERGY | {"theta": THETA | {"out.w": ones(4, 2), "out.b": ones(2)}, "y": np.array([0, 1]), "dy": ones(2, 2)}
BAD_LABELS: list[Bad] = [("y", np.array([0, 2])), ("y", np.array([-1, 0])), ("y", 2), ("y", -1), ("y", np.zeros(2))]
BAD_LABELS += [("y", np.zeros(3, int)), ("y", np.zeros((2, 1), int)), ("y", np.zeros(2, bool)), ("y", [0, 1])]
BAD_COTANGENTS: list[Bad] = [("dy", ones(2, 3)), ("dy", ones(2)), ("dy", ones(3, 2)), ("dy", np.ones((2, 2)))]
BAD_COTANGENTS += [("dy", np.ones((2, 2), int)), ("dy", NAN * ones(2, 2)), ("dy", [[1.0, 1.0]] * 2)]
BAD_CLASSES: list[Bad] = [("classes", 0), ("classes", 2.0), ("classes", 3), ("trunk", None), ("theta", THETA)]
BAD_CLASSES += [("trunk", EnergyOf("quadratic_energy", {"shape": (3,)})), ("x", ones(2, 4)), ("x", NAN * ones(2, 3))]
BAD_CLASSES += [("v", INF * ones(2, 3)), ("v", ones(2, 4)), ("w", ones(3)), ("w", NAN * ones(2)), ("theta", {})]


def map_case(function: str, spec: Any, batch: dict[str, Any]) -> Case:
    """Good arguments for a network of images."""
    theta = {name: ones(*shape) for name, shape in spec.theta_shapes().items()}
    fields = {field.name: getattr(spec, field.name) for field in dataclass_fields(spec)}
    return Case(function, {"theta": theta} | batch, fields)


CONV_ENERGY = map_case("conv_energy", ConvSpec((4, 4, 1), channels=(4, 2), strides=(2, 1), max_groups=2), MAP)
DEEP_CONV_ENERGY = map_case(
    "deep_conv_energy", DeepConvSpec((4, 4, 1), channels=(4, 2), blocks=(1, 1), max_groups=2), MAP
)

FIELD_THETA = THETA | {"out.w": ones(4, 3), "out.b": ones(3)}
FIELD = {"theta": FIELD_THETA, "x": ones(2, 3), "v": ones(2, 3), "g": ones(2, 3), "h": ones(2, 3)}
BAD_FIELD: list[Bad] = [("theta", {}), ("theta", THETA), ("activation", "sine"), ("out_channels", 0)]
for each in "xvgh":
    BAD_FIELD += [(each, ones(2, 4)), (each, NAN * ones(2, 3)), (each, np.ones((2, 3))), (each, [[1.0] * 3] * 2)]
FIELD_MAP = {name: ones(2, 4, 4, 1) for name in "xvgh"}
CONV_FIELD = ConvFieldSpec((4, 4, 1), channels=(4, 2), max_groups=2)
BAD_FIELD_MAP: list[Bad] = [("shape", (3, 4, 1)), ("shape", (4, 4)), ("channels", ()), ("kernel", 0), ("max_groups", 3)]
for each in "xvgh":
    BAD_FIELD_MAP += [(each, ones(2, 4, 4)), (each, ones(2, 4, 4, 2)), (each, INF * ones(2, 4, 4, 1))]
FIELD_OF = EnergyOf("mlp_field", MLP)
BAD_HEAD: list[Bad] = [("head", "cosine"), ("field", None), ("field", EnergyOf("mlp_energy", MLP)), ("x", ones(2, 4))]
BAD_HEAD += [("field", EnergyOf("mlp_field", MLP | {"out_channels": 2})), ("theta", {}), ("v", NAN * ones(2, 3))]
DESCENT = {
    "energy": RUN["energy"],
    "theta": THETA,
    "x0": ones(2, 3),
    "K": 2,
    "rule": NesterovDescent(0.1),
    "g_min": 0.1,
}
PAIR = {"x0": ones(3, 2), "x1": ones(3, 2)}


MISUSE: dict[str, tuple[Case, list[Bad]]] = {
    "noise_philox": (
        Case("noise_philox", {"counter": np.ones((3, 4), np.uint32), "key": np.ones(2, np.uint32)}),
        [("counter", np.ones((3, 4), int)), ("counter", np.ones((4, 3), np.uint32)), ("counter", [[1, 1, 1, 1]])]
        + [("counter", np.array(1, np.uint32)), ("key", np.ones(1, np.uint32)), ("key", np.ones(2)), ("key", [1, 1])],
    ),
    "noise_index": (
        Case("noise_index", {"bits": np.ones(3, np.uint32), "n": 5}),
        [("n", 0), ("n", -1), ("n", 2**32 + 1), ("n", 2.5), ("bits", np.ones(3, int)), ("bits", np.ones(3))]
        + [("bits", [1, 2])],
    ),
    "noise_permutation": (
        Case("noise_permutation", {"seed": 1, "stream": 1, "step": 0, "n": 5}),
        [("seed", -1), ("seed", 2**64), ("stream", 2**32), ("step", -1), ("step", 0.5), ("n", -1), ("n", 2.5)],
    ),
    "noise_bits": (Case("noise_bits", NOISE), BAD_NOISE),
    "noise_uniform": (
        Case("noise_uniform", NOISE, {"dtype": np.float32}),
        [*BAD_NOISE, ("dtype", np.int32), ("dtype", None), ("dtype", "real")],
    ),
    "noise_normal": (Case("noise_normal", NOISE, {"dtype": np.float32}), [*BAD_NOISE, ("dtype", np.float16)]),
    "langevin_step": (
        Case("langevin_step", STEP, {"clip": 1.0, "clip_norm": 1.0, "box": (-1.0, 1.0)}),
        [
            ("x", np.ones((2, 3), int)),
            ("x", [[1.0]]),
            ("g", ones(2, 2)),
            ("xi", ones(3, 3)),
            ("eta", -1.0),
            ("eta", NAN),
        ]
        + [("sigma", -0.1), ("sigma", INF), ("sigma", "big"), ("clip", 0.0), ("clip_norm", -1.0), ("clip_norm", NAN)]
        + [("box", (1.0, -1.0)), ("box", (0.0,)), ("box", (-INF, 0.0)), ("g", np.ones((2, 3)))],
    ),
    "langevin_jitter": (
        Case("langevin_jitter", {"x": ones(2, 3), "xi": ones(2, 3), "sigma": 0.1}, {"box": None}),
        [("x", np.ones((2, 3), int)), ("xi", ones(2, 2)), ("sigma", -1.0), ("sigma", NAN), ("box", (1.0, 1.0))],
    ),
    "langevin_run": (
        Case("langevin_run", RUN | {"seed": 1}, {"step": 0, "chains": None}),
        [
            ("x0", ones(2, 4)),
            ("x0", np.full((2, 3), NAN, np.float32)),
            ("x0", np.ones((2, 3), int)),
            ("K", -1),
            ("K", 0.5),
        ]
        + [
            ("seed", -1),
            ("step", 2**32),
            ("chains", np.arange(3)),
            ("theta", THETA | {"out.b": ones(2)}),
            ("theta", {}),
            ("chains", [0, 1]),
            ("stream", -1),
        ],
    ),
    "buffer_draw": (
        Case("buffer_draw", DRAW),
        [("filled", 5), ("filled", -1), ("bits", np.zeros(3, np.uint32)), ("bits", np.zeros(2)), ("u", np.ones(3))]
        + [("fresh", ones(2, 4)), ("rho", 1.5), ("rho", -0.1), ("rho", NAN), ("slots", np.ones((4, 3), int))]
        + [("slots", ones(0, 3)), ("slots", ones(4))],
    ),
    "buffer_push": (
        Case("buffer_push", PUSH, {"idx": np.array([0, 3]), "bits": None}),
        [("policy", "lifo"), ("filled", 5), ("ptr", -1), ("x", ones(2, 4)), ("idx", np.array([0, 4])), ("idx", None)]
        + [("idx", np.array([-1, 0])), ("idx", np.array([0.0, 1.0])), ("idx", np.array([0])), ("policy", "reservoir")]
        + [("slots", ones(0, 3)), ("slots", ones(4)), ("x", [[1.0] * 3])],
    ),
    "conv2d_forward": (
        Case("conv2d_forward", CONV | {"b": ones(2)}, {"stride": 1, "padding": "SAME"}),
        [("x", ones(2, 4, 4)), ("x", ones(2, 4, 4, 2)), ("w", ones(3, 3, 3)), ("b", ones(3)), ("stride", 0)]
        + [
            ("stride", 1.5),
            ("padding", "FULL"),
            ("padding", 1),
            ("x", np.ones((2, 4, 4, 3), int)),
            ("x", ones(2, 0, 4, 3)),
        ]
        + [("w", ones(0, 3, 3, 2))],
    ),
    "conv2d_backward": (
        Case("conv2d_backward", CONV | {"dy": ones(2, 4, 4, 2)}, {"stride": 1, "padding": "SAME"}),
        [("dy", ones(2, 2, 2, 2)), ("x", ones(2, 4, 4, 2)), ("w", ones(3, 3, 3)), ("stride", -1), ("padding", "same")],
    ),
    "group_norm_forward": (
        Case("group_norm_forward", NORM | {"beta": ones(4), "groups": 2}, {"eps": 1e-5}),
        [
            ("groups", 3),
            ("groups", 0),
            ("gamma", ones(3)),
            ("beta", ones(3)),
            ("x", ones(4)),
            ("eps", -1.0),
            ("eps", 0.0),
            ("eps", NAN),
            ("x", ones(2, 0, 4)),
        ],
    ),
    "group_norm_backward": (
        Case("group_norm_backward", NORM | {"dy": ones(2, 5, 4), "groups": 2}, {"eps": 1e-5}),
        [("groups", 3), ("dy", ones(2, 4, 4)), ("gamma", ones(3)), ("x", np.ones((2, 5, 4), int)), ("eps", -1.0)],
    ),
    "mlp_energy": (
        Case("mlp_energy", ENERGY, MLP | {"activation": "silu", "layer_norm": False}),
        [("x", ones(2, 4)), ("x", np.full((2, 3), NAN, np.float32)), ("v", ones(2, 4)), ("w", ones(3)), ("theta", {})]
        + [("v", NAN * ones(2, 3)), ("w", INF * ones(2))]
        + [("x", np.ones((2, 3))), ("theta", THETA | {"more": ones(1)}), ("activation", "sine"), ("hidden", ())],
    ),
    "conv_energy": (CONV_ENERGY, [*BAD_MAP, ("padding", "FULL"), ("strides", (2,)), ("kernel", 0)]),
    "deep_conv_energy": (DEEP_CONV_ENERGY, [*BAD_MAP, ("blocks", (1,)), ("stem_stride", 0)]),
    "classifier_energy": (
        Case("classifier_energy", CLASSES, {"trunk": EnergyOf("mlp_energy", MLP), "classes": 2}),
        [*BAD_LABELS, *BAD_COTANGENTS, *BAD_CLASSES],
    ),
    "mlp_field": (Case("mlp_field", FIELD, MLP | {"activation": "silu", "out_channels": None}), BAD_FIELD),
    "conv_field": (map_case("conv_field", CONV_FIELD, FIELD_MAP), BAD_FIELD_MAP),
    "field_energy": (
        Case("field_energy", ENERGY | {"theta": FIELD_THETA}, {"field": FIELD_OF, "head": "dot"}),
        BAD_HEAD,
    ),
    "descent_run": (
        Case("descent_run", DESCENT, {"state": None}),
        [("x0", ones(2, 4)), ("x0", NAN * ones(2, 3)), ("x0", [[1.0] * 3]), ("K", -1), ("K", 0.5), ("g_min", -1.0)]
        + [("g_min", NAN), ("rule", None), ("theta", {}), ("state", {}), ("state", {"velocity": ones(2, 4)})]
        + [("state", {"m": ones(2, 3)}), ("state", 3), ("state", {"velocity": np.ones((2, 3))})],
    ),
    "coupling_cost": (
        Case("coupling_cost", PAIR),
        [(name, bad) for name in PAIR for bad in (ones(2, 2), ones(3, 3), NAN * ones(3, 2), np.ones((3, 2)), [1.0])]
        + [("x0", ones(3)), ("x0", ones(0, 2)), ("x1", np.ones((3, 2), int))],
    ),
    "coupling_assign": (
        Case("coupling_assign", {"cost": ones(3, 3)}),
        [("cost", ones(3, 2)), ("cost", ones(3)), ("cost", ones(0, 0)), ("cost", INF * ones(2, 2)), ("cost", [[1.0]])],
    ),
    "repulsion": (
        Case("repulsion", {"x": ones(2, 3, 2), "tau": 0.1, "sigma": 1.0}),
        [("x", ones(2)), ("x", ones(2, 0, 3)), ("x", np.ones((2, 3), int)), ("tau", -1.0), ("tau", NAN)]
        + [("sigma", 0.0), ("sigma", -1.0), ("sigma", INF), ("sigma", "wide")],
    ),
}


def refusal(case: Case, fn: Callable[..., Any], module: ModuleType) -> type[Exception] | None:
    """The type of error that a call raises."""
    with np.errstate(all="ignore"):
        try:
            case.run(fn, module)
        except Exception as error:
            return type(error)
    return None


def misused(case: Case, bad: Bad) -> Case:
    name, value = bad
    if name in case.args:
        return replace(case, args=case.args | {name: value})
    return replace(case, options=case.options | {name: value})


def check_misuse(function: str, fn: Callable[..., Any], module: ModuleType) -> None:
    """`Failure` unless `fn` refuses each bad input that the oracle refuses, with the oracle's type of error."""
    case, bads = MISUSE.get(function, (None, []))
    for bad in bads:
        wanted = refusal(misused(case, bad), getattr(ebm_ref, export(function)), ebm_ref)
        if wanted is None or not issubclass(wanted, EbmError):
            continue
        found = refusal(misused(case, bad), fn, module)
        if found is None or not issubclass(found, wanted):
            said = "nothing" if found is None else found.__name__
            raise Failure(f"bad {bad[0]} {bad[1]!r:.60}: raised {said}, expected {wanted.__name__}")
