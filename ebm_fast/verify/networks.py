"""Rounding inside a network, which no single sum describes: magnitudes by order of derivative, and nudged inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array

from .case import Case, Outputs, built, export

NETWORKS = ("langevin_run", "conv_energy", "mlp_energy", "deep_conv_energy", "classifier_energy")
NETWORKS += ("mlp_field", "conv_field", "field_energy", "descent_run")
RUNS = ("langevin_run", "descent_run")
NORM_EPS = 1e-5  # of the norms inside a network
ORDERS: dict[str, Any] = {  # by the last word of a result's name: "given.grad_theta[out.w]" is a grad_theta
    "energy": 0,
    "field": 0,
    "jvp": 1,
    "vjp": 1,
    "logits": 0,
    "features": "features",
    "grad_x": 1,
    "grad_theta": 1,
    "logits_grad_x": 1,
    "logits_grad_theta": 1,
    "hvp": 2,
    "grad_theta_along": 2,
}


def is_real(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def family(function: str, name: str) -> Any:
    """The results of a network whose roundings are of one size: its derivatives of one order."""
    return name if function in RUNS else ORDERS[name.partition("[")[0].rpartition(".")[2]]


def largest(*arrays: Any) -> float:
    return max((float(np.abs(a).max(initial=0.0)) for a in arrays), default=0.0)


def has_lone_group(spec: Any) -> bool:
    """Whether a norm of the network sees groups of one number: x - mean = 0, and 1 / sqrt(var + eps) at its largest."""
    spec = getattr(spec, "trunk", getattr(spec, "field", spec))
    if not hasattr(spec, "channels"):
        return bool(getattr(spec, "layer_norm", False) and 1 in spec.hidden)
    size_h, size_w = spec.shape[:2]
    if hasattr(spec, "out_channels"):  # a field: every size is half the one before
        return any((size_h >> i) * (size_w >> i) * C == spec.groups(i) for i, C in enumerate(spec.channels))
    cut = spec.kernel - 1 if getattr(spec, "padding", "SAME") == "VALID" else 0
    for size, stride in norm_sizes(spec):
        size_h, size_w = (-(-(length - cut) // stride) for length in (size_h, size_w))
        if size_h * size_w * size == min(spec.max_groups, size):
            return True
    return False


def norm_sizes(spec: Any) -> list[tuple[int, int]]:
    """(channels, stride of the convolution before it) of each map that a network of convolutions normalises."""
    if hasattr(spec, "strides"):
        return list(zip(spec.channels, spec.strides, strict=True))
    return [(spec.channels[0], spec.stem_stride), *((size, stride) for _, size, stride in spec.block_sizes())]


def of_network(case: Case, want: Outputs, single: bool) -> dict[str, tuple[Array, int]]:
    """One magnitude for all derivatives of one order, for n terms of the longest sum inside.

    A derivative that cancels is the sum of terms as large as those of the others: along a bias before a norm,
    or in x where a group holds one number, it is 0 and its rounding is not. dE/d(out.b) = 1 is among the first.
    A classifier adds up the derivatives of its classes, which may cancel as well.
    """
    args, theta = case.args, case.args["theta"]
    energy = args["energy"].build() if "energy" in args else energy_of(case)
    x = args["x0"] if "x0" in args else args["x"]
    n = max(int(np.prod(a.shape[:-1])) for a in theta.values()) + x.size

    norms = sum(name.endswith(".gamma") for name in theta)
    flat = norms if largest(x) < 1e-3 else min(norms, has_lone_group(energy))  # norms of maps that are all alike
    if hasattr(energy, "out_shape"):
        return of_field(case, want, energy, flat, n)
    each = [energy.given(y) for y in range(energy.classes)] if hasattr(energy, "classes") else [energy]
    ones = np.ones(len(x), x.dtype)
    first = largest(*(g for E in each for g in (E.grad_x(theta, x), *E.grad_theta(theta, x, ones).values())))
    value = first * largest(theta["out.w"])
    first *= NORM_EPS ** (-0.5 * flat)  # their 1 / sqrt(var + eps) magnifies roundings of results that are 0
    if "x0" in args:
        moves = args["K"] * args["update" if "update" in args else "rule"].eta * first
        sizes: dict[Any, float] = {"x": moves, "energy": value, "grad_norm": first * x[0].size ** 0.5}
        sizes |= {"state[velocity]": moves, "state[m]": first, "state[square]": first**2}
    else:
        second = first * NORM_EPS ** (-0.5 * min(flat, 1)) * largest(args["v"])
        weight = max(1.0, largest(args["w"]), largest(np.abs(args["dy"]).sum(axis=1)) if "dy" in args else 0.0)
        sizes = {0: value, 1: first * weight, 2: second, "features": 0.0}
    return of_families(case, want, sizes, n)


def of_field(case: Case, want: Outputs, field: Any, flat: int, n: int) -> dict[str, tuple[Array, int]]:
    """The same for a field: f, what is linear in its first derivatives, and in its second ones."""
    theta, x, v, g, h = case.args.values()
    ones = np.ones((len(x), *field.out_shape), x.dtype)
    first = largest(field.field_vjp(theta, x, ones), *field.field_grad_theta(theta, x, ones).values())
    value = first * largest(theta["out.w"])
    first *= NORM_EPS ** (-0.5 * flat)
    second = first * NORM_EPS ** (-0.5 * min(flat, 1)) * largest(v) * largest(h) + first * largest(g)
    return of_families(case, want, {0: value, 1: first * max(largest(v), largest(g)), 2: second}, n)


def of_families(case: Case, want: Outputs, sizes: dict[Any, float], n: int) -> dict[str, tuple[Array, int]]:
    """For every real result the size of its family, or the largest number in that."""
    real = {name: a for name, a in want.items() if is_real(a)}
    for name, a in real.items():
        group = family(case.function, name)
        sizes[group] = max(sizes[group], largest(a))
    return {name: (np.full_like(a, sizes[family(case.function, name)]), n) for name, a in real.items()}


def energy_of(case: Case) -> Any:
    """The oracle's energy of a case of a network."""
    return getattr(ebm_ref, export(case.function))(**built(case.options))


def share_noise(function: str, noise: dict[str, Array]) -> dict[str, Array]:
    """The largest noise of a family, for all of its results: where one rounds, the next may."""
    top: dict[Any, float] = {}
    for name, a in noise.items():
        group = family(function, name)
        top[group] = max(top.get(group, 0.0), largest(a))
    return {name: np.full_like(a, top[family(function, name)]) for name, a in noise.items()}


def nudged(case: Case, rng: np.random.Generator) -> Case:
    """Every real input moved by about one float32 rounding; x by a rounding of numbers of size 1 at least."""

    def move(name: str, a: Any) -> Any:
        if isinstance(a, dict):
            return {key: move(key, item) for key, item in a.items()}
        if not is_real(a):
            return a
        size = max(1.0, float(np.abs(a).max(initial=0.0))) if name in ("x", "x0") else np.abs(a)
        return a + float(np.finfo(np.float32).eps) * size * rng.uniform(-1, 1, a.shape)

    return replace(case, args={name: move(name, value) for name, value in case.args.items()})
