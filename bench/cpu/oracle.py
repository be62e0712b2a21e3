"""What a stack must answer before it is timed: the float64 oracle's answers, and how near is near enough.

    grad         chain, start: grad_x E at x0, of CHECKED chains from the first to the last
    walk         chain, start: WALK steps without noise, as a displacement, with eta so large that x meets the box
    grad_theta   pcd: the gradient of the contrastive loss, data x0 and samples -x0
    moved        pcd: how far an update moves theta, in units of lr, and the average, in units of (1 - decay) lr
    moments      noise: mean sqrt(n) and (second moment - 1) sqrt(n / 2), which are about normal
    kept         buffer: the share of draws (without restarts) that are slots, and of pushes that are found again
    run          ours alone, whose noise has addresses: the very result that is timed

Every stack answers for its own function but `run`, so that all of them compute the same thing: padding, groups, eps,
activation, pool, order of operations, box. `error` of a row is `run`'s where there is one, else the worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, EbmError, Params, Stream
from ebm_ref.specs import SGLD

from ..gpu.nets import SEED, starts_of, theta
from ..table import relative_error
from .cases import Case, function_of

CHECKED, WALK, RHO = 16, 3, 0.05
RECIPE = ebm_ref.Recipe(max_grad_norm=1.0)  # eta, sigma, box, lr and decays of chains and updates
UPDATE = RECIPE.update()


class WrongAnswerError(EbmError, ValueError):
    """A stack does not compute what the oracle computes."""


@dataclass(frozen=True)
class Exact:
    """value: the oracle's answer   budget: of the error, relative to the largest element unless `absolute`."""

    value: Any
    budget: float
    absolute: bool = False

    def error(self, found: Any) -> float:
        """max |found - value| / max |value|; infinite where it is not finite or of another shape."""
        pairs = zip(*((x if isinstance(x, tuple) else (x,)) for x in (found, self.value)), strict=False)
        if any(np.shape(a) != np.shape(b) or not np.all(np.isfinite(a)) for a, b in pairs):
            return inf
        if self.absolute:
            return float(np.max(np.abs(np.asarray(found, np.float64) - self.value)))
        return relative_error(found, self.value)


def rows_of(case: Case) -> Array:
    """The chains that are checked: at most CHECKED, the first and the last among them."""
    return np.unique(np.linspace(0, case.n - 1, CHECKED).astype(np.int64))


def parameters(case: Case, dtype: Any = np.float32) -> Params:
    """theta of the case's network, the same float32 numbers in any dtype."""
    return {name: value.astype(dtype) for name, value in theta(case.energy).items()}


def step_of(case: Case) -> float:
    """eta of the walk: the steepest of the checked chains moves by 0.8, so that some of them meet the box."""
    x = starts_of(case.energy, case.n)[rows_of(case)].astype(np.float64)
    return 0.8 / float(np.abs(case.energy.energy(ebm_ref).grad_x(parameters(case, np.float64), x)).max())


def recipe_of(case: Case) -> ebm_ref.Recipe:
    """The training update of a pcd case."""
    return ebm_ref.Recipe(batch=case.n, K=case.K, max_grad_norm=RECIPE.max_grad_norm)


def joined(arrays: Params) -> Array:
    """The arrays as one vector, by name."""
    return np.concatenate([np.ravel(np.asarray(arrays[name])) for name in sorted(arrays)])


@lru_cache(1)
def exact_answers(case: Case) -> dict[str, Exact]:
    """The oracle's answers to a case. Minutes for the largest: it is float64 NumPy."""
    return ANSWERS[case.bench](case)


def chain_answers(case: Case) -> dict[str, Exact]:
    rows, params = rows_of(case), parameters(case, np.float64)
    spec, x0 = case.energy.energy(ebm_ref), starts_of(case.energy, case.n)[rows].astype(np.float64)
    update = SGLD(eta=step_of(case), sigma=0.0, box=UPDATE.box)
    walked, _ = ebm_ref.langevin_run(spec, params, x0, WALK, update, SEED)
    x, _ = ebm_ref.langevin_run(spec, params, x0, case.K, UPDATE, SEED, chains=rows)
    return {
        "grad": Exact(spec.grad_x(params, x0), 2e-5),
        "walk": Exact(walked - x0, 2e-4),
        "run": Exact(x, 1e-4),
    }


def pcd_answers(case: Case) -> dict[str, Exact]:
    spec, params = case.energy.energy(ebm_ref), parameters(case, np.float64)
    x = starts_of(case.energy, case.n).astype(np.float64)
    grads = ebm_ref.contrastive(spec, params, x, -x, RECIPE.alpha)[1]
    return {
        "grad_theta": Exact(joined(grads), 5e-5),
        "moved": Exact(np.ones(2), 0.05, absolute=True),
        "run": Exact(first_moment(ebm_ref, case, np.float64), 1e-3),
    }


def first_moment(backend: Any, case: Case, dtype: Any) -> Array:
    """Adam's first moment after the first update: with beta1 = 0 the clipped gradient itself."""
    state, _ = trained(backend, case, dtype)()
    return joined({name: y for name, y in state.optimizer.items() if name.startswith("m/")})


def trained(backend: Any, case: Case, dtype: Any = np.float32) -> Any:
    """The next update of a run of training, each call: (state, record)."""
    energy, recipe, data = case.energy.energy(backend), recipe_of(case), starts_of(case.energy, case.n).astype(dtype)
    job = ebm_ref.train_job(backend, energy, recipe, data, SEED)
    held = [ebm_ref.train_start(backend, energy, recipe, data, SEED, dtype, theta=parameters(case, dtype))]

    def update() -> tuple[Any, Any]:
        held[0], record = ebm_ref.train_step(backend, energy, recipe, held[0], data, SEED, job)
        return held[0], record

    return update


def noise_answers(case: Case) -> dict[str, Exact]:
    xi = ebm_ref.noise_normal(SEED, Stream.CHAIN_NOISE, 0, rows_of(case), case.size)
    return {"moments": Exact(np.zeros(2), 6.0, absolute=True), "run": Exact(xi, 1e-6)}


def moments(xi: Any) -> Array:
    """mean sqrt(n), (second moment - 1) sqrt(n / 2), of any array of normals."""
    y = np.asarray(xi, np.float64).ravel()
    return np.array([y.mean() * np.sqrt(y.size), (np.square(y).mean() - 1) * np.sqrt(y.size / 2)])


def buffer_slots(case: Case) -> Array:
    """(M, *shape) float32, slot m is filled with 2 m / M - 1: a sample says where it came from."""
    shape = dict(case.energy.fields)["shape"]
    values = (2.0 * np.arange(case.size) / case.size - 1).astype(np.float32)
    return np.broadcast_to(values.reshape(-1, *(1,) * len(shape)), (case.size, *shape)).copy()


def buffer_samples(case: Case) -> Array:
    """(n, *shape) float32 to be pushed, sample n is filled with 2 + n: no slot holds such a number."""
    shape = dict(case.energy.fields)["shape"]
    values = np.arange(2, 2 + case.n, dtype=np.float32)
    return np.broadcast_to(values.reshape(-1, *(1,) * len(shape)), (case.n, *shape)).copy()


def buffer_turn(backend: Any, slots: Array, x: Array, step: int) -> tuple[Array, Array]:
    """One draw as pcd_step makes it, and one push of x to where it came from: x0, idx."""
    chains = np.arange(len(x))
    bits = backend.noise_bits(SEED, Stream.BUFFER_INDEX, step, chains, 1)[:, 0]
    u = backend.noise_uniform(SEED, Stream.BUFFER_MASK, step, chains, 1)[:, 0]
    fresh = 2 * backend.noise_uniform(SEED, Stream.BUFFER_FRESH, step, chains, x[0].size, x.dtype).reshape(x.shape) - 1
    x0, idx, _ = backend.buffer_draw(slots, len(slots), bits, u, fresh, RHO)
    backend.buffer_push(slots, len(slots), len(slots), x, "in_place", idx=idx)
    return x0, idx


def buffer_answers(case: Case) -> dict[str, Exact]:
    slots = buffer_slots(case)
    x0, idx = buffer_turn(ebm_ref, slots, buffer_samples(case), 0)
    run = (x0.astype(np.float64), idx.astype(np.float64), slots.sum(axis=tuple(range(1, slots.ndim)), dtype=np.float64))
    return {"kept": Exact(np.ones(2), 0.0, absolute=True), "run": Exact(run, 1e-7)}


def function_answers(case: Case) -> dict[str, Exact]:
    function = function_of(case)
    return {"run": Exact(function.make(ebm_ref, np.float64)(), function.budget)}


ANSWERS = {
    "chain": chain_answers,
    "start": chain_answers,
    "pcd": pcd_answers,
    "noise": noise_answers,
    "buffer": buffer_answers,
    "functions": function_answers,
}


def judge(stack: str, case: Case, answers: dict[str, Any], ours: bool) -> float:
    """The error of a stack's answers to a case. ours: `run` must be among them.

    Raises WrongAnswerError for an answer that is not near enough, and for one that was not given.
    """
    exact = exact_answers(case)
    errors = {}
    for name, wanted in exact.items():
        if name not in answers:
            if ours or name != "run":
                raise WrongAnswerError(f"{stack}, {case.bench} {case.name}: expected an answer {name}, found none")
            continue
        errors[name] = wanted.error(answers[name])
        if not errors[name] <= wanted.budget:
            raise WrongAnswerError(
                f"{stack}, {case.bench} {case.name}: expected the oracle's {name} within {wanted.budget:.0e}, found "
                f"an error of {errors[name]:.1e}; it is not timed"
            )
    return errors.get("run", max(errors.values()))
