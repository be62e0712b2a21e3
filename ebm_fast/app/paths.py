"""From noise to samples: the states on the way, how good samples are by the gradients spent, where descent stops.

    path_states       the states of a few samples after shares of the way, a row each
    quality           precision, recall and features' distance of samples that had fewer steps, and what they cost
    landscape         along straight lines from noise to data: the mean of E, and of the length of its gradient or of f

A step of Heun's rule costs two evaluations, of a student's map one; of a descent that stops, the mean over its samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Array
from ebm_ref.methods import METHODS

from .draws import draw, fresh_start, sampler_of, usual_steps
from .evaluate import REAL, SAMPLES
from .fidelity import COMPONENTS, distances, fidelity, principal_components
from .model import CHUNK, Model, choose
from .placement import to_backend, to_host
from .run import Run

SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
POINTS = 21  # on a line from noise to data
SHOWN = 16


def steps_of(run: Run) -> list[int]:
    """The numbers of steps that stand for SHARES of the way, without repeats."""
    K = usual_steps(run)
    least = 1 if sampler_of(run) in ("flow", "student") else 0
    return sorted({max(least, round(share * K)) for share in SHARES})


def path_states(run: Run, model: Model) -> list[tuple[int, Array]]:
    """(steps, states of SHOWN samples) after each number of steps; a flow of fewer steps is a coarser one."""
    x0 = fresh_start(run, SHOWN, run.seed)
    return [(K, draw(run, model, x0, K, run.seed)[0]) for K in steps_of(run)]


def quality(run: Run, model: Model) -> list[dict[str, Any]]:
    """A row for each number of steps: steps, nfe, precision, recall, frechet_feature."""
    x0 = fresh_start(run, SAMPLES, run.seed)
    real = choose(run.backend, run.data.train, SAMPLES, run.seed, REAL)
    project, axes = principal_components(run.data.train), min(COMPONENTS, run.data.train[0].size)
    rows = []
    for K in (K for K in steps_of(run) if K):
        x, info = draw(run, model, x0, K, run.seed)
        spent = (
            float(np.mean(info.extra["nfe"])) if "nfe" in info.extra else K * (2 if sampler_of(run) == "flow" else 1)
        )
        near = fidelity(run.data, real, x)
        far = distances(project(real), project(x), f"{axes} principal components")
        rows.append(
            {"steps": K, "nfe": spent}
            | {name: near.get(name) for name in ("precision", "recall")}
            | {"frechet_feature": far.get("frechet_feature")}
        )
    return rows


def stops(run: Run, model: Model) -> Array | None:
    """The evaluations after which each sample of a descent stopped, (N,); None where none may stop early."""
    if sampler_of(run) != "descent" or run.config.train.g_min == 0:
        return None
    info = draw(run, model, fresh_start(run, SAMPLES, run.seed), usual_steps(run), run.seed)[1]
    return np.asarray(info.extra["nfe"])


def landscape(run: Run, model: Model) -> dict[str, Array]:
    """t (POINTS,), the mean over held-out data of E (where there is one) and of |g| on (1 - t) x0 + t x."""
    x = choose(run.backend, run.data.test, CHUNK, run.seed, REAL)
    x0 = to_host(model.backend, fresh_start(run, len(x), run.seed))
    found: dict[str, list[float]] = {"t": [], "energy": [], "slope": []}
    recipe = run.config.train
    model_kind = METHODS[recipe.method].model
    h = recipe.horizon if recipe.lesson == "trajectory" else 0.0  # pairs teach the mean velocity of one h alone
    for t in np.linspace(0, 1, POINTS):
        at = to_backend(model.backend, ((1 - t) * x0 + t * x).astype(x.dtype))
        trained = run.chains_energy
        if model_kind in ("time_field", "flow_map"):  # of a flow map the velocity that it begins with, or the mean one
            trained = trained.at(float(t) if model_kind == "time_field" else h)
        if hasattr(trained, "energy_and_grad_x"):
            E, g = to_host(model.backend, trained.energy_and_grad_x(model.theta, at))
            found["energy"].append(float(E.mean()))
        else:
            g = to_host(model.backend, trained.field(model.theta, at))
        found["t"].append(float(t))
        found["slope"].append(float(np.sqrt((g.reshape(len(g), -1) ** 2).sum(axis=1)).mean()))
    return {name: np.array(values) for name, values in found.items() if values}
