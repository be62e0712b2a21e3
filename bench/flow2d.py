"""Energy matching and equilibrium matching in the plane, judged by exact divergences and by sliced Wasserstein.

energy_matching  a potential V. kl = KL(p_data || exp(-V / tau) / Z) by quadrature, after each phase of training (the
                 first is transport alone); held to KL_BAR after the last. Samples: heated descent from N(0, I),
                 then Metropolis' walk. nfe counts both.
equilibrium      a field, or the energy of a head on one, of three coordinates: the data are lifted to a height, by
                 which a point tells how far on its way it is. Neither claims a density, so there is no kl. Samples: nfe
                 steps of descent from N(0, I). `early` stops at the nfe of a list that is best for other data and other
                 starts, `late` at the end of the list. f_data is mean |f| / mean |x| at data, f_exact that of the exact
                 minimiser of the loss over all fields; of an energy, f is its gradient.
plane_field      a field without the height, whose minimiser is not 0 at data: descent passes by their law and does not
                 rest. f_error is the root of mean |f - f_exact|^2 / mean |f_exact|^2 there. Held to no bar.

sw is the sliced Wasserstein distance of samples to data, sw_data that of data to data, both the root of the mean square
over a few pairs of sets of one size; ratio = sw / sw_data, held to RATIO_BAR. Sets of one law have a ratio of about 1.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast import backend as load_backend
from ebm_ref.contracts import Array, Params, check_choice
from ebm_ref.toys import EIGHT_MEANS, SQUARE, SQUARES

from .densities import MOON, density_model, density_target, divergence, moon_nodes
from .flow2d_train import (
    EQUILIBRIUM,
    MATCHING,
    PHASES,
    PLANE,
    Equilibrium,
    Matching,
    Phase,
    equilibrium_model,
    equilibrium_path,
    equilibrium_slope,
    equilibrium_train,
    matching_sample,
    matching_train,
)
from .table import RESULTS, Row, machine

DENSITIES = ("eight_gaussians", "two_moons", "checkerboard")
HEADS = (None, "dot", "norm")
KL_BAR, RATIO_BAR = 0.05, 1.3
SEEDS = (0,)  # of parameters, draws of training and chains; the data of training are the same
FRESH, OTHER = 1, 2  # seeds of the data that judge, and of those that choose nfe
COLUMNS = ("method", "density", "seed", "phase", "kl", "sw", "sw_data", "ratio", "nfe", "seconds")
AT_DATA = ("f_data", "f_exact", "f_error")


@dataclass(frozen=True)
class Size:
    """What judges: `draws` sets of samples and `sets` of data, of `samples` points each, along `directions` lines.

    `probes` data for f_exact.
    """

    samples: int = 2000
    draws: int = 4
    sets: int = 12  # of one law with fresh sets of itself: 1.0, give or take 0.1
    directions: int = 48
    probes: int = 100
    most: int | None = None  # steps of a phase

    def cut(self, phase: Phase) -> Phase:
        """The phase, of no more than `most` steps."""
        return phase if self.most is None else replace(phase, steps=min(phase.steps, self.most))


SMALL = Size(samples=200, draws=2, sets=2, directions=8, probes=4, most=3)


# ------------------------------------------------------------------------------------------ judging


def directions(n: int) -> Array:
    """n unit vectors (n, 2), evenly over half a turn."""
    angles = pi * (np.arange(n) + 0.5) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def root_mean_square(pairs: Iterable[tuple[Array, Array]], n: int) -> float:
    """The root of the mean square of the pairs' sliced Wasserstein distances along n lines."""
    lines = directions(n)
    return sqrt(float(np.mean([ebm_ref.sliced_wasserstein(x, y, lines) ** 2 for x, y in pairs])))


def judge(samples: Array, density: str, size: Size, seed: int = FRESH) -> Row:
    """sw, sw_data and their ratio. samples: (draws samples, 2)."""
    data = ebm_ref.toy_sample(density, size.sets * size.samples, seed).reshape(size.sets, size.samples, 2)
    sw = root_mean_square(product(samples.reshape(size.draws, size.samples, 2), data), size.directions)
    sw_data = root_mean_square(combinations(data, 2), size.directions)
    return {"sw": sw, "sw_data": sw_data, "ratio": sw / sw_data}


def exact_field(density: str, target: ebm_ref.EquilibriumTarget, spread: float = 1.0) -> ebm_ref.EquilibriumField:
    """The minimiser of the loss for the data times `spread`, as normals.

    They are the toy's own eight, 80 along the moons, and 8 x 8 a square of the checkerboard. The squares are so blurred
    by 0.12 (the normals are 0.19 apart); the other two laws are the data's.
    """
    if density == "eight_gaussians":
        points, sigma = EIGHT_MEANS, 0.2
    elif density == "two_moons":
        points, sigma = moon_nodes((np.arange(40) + 0.5) * pi / 40), MOON
    else:
        cells = (np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2) + 0.5) / 8  # (64, 2)
        points, sigma = SQUARE * (SQUARES[:, None] + cells).reshape(-1, 2), 0.12  # (512, 2)
    return ebm_ref.EquilibriumField(spread * points, target, spread * sigma)


def at_data(model: Any, theta: Params, density: str, plan: Equilibrium, size: Size) -> Row:
    """f_data, f_exact and f_error at fresh data as the plan places them; lengths of x are those in the plane.

    At a height the exact minimiser is 0 at data, where it has no relative error: no noise is up there, so gamma is 1.
    """
    x = plan.lift(ebm_ref.toy_sample(density, size.probes, FRESH))
    f, length = equilibrium_slope(model, theta, x), np.linalg.norm(x[:, :2], axis=1).mean()
    row = {"f_data": float(np.linalg.norm(f, axis=1).mean() / length), "f_exact": 0.0}
    if plan.height is not None:
        return row
    exact = exact_field(density, plan.target, plan.spread)
    best = np.concatenate([exact.field({}, at[None].astype(np.float64)) for at in x])  # a row at a time: (1, M, T)
    norm = np.linalg.norm(best, axis=1)
    row["f_exact"] = float(norm.mean() / length)
    row["f_error"] = sqrt(float(((f - best) ** 2).sum() / (norm**2).sum()))
    return row


# --------------------------------------------------------------------------------------------- rows


def matching_rows(density: str, plan: Matching, size: Size) -> Iterator[Row]:
    """One row a phase."""
    module, oracle = load_backend("auto"), ebm_ref.BoltzmannEnergy(ebm_ref.MLPEnergy((2,), plan.hidden), plan.terms.tau)
    plan, log_p = replace(plan, phases=tuple(map(size.cut, plan.phases))), density_target(density)
    seconds, began = 0.0, time.process_time()
    for phase, theta in matching_train(module, density, plan):
        seconds += time.process_time() - began
        wide = {name: value.astype(np.float64) for name, value in theta.items()}
        row = {"method": "energy_matching", "density": density, "seed": plan.seed, "phase": phase}
        row["seconds"], row["kl"] = seconds, divergence(log_p, density_model(oracle, wide))
        samples, row["nfe"] = matching_sample(module, theta, plan, size.draws * size.samples)
        yield row | judge(samples, density, size)
        began = time.process_time()


def equilibrium_rows(density: str, head: str | None, plan: Equilibrium, size: Size) -> Iterator[Row]:
    """Two rows: descent that stops early, and late."""
    module, plan = load_backend("auto"), replace(plan, phase=size.cut(plan.phase))
    began = time.process_time()
    theta = equilibrium_train(module, density, head, plan)
    seconds = time.process_time() - began
    model, n = equilibrium_model(module, head, plan), size.draws * size.samples
    other = ebm_ref.toy_sample(density, n, OTHER)
    path = equilibrium_path(module, model, theta, plan, n, draw=1)
    best = min((root_mean_square([(x, other)], size.directions), nfe) for nfe, x in path)[1]
    method = f"{'equilibrium' if plan.height else 'plane'}_{head or 'field'}"
    shared = {"method": method, "density": density, "seed": plan.seed, "seconds": seconds}
    shared |= at_data(model, theta, density, plan, size)
    for nfe, x in equilibrium_path(module, model, theta, plan, n, draw=0):
        for phase, stop in (("early", best), ("late", plan.stops[-1])):
            if nfe == stop:
                yield shared | {"phase": phase, "nfe": nfe} | judge(x, density, size)


def flow_rows(densities: Sequence[str], seed: int, size: Size) -> Iterator[Row]:
    """All rows of these densities and of one seed."""
    for density in densities:
        yield from matching_rows(density, replace(MATCHING[density], seed=seed), size)
        for head in HEADS:
            yield from equilibrium_rows(density, head, replace(EQUILIBRIUM, seed=seed), size)
        yield from equilibrium_rows(density, None, replace(PLANE, seed=seed), size)


def compare_flows(densities: Sequence[str] = (), small: bool = False, out: Path | None = None) -> None:
    """Print a line a row, write bench/results/flow2d.csv, or flow2d_NAMES.csv of the densities that are named.

    small: a few steps and samples, to see that all runs; written to `out` alone. Raises RangeError.
    """
    for name in densities:
        check_choice("density", name, DENSITIES)
    path = out or (None if small else RESULTS / f"{'_'.join(('flow2d', *densities))}.csv")
    rows = []
    for seed in SEEDS[:1] if small else SEEDS:
        for row in flow_rows(densities or DENSITIES, seed, SMALL if small else Size()):
            rows.append(row)
            print(format_flow(row), flush=True)
            if path is not None:
                write_flow(path, rows)
    for verdict in verdicts(rows):
        print(verdict)


def write_flow(path: Path, rows: list[Row]) -> None:
    """Five digits of every number, and the machine."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[*COLUMNS, *AT_DATA, *machine()], restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in (row | machine()).items()})


def format_flow(row: Row) -> str:
    """One line: method, density, phase, KL, sliced Wasserstein and its ratio, gradients, |f| at data, seconds."""
    kl = f"KL {row['kl']:7.4f}" if "kl" in row else f"|f|/|x| {row['f_data']:.2f} of {row['f_exact']:.2f}"
    sw = f"sw {row['sw']:.4f} of {row['sw_data']:.4f}, ratio {row['ratio']:5.2f}"
    where = f"{row['density']:15} {row['method']:20} {row['phase']:9}"
    return f"{where} {sw}   nfe {row['nfe']:3}   {kl:20}   {row['seconds']:.0f} s"


def verdicts(rows: list[Row]) -> Iterator[str]:
    """What misses its bar: the ratio of the last phase of each method, and the KL after the last phase."""
    for row in rows:
        name = f"{row['density']}, {row['method']}, {row['phase']}, seed {row['seed']}"
        if row["phase"] == PHASES[-1] and row["kl"] > KL_BAR:
            yield f"missed: {name}: KL {row['kl']:.4f}, bar {KL_BAR}"
        held = row["phase"] in (PHASES[-1], "early") and not row["method"].startswith("plane")
        if held and row["ratio"] > RATIO_BAR:
            yield f"missed: {name}: ratio {row['ratio']:.2f}, bar {RATIO_BAR}"
