"""The pictures of `flow_report`, each a function from numbers to PNG bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Array

from .plots import DATA, MODEL, figure, figure_bytes


def ways(states: Array) -> bytes:
    """Points in the plane (T, N, 2), each on its way from the first state to the last."""
    made, axis = figure(5.4, 5.0)
    for n in range(states.shape[1]):
        axis.plot(states[:, n, 0], states[:, n, 1], color=MODEL, alpha=0.5, linewidth=0.9)
    axis.scatter(*states[0].T, s=14, color=DATA, label="noise")
    axis.scatter(*states[-1].T, s=14, color="black", label="sample")
    axis.set(aspect="equal", title="ways of the samples")
    axis.legend(frameon=False)
    return figure_bytes(made)


def landscape(found: dict[str, Array], title: str) -> bytes:
    """Mean E, where there is one, and mean length of the slope or field, over t."""
    panels = [key for key in ("energy", "slope") if key in found]
    made, axes = figure(4.2 * len(panels) + 1, 3.4, 1, len(panels))
    names = {"energy": "mean E or V", "slope": "mean length of its slope, or of the field"}
    for axis, key in zip(np.ravel(axes), panels, strict=True):
        axis.plot(found["t"], found[key], color=DATA if key == "energy" else MODEL)
        axis.set(title=names[key], xlabel="t")
    made.suptitle(title, fontsize=9)
    return figure_bytes(made)


def quality(rows: list[dict[str, Any]], title: str) -> bytes:
    """Precision, recall and features' distance over evaluations."""
    made, axes = figure(9, 3.4, 1, 2)
    nfe = [row["nfe"] for row in rows]
    for key, colour in (("precision", DATA), ("recall", MODEL)):
        axes[0].plot(nfe, [np.nan if row[key] is None else row[key] for row in rows], "o-", color=colour, label=key)
    axes[0].set(ylim=(0, 1), xscale="log", xlabel="evaluations", title="precision, recall")
    axes[0].legend(frameon=False)
    distances = [np.nan if row["frechet_feature"] is None else row["frechet_feature"] for row in rows]
    axes[1].plot(nfe, distances, "o-", color=DATA)
    axes[1].set(xscale="log", yscale="log", xlabel="evaluations", title="squared Frechet distance of features")
    made.suptitle(title, fontsize=9)
    return figure_bytes(made)


def stops(nfe: Array, title: str) -> bytes:
    """Histogram of the evaluations after which samples stopped."""
    made, axis = figure(6, 3.2)
    axis.hist(nfe, bins=40, color=DATA)
    axis.set(title=title, xlabel="evaluations", ylabel="samples")
    return figure_bytes(made)
