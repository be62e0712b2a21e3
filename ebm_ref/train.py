"""Training: theta follows the contrastive gradient, and every step is a pure function of (seed, step).

    train_start    theta (theta_init), ema = theta, optimiser at rest, buffer at its start (where the method has one),
                   eta the recipe's (where it is carried: energy_target)
    train_step     x = smooth_data(batch(step));  loss, grads = METHODS[method].step(x)
                   grads = clip_global_norm(grads);  theta = adam | sgd (theta, grads, lr(step))
                   ema = decay ema + (1 - decay) theta
                   gp, spectral_norm: what they change of loss, grads and ema is in regularise.py
    train          steps state.step ... until - 1
    state_arrays   the whole state as a flat dict of arrays; state_from_arrays is its inverse (state.py)

Batch b of epoch e holds the elements b batch ... (b + 1) batch - 1 of permutation e of the data; what is left of an
epoch is dropped. Nothing is drawn from a generator that has a state, so N steps, save, load, M steps are N + M steps
to the bit, on the same backend.

A loss or a gradient that is not finite, or a step on which every chain stopped, raises NonFiniteError with the
numbers; training never continues past it.

Source: Du & Mordatch 2019, arXiv:1903.08689, algorithm 1.
Level: that of the method (methods.py). Twins: none; it takes the backend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import isfinite
from types import ModuleType
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from .contracts import (
    Array,
    Buffer,
    DataError,
    DTypeError,
    Energy,
    NonFiniteError,
    Params,
    Stream,
    check_count,
)
from .energies import theta_init
from .job import Job, Teacher, energy_theta, method_buffer, method_theta, train_job
from .methods import METHODS
from .noise import noise_permutation
from .objectives import smooth_data, smoothing_level
from .optim import adam_init, adam_step, clip_global_norm, ema_init, ema_step, sgd_init, sgd_step
from .recipe import Recipe
from .regularise import acting_theta, penalised, spectral_iterate, spectral_pull, spectral_start
from .state import TrainState, state_arrays, state_from_arrays
from .train_checks import check_data, check_method, check_state, check_theta

__all__ = [
    "Job",
    "Recipe",
    "Teacher",
    "TrainState",
    "check_method",
    "energy_theta",
    "state_arrays",
    "state_from_arrays",
    "train",
    "train_job",
    "train_start",
    "train_step",
]

Record = dict[str, float]


def train_start(
    backend: ModuleType,
    energy: Energy,
    recipe: Recipe,
    data: Array,
    seed: int,
    dtype: DTypeLike = np.float32,
    theta: Params | None = None,
    labels: Array | None = None,
    teacher: Teacher | None = None,
) -> TrainState:
    """The state before step 0. theta: the energy's, where to start instead of theta_init(energy, seed, dtype).

    backend: the module that will train   data: (n, *shape) of `dtype`, inside the box, n >= batch, an array of the
    backend's kind; the state is made of arrays like it   labels: (n,) NumPy integers, of methods that need them
    teacher: a trained model, of methods that learn from one
    Raises BackendError, SmoothnessError, ShapeError, DTypeError, NonFiniteError, DataError, RangeError.
    """
    check_method(backend, energy, recipe)
    check_data(backend, energy, recipe, data)
    if data.dtype != dtype:
        raise DTypeError(f"data: expected {np.dtype(dtype)}, found {data.dtype}")
    theta = _theta_start(energy, recipe, seed, dtype) if theta is None else ema_init(theta)
    theta = {name: np.asarray(y, like=data) for name, y in theta.items()}
    check_theta(energy, theta, data)
    job = train_job(backend, energy, recipe, data, seed, labels, teacher=teacher)
    spectral = spectral_start(recipe, theta, seed)
    acting = method_theta(job, acting_theta(theta, spectral))  # with log_z, where the method has one
    theta = acting | theta
    optimizer = adam_init(theta) if recipe.optimizer == "adam" else sgd_init(theta)
    eta = float(recipe.eta) if recipe.balance == "energy_target" else None
    return TrainState(theta, ema_init(acting), optimizer, method_buffer(job), spectral=spectral, eta=eta)


def _theta_start(energy: Energy, recipe: Recipe, seed: int, dtype: DTypeLike) -> Params:
    """theta_init; the last layer's weights so many times as large as the recipe says."""
    theta = theta_init(cast(Any, energy), seed, dtype)
    if recipe.start_scale != 1:
        theta["out.w"] = theta["out.w"] * theta["out.w"].dtype.type(recipe.start_scale)
    return theta


def train_step(
    backend: ModuleType,
    energy: Energy,
    recipe: Recipe,
    state: TrainState,
    data: Array,
    seed: int,
    job: Job | None = None,
    labels: Array | None = None,
    teacher: Teacher | None = None,
) -> tuple[TrainState, Record]:
    """One step: returns the next state, and a record of loss, the method's numbers, norms, stopped chains and lr.

    The record's eta, where the state carries one, is that of this step's chains.
    state: untouched, but for its buffer, which is advanced in place   data: (n, *shape), n >= batch
    job: train_job of these arguments, which is made anew where it is None   labels, teacher: as in train_start
    Raises NonFiniteError with the numbers when loss or gradient is not finite or every chain stopped.
    """
    method = METHODS[recipe.method]
    x = data[_batch(recipe, seed, state.step, data.shape[0])]  # (batch, *shape)
    job = train_job(backend, energy, recipe, data, seed, labels, teacher=teacher) if job is None else job
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is raised below, with its numbers
        acting = acting_theta(state.theta, state.spectral)
        level = smoothing_level(state.step, recipe.steps, recipe.smoothing, recipe.smoothing_until)
        x_t = smooth_data(backend, x, level, seed, state.step, recipe.box)
        loss, grads, info = method.step(job, replace(state, theta=acting), x_t)
        loss, grads, extra = penalised(energy, recipe, acting, x, loss, grads)
        grads = spectral_pull(state.theta, state.spectral, grads)
    record = {"loss": float(loss)} | {name: float(info[name]) for name in method.records if name in info} | extra
    if state.eta is not None:
        record["eta"] = state.eta
    chain = info.get("chain")
    if chain is not None:
        record["nonfinite"] = float(chain.nonfinite)
    lr, decay = recipe.rates(state.step)
    if not isfinite(record["loss"]) or record.get("nonfinite") == recipe.batch:
        wanted = "a finite loss" if chain is None else "a finite loss and chains that move"
        raise NonFiniteError(_story(wanted, state.step, record | {"lr": lr}))
    try:
        grads, record["grad_norm"] = clip_global_norm(grads, recipe.max_grad_norm)
    except NonFiniteError as error:
        raise NonFiniteError(f"{_story('a finite gradient', state.step, record | {'lr': lr})}; {error}") from error
    if chain is not None:
        moving = chain.grad_norm[:, chain.alive]  # (K, chains that did not stop)
        record["grad_x_norm"] = float(np.mean(moving, dtype=np.float64))
    record["lr"] = lr

    with np.errstate(over="ignore", invalid="ignore"):
        if recipe.optimizer == "adam":
            theta, optimizer = adam_step(state.theta, grads, state.optimizer, lr, recipe.beta1, recipe.beta2)
        else:
            theta, optimizer = sgd_step(state.theta, grads, state.optimizer, lr, recipe.beta1)
        spectral = spectral_iterate(theta, state.spectral)
        acting = acting_theta(theta, spectral)
    made = (theta, optimizer, {name: acting[name] for name in spectral})
    bad = dict.fromkeys(name for arrays in made for name, y in arrays.items() if not bool(np.isfinite(y).all()))
    if bad:
        raise NonFiniteError(_story(f"finite parameters, not {', '.join(bad)}", state.step, record))
    ema = ema_step(state.ema, acting, decay)
    eta = info.get("eta", state.eta)
    return TrainState(theta, ema, optimizer, state.buffer, state.step + 1, spectral, eta), record


def train(
    backend: ModuleType,
    energy: Energy,
    recipe: Recipe,
    data: Array,
    seed: int,
    state: TrainState | None = None,
    until: int | None = None,
    callback: Callable[[TrainState, Record], Any] | None = None,
    labels: Array | None = None,
    teacher: Teacher | None = None,
) -> TrainState:
    """train_step from state.step (None: train_start, in the data's dtype) to `until` (None: recipe.steps).

    callback(state, record) after every step. The given state, its buffer too, is left as it was.
    labels: (n,) NumPy integers, the classes of the data, of methods that need them (jem)
    teacher: a trained model, of methods that learn from one (projection, student)
    Raises as train_start and train_step, and CheckpointError when the state is not this energy's or recipe's.
    """
    check_count("until", recipe.steps if until is None else until, low=0)
    if state is None:
        state = train_start(backend, energy, recipe, data, seed, data.dtype, labels=labels, teacher=teacher)
    else:
        check_method(backend, energy, recipe)
        check_data(backend, energy, recipe, data)
        check_state(energy, recipe, state, data)
        buffer = state.buffer
        if buffer is not None:
            buffer = Buffer(buffer.slots.copy(), buffer.filled, buffer.ptr, buffer.policy)
        state = replace(state, buffer=buffer)
    steps = range(state.step, recipe.steps if until is None else until)
    job = train_job(backend, energy, recipe, data, seed, labels, teacher=teacher) if len(steps) else None
    for _ in steps:
        state, record = train_step(backend, energy, recipe, state, data, seed, job)
        if callback is not None:
            callback(state, record)
    return state


def _batch(recipe: Recipe, seed: int, step: int, n: int) -> Array:
    """Indices of the data of a training step, (batch,)."""
    if n < recipe.batch:
        raise DataError(f"data: expected at least one batch of {recipe.batch}, found {n}")
    epoch, b = divmod(step, n // recipe.batch)
    return _epoch(seed, epoch, n)[b * recipe.batch : (b + 1) * recipe.batch]


@lru_cache(maxsize=1)
def _epoch(seed: int, epoch: int, n: int) -> Array:
    """Permutation of the data, (n,); kept until the next one is asked for."""
    order = noise_permutation(seed, Stream.DATA_INDEX, epoch, n)
    order.flags.writeable = False
    return order


def _story(wanted: str, step: int, record: Record) -> str:
    numbers = ", ".join(f"{name} {value:.6g}" for name, value in record.items())
    return f"step {step}: expected {wanted}, found {numbers}"
