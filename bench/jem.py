"""One network that classifies and knows what it has not seen: JEM against the same network as a plain classifier.

Both are trained on the 1,437 training digits by the same function, from the same start, on the same noised batches,
for as many steps; the classifier has w_x = 0, w_mi = 0. Both are scored on the 360 test digits: accuracy, ECE (15
bins), AUROC of -E(x) against other images, accuracy under PGD (L-infinity, images in [-1, 1]). A second pair is
trained without class 9 and scored by the AUROC of -E between the test digits of the other classes and all nines.

`missed` holds the bars; `python -m bench jem` says of each seed and of the mean of the seeds what they did not reach.
"""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast import backend as load_backend
from ebm_fast.app.data import Dataset, labelled_load
from ebm_fast.app.ood_sets import ood_sets
from ebm_ref.contracts import Array, Params
from ebm_ref.specs import SGLD

from .table import RESULTS, Row, machine

SEEDS = (0, 1, 2)
BOX = (-1.0, 1.0)
HIDDEN = (128, 128)
STEPS, BATCH, K, M = 2000, 64, 10, 1000
LR, WARMUP, DECAY = 1e-3, 100, 0.998
SIGMA_DATA, RHO, RIDGE = 0.2, 0.05, 1e-2
UPDATE = SGLD(eta=0.1, sigma=0.2, box=BOX)
TERMS = {"classifier": ebm_ref.JEMTerms(w_x=0.0), "jem": ebm_ref.JEMTerms(w_x=0.3, w_mi=0.2)}
HELD_OUT = 9
RADII = (0.05, 0.1, 0.2, 0.3)
PGD_STEPS, PGD_STARTS = 40, 2


def train(backend: ModuleType, data: Dataset, terms: ebm_ref.JEMTerms, seed: int) -> tuple[Any, Params, Row]:
    """(energy, averaged parameters, what the training says of itself)."""
    classes, labels = int(data.train_labels.max()) + 1, data.train_labels
    energy = backend.ClassifierEnergy(backend.MLPEnergy(data.shape, HIDDEN), classes)
    theta = ebm_ref.theta_init(energy, seed)
    ema, optimizer = ebm_ref.ema_init(theta), ebm_ref.adam_init(theta)
    start = ebm_ref.class_gaussians(data.train, labels, classes, RIDGE)
    buffer = ebm_ref.class_buffer_start(M // classes * classes, start, seed=seed, box=BOX)
    every, began, gaps, stopped = np.arange(len(data.train)), time.perf_counter(), [], 0
    for step in range(STEPS):
        i, j = ebm_ref.jem_batch(len(data.train), every, BATCH, seed, step)
        batch = (data.train[i], data.train[j], labels[j])
        chain = (K, UPDATE, terms, SIGMA_DATA, RHO, seed, step, BOX, start)
        _, grads, info = ebm_ref.jem_step(backend, energy, theta, *batch, buffer, *chain)
        lr = ebm_ref.schedule_value(step, STEPS, LR, WARMUP, "cosine")
        theta, optimizer = ebm_ref.adam_step(theta, grads, optimizer, lr)
        ema = ebm_ref.ema_step(ema, theta, min(DECAY, (1 + step) / (10 + step)))
        if terms.w_x:
            gaps.append(float(info["gap"]))
            stopped += info["chain"].nonfinite
    seconds = time.perf_counter() - began
    return energy, ema, {"seconds": seconds, "stopped": stopped, "gap": float(np.mean(gaps[-200:])) if gaps else ""}


def score(energy: Any, theta: Params, data: Dataset, seed: int) -> Row:
    """Accuracy, calibration, separation from other images, and accuracy under attack."""
    logits, inside = energy.logits(theta, data.test), -energy.energy(theta, data.test)
    row: Row = {"accuracy": float((logits.argmax(axis=1) == data.test_labels).mean())}
    row["ece"] = ebm_ref.ece(np.exp(ebm_ref.log_softmax(logits)), data.test_labels).value
    row["nll"] = ebm_ref.nll(logits, data.test_labels).value
    for name, images in ood_sets(data.test, letters=True).items():
        row[f"auroc_{name}"] = ebm_ref.auroc(inside, -energy.energy(theta, images))
        row[f"fpr95_{name}"] = ebm_ref.fpr_at_tpr(inside, -energy.energy(theta, images))
    for eps in RADII:
        attack = ebm_ref.pgd_run(
            ebm_ref,
            energy,
            theta,
            data.test,
            data.test_labels,
            eps,
            eps / 8,
            PGD_STEPS,
            seed,
            box=BOX,
            starts=PGD_STARTS,
        )
        row[f"pgd_{eps:g}"] = ebm_ref.robust_accuracy(attack).value
    return row


def without(data: Dataset, held_out: int) -> tuple[Dataset, Array]:
    """(the data of the other classes, renumbered; all images of the class left out)."""
    kept = [labels != held_out for labels in (data.train_labels, data.test_labels)]
    train_labels, test_labels = (
        labels[keep] - (labels[keep] > held_out)
        for labels, keep in zip((data.train_labels, data.test_labels), kept, strict=True)
    )
    rest = replace(
        data, train=data.train[kept[0]], test=data.test[kept[1]], train_labels=train_labels, test_labels=test_labels
    )
    return rest, np.concatenate([data.train[~kept[0]], data.test[~kept[1]]])


def held_out_auroc(backend: ModuleType, data: Dataset, terms: ebm_ref.JEMTerms, seed: int) -> float:
    """AUROC of -E between the test digits of nine classes and the tenth, which was never seen."""
    rest, unseen = without(data, HELD_OUT)
    energy, theta, _ = train(backend, rest, terms, seed)
    return ebm_ref.auroc(-energy.energy(theta, rest.test), -energy.energy(theta, unseen))


def missed(jem: Row, classifier: Row) -> list[str]:
    """The bars that a run of JEM did not reach, in words."""
    bars = {
        "accuracy >= 0.975": jem["accuracy"] >= 0.975,
        "accuracy within a point of the classifier's": jem["accuracy"] >= classifier["accuracy"] - 0.01,
        "ece <= 0.02 or below the classifier's": jem["ece"] <= max(0.02, classifier["ece"]),
        "auroc_letters >= 0.90": jem["auroc_letters"] >= 0.90,
        "auroc_held_out >= 0.95": jem["auroc_held_out"] >= 0.95,
    }
    bars |= {f"auroc_{name} >= 0.95": jem[f"auroc_{name}"] >= 0.95 for name in ("inverted", "rot90", "uniform")}
    bars |= {f"pgd_{eps:g} above the classifier's": jem[f"pgd_{eps:g}"] > classifier[f"pgd_{eps:g}"] for eps in RADII}
    return [bar for bar, reached in bars.items() if not reached]


def split(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of JEM and those of the classifier."""
    return [r for r in rows if r["model"] == "jem"], [r for r in rows if r["model"] == "classifier"]


def mean_row(rows: list[Row]) -> Row:
    """Every figure, averaged over the seeds."""
    return {name: float(np.mean([r[name] for r in rows])) for name, v in rows[0].items() if isinstance(v, float)}


def compare_jem() -> None:
    """Write bench/results/jem_digits.csv: a row a seed and model, with the settings and the machine."""
    backend, data = load_backend("auto"), labelled_load("digits", "float32")
    settings = {
        "backend": backend.__name__.split(".")[-1],
        "steps": STEPS,
        "K": K,
        "eta": UPDATE.eta,
        "sigma": UPDATE.sigma,
        "M": M,
    }
    settings |= {"sigma_data": SIGMA_DATA, "hidden": "x".join(map(str, HIDDEN)), "lr": LR, "batch": BATCH}
    rows: list[Row] = []
    for seed in SEEDS:
        pair = {}
        for model, terms in TERMS.items():
            energy, theta, training = train(backend, data, terms, seed)
            row = {"seed": seed, "model": model} | score(energy, theta, data, seed)
            row["auroc_held_out"] = held_out_auroc(backend, data, terms, seed)
            pair[model] = row | training | {"w_x": terms.w_x, "w_mi": terms.w_mi} | settings | machine()
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in (row | training).items()}, flush=True)
        print(f"seed {seed}: missed: {'; '.join(missed(pair['jem'], pair['classifier'])) or 'nothing'}", flush=True)
        rows += pair.values()
    print(
        f"mean of {len(SEEDS)} seeds: missed: {'; '.join(missed(*map(mean_row, split(rows)))) or 'nothing'}", flush=True
    )
    with (RESULTS / "jem_digits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
