"""Quality against evaluations: descent on one field by four rules, for K steps or until |f| < g_min.

Every rule goes K_MAX steps from the same starts. Without a stop all samples cost K, and a row is made at each of
BUDGETS; with one, a sample costs what it took until |f| < g_min where its gradient was taken, and a row is made for
each g_min, with the mean of `nfe`. Two answers to how much a stop saves, both in percent of evaluations:

    saved_of_max    of K_MAX, which a fixed budget spends
    saved_of_same   of K_same: the smallest of BUDGETS at which all samples together are as good as the stopped ones,
                    within TOLERANCE of their precision and recall, and of their Frechet distance within its error.
                    Empty where no budget is. Whoever knows K_same beforehand needs no stop
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_fast.app.data import Dataset
from ebm_fast.app.evaluate import REAL, SAMPLES, choose
from ebm_fast.app.fidelity import HIDDEN, NEIGHBOURS, jackknife, principal_components
from ebm_fast.extras import require
from ebm_ref.contracts import Array, Params
from ebm_ref.evaluation import frechet_feature, precision_recall

from .table import RESULTS, Row

BUDGETS = (10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200)
STOPS = (16.0, 8.0, 4.0, 2.0, 1.0)
TOLERANCE = 0.01
MOMENTUM = 0.35
ADAM = 0.1


def rules_of(eta: float) -> dict[str, Any]:
    """The four rules at the step eta; Adam's step is its own, since it does not see the length of f."""
    return {
        "descent": ebm_ref.GradientDescent(eta),
        "look-ahead": ebm_ref.LookAheadDescent(eta, MOMENTUM),
        "nesterov": ebm_ref.NesterovDescent(eta, MOMENTUM),
        "adam": ebm_ref.AdamDescent(ADAM, beta1=0.5),
    }


def nfe_rows(
    backend: ModuleType,
    quality: Callable[[Array], Row],
    field: Any,
    theta: Params,
    x0: Array,
    eta: float,
    budgets: tuple[int, ...] = BUDGETS,
    stops: tuple[float, ...] = STOPS,
) -> list[Row]:
    """A row for each rule and budget, and for each rule and g_min; quality: x -> figures, `quality_of`."""
    run = getattr(backend, "descent_run", ebm_ref.descent_run)
    K_max = max(budgets)
    rows: list[Row] = []
    for name, rule in rules_of(eta).items():
        x, state, done, plain = x0, None, 0, []
        for K in budgets:
            x, state, _ = run(field, theta, x, K - done, rule, 0.0, state)
            done = K
            plain.append({"rule": name, "eta": rule.eta, "g_min": 0.0, "K": K, "nfe": float(K)} | quality(x))
        rows += plain
        for g_min in stops:
            x, _, info = run(field, theta, x0, K_max, rule, g_min)
            row = {"rule": name, "eta": rule.eta, "g_min": g_min, "K": K_max, "nfe": float(info.extra["nfe"].mean())}
            row |= quality(x) | {"stopped": float(info.extra["stopped"].mean())}
            rows.append(row | savings(row, plain, K_max))
    return rows


def savings(row: Row, plain: list[Row], K_max: int) -> Row:
    """saved_of_max, K_same and saved_of_same of a row with a stop, against those without."""
    same = [
        other["K"]
        for other in plain
        if other["precision"] >= row["precision"] - TOLERANCE
        and other["recall"] >= row["recall"] - TOLERANCE
        and other["frechet_feature"] <= row["frechet_feature"] + row["frechet_feature_se"]
    ]
    saved: Row = {"saved_of_max": 100 * (1 - row["nfe"] / K_max)}
    return saved | ({"K_same": min(same), "saved_of_same": 100 * (1 - row["nfe"] / min(same))} if same else {})


def quality_of(data: Dataset, seed: int) -> Callable[[Array], Row]:
    """x -> precision, recall, frechet_feature and its error, as `fidelity` and `classes` have them; one classifier."""
    real = choose(ebm_ref, data.train, SAMPLES, seed, REAL)
    project, hidden = principal_components(data.train), features_of(data)
    real_axes, real_hidden = project(real), hidden(real)

    def quality(x: Array) -> Row:
        x = np.clip(x, -1, 1)
        n = min(len(real) // 2, len(x))
        precision, recall = precision_recall(real_axes, project(x), NEIGHBOURS)
        distance = jackknife(frechet_feature, hidden(x[:n]), real_hidden[1::2][:n])
        figures = {"precision": precision, "recall": recall, "frechet_feature": distance.value}
        return figures | {"frechet_feature_se": distance.se}

    return quality


def features_of(data: Dataset) -> Callable[[Array], Array]:
    """x -> the hidden units of the classifier that `classes` trains."""
    network = require("sklearn.neural_network", "data").MLPClassifier(
        (HIDDEN[data.name],), random_state=0, max_iter=400
    )
    with require("threadpoolctl", "data").threadpool_limits(1):
        network.fit((data.train.reshape(len(data.train), -1) + 1) / 2, data.train_labels)
    weights, bias = network.coefs_[0], network.intercepts_[0]
    return lambda x: np.maximum(((x.reshape(len(x), -1) + 1) / 2).astype(np.float64) @ weights + bias, 0)


def nfe_write(rows: list[Row], name: str = "flow_nfe") -> None:
    """bench/results/flow_nfe.csv and .png."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    plt = require("matplotlib.pyplot", "plot")
    figures = {"frechet_feature": "Frechet distance of features", "precision": "precision", "recall": "recall"}
    figure, axes = plt.subplots(1, len(figures), figsize=(15, 4.6))
    for axis, (what, label) in zip(axes, figures.items(), strict=True):
        for i, rule in enumerate(dict.fromkeys(row["rule"] for row in rows)):
            for stop, style in ((False, "-"), (True, "o")):
                part = [row for row in rows if row["rule"] == rule and (row["g_min"] > 0) == stop]
                part.sort(key=lambda row: row["nfe"])
                said = f"{rule}, stop on |f|" if stop else rule
                axis.plot([r["nfe"] for r in part], [r[what] for r in part], style, color=f"C{i}", label=said)
        axis.set_xscale("log")
        axis.set_xlabel("evaluations of f a sample, mean")
        axis.set_ylabel(label)
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{name}.png", dpi=80)
    plt.close(figure)
