"""The figures of summary.json: separation from other data, likelihood, fidelity and variety of the samples.

A figure NAME is followed by its standard error NAME_se where it has one: of a mean, sd / sqrt n; of an AUROC,
DeLong's. Scores are s = -E(x), higher = more in-distribution; the in-distribution samples are the held-out ones.
Fidelity is measured in the space of the 20 leading principal components of the real training images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from types import ModuleType
from typing import Any

import numpy as np

from ebm_fast.extras import require
from ebm_ref.contracts import Array, Buffer, Energy, Params, Stream
from ebm_ref.evaluation import (
    Estimate,
    auroc_estimate,
    brier,
    ece,
    energy_gap,
    estimate_mean,
    fpr_at_tpr,
    log_z_quadrature,
    nll,
    precision_recall,
)
from ebm_ref.objectives import log_softmax
from ebm_ref.specs import Box

from .data import Dataset
from .ood_sets import ood_sets_of
from .placement import to_backend, to_host

SAMPLES = 1000  # chains, and real samples, that are compared
COMPONENTS = 20
NEIGHBOURS = 5
COVERED = 0.02  # share of the samples that makes a class covered
CHUNK = 256  # samples whose energies are computed at once
HIDDEN = {"digits": 100, "mnist5k": 128}  # units of the classifier that names the classes
CHAINS, REAL = 2**32 - 1, 2**32 - 2  # steps of Stream.EVALUATION whose draws choose samples


@dataclass(frozen=True)
class Model:
    """An energy with its parameters and the backend that computes it."""

    backend: ModuleType
    energy: Energy
    theta: Params

    def energies(self, x: Array) -> Array:
        """E(x), (N,) float64, in chunks; x and what comes back are NumPy's, theta the backend's."""
        chunks = (to_backend(self.backend, x[i : i + CHUNK]) for i in range(0, len(x), CHUNK))
        parts = [to_host(self.backend, self.energy.energy(self.theta, chunk)) for chunk in chunks]
        return np.concatenate(parts).astype(np.float64)

    def logits(self, x: Array) -> Array:
        """F(x), (N, C) float64, of a classifier."""
        chunks = (to_backend(self.backend, x[i : i + CHUNK]) for i in range(0, len(x), CHUNK))
        energy: Any = self.energy
        return np.concatenate([to_host(self.backend, energy.logits(self.theta, chunk)) for chunk in chunks]).astype(
            np.float64
        )


def with_error(name: str, estimate: Estimate) -> dict[str, float | None]:
    """{NAME: value, NAME_se: its standard error}."""
    return {name: estimate.value, f"{name}_se": None if isnan(estimate.se) else estimate.se}


def check_extras(data: Dataset) -> None:
    """Raise MissingExtraError unless `evaluate` can run to its end; asked before a training, not after it."""
    if data.name in HIDDEN:
        require("matplotlib", "plot")  # its fonts draw the letters
        for module in ("PIL.ImageFont", "sklearn.neural_network", "threadpoolctl"):
            require(module, "data")


def choose(backend: ModuleType, samples: Array, count: int, seed: int, purpose: int) -> Array:
    """`count` of the samples, without repeats and by address; all of them where there are fewer."""
    order = to_host(backend, backend.noise_permutation(seed, Stream.EVALUATION, purpose, len(samples)))
    return samples[order[:count]]


def choose_chains(backend: ModuleType, buffer: Buffer, seed: int) -> Array:
    """The persistent chains that stand for the model, (up to 1,000, *shape); NumPy's."""
    chains: Array = to_host(backend, choose(backend, buffer.slots[: buffer.filled], SAMPLES, seed, CHAINS))
    return chains


def evaluate(
    model: Model, data: Dataset, chains: Array, seed: int, box: Box | None = None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """(figures, energies by set): gap, energies, AUROC and FPR, precision and recall, classes covered.

    A classifier has its accuracy and calibration too, and a density in the plane or on a line its likelihood, over
    `box` or, where there is none, over the range of the data and half of it more on each side.
    """
    real = choose(model.backend, data.train, SAMPLES, seed, REAL)
    energies = {"data": model.energies(data.test), "samples": model.energies(chains)}
    figures: dict[str, Any] = {
        **with_error("gap", energy_gap(energies["data"], energies["samples"])),
        **with_error("energy_data", estimate_mean(energies["data"])),
        **with_error("energy_samples", estimate_mean(energies["samples"])),
    }
    for name, others in ood_sets_of(data).items():
        energies[name] = model.energies(others)
        figures |= with_error(f"auroc_{name}", auroc_estimate(-energies["data"], -energies[name]))
        figures[f"fpr95_{name}"] = fpr_at_tpr(-energies["data"], -energies[name])
    if data.shape in ((1,), (2,)):
        figures |= likelihood(model, data, energies["data"], box)
    if data.test_labels is not None and hasattr(model.energy, "logits"):
        figures |= classification(model, data)
    figures |= fidelity(data, real, chains)
    if data.name in HIDDEN:
        figures |= classes(data, chains)
    return figures, energies


def likelihood(model: Model, data: Dataset, energies: Array, box: Box | None) -> dict[str, Any]:
    """log Z over the box by quadrature, and the mean log p of held-out data."""
    low, high = float(data.train.min()), float(data.train.max())
    box = box or (low - (high - low) / 2, high + (high - low) / 2)
    host: Any = _OnHost(model)
    found = log_z_quadrature(host, to_host(model.backend, model.theta), box)
    log_p = with_error("log_likelihood", estimate_mean(-energies - found.log_z))
    return {"log_z": found.log_z, "log_z_error": found.error, **log_p}


class _OnHost:
    """The model as an energy of NumPy's arrays, wherever its backend computes."""

    def __init__(self, model: Model) -> None:
        self.model, self.shape = model, model.energy.shape

    def energy(self, theta: Params, x: Array) -> Array:
        return self.model.energies(x)


def classification(model: Model, data: Dataset) -> dict[str, Any]:
    """Accuracy, negative log-likelihood, Brier score and calibration error on held-out data."""
    F, y = model.logits(data.test), data.test_labels
    assert y is not None
    p = np.exp(log_softmax(F))  # (m, C)
    right = (F.argmax(axis=1) == y).astype(np.float64)  # (m,)
    return (
        with_error("accuracy", estimate_mean(right))
        | with_error("nll", nll(F, y))
        | with_error("brier", brier(p, y))
        | with_error("ece", ece(p, y))
    )


def fidelity(data: Dataset, real: Array, chains: Array) -> dict[str, Any]:
    """Precision and recall of the chains, and of one half of the real samples against the other."""
    project = principal_components(data.train)
    real, fake = project(real), project(chains)
    if min(len(real) // 2, len(fake)) <= NEIGHBOURS:
        return {"precision": None, "recall": None, "why_no_precision": f"needs more than {NEIGHBOURS} samples a set"}
    precision, recall = precision_recall(real, fake, NEIGHBOURS)
    halves = precision_recall(real[::2], real[1::2], NEIGHBOURS)
    return {"precision": precision, "recall": recall, "precision_real": halves[0], "recall_real": halves[1]}


def principal_components(train: Array) -> Any:
    """The map onto the leading principal components of `train` (the identity where it has no more axes)."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, axes = np.linalg.eigh((flat - mean).T @ (flat - mean))  # ascending
    leading = axes[:, ::-1][:, :COMPONENTS]  # (D, 20)
    if flat.shape[1] <= COMPONENTS:
        leading = np.eye(flat.shape[1])
    return lambda x: (x.reshape(len(x), -1).astype(np.float64) - mean) @ leading


def classes(data: Dataset, chains: Array) -> dict[str, Any]:
    """What a classifier of the real training images finds among the chains."""
    network = require("sklearn.neural_network", "data").MLPClassifier(
        (HIDDEN[data.name],), random_state=0, max_iter=400
    )
    flatten = lambda x: (x.reshape(len(x), -1) + 1) / 2  # noqa: E731
    with require("threadpoolctl", "data").threadpool_limits(1):  # its matrices are too small to share
        network.fit(flatten(data.train), data.train_labels)
    found = np.bincount(network.predict(flatten(chains)), minlength=10) / len(chains)
    return {
        "classes_covered": int((found >= COVERED).sum()),
        "class_shares": [round(float(share), 4) for share in found],
        "classifier_accuracy": float((network.predict(flatten(data.test)) == data.test_labels).mean()),
    }
