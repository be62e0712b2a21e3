"""Samples from noise, as the method of a run draws them (`sampler` in ebm_ref.methods).

langevin   K steps of the recipe's chains from uniform noise; of several noise levels annealed
heated     descent on the potential that turns into chains at the recipe's temperature, from N(0, I)
descent    at most K steps of the recipe's descent from N(0, I), each sample until its field is short
flow       a velocity from N(0, I) at time 0 to time 1, in K steps of Heun's rule
student    one evaluation of a flow map, from N(0, I)
"""

from __future__ import annotations

import numpy as np

from ebm_ref import annealed_run, descent_run, flow_run, heated_run
from ebm_ref.contracts import Array, ChainInfo, Stream, flat_size
from ebm_ref.methods import METHODS

from .model import Model
from .placement import to_host
from .run import Run

LONG = 10  # chains from uniform noise are this many times as long as the recipe's K
ORIGINS = {
    "langevin": "chains of {K} steps from uniform noise",
    "heated": "heated runs of {K} steps from normal noise",
    "descent": "descents of at most {K} steps from normal noise",
    "flow": "flows of {K} steps from normal noise",
    "student": "single evaluations from normal noise",
}


def sampler_of(run: Run) -> str:
    """How the run's method draws."""
    return METHODS[run.config.train.method].sampler


def usual_steps(run: Run) -> int:
    """The steps from noise to a sample, where no number is asked for."""
    recipe, sampler = run.config.train, sampler_of(run)
    if sampler == "heated":
        return max(1, round(recipe.time / recipe.eta))
    return {"langevin": LONG * recipe.K, "student": 1}.get(sampler, recipe.K)


def origin(run: Run, count: int, K: int) -> str:
    """Where such samples come from, in words."""
    return f"{count} {ORIGINS[sampler_of(run)].format(K=K)}"


def fresh_start(run: Run, count: int, seed: int) -> Array:
    """The noise that the method starts from, (count, *shape), by address; an array of the chains' backend."""
    dtype, size, chains = run.data.train.dtype, flat_size(run.data.shape), np.arange(count)
    if sampler_of(run) == "langevin":
        low, high = run.box
        u = run.chains_backend.noise_uniform(seed, Stream.SAMPLE_START, 0, chains, size, dtype=dtype)  # (count, D)
        x0: Array = (low + (high - low) * u).astype(dtype)
    else:
        x0 = run.chains_backend.noise_normal(seed, Stream.SAMPLE_START, 0, chains, size, dtype)  # (count, D)
    return x0.reshape(count, *run.data.shape)


def draw(run: Run, model: Model, x0: Array, K: int, seed: int) -> tuple[Array, ChainInfo]:
    """(x, info) of K steps from x0, an array of the chains' backend; what comes back is NumPy's.

    Chains of several noise levels are annealed: the K steps are shared out among the levels, from high to low, and eta
    is half of the step that the lowest level has.
    """
    recipe, sampler, trained = run.config.train, sampler_of(run), run.chains_energy
    if sampler == "heated":
        ramp = (recipe.eta, recipe.tau, recipe.s_star)
        numbers = {"stream": Stream.EVALUATION, "box": recipe.box}
        there = heated_run(model.backend, trained, model.theta, x0, K, *ramp, seed, **numbers)
    elif sampler == "descent":
        steps = getattr(model.backend, "descent_run", descent_run)
        x, _, info = steps(trained, model.theta, x0, K, recipe.rule(), recipe.g_min)
        there = (x, info)
    elif sampler == "flow":
        there = flow_run(trained, model.theta, x0, max(K, 1), "heun")
    elif sampler == "student":
        x = trained.flow(model.theta, x0, recipe.horizon)
        norm = np.sqrt(np.sum(((x - x0) ** 2).reshape(len(x0), -1), axis=1))[None]
        there = (x, ChainInfo(np.empty((0, len(x0)), x.dtype), norm, np.isfinite(norm[0])))
    elif recipe.levels > 1 and K > 0:
        sigmas, T = recipe.sigmas(), max(1, K // recipe.levels)
        there = annealed_run(model.backend, trained, model.theta, x0, None, sigmas, T, 2 * recipe.eta, seed)
    else:
        there = model.backend.langevin_run(
            model.energy, model.theta, x0, K, model.update, seed, stream=Stream.EVALUATION
        )
    found: tuple[Array, ChainInfo] = to_host(model.backend, there)
    return found
