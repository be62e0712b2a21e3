"""Anomalies in tables: an MLPEnergy told apart from the other classes, five splits each, against bars of other models.

Protocol: train on four fifths of one class, standardised by it; score -E(x) of its other fifth against all other
classes; AUROC, mean and standard deviation over five splits. The bars are the best of isolation forest, one-class SVM,
KDE, one and two Gaussians and LOF under the same protocol, less .01, and .97 for the means over classes.
These sets are small (10 to 72 normal test rows): a difference under .01 says nothing.
"""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast.app.config import merge, preset_tables, set_tables
from ebm_fast.app.run import prepare

from .table import RESULTS

SPLITS = 5
METHODS = ("dsm", "nce")
TASKS = {"breast_cancer": (1,), "wine": (0, 1, 2), "iris": (0, 1, 2)}  # the classes that are normal in turn
BARS = {"breast_cancer": 0.953, "wine": 0.97, "iris": 0.97}
PEERS = {"breast_cancer": 0.963, "wine": 0.984, "iris": 0.987}  # the best of the others


def tabular_auroc(name: str, normal: int, split: int, method: str) -> float:
    """AUROC of one run of the preset; the split is the seed as well."""
    layer = set_tables([f"data.normal={normal}", f"data.split={split}", f"run.seed={split}", f"train.method={method}"])
    run = prepare(name, merge(preset_tables(name), layer))
    state = ebm_ref.train(run.backend, run.energy, run.config.train, run.train_data, run.seed)
    model = run.model(state)
    assert run.data.anomalies is not None
    return ebm_ref.auroc(-model.energies(run.data.test), -model.energies(run.data.anomalies))


def tabular_rows(name: str, method: str) -> list[dict[str, Any]]:
    """One row a normal class, and one of their mean where there are several."""
    scores = np.array([[tabular_auroc(name, c, split, method) for split in range(SPLITS)] for c in TASKS[name]])
    rows = [row(name, str(c), method, s) for c, s in zip(TASKS[name], scores, strict=True)]
    if len(rows) > 1:
        rows.append(row(name, "mean", method, scores.mean(axis=0)))
    rows[-1] |= {"bar": BARS[name], "best_peer": PEERS[name], "reached": bool(scores.mean() >= BARS[name])}
    return rows


def row(name: str, normal: str, method: str, scores: Any) -> dict[str, Any]:
    """Mean and standard deviation over the splits."""
    figures = {"auroc": round(float(scores.mean()), 4), "sd": round(float(scores.std(ddof=1)), 4)}
    empty = {"bar": "", "best_peer": "", "reached": ""}
    return {"set": name, "normal": normal, "method": method, "splits": SPLITS, **figures, **empty}


def compare_tabular() -> None:
    """Write bench/results/tabular.csv, and say which bars no method reached."""
    rows: list[dict[str, Any]] = []
    for name in TASKS:
        for method in METHODS:
            rows += tabular_rows(name, method)
            for made in rows[-len(TASKS[name]) - (len(TASKS[name]) > 1) :]:
                print("  ".join(f"{key} {value}" for key, value in made.items() if value != ""), flush=True)
    with (RESULTS / "tabular.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    missed = sorted(set(TASKS) - {made["set"] for made in rows if made["reached"]})
    print(f"bars missed by every method: {', '.join(missed)}" if missed else "every bar is reached")
