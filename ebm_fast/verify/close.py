"""How close is close: error budgets that are derived, with the few measured numbers in one table.

    want    = oracle in float64, on the very numbers that the twin is given
    noise   = how far the oracle in float32 is from `want`, scaled by eps(dtype) / eps(float32); for networks
              the largest of four such runs, on inputs moved by one rounding, and of how far that moved `want`
    budget  = NOISE * noise + FLOOR * eps(dtype) * sqrt(n) * magnitude + n * smallest normal number

`magnitude` is the sum of the absolute values of the n terms that a result adds up, so that a result that
cancels may be as wrong as its terms make it and no more. Integers, masks, indices and copies are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array

from .case import Case, Outputs, export

SINGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Multiple:
    """How many times the oracle's own float32 error, and how many roundings of the sum of absolute terms."""

    noise: float
    floor: float
    measured: str


NORM_EPS = 1e-5  # of the norms inside a network
EXACT = ("noise_bits", "buffer_draw", "buffer_push")
# `measured`: the largest share of the budget that a right function used, over both dtypes, on x86-64 with AVX2.
MULTIPLES = {
    "noise_uniform": Multiple(0.0, 1.0, "400 cases a dtype: naive 0.50, numba_cpu 0.50, the oracle itself 0.75"),
    "noise_normal": Multiple(2.0, 4.0, "400 cases a dtype: naive 0.08, numba_cpu 0.14, the oracle itself 0.22"),
    "langevin_step": Multiple(2.0, 2.0, "400 cases a dtype: naive 0.29, numba_cpu 0.46, the oracle itself 0.24"),
    "langevin_jitter": Multiple(2.0, 2.0, "400 cases a dtype: naive 0.17, numba_cpu 0.49, the oracle itself 0.25"),
    "langevin_run": Multiple(8.0, 8.0, "300 cases a dtype: naive 0.04, numba_cpu 0.18, the oracle itself 0.13"),
    "conv2d_forward": Multiple(2.0, 2.0, "300 cases a dtype: naive 0.42, numba_cpu 0.42, the oracle itself 0.20"),
    "conv2d_backward": Multiple(2.0, 2.0, "300 cases a dtype: naive 0.38, numba_cpu 0.38, the oracle itself 0.31"),
    "group_norm_forward": Multiple(2.0, 4.0, "300 cases a dtype: naive 0.08, numba_cpu 0.41, the oracle itself 0.10"),
    "group_norm_backward": Multiple(2.0, 4.0, "300 cases a dtype: naive 0.21, numba_cpu 0.24, the oracle itself 0.14"),
    "conv_energy": Multiple(8.0, 8.0, "470 cases a dtype: numba_cpu 0.28, the oracle itself 0.11"),
    "mlp_energy": Multiple(8.0, 8.0, "470 cases a dtype: numba_cpu 0.19, the oracle itself 0.11"),
}


class Failure(AssertionError):
    """A check that does not hold; `ratio` is the error over its budget (inf where nothing is allowed)."""

    def __init__(self, message: str, ratio: float = float("inf")) -> None:
        super().__init__(message)
        self.ratio = ratio


# ------------------------------------------------------------------------------------- magnitudes

Magnitudes = dict[str, tuple[Array, int]]  # output -> (sum of |terms|, number of terms)


def of_noise_normal(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """|dn| <= R |d angle| + |dR|, |dR| = |du| / (u R): u is exact in float64, rounded in float32."""
    D = case.args["D"]
    pairs = ebm_ref.noise_normal(*list(case.args.values())[:-1], D + D % 2)
    radius = np.hypot(pairs[:, ::2], pairs[:, 1::2]).repeat(2, axis=1)[:, :D]
    return {"result": (3 * radius + (1 / np.maximum(radius, SINGLE**0.5) if single else 0.0), 1)}


def of_langevin_step(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """|x| + eta |clip(g)| + sigma |xi|; a 2-norm adds the rounding of its D terms to the gradient's."""
    x, g, xi, eta, sigma = case.args.values()
    clip, clip_norm = case.options.get("clip"), case.options.get("clip_norm")
    slope = np.abs(g) if clip is None else np.minimum(np.abs(g), clip)
    if clip_norm is not None:
        flat = slope.reshape(len(x), -1)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        flat = flat * np.minimum(1.0, clip_norm / np.maximum(norm, clip_norm)) * (2 + flat.shape[1] ** 0.5)
        slope = flat.reshape(x.shape)
    return {"result": (np.abs(x) + eta * slope + sigma * np.abs(xi), 1)}


def of_langevin_jitter(case: Case, want: Outputs, single: bool) -> Magnitudes:
    return {"result": (np.abs(case.args["x"]) + case.args["sigma"] * np.abs(case.args["xi"]), 1)}


def absolute(case: Case) -> list[Array]:
    return [np.abs(value) for value in case.args.values()]


def of_conv2d_forward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """The same convolution of absolute values."""
    R, S, C, _ = case.args["w"].shape
    return {"result": (ebm_ref.conv2d_forward(*absolute(case), **case.options), R * S * C + 1)}


def of_conv2d_backward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    R, S, _, O = case.args["w"].shape
    dx, dw, db = ebm_ref.conv2d_backward(*absolute(case), **case.options)
    terms = int(np.prod(case.args["dy"].shape[:3]))
    return {"dx": (dx, R * S * O), "dw": (dw, terms), "db": (db, terms)}


def grouped(x: Array, groups: int) -> Array:
    """(N, ..., C) -> (N, spatial, G, C/G)."""
    return x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)


def standard(case: Case) -> tuple[Array, Array, Array, int]:
    """|z|, its own error in roundings, 1 / sqrt(var + eps), and the size m of a group, in grouped shape."""
    x = grouped(case.args["x"], case.args["groups"])
    rstd = 1 / np.sqrt(x.var(axis=(1, 3), keepdims=True) + case.options.get("eps", 1e-5))
    z = np.abs(x - x.mean(axis=(1, 3), keepdims=True)) * rstd
    doubt = z + np.abs(x).max(axis=(1, 3), keepdims=True) * rstd  # x - mean is wrong by roundings of x, not of itself
    return z, np.broadcast_to(doubt, x.shape), rstd, x.shape[1] * x.shape[3]


def of_group_norm_forward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    _, doubt, _, m = standard(case)
    gamma, beta = np.abs(case.args["gamma"]), np.abs(case.args["beta"])
    return {"result": (doubt.reshape(case.args["x"].shape) * gamma + beta, m)}


def of_group_norm_backward(case: Case, want: Outputs, single: bool) -> Magnitudes:
    z, doubt, rstd, m = standard(case)
    dy = np.abs(grouped(case.args["dy"], case.args["groups"]))
    pull = dy * np.abs(case.args["gamma"]).reshape(dy.shape[2:])

    def mean(t: Array) -> Array:
        return np.asarray(t.mean(axis=(1, 3), keepdims=True))

    # z (pull z): each factor z brings its own doubt, and doubt / z of rstd's relative error is below 1 + doubt
    dx = rstd * (pull + mean(pull) + z * mean(pull * doubt) + doubt * mean(pull * z) + doubt * mean(pull))
    dgamma, dbeta = (dy * doubt).sum(axis=(0, 1)), dy.sum(axis=(0, 1))
    terms = int(np.prod(case.args["x"].shape[:-1]))
    shape = case.args["gamma"].shape
    return {
        "dx": (dx.reshape(case.args["x"].shape), m),
        "dgamma": (dgamma.reshape(shape), m + terms),
        "dbeta": (dbeta.reshape(shape), terms),
    }


def has_lone_group(spec: Any) -> bool:
    """Whether a norm of the network sees groups of one number: x - mean = 0, and 1 / sqrt(var + eps) at its largest."""
    if not hasattr(spec, "channels"):
        return bool(spec.layer_norm and 1 in spec.hidden)
    size_h, size_w = spec.shape[:2]
    cut = spec.kernel - 1 if spec.padding == "VALID" else 0
    for i, (size, stride) in enumerate(zip(spec.channels, spec.strides, strict=True)):
        size_h, size_w = (-(-(length - cut) // stride) for length in (size_h, size_w))
        if size_h * size_w * size == spec.groups(i):
            return True
    return False


def of_network(case: Case, want: Outputs, single: bool) -> Magnitudes:
    """One magnitude for all first derivatives and one for all second, for n terms of the longest sum inside.

    A derivative that cancels is the sum of terms as large as those of the others: along a bias before a norm,
    or in x where a group holds one number, it is 0 and its rounding is not. dE/d(out.b) = 1 is among the first.
    """
    args, theta = case.args, case.args["theta"]
    energy = args["energy"].build() if "energy" in args else getattr(ebm_ref, export(case.function))(**case.options)
    x = args["x0"] if "x0" in args else args["x"]
    n = max(int(np.prod(a.shape[:-1])) for a in theta.values()) + x.size

    def largest(*arrays: Array) -> float:
        return max((float(np.abs(a).max(initial=0.0)) for a in arrays), default=0.0)

    norms = sum(name.endswith(".gamma") for name in theta)
    flat = norms if largest(x) < 1e-3 else min(norms, has_lone_group(energy))  # norms of maps that are all alike
    steep = NORM_EPS ** (-0.5 * flat)  # their 1 / sqrt(var + eps) magnifies roundings of results that are 0
    first = largest(energy.grad_x(theta, x), *energy.grad_theta(theta, x, np.ones(len(x))).values())
    value, first = first * largest(theta["out.w"]), first * steep
    if "x0" in args:
        moves = args["K"] * args["update"].eta * first
        sizes = {"x": moves, "energy": value, "grad_norm": first * x[0].size ** 0.5}
        return {name: (np.full_like(want[name], max(size, largest(want[name]))), n) for name, size in sizes.items()}
    weights = max(1.0, largest(args["w"]))
    second = [a for name, a in want.items() if name.startswith(("hvp", "grad_theta_along")) and is_real(a)]
    sizes = {
        "energy": value,
        "both.energy": value,
        "grad_x": first,
        "both.grad_x": first,
        "grad_theta": first * weights,
    }
    sizes |= dict.fromkeys(
        ("hvp", "grad_theta_along"),
        max(first * NORM_EPS ** (-0.5 * min(flat, 1)) * largest(args["v"]), largest(*second)),
    )
    return {
        name: (np.full_like(a, max(sizes[name.partition("[")[0]], largest(a))), n)
        for name, a in want.items()
        if is_real(a)
    }


def of_noise_uniform(case: Case, want: Outputs, single: bool) -> Magnitudes:
    return {"result": (want["result"] * single, 1)}


MAGNITUDES: dict[str, Callable[[Case, Outputs, bool], Magnitudes]] = {
    "noise_uniform": of_noise_uniform,
    "noise_normal": of_noise_normal,
    "langevin_step": of_langevin_step,
    "langevin_jitter": of_langevin_jitter,
    "langevin_run": of_network,
    "conv2d_forward": of_conv2d_forward,
    "conv2d_backward": of_conv2d_backward,
    "group_norm_forward": of_group_norm_forward,
    "group_norm_backward": of_group_norm_backward,
    "conv_energy": of_network,
    "mlp_energy": of_network,
}
NETWORKS = ("langevin_run", "conv_energy", "mlp_energy")


# ---------------------------------------------------------------------------------------- budgets


def is_real(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def nudged(case: Case, rng: np.random.Generator) -> Case:
    """Every real input moved by about one float32 rounding; x by a rounding of numbers of size 1 at least."""

    def move(name: str, a: Any) -> Any:
        if isinstance(a, dict):
            return {key: move(key, item) for key, item in a.items()}
        if not is_real(a):
            return a
        size = max(1.0, float(np.abs(a).max(initial=0.0))) if name in ("x", "x0") else np.abs(a)
        return a + SINGLE * size * rng.uniform(-1, 1, a.shape)

    return replace(case, args={name: move(name, value) for name, value in case.args.items()})


def references(case: Case, dtype: Any) -> tuple[Outputs, dict[str, Array]]:
    """(want, budget): the oracle's float64 results, and for each real one how wrong a twin in `dtype` may be."""
    oracle = getattr(ebm_ref, export(case.function))
    wide = case.cast(np.float64)
    want = wide.run(oracle)
    if case.function in EXACT:
        return case.run(oracle), {}
    pairs = [(case.cast(np.float32).run(oracle), want)]  # (a result, what it should have been)
    if case.function in NETWORKS:
        rng = np.random.default_rng(0)
        for near in (nudged(wide, rng).cast(np.float32) for _ in range(3)):
            there = near.cast(np.float64).run(oracle)
            pairs += [(there, want), (near.run(oracle), there)]
    unit, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    multiple, budgets = MULTIPLES[case.function], {}
    for name, (magnitude, n) in MAGNITUDES[case.function](wide, want, dtype == np.float32).items():
        noise = np.zeros_like(want[name])
        for found, exact in pairs:
            away = np.abs(found[name] - exact[name])
            noise = np.maximum(noise, np.where(np.isfinite(away), away, 0.0))
        if case.function in NETWORKS:
            noise[...] = noise.max(initial=0.0)
        floor = multiple.floor * unit * n**0.5 * magnitude + (n * tiny if multiple.noise else 0.0)
        budgets[name] = multiple.noise * noise * (unit / SINGLE) + floor
    return want, budgets


# ---------------------------------------------------------------------------------------- verdicts


def compare(name: str, got: Any, want: Any, budget: Array | None, dtype: Any = None) -> float:
    """The largest error over its budget, at most 1; `Failure` names the worst index where it is more."""
    if not isinstance(want, np.ndarray):
        same_kind = isinstance(got, str) == isinstance(want, str)
        if not same_kind or np.ndim(got) != 0 or got != want:
            raise Failure(f"{name}: found {got!r}, expected {want!r}")
        return 0.0
    if not isinstance(got, np.ndarray) or got.shape != want.shape:
        found = f"shape {got.shape}" if isinstance(got, np.ndarray) else repr(got)
        raise Failure(f"{name}: found {found}, expected shape {want.shape}")
    wanted = np.dtype(dtype) if dtype is not None and want.dtype.kind == "f" else want.dtype
    if got.dtype != wanted:
        raise Failure(f"{name}: found dtype {got.dtype}, expected {wanted}")
    same = (got == want) | ((got != got) & (want != want))
    if budget is None or want.dtype.kind != "f":
        if not same.all():
            raise Failure(
                f"{name}{place(~same)}: found {got[~same][0].item()!r}, expected {want[~same][0].item()!r} exactly"
            )
        return 0.0
    wrong = ~same & ~(np.isfinite(got) & np.isfinite(want))
    if wrong.any():
        raise Failure(f"{name}{place(wrong)}: found {got[wrong][0].item()!r}, expected {want[wrong][0].item()!r}")
    error = np.where(same, 0.0, np.abs(got.astype(np.float64) - want))
    ratio = np.divide(error, budget, out=np.where(error > 0, np.inf, 0.0), where=budget > 0)
    worst = float(ratio.max(initial=0.0))
    if worst > 1:
        at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        raise Failure(
            f"{name}[{', '.join(str(int(i)) for i in at)}]: found {got[at].item()!r}, expected {want[at].item()!r}: "
            f"error {error[at]:.3g}, budget {budget[at]:.3g} ({worst:.3g} times)",
            worst,
        )
    return worst


def place(wrong: Array) -> str:
    """The first index where `wrong` holds, and how many there are."""
    first = ", ".join(str(int(i)) for i in np.argwhere(wrong)[0])
    return f"[{first}] ({int(wrong.sum())} of {wrong.size})"
