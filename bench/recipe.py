"""Temperature is the lever: the demo's recipe against the usual low temperature, as rows and as a picture."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ebm_fast.extras import require

from .table import RESULTS

RECIPES: dict[str, list[str]] = {
    "demo": [],
    "low temperature": ["train.eta=10", "train.sigma=0.005", "train.clip=0.03"],
}
FIGURES = ("precision", "recall", "auroc_letters", "auroc_uniform", "auroc_inverted", "classes_covered", "gap")


def train_recipe(folder: Path, overrides: list[str], options: list[str] | None = None) -> dict[str, Any]:
    """Train the digits preset with the overrides, and options of `ebm train`; the run's summary."""
    command = [sys.executable, "-m", "ebm_fast.app.main", "train", "digits", "--out", str(folder), *(options or [])]
    for override in overrides:
        command += ["--set", override]
    subprocess.run(command, check=True)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def compare_recipes() -> None:
    """Write bench/results/recipe.csv and recipe.png."""
    plt = require("matplotlib.pyplot", "plot")
    rows = []
    figure, axes = plt.subplots(1, len(RECIPES), figsize=(5 * len(RECIPES), 5.4))
    with tempfile.TemporaryDirectory() as scratch:
        for axis, (name, overrides) in zip(axes, RECIPES.items(), strict=True):
            folder = Path(scratch) / name.replace(" ", "-")
            summary = train_recipe(folder, overrides)
            rows.append({"recipe": name, "overrides": " ".join(overrides)} | {k: summary[k] for k in FIGURES})
            axis.imshow(plt.imread(folder / "samples.png"), cmap="gray")
            axis.set_title(f"{name}: precision {summary['precision']:.2f}, recall {summary['recall']:.2f}")
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(RESULTS / "recipe.png", dpi=80)
    with (RESULTS / "recipe.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)
