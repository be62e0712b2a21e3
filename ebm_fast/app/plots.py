"""The pictures of a report, each a function from numbers to PNG bytes (matplotlib, without a display)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from ebm_fast.extras import require
from ebm_ref.contracts import Array

DATA, MODEL = "#1f6f8b", "#c8553d"
OTHERS = ("#111111", "#6b4c9a", "#3e8e41", "#b07d2b", "#808890", "#c06c9b")


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """(figure, axes) on the drawing-only canvas; no state is shared with a caller's own plots."""
    made = require("matplotlib.figure", "plot").Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns)
    for axis in np.ravel(axes):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return made, axes


def figure_bytes(made: Any, dpi: int = 110) -> bytes:
    file = BytesIO()
    made.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def smoothed(values: Array, width: int) -> Array:
    """Running mean over `width` records, shorter at the ends."""
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def column(records: list[dict[str, Any]], key: str) -> tuple[Array, Array]:
    """(steps, values) of the records that have a finite `key`."""
    pairs = [(r["step"], float(r[key])) for r in records if key in r and np.isfinite(float(r[key]))]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def curves(records: list[dict[str, Any]], figures: dict[str, Any]) -> bytes:
    """Gap, energies, gradient norm over the steps, and how well each other set is told from the data."""
    made, axes = figure(11, 6.4, 2, 2)
    first = (axes[0, 0], "energy gap: E(samples) - E(data)", (("gap", "gap", MODEL),))
    second = (axes[0, 1], "mean energy", (("energy_pos", "data", DATA), ("energy_neg", "samples", MODEL)))
    if records and "gap" not in records[0]:  # a method that sees no samples
        first = (axes[0, 0], "loss", (("loss", "loss", MODEL),))
        terms = [key for key in ("square", "trace", "centred", "paired") if key in records[0]]
        second = (axes[0, 1], "its terms", tuple(zip(terms, terms, (DATA, MODEL), strict=False)))
    for axis, title, lines in (
        first,
        second,
        (axes[1, 0], "gradient norm", (("grad_norm", "parameters", DATA),)),
    ):
        for key, label, colour in lines:
            steps, values = column(records, key)
            if len(values):
                axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
                axis.plot(steps, smoothed(values, max(1, len(values) // 50)), color=colour, label=label)
        axis.set(title=title, xlabel="step")
        if len(lines) > 1 and len(records):
            axis.legend(frameon=False)
    axes[0, 0].axhline(0, color="black", linewidth=0.6)
    bars = {key.removeprefix("auroc_"): value for key, value in figures.items() if is_auroc(key)}
    bars |= {key: figures[key] for key in ("precision", "recall") if figures.get(key) is not None}
    axes[1, 1].barh(list(bars), list(bars.values()), color=DATA)
    for i, value in enumerate(bars.values()):
        place, colour = ("right", "white") if value > 0.5 else ("left", "black")
        axes[1, 1].text(value, i, f" {value:.3f} ", ha=place, va="center", color=colour)
    title = "AUROC against other sets; precision, recall" if len(bars) > 2 else "precision, recall"
    axes[1, 1].set(title=title, xlim=(0, 1))
    axes[1, 1].invert_yaxis()
    return figure_bytes(made)


def is_auroc(key: str) -> bool:
    """Whether a figure is an AUROC, and not the error of one."""
    return key.startswith("auroc_") and not key.endswith("_se")


def trajectories(energy: Array, level: float, title: str) -> bytes:
    """Energy (K, N) of N chains over their K steps, and the mean energy of the data."""
    made, axis = figure(7, 3.4)
    steps = np.arange(1, len(energy) + 1)
    axis.plot(steps, energy, color=MODEL, alpha=0.15, linewidth=0.7)
    axis.plot(steps, energy.mean(axis=1), color=MODEL, label="chains from fresh noise")
    axis.axhline(level, color=DATA, linestyle="--", label="data")
    axis.set(title=title, xlabel="chain step", ylabel="E", xscale="log")
    axis.legend(frameon=False)
    return figure_bytes(made)


def histogram(energies: dict[str, Array]) -> bytes:
    """Densities of E on the data, the samples and the other sets, on one axis of energies."""
    made, axis = figure(7, 3.8)
    pooled = np.concatenate(list(energies.values()))
    bins = np.linspace(*np.quantile(pooled, [0.002, 0.998]) + [-1e-6, 1e-6], 70)
    colours = {"data": DATA, "samples": MODEL}
    others = [name for name in energies if name not in colours]
    top = 0.0
    for name, values in energies.items():
        kept = np.clip(values, bins[0], bins[-1])
        if name in colours:
            heights, _, _ = axis.hist(kept, bins, density=True, color=colours[name], alpha=0.55, label=name)
            top = max(top, float(heights.max()))
        else:
            colour = OTHERS[others.index(name) % len(OTHERS)]
            axis.hist(kept, bins, density=True, histtype="step", color=colour, linewidth=1.2, label=name)
    title = "energy of the data, the samples and other sets" if others else "energy of the data and the samples"
    axis.set(title=title, xlabel="E (low = likely)", ylabel="density")
    axis.set_ylim(0, 1.3 * top)  # the other sets may be spikes
    axis.legend(frameon=False, fontsize=8)
    return figure_bytes(made)


def plane(level: Array, extent: tuple[float, float, float, float], data: Array, samples: Array) -> bytes:
    """Contours of E over the plane, (n, n) with row 0 at the bottom, beside the data and with the samples."""
    made, axes = figure(10, 4.8, 1, 2)
    grid = np.linspace(extent[0], extent[1], level.shape[1]), np.linspace(extent[2], extent[3], level.shape[0])
    shown = np.minimum(level, np.quantile(level, 0.45))
    for axis, points, title in ((axes[0], data, "E and the data"), (axes[1], samples, "E and the samples")):
        axis.contourf(*grid, shown, levels=24, cmap="viridis_r")
        axis.scatter(points[:, 0], points[:, 1], s=5, color="white", edgecolors="black", linewidths=0.3)
        axis.set(title=title, xlim=extent[:2], ylim=extent[2:], aspect="equal")
    return figure_bytes(made)
