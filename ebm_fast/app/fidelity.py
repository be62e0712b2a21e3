"""How near the samples are to the data: precision and recall, feature distances, the classes found among them.

Every figure is given for two sets of real samples as well (`_real`), of the same sizes: that is what it is at best.

    features   100 or 128 hidden units of a classifier of the real training images, where there is one, else the 20
               leading principal components. These are the formulas of FID, CMMD and IS on features of our own: not
               the numbers published under those names.
    errors     NAME_se of a share, sqrt(p (1 - p) / n), the other set taken as given; of frechet_feature, the jackknife
               that leaves out one of GROUPS groups of both sets at a time; of mmd_rbf and the score, their own
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np

from ebm_fast.extras import require
from ebm_ref.contracts import Array
from ebm_ref.evaluation import Estimate, frechet_feature, inception_style_score, mmd_rbf, precision_recall

from .data import Dataset
from .figures import share, with_error

COMPONENTS = 20
NEIGHBOURS = 5
GROUPS = 10  # of the jackknife
COVERED = 0.02  # share of the samples that makes a class covered
HIDDEN = {"digits": 100, "mnist5k": 128}  # units of the classifier that names the classes


def fidelity(data: Dataset, real: Array, chains: Array) -> dict[str, Any]:
    """Precision and recall of the chains, and of one half of the real samples against the other."""
    project = principal_components(data.train)
    real, fake = project(real), project(chains)
    if min(len(real) // 2, len(fake)) <= NEIGHBOURS:
        return {"precision": None, "recall": None, "why_no_precision": f"needs more than {NEIGHBOURS} samples a set"}
    figures: dict[str, Any] = {}
    for suffix, a, b in (("", real, fake), ("_real", real[::2], real[1::2])):
        precision, recall = precision_recall(a, b, NEIGHBOURS)
        figures |= with_error(f"precision{suffix}", share(precision, len(b)))
        figures |= with_error(f"recall{suffix}", share(recall, len(a)))
    return figures


def distances(real: Array, chains: Array, what: str) -> dict[str, Any]:
    """frechet_feature and mmd_rbf of the chains' features, and of real ones, against other real ones, at equal n.

    real, chains: (n, F), (m, F)   what: the features in words.
    """
    n = min(len(real) // 2, len(chains))
    if n < 2 * GROUPS:
        return {"frechet_feature": None, "mmd_rbf": None, "why_no_distance": f"needs {2 * GROUPS} samples a set"}
    target, bandwidth = real[1::2][:n], median_distance(real)
    figures: dict[str, Any] = {"features": f"{what}; {n} samples a set"}
    for suffix, x in (("", chains[:n]), ("_real", real[::2][:n])):
        figures |= with_error(f"frechet_feature{suffix}", jackknife(frechet_feature, x, target))
        figures |= with_error(f"mmd_rbf{suffix}", mmd_rbf(x, target, bandwidth))
    return figures | {"mmd_bandwidth": bandwidth}


def jackknife(statistic: Callable[[Array, Array], float], a: Array, b: Array) -> Estimate:
    """statistic(a, b) and sqrt((g - 1) / g sum_i (t_i - mean t)^2), t_i without group i of both sets, g = GROUPS."""
    left_out = [np.arange(len(a)) % GROUPS == i for i in range(GROUPS)]
    t = np.array([statistic(a[~out], b[~out]) for out in left_out])
    return Estimate(statistic(a, b), sqrt((GROUPS - 1) / GROUPS * float(((t - t.mean()) ** 2).sum())))


def median_distance(x: Array) -> float:
    """The median of |x_i - x_j| over pairs of the first 500, the usual bandwidth; 1 where they coincide."""
    x = x[:500]
    square = ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2)[np.triu_indices(len(x), 1)]
    return float(np.sqrt(np.median(square))) or 1.0


def principal_components(train: Array) -> Any:
    """The map onto the leading principal components of `train` (the identity where it has no more axes)."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, axes = np.linalg.eigh((flat - mean).T @ (flat - mean))  # ascending
    leading = axes[:, ::-1][:, :COMPONENTS]  # (D, 20)
    if flat.shape[1] <= COMPONENTS:
        leading = np.eye(flat.shape[1])
    return lambda x: (x.reshape(len(x), -1).astype(np.float64) - mean) @ leading


def classes(data: Dataset, chains: Array, real: Array | None = None) -> dict[str, Any]:
    """What a classifier of the real training images finds among the chains; with `real`, distances in its features."""
    network = require("sklearn.neural_network", "data").MLPClassifier(
        (HIDDEN[data.name],), random_state=0, max_iter=400
    )
    flatten = lambda x: (x.reshape(len(x), -1) + 1) / 2  # noqa: E731
    with require("threadpoolctl", "data").threadpool_limits(1):  # its matrices are too small to share
        network.fit(flatten(data.train), data.train_labels)
    found = np.bincount(network.predict(flatten(chains)), minlength=10) / len(chains)
    right = float((network.predict(flatten(data.test)) == data.test_labels).mean())
    figures = {
        "classes_covered": int((found >= COVERED).sum()),
        "class_shares": [round(float(part), 4) for part in found],
        **with_error("classifier_accuracy", share(right, len(data.test))),
    }
    if real is None:
        return figures
    hidden = lambda x: np.maximum(  # noqa: E731
        flatten(x).astype(np.float64) @ network.coefs_[0] + network.intercepts_[0], 0
    )
    for suffix, x in (("", chains), ("_real", data.test)):
        p = network.predict_proba(flatten(x)).astype(np.float64)
        p /= p.sum(axis=1, keepdims=True)  # float32 rounding
        figures |= with_error(f"class_score{suffix}", inception_style_score(p, min(10, len(p))))
    return figures | distances(hidden(real), hidden(chains), f"{HIDDEN[data.name]} hidden units of the classifier")
