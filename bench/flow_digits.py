"""Digits by energy flow against persistent chains: every method as `ebm train` runs it, judged as the demo is.

    pcd                     with longer walks and training than the demo's: the bar
    em                      Energy Matching: a potential, sampled by chains on the ramp of the temperature
    eqm, eqm-dot, eqm-l2    Equilibrium Matching: a field, and the energies made of one, sampled by descent
    student                 one evaluation of a flow map that the eqm of the same seed teaches

Precision and recall (k = 5, 20 principal components) of 1,000 samples against 1,000 training digits, and the Frechet
distance of a classifier's features, 500 against 500. For the eqm of the first seed, quality against evaluations with
and without a stop on |f| < g_min, too (`flow_nfe.py`).

`missed` holds the bars; `python -m bench flow_digits` says of each run what was not reached.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from ebm_fast.app.draws import fresh_start, usual_steps
from ebm_fast.app.evaluate import SAMPLES
from ebm_fast.app.run import run_open

from .flow_nfe import nfe_rows, nfe_write, quality_of
from .recipe import train_recipe
from .table import RESULTS, Row, machine

SEEDS = (0, 1, 2)
METHODS = ("pcd", "em", "eqm", "eqm-dot", "eqm-l2", "student")
LONG = ("train.K=30", "train.M=5000", "train.lr=7e-4", "train.steps=2400")  # of pcd
TEACHER = "eqm"
BAR_STUDENT = 0.7  # share of the teacher's recall
BAR_SECONDS = 600.0  # of a training
FIGURES = ("precision", "recall", "frechet_feature")
ERRORS = tuple(f"{name}_se" for name in FIGURES)


def run_methods(folder: Path, seed: int, more: tuple[str, ...] = ()) -> list[Row]:
    """A row for each method, trained into folder/METHOD with the settings `more`."""
    rows: list[Row] = []
    for method in METHODS:
        options = ["--method", method, "--seed", str(seed)]
        options += ["--init", str(folder / TEACHER)] if method == "student" else []
        settings = {each.split("=")[0]: each for each in (*(LONG if method == "pcd" else ()), *more)}
        summary = train_recipe(folder / method, [*settings.values()], options)
        row = {"seed": seed, "method": method}
        row["nfe"] = None if method == "pcd" else usual_steps(run_open(folder / method)[0])  # persistent chains
        row |= {name: summary[name] for name in (*FIGURES, *ERRORS, "classes_covered", "backend")}
        row["seconds"] = summary["seconds_train"]
        bar = rows[0] if rows else row
        if method == "student":
            row["recall_kept"] = row["recall"] / next(r for r in rows if r["method"] == TEACHER)["recall"]
        rows.append(row | {f"{name}_pcd": bar[name] for name in FIGURES})
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        print(f"seed {seed}: {method}: missed: {'; '.join(missed(rows[-1])) or 'nothing'}", flush=True)
    return rows


def missed(row: Row) -> list[str]:
    """What a row does not reach, in words: PCD bettered in every figure; of a student, the share of the recall kept."""
    if row["method"] == "pcd":
        return []
    if row["method"] == "student":
        kept = row["recall_kept"]
        return [] if kept >= BAR_STUDENT else [f"keeps {kept:.1%} of the recall, of {BAR_STUDENT:.0%}"]
    better = {name: row[name] > row[f"{name}_pcd"] for name in ("precision", "recall")}
    better["frechet_feature"] = row["frechet_feature"] < row["frechet_feature_pcd"]
    words = [f"{name} {row[name]:.3f} against {row[f'{name}_pcd']:.3f}" for name, ok in better.items() if not ok]
    return words + ([f"{row['seconds']:.0f} s of {BAR_SECONDS:.0f}"] if row["seconds"] > BAR_SECONDS else [])


def compare_flows() -> None:
    """Write bench/results/flow_digits.csv, flow_nfe.csv and flow_nfe.png; each row is printed when it is made."""
    rows: list[Row] = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            rows += run_methods(folder, seed)
            save(rows, RESULTS / "flow_digits.csv")
            if seed == SEEDS[0]:
                nfe_write(nfe_of_run(folder / TEACHER))


def nfe_of_run(folder: Path) -> list[Row]:
    """Quality against evaluations for the field of a run."""
    run, state = run_open(folder)
    model = run.model(state)
    x0 = fresh_start(run, SAMPLES, run.seed)
    return nfe_rows(
        model.backend, quality_of(run.data, run.seed), run.chains_energy, model.theta, x0, run.config.train.eta
    )


def save(rows: list[Row], path: Path) -> None:
    """The rows as they are so far."""
    names = list(dict.fromkeys(key for row in rows for key in row)) + list(machine())
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(
            {k: round(v, 5) if isinstance(v, float) else v for k, v in (row | machine()).items()} for row in rows
        )
