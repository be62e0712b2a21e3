"""The figures of summary.json: separation from other data, likelihood, fidelity and variety of the samples.

A figure NAME is followed by its standard error NAME_se where it has one: of a mean, sd / sqrt n; the rest is said where
it is made: `separation`, `fidelity`, `classifying`, `annealing`. Counts have none. Scores are s = -E(x), higher = more
in-distribution; the in-distribution samples are the held-out ones.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ebm_fast.extras import require
from ebm_ref.contracts import Array, Buffer, Params, flat_size
from ebm_ref.evaluation import energy_gap, estimate_mean, log_z_quadrature
from ebm_ref.specs import Box

from .classifying import classification, is_classifier
from .data import Dataset
from .fidelity import COMPONENTS, HIDDEN, classes, distances, fidelity, principal_components
from .figures import with_error
from .model import Model, choose
from .ood_sets import ood_sets_of
from .placement import to_host
from .separation import separation

SAMPLES = 1000  # chains, and real samples, that are compared
CHAINS, REAL = 2**32 - 1, 2**32 - 2  # steps of Stream.EVALUATION whose draws choose samples


def check_extras(data: Dataset) -> None:
    """Raise MissingExtraError unless `evaluate` can run to its end; asked before a training, not after it."""
    if data.name in HIDDEN:
        require("matplotlib", "plot")  # its fonts draw the letters
        for module in ("PIL.ImageFont", "sklearn.neural_network", "threadpoolctl"):
            require(module, "data")


def choose_chains(backend: ModuleType, buffer: Buffer, seed: int) -> Array:
    """The persistent chains that stand for the model, (up to 1,000, *shape); NumPy's."""
    chains: Array = to_host(backend, choose(backend, buffer.slots[: buffer.filled], SAMPLES, seed, CHAINS))
    return chains


def evaluate(
    model: Model, data: Dataset, chains: Array, seed: int, box: Box | None = None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """(figures, energies by set): gap, energies, separation, precision and recall, feature distances, classes.

    A classifier has its accuracy and calibration too, and a density in the plane or on a line its likelihood, over
    `box` or, where there is none, over the range of the data and half of it more on each side. What has no energy has
    neither gap, separation nor likelihood.
    """
    real = choose(model.backend, data.train, SAMPLES, seed, REAL)
    figures, energies = ({}, {}) if model.energy is None else energy_figures(model, data, chains, box)
    if is_classifier(model, data):
        figures |= classification(model, data)
    figures |= fidelity(data, real, chains)
    if data.name in HIDDEN:
        figures |= classes(data, chains, real)
    else:
        project = principal_components(data.train)
        axes = min(COMPONENTS, flat_size(data.shape))
        figures |= distances(project(real), project(chains), f"{axes} principal components of the training data")
    return figures, energies


def energy_figures(
    model: Model, data: Dataset, chains: Array, box: Box | None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """(gap, energies, separation and likelihood; energies by set)."""
    energies = {"data": model.energies(data.test), "samples": model.energies(chains)}
    figures: dict[str, Any] = {
        **with_error("gap", energy_gap(energies["data"], energies["samples"])),
        **with_error("energy_data", estimate_mean(energies["data"])),
        **with_error("energy_samples", estimate_mean(energies["samples"])),
    }
    others = ood_sets_of(data)
    energies |= {name: model.energies(x) for name, x in others.items()}
    figures |= separation(model, data.test, data.train, others)
    if data.shape in ((1,), (2,)):
        figures |= likelihood(model, data, energies["data"], box)
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
