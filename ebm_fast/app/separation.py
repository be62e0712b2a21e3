"""How well a run tells its held-out samples from others: AUROC, AUPR both ways, FPR at 95 %, by four scores.

score          -E(x); also -|E(x) - mean E(train)| (`typicality`), -|grad_x E(x)| (`grad_norm`), and of a classifier
               max_y p(y | x) (`max_softmax`): for these the AUROC alone
errors         of an AUROC DeLong's, of an AUPR the delta method's, of FPR95 the sd of BOOTSTRAP resamplings of both
               sets, whose threshold is drawn again each time
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Array
from ebm_ref.evaluation import (
    Estimate,
    aupr_in,
    aupr_out,
    auroc_estimate,
    fpr_at_tpr,
    score_grad_norm,
    score_max_softmax,
)

from .figures import with_error
from .model import CHUNK, Model
from .placement import to_backend, to_host

BOOTSTRAP = 200


def separation(model: Model, inside: Array, train: Array, sets: dict[str, Array]) -> dict[str, Any]:
    """Figures of every set; inside: held-out samples   train: their mean energy is what is typical."""
    mean = float(model.energies(train).mean())
    scores = scores_of(model, inside, mean)
    figures: dict[str, Any] = {}
    for name, others in sets.items():
        out = scores_of(model, others, mean)
        figures |= told_apart("", name, scores["energy"], out["energy"])
        for score in list(scores)[1:]:
            figures |= with_error(f"auroc_{name}_{score}", auroc_estimate(scores[score], out[score]))
    return figures


def told_apart(prefix: str, name: str, scores_in: Array, scores_out: Array) -> dict[str, Any]:
    """AUROC, AUPR both ways and FPR95 of one score, (m,) and (n,) float64, as PREFIXauroc_NAME and so on."""
    measures = {"auroc": auroc_estimate, "aupr_in": aupr_in, "aupr_out": aupr_out, "fpr95": fpr95}
    figures: dict[str, Any] = {}
    for figure, measure in measures.items():
        figures |= with_error(f"{prefix}{figure}_{name}", measure(scores_in, scores_out))
    return figures


def scores_of(model: Model, x: Array, mean: float) -> dict[str, Array]:
    """Each score of x, (N,) float64; NumPy's."""
    E = model.energies(x)
    scores = {"energy": -E, "typicality": -np.abs(E - mean), "grad_norm": chunked(model, score_grad_norm, x)}
    if hasattr(model.energy, "logits"):
        scores["max_softmax"] = chunked(model, score_max_softmax, x)
    return scores


def chunked(model: Model, score: Any, x: Array) -> Array:
    parts = (to_backend(model.backend, x[i : i + CHUNK]) for i in range(0, len(x), CHUNK))
    found = [to_host(model.backend, score(model.energy, model.theta, part)) for part in parts]
    return np.concatenate(found).astype(np.float64)


def fpr95(scores_in: Array, scores_out: Array) -> Estimate:
    """`fpr_at_tpr` at 0.95, and its sd over resamplings of both sets; the same scores give the same error."""
    rng = np.random.default_rng(0)
    again = [
        fpr_at_tpr(rng.choice(scores_in, len(scores_in)), rng.choice(scores_out, len(scores_out)))
        for _ in range(BOOTSTRAP)
    ]
    return Estimate(fpr_at_tpr(scores_in, scores_out), float(np.std(again, ddof=1)))
