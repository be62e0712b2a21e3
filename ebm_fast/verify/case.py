"""One concrete problem of the kit: a function's name, its arguments, and how to call any twin with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, SmoothnessError

NETWORKS = {
    "conv_energy": "ConvEnergy",
    "mlp_energy": "MLPEnergy",
    "deep_conv_energy": "DeepConvEnergy",
    "classifier_energy": "ClassifierEnergy",
    "mlp_field": "MLPField",
    "conv_field": "ConvField",
    "field_energy": "FieldEnergy",
}
ENERGIES = NETWORKS | {"quadratic_energy": "QuadraticEnergy"}
LAYOUTS = ("C", "F", "strided", "reversed", "inside")
OUTPUTS = {
    "buffer_draw": ("x0", "idx", "restart"),
    "conv2d_backward": ("dx", "dw", "db"),
    "group_norm_backward": ("dx", "dgamma", "dbeta"),
    "repulsion": ("W", "gradient"),
}
ALWAYS_FLOAT64 = ("u",)  # the uniforms of a restart are compared with rho in float64, whatever the samples are

Outputs = dict[str, Any]


def export(name: str) -> str:
    """The name under which a backend exports the function: conv_energy is the class ConvEnergy."""
    return ENERGIES.get(name, name)


def as_numpy(x: Any) -> Any:
    """`x` as a NumPy array where it is an array of another library: detached, on the host, then DLPack or __array__."""
    if isinstance(x, np.ndarray | np.generic | int | float | bool | str | list | tuple):
        return x  # a list is no array, and is not made one
    for method in ("detach", "cpu"):
        x = getattr(x, method)() if hasattr(x, method) else x
    if hasattr(x, "get") and hasattr(x, "__cuda_array_interface__"):
        return x.get()
    return np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)


def lay(x: Array, layout: str) -> Array:
    """The same values behind other strides; memory between them holds NaN (or the largest integer)."""
    poison = np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).max
    if layout == "C" or x.ndim == 0:
        return np.ascontiguousarray(x)
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "strided":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), poison, x.dtype)
        view = wide[..., ::2]
    elif layout == "reversed":
        return np.ascontiguousarray(x[::-1])[::-1]
    else:
        wide = np.full([size + 2 for size in x.shape], poison, x.dtype)
        view = wide[tuple(slice(1, -1) for _ in x.shape)]
    view[...] = x
    return view


@dataclass(frozen=True)
class EnergyOf:
    """An energy that is built when it is called for: of the twin's class where the twin has one."""

    kind: str
    fields: dict[str, Any]

    def build(self, module: ModuleType = ebm_ref) -> Any:
        name = export(self.kind)
        return getattr(module, name, getattr(ebm_ref, name))(**self.fields)


def built(fields: dict[str, Any], module: ModuleType = ebm_ref) -> dict[str, Any]:
    """The fields of an energy, with the energies among them (the trunk of a classifier) built."""
    return {name: value.build(module) if isinstance(value, EnergyOf) else value for name, value in fields.items()}


@dataclass(frozen=True, repr=False)
class Case:
    """Arguments without a default in `args`, in order; those with one in `options`; `story`: how they were made."""

    function: str
    args: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    story: str = ""

    def cast(self, dtype: Any) -> Case:
        """The same values in `dtype`, contiguous."""

        def to(name: str, value: Any) -> Any:
            if isinstance(value, dict):
                return {key: to(key, item) for key, item in value.items()}
            if isinstance(value, np.ndarray):
                is_real = value.dtype.kind == "f" and name not in ALWAYS_FLOAT64
                return np.array(value, dtype if is_real else value.dtype, order="C")
            return np.dtype(dtype) if name == "dtype" else value

        args = {name: to(name, value) for name, value in self.args.items()}
        options = {name: to(name, value) for name, value in self.options.items()}
        return replace(self, args=args, options=options)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Every array among the arguments, with its name."""
        for name, value in (*self.args.items(), *self.options.items()):
            if isinstance(value, dict):
                yield from ((f"{name}[{key!r}]", item) for key, item in value.items() if isinstance(item, np.ndarray))
            elif isinstance(value, np.ndarray):
                yield name, value

    def run(self, fn: Callable[..., Any], module: ModuleType = ebm_ref) -> Outputs:
        """What `fn` returns for this case, each output under its name, as NumPy arrays."""
        if self.function in NETWORKS:
            outputs = RUNS.get(self.function, run_energy)(fn(**built(self.options, module)), **self.args)
        elif self.function == "langevin_run":
            args = self.args | {"energy": self.args["energy"].build(module)}
            x, info = fn(*args.values(), **self.options)
            outputs = {"x": x, "energy": info.energy, "grad_norm": info.grad_norm, "alive": info.alive}
            outputs["nonfinite"] = info.nonfinite
        elif self.function == "descent_run":
            args = self.args | {"energy": self.args["energy"].build(module)}
            x, state, info = fn(*args.values(), **self.options)
            outputs = {"x": x, "energy": info.energy, "grad_norm": info.grad_norm, "alive": info.alive}
            outputs |= {"nonfinite": info.nonfinite, **info.extra, **named("state", state)}
        elif self.function == "buffer_push":
            slots = self.args["slots"]  # written to, so a copy; with gaps where the original has other strides
            whole = slots.flags.c_contiguous or getattr(fn, "writes_contiguous", False)  # a twin may refuse gaps
            slots = slots.copy() if whole else lay(slots, "strided")
            filled, ptr = fn(slots, *list(self.args.values())[1:], **self.options)
            outputs = {"slots": slots, "filled": filled, "ptr": ptr}
        else:
            result = fn(*self.args.values(), **self.options)
            names = OUTPUTS.get(self.function, ("result",))
            if len(names) > 1 and (not isinstance(result, tuple) or len(result) != len(names)):
                raise TypeError(f"{self.function}: expected {', '.join(names)}, found {type(result).__name__}")
            outputs = dict(zip(names, result if len(names) > 1 else (result,), strict=True))
        return {name: as_numpy(value) for name, value in outputs.items()}

    def __repr__(self) -> str:
        return self.describe()  # not the numbers of every array, which Hypothesis warns of where they are many

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis shows a dataclass that says so; without this, field by field, with every number."""
        printer.text(self.describe())

    def describe(self) -> str:
        """The call in one line: arrays as dtype[shape], small ones with their values."""

        def show(value: Any) -> str:
            if isinstance(value, dict):
                return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
            if isinstance(value, EnergyOf):
                return f"{export(value.kind)}({', '.join(f'{key}={item!r}' for key, item in value.fields.items())})"
            if not isinstance(value, np.ndarray):
                return repr(value)
            layout = "" if value.flags.c_contiguous else f" strides {value.strides}"
            text = f"{value.dtype}{list(value.shape)}{layout}"
            return f"{text} {value.tolist()}" if 0 < value.size <= 4 else text

        shown = ", ".join(f"{name}={show(value)}" for name, value in (*self.args.items(), *self.options.items()))
        return f"{self.function}({shown})" + (f"  # {self.story}" if self.story else "")


def run_energy(energy: Any, theta: Any, x: Any, v: Any, w: Any) -> Outputs:
    """Levels 1 and 2 of the energy protocol, every result under its name; a refusal is a result too."""
    outputs = {"theta_shapes": str(dict(energy.theta_shapes()))}
    outputs["energy"] = energy.energy(theta, x)
    outputs["grad_x"] = energy.grad_x(theta, x)
    outputs["both.energy"], outputs["both.grad_x"] = energy.energy_and_grad_x(theta, x)
    outputs |= named("grad_theta", energy.grad_theta(theta, x, w))
    try:
        outputs["hvp"] = energy.hvp(theta, x, v)
        outputs |= named("grad_theta_along", energy.grad_theta_along(theta, x, v))
    except SmoothnessError as error:
        outputs["hvp"] = f"refused: {type(error).__name__}"
    return outputs


def run_classifier(energy: Any, theta: Any, x: Any, v: Any, w: Any, y: Any, dy: Any) -> Outputs:
    """The marginal, the energy given y, and what a classifier adds: logits, features, the logits against dy."""
    outputs = run_energy(energy, theta, x, v, w)
    outputs |= {f"given.{name}": value for name, value in run_energy(energy.given(y), theta, x, v, w).items()}
    outputs["logits"], outputs["features"] = energy.logits(theta, x), energy.features(theta, x)
    outputs["logits_backward.grad_x"], grads = energy.logits_backward(theta, x, dy)
    outputs |= named("logits_backward.grad_theta", grads)
    outputs["logits_grad_x"] = energy.logits_grad_x(theta, x, dy)
    return outputs | named("logits_grad_theta", energy.logits_grad_theta(theta, x, dy))


def run_field(field: Any, theta: Any, x: Any, v: Any, g: Any, h: Any) -> Outputs:
    """The field protocol, every result under its name; a refusal is a result too."""
    outputs = {"theta_shapes": str(dict(field.theta_shapes())), "out_shape": str(tuple(field.out_shape))}
    outputs["field"], (outputs["both.field"], outputs["jvp"]) = field.field(theta, x), field.field_jvp(theta, x, v)
    outputs["vjp"] = field.field_vjp(theta, x, g)
    outputs |= named("grad_theta", field.field_grad_theta(theta, x, g))
    try:
        outputs |= named("grad_theta_along", field.field_grad_theta_along(theta, x, g, h, v))
    except SmoothnessError as error:
        outputs["grad_theta_along"] = f"refused: {type(error).__name__}"
    return outputs


RUNS: dict[str, Callable[..., Outputs]] = {
    "classifier_energy": run_classifier,
    "mlp_field": run_field,
    "conv_field": run_field,
}


def named(name: str, grads: dict[str, Array]) -> Outputs:
    return {f"{name}[{key}]": value for key, value in grads.items()}
