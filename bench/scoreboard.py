"""Every training method on densities with a closed form, with one budget, judged by the exact KL(p_data || p_theta).

The same network, data, batch, steps, optimiser and schedule for all. p_theta = exp(-E) / Z on the box, Z by quadrature,
so the number needs no samples and no bound. The target of denoising is the density of the noised data, which it fits;
every other method is held to the data's own. `between` is the part of the KL that lies in how much mass each mode, ring
or square gets, the rest is inside them; mmd is that of 2,000 exact draws of p_theta against as many fresh data.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast import backend as load_backend
from ebm_ref.methods import METHODS

from .densities import density_model, density_sample, density_target, divergence, divergence_between, parts_of
from .table import RESULTS, Row, machine

DENSITIES = ("eight_gaussians", "checkerboard", "rings", "spiral_mixture")
N, SAMPLES, SEED = 200_000, 2000, 0
HIDDEN = (128, 128)
BUDGET: dict[str, Any] = {
    "steps": 2000,
    "batch": 256,
    "box": (-4.5, 4.5),
    "lr": 3e-3,
    "beta1": 0.9,
    "warmup": 100,
    "schedule": "cosine",
    "max_grad_norm": 10.0,
    "ema_decay": 0.995,
}
EPS = 0.005  # of ULA: eta = eps / 2, sigma = sqrt(eps)
CALIBRATED = {"K": 20, "eta": EPS / 2, "sigma": sqrt(EPS), "alpha": 0.0, "sigma_data": 0.0}


@dataclass(frozen=True)
class Entry:
    """One row of the board: a method with its own settings, and the KL that it is held to."""

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    bar: float = 0.02


ENTRIES = (
    Entry("ml", "ml", {"cells": 64}),
    Entry("nce", "nce", {"nu": 2}),
    Entry("ranking_nce", "ranking_nce", {"nu": 4}),
    Entry("conditional_nce", "conditional_nce", {"level": 0.3}),
    Entry("dsm", "dsm", {"level": 0.3}),
    Entry("hsm", "hsm"),
    Entry("ssm", "ssm", {"variance_reduced": False}),
    Entry("ssm_vr", "ssm"),
    Entry("pcd", "pcd", {**CALIBRATED, "start": "data_noise", "rho": 0.02, "M": 8192}, bar=0.05),
    Entry("cd", "cd", CALIBRATED),
)


def score(density: str, entry: Entry, steps: int | None = None) -> Row:
    """Train one method on one density; its row."""
    recipe = ebm_ref.Recipe(**BUDGET | {"method": entry.method} | entry.settings | ({"steps": steps} if steps else {}))
    backend = ebm_ref if METHODS[entry.method].level == 3 else load_backend("auto")
    energy = getattr(backend, "MLPEnergy")((2,), HIDDEN)  # noqa: B009 - a backend is a module
    data = ebm_ref.toy_sample(density, N, SEED)
    began = time.perf_counter()
    state = ebm_ref.train(backend, energy, recipe, data, SEED)
    seconds = time.perf_counter() - began

    theta = {name: state.ema[name].astype(np.float64) for name in energy.theta_shapes()}
    log_q = density_model(ebm_ref.MLPEnergy((2,), HIDDEN), theta)
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
        "seconds": seconds,
        "backend": backend.__name__.split(".")[-1],
        "steps": recipe.steps,
        "batch": recipe.batch,
    }


def compare_methods(densities: tuple[str, ...] = DENSITIES) -> None:
    """Write bench/results/scoreboard.csv, a row as soon as it is there."""
    path = RESULTS / "scoreboard.csv"
    with path.open("w", newline="") as file:
        writer = None
        for density in densities:
            for entry in ENTRIES:
                row = {k: round(v, 5) if isinstance(v, float) else v for k, v in score(density, entry).items()}
                row |= machine()
                if writer is None:
                    writer = csv.DictWriter(file, fieldnames=list(row))
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
                print(
                    f"{density:16} {entry.name:16} KL {row['kl']:8.4f} of {row['target']:10} (between {row['kl_between']:.4f})"
                    f"   mmd {row['mmd']:.1e} +- {row['mmd_se']:.0e}   {row['seconds']:.0f} s",
                    flush=True,
                )
