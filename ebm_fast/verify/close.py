"""How close is close: error budgets that are derived, with the few measured numbers in one table.

    want    = oracle in float64, on the very numbers that the twin is given
    noise   = how far the oracle in float32 is from `want`, scaled by eps(dtype) / eps(float32); for networks
              the largest of four such runs, on inputs moved by one rounding, and of how far that moved `want`
    budget  = NOISE * noise + FLOOR * eps(dtype) * sqrt(n) * magnitude + n * smallest normal number

`magnitude` is the sum of the absolute values of the n terms that a result adds up, so that a result that
cancels may be as wrong as its terms make it and no more. Integers, masks, indices and copies are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array

from .case import Case, Outputs, export
from .magnitudes import MAGNITUDES, SINGLE
from .networks import NETWORKS, nudged, share_noise


@dataclass(frozen=True)
class Multiple:
    """How many times the oracle's own float32 error, and how many roundings of the sum of absolute terms."""

    noise: float
    floor: float
    measured: str


EXACT = ("noise_philox", "noise_bits", "noise_index", "noise_permutation", "buffer_draw", "buffer_push")
EXACT += ("coupling_assign",)
# `measured`: the largest share of the budget that a right function used, over both dtypes, on x86-64 with AVX2.
MULTIPLES = {
    "noise_uniform": Multiple(0.0, 1.0, "400 cases a dtype: naive 0.50, numba_cpu 0.50, the oracle itself 0.75"),
    "noise_normal": Multiple(2.0, 4.0, "400 cases a dtype: naive 0.08, numba_cpu 0.14, the oracle itself 0.10"),
    "langevin_step": Multiple(2.0, 2.0, "400 cases a dtype: naive 0.29, numba_cpu 0.46, the oracle itself 0.24"),
    "langevin_jitter": Multiple(2.0, 2.0, "400 cases a dtype: naive 0.17, numba_cpu 0.49, the oracle itself 0.25"),
    "langevin_run": Multiple(24.0, 8.0, "300 cases a dtype: naive 0.06, numba_cpu 0.05, the oracle itself 0.04"),
    "conv2d_forward": Multiple(2.0, 2.0, "300 cases a dtype: naive 0.52, numba_cpu 0.52, the oracle itself 0.19"),
    "conv2d_backward": Multiple(2.0, 2.0, "300 cases a dtype: naive 0.43, numba_cpu 0.33, the oracle itself 0.38"),
    "group_norm_forward": Multiple(2.0, 4.0, "300 cases a dtype: naive 0.08, numba_cpu 0.41, the oracle itself 0.10"),
    "group_norm_backward": Multiple(2.0, 4.0, "300 cases a dtype: naive 0.21, numba_cpu 0.24, the oracle itself 0.14"),
    "conv_energy": Multiple(24.0, 8.0, "350 cases a dtype: numba_cpu 0.44, the oracle itself 0.04 (200 cases)"),
    "mlp_energy": Multiple(8.0, 8.0, "300 cases a dtype: numba_cpu 0.22, the oracle itself 0.11"),
    "deep_conv_energy": Multiple(24.0, 8.0, "200 cases a dtype: host_build 0.09, the oracle itself 0.04"),
    "classifier_energy": Multiple(24.0, 8.0, "700 cases a dtype: numba_cpu 0.14, the oracle itself 0.04 (300 cases)"),
    "mlp_field": Multiple(8.0, 8.0, "100 cases a dtype: numba_cpu 0.05, the oracle itself 0.03 (40 cases)"),
    "conv_field": Multiple(24.0, 8.0, "100 cases a dtype: numba_cpu 0.06, the oracle itself 0.01 (40 cases)"),
    "field_energy": Multiple(24.0, 8.0, "100 cases a dtype: numba_cpu 0.04, the oracle itself 0.02 (40 cases)"),
    "descent_run": Multiple(24.0, 8.0, "100 cases a dtype: numba_cpu 0.04, the oracle itself 0.05 (60 cases)"),
    "coupling_cost": Multiple(2.0, 2.0, "100 cases a dtype: numba_cpu 0.40, the oracle itself 0.25 (40 cases)"),
    "repulsion": Multiple(2.0, 4.0, "100 cases a dtype: numba_cpu 0.03, the oracle itself 0.08 (40 cases)"),
}


class Failure(AssertionError):
    """A check that does not hold; `ratio` is the error over its budget (inf where nothing is allowed)."""

    def __init__(self, message: str, ratio: float = float("inf")) -> None:
        super().__init__(message)
        self.ratio = ratio


# ---------------------------------------------------------------------------------------- budgets


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
    multiple, magnitudes = MULTIPLES[case.function], MAGNITUDES[case.function](wide, want, dtype == np.float32)
    noise = {name: np.zeros_like(want[name]) for name in magnitudes}
    for found, exact in pairs:
        for name in noise:
            away = np.abs(found[name] - exact[name])
            noise[name] = np.maximum(noise[name], np.where(np.isfinite(away), away, 0.0))
    if case.function in NETWORKS:
        noise = share_noise(case.function, noise)
    budgets = {}
    for name, (magnitude, n) in magnitudes.items():
        floor = multiple.floor * unit * n**0.5 * magnitude + (n * tiny if multiple.noise else 0.0)
        budgets[name] = multiple.noise * noise[name] * (unit / SINGLE) + floor
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
        plain = f"a {type(got).__name__}" if isinstance(got, list | tuple) else repr(got)
        found = f"shape {got.shape}" if isinstance(got, np.ndarray) else plain
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
