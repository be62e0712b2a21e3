"""Every training method on densities with a closed form, with one budget, judged by the exact KL(p_data || p_theta).

The same network, data, batch, steps, optimiser and schedule for all; learning rates are the entries' own. p_theta =
exp(-E) / Z on the box, Z by quadrature, so the number needs no samples and no bound. The target of denoising is the
density of the noised data, which it fits; every other method is held to the data's own. `between` is the part of the
KL that lies in how much mass each mode, ring or square gets, the rest is inside them; mmd is that of 2,000 exact draws
of p_theta against as many fresh data.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast import backend as load_backend
from ebm_ref.contracts import check_choice
from ebm_ref.methods import METHODS

from .densities import density_model, density_sample, density_target, divergence, divergence_between, parts_of
from .scoreboard_peers import PEERS, train_peer, why_not
from .table import RESULTS, Row, machine

DENSITIES = ("eight_gaussians", "checkerboard", "rings", "spiral_mixture")
N, SAMPLES, SEED = 200_000, 2000, 0
HIDDEN = (128, 128, 128)
BUDGET: dict[str, Any] = {
    "steps": 2000,
    "batch": 256,
    "box": (-4.5, 4.5),
    "lr": 5e-3,
    "beta1": 0.9,
    "warmup": 100,
    "schedule": "cosine",
    "max_grad_norm": 10.0,
    "ema_decay": 0.995,
}
EPS = 0.004  # of ULA: eta = eps / 2, sigma = sqrt(eps)
SLOW = {"lr": 2e-3}  # what the noisier gradients of chains and of curvatures stand
SMOOTH = {"smoothing": 0.6, "smoothing_until": 0.7}  # so that modes and rings part once their weights are known
CHAIN = {**SLOW, "K": 30, "eta": EPS / 2, "sigma": sqrt(EPS), "alpha": 0.0, "sigma_data": 0.0}  # calibrated ULA
PCD = {"start": "data_noise", "rho": 0.02, "M": 8192}


@dataclass(frozen=True)
class Entry:
    """One row of the board: a method with its own settings, and the KL that it is held to."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    bar: float = 0.02


ENTRIES = (
    Entry("nce", "nce", {"nu": 2}),
    Entry("ranking_nce", "ranking_nce", {"nu": 4}),
    Entry("conditional_nce", "conditional_nce", {"level": 0.3}),
    Entry("dsm", "dsm", {"level": 0.3}),
    Entry("cd", "cd", CHAIN, bar=0.05),
    Entry("pcd", "pcd", {**CHAIN, **PCD}, bar=0.05),
    Entry("ml", "ml", {"cells": 64}),
    Entry("ssm_vr", "ssm", SLOW),
    Entry("hsm", "hsm", SLOW),
    Entry("ssm", "ssm", {**SLOW, "variance_reduced": False}),
    Entry("pcd_smoothed", "pcd", {**CHAIN, **PCD, "K": 60, "eta": 1e-3, "sigma": sqrt(2e-3), **SMOOTH}, bar=0.05),
    Entry("hsm_smoothed", "hsm", SMOOTH),
    Entry("torchebm_dsm", "dsm", {"level": 0.3}),
    Entry("torchebm_cd", "cd", CHAIN, bar=0.05),
)


def score(density: str, entry: Entry, steps: int | None = None) -> Row:
    """Train one method on one density; its row."""
    recipe = ebm_ref.Recipe(**BUDGET | {"method": entry.method} | entry.settings | ({"steps": steps} if steps else {}))
    data = ebm_ref.toy_sample(density, N, SEED)
    oracle = ebm_ref.MLPEnergy((2,), HIDDEN)
    began = time.process_time()
    if entry.name in PEERS:
        backend, theta = "torchebm", train_peer(entry.name, recipe, ebm_ref.theta_init(oracle, SEED), HIDDEN, data)
    else:
        module = ebm_ref if METHODS[entry.method].level == 3 else load_backend("auto")
        backend = module.__name__.split(".")[-1]
        theta = ebm_ref.train(module, module.MLPEnergy((2,), HIDDEN), recipe, data, SEED).ema
    seconds = time.process_time() - began
    log_q = density_model(oracle, {name: theta[name].astype(np.float64) for name in oracle.theta_shapes()})
    level = recipe.level if entry.method == "dsm" else 0.0
    log_p = density_target(density, level)
    fresh = ebm_ref.toy_sample(density, SAMPLES, SEED + 1, np.float64)
    if level:
        fresh = fresh + level * ebm_ref.noise_normal(SEED, ebm_ref.Stream.EVALUATION, 1, np.arange(SAMPLES), 2)
    mmd = ebm_ref.mmd_rbf(density_sample(log_q, SAMPLES, SEED), fresh, 0.5)
    kl = divergence(log_p, log_q)
    return {
        "density": density,
        "method": entry.name,
        "target": f"noised {level:g}" if level else "data",
        "kl": kl,
        "kl_between": divergence_between(log_p, log_q, parts_of(density)),
        "mmd": mmd.value,
        "mmd_se": mmd.se,
        "bar": entry.bar,
        "reached": kl <= entry.bar,
        "cpu_seconds": seconds,
        "backend": backend,
        "steps": recipe.steps,
        "batch": recipe.batch,
    }


def compare_methods(densities: Sequence[str] = ()) -> None:
    """Write bench/results/scoreboard.csv, or scoreboard_NAMES.csv of the toys that are named, each row when it is made.

    Raises RangeError for a toy without a closed form.
    """
    for name in densities:
        check_choice("density", name, ebm_ref.TOYS_WITH_DENSITY)
    path = RESULTS / f"{'_'.join(('scoreboard', *densities))}.csv"
    entries = [entry for entry in ENTRIES if entry.name not in PEERS or why_not() is None]
    if len(entries) < len(ENTRIES):
        print(f"without {', '.join(PEERS)}: {why_not()}", flush=True)
    with path.open("w", newline="") as file:
        writer = None
        for entry in entries:
            for density in densities or DENSITIES:
                row = {k: round(v, 5) if isinstance(v, float) else v for k, v in score(density, entry).items()}
                row |= machine()
                if writer is None:
                    writer = csv.DictWriter(file, fieldnames=list(row))
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
                print(format_score(row), flush=True)


def format_score(row: Row) -> str:
    """One line: density, method, KL and its part between, mmd, seconds of processor time."""
    kl = f"KL {row['kl']:8.4f} of {row['target']:10} (between {row['kl_between']:.4f})"
    mmd = f"mmd {row['mmd']:.1e} +- {row['mmd_se']:.0e}"
    return f"{row['density']:16} {row['method']:16} {kl}   {mmd}   {row['cpu_seconds']:.0f} s"
