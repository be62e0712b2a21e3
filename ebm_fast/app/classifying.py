"""A run as a classifier: accuracy, calibration and its temperature, a linear probe, and an attack on it.

temperature   fitted on one half of the held-out samples; the figures before and after it are of the other half
pgd           PGD_STEPS steps of size 2.5 eps / PGD_STEPS in the l_inf ball, from a random start, pixels in [-1, 1]
              (`ebm eval RUN --pgd`): an upper bound of the accuracy under the worst input
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, ConfigError, RangeError, check_number
from ebm_ref.evaluation import (
    brier,
    ece,
    estimate_mean,
    nll,
    pgd_run,
    probe_accuracy,
    probe_ridge,
    robust_accuracy,
    temperature_fit,
)
from ebm_ref.objectives import log_softmax

from .data import Dataset
from .figures import with_error
from .model import Model
from .placement import to_backend, to_host

PGD_STEPS = 40
EPS = 0.1  # of pixels in [-1, 1]: 12.75 / 255
RIDGE = 1.0
PIXELS = (-1.0, 1.0)


@dataclass(frozen=True)
class Attacking:
    """eps: radius of the l_inf ball, pixels in [-1, 1]. Raises RangeError, DTypeError."""

    eps: float = EPS

    def __post_init__(self) -> None:
        check_number("--eps", self.eps, low=0.0, high=2.0)


def is_classifier(model: Model, data: Dataset) -> bool:
    """Whether there are classes, and logits of them."""
    return data.test_labels is not None and hasattr(model.energy, "logits")


def classification(model: Model, data: Dataset) -> dict[str, Any]:
    """Accuracy, negative log-likelihood, Brier score and calibration error on held-out data; temperature; probe."""
    F, y = model.logits(data.test), data.test_labels
    assert y is not None
    p = np.exp(log_softmax(F))  # (m, C)
    right = (F.argmax(axis=1) == y).astype(np.float64)  # (m,)
    figures: dict[str, Any] = (
        with_error("accuracy", estimate_mean(right))
        | with_error("nll", nll(F, y))
        | with_error("brier", brier(p, y))
        | with_error("ece", ece(p, y))
        | calibrated(F, y)
    )
    return figures | probed(model, data)


def calibrated(F: Array, y: Array) -> dict[str, Any]:
    """The temperature of one half of (F, y), and nll and ece of the other half before and after."""
    try:
        fitted = temperature_fit(F[::2], y[::2])
    except RangeError as error:
        return {"temperature": None, "why_no_temperature": str(error)}
    figures: dict[str, Any] = with_error("temperature", fitted.temperature)
    F, y = F[1::2], y[1::2]
    for when, logits in (("before", F), ("after", F / fitted.temperature.value)):
        p = np.exp(log_softmax(logits))
        figures |= with_error(f"nll_{when}", nll(logits, y)) | with_error(f"ece_{when}", ece(p, y))
    return figures


def probed(model: Model, data: Dataset) -> dict[str, Any]:
    """Accuracy on held-out data of a ridge regression on the features that the last layer sees."""
    assert data.train_labels is not None and data.test_labels is not None
    train, test = model.features(data.train), model.features(data.test)
    probe = probe_ridge(train, data.train_labels, int(data.train_labels.max()) + 1, RIDGE)
    return with_error("probe_accuracy", probe_accuracy(probe, test, data.test_labels))


def check_attacked(model: Model, data: Dataset) -> None:
    """Raise ConfigError where the run is no classifier."""
    if not is_classifier(model, data):
        raise ConfigError("--pgd: expected a classifier, a run of method jem; this run has no logits")


def attacked(model: Model, data: Dataset, plan: Attacking, seed: int) -> dict[str, Any]:
    """The accuracy that is left under the attack. Raises ConfigError where the run is no classifier."""
    check_attacked(model, data)
    x, energy = to_backend(model.backend, data.test), model.energy
    args = (plan.eps, 2.5 * plan.eps / PGD_STEPS, PGD_STEPS, seed)
    found = pgd_run(model.backend, energy, model.theta, x, data.test_labels, *args, box=PIXELS)  # type: ignore[arg-type]
    left = robust_accuracy(to_host(model.backend, found))
    norm = f"l_inf, eps = {plan.eps:g}, {PGD_STEPS} steps: an upper bound of robustness"
    return {**with_error("robust_accuracy", left), "robust_attack": norm}
