"""What a run of training holds fixed, and what it carries when it begins.

    train_job       backend, energy, recipe, data, seed, and what follows from them once: the labels, the noise of nce,
                    the grid of ml, the class starts of jem, the pairing of em, the teacher of projection and student,
                    the pairs of student. Nothing of it is saved: it is made again
    method_theta    the energy's parameters, and log_z beside them where the method has one
    method_buffer   the chains before the first step, where the method carries some
    energy_theta    the energy's own parameters, without log_z

Level: none. Twins: none; it takes the backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from .contracts import (
    Array,
    Buffer,
    DataError,
    DTypeError,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_labels,
    flat_size,
    theta_check,
)
from .methods import METHODS
from .noise import noise_permutation
from .objectives import (
    GaussianNoise,
    UniformNoise,
    coupling_assign,
    gaussian_noise_fit,
    nce_start,
    quadrature_grid,
    student_pairs,
    teacher_velocity,
)
from .objectives.coupling import Assign
from .objectives.distill import Velocity
from .objectives.distill_step import Pairs
from .recipe import Recipe
from .samplers import ClassGaussians, buffer_start, class_buffer_start, class_gaussians
from .specs import Box

LAST_STEP = 2**32 - 1  # training ends before it: here CONTRAST_NOISE starts log_z, LABELLED_INDEX says who is labelled
LOG_Z = "log_z"


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained model and its parameters, in the backend's arrays; box: of each state of its samples on their way."""

    model: Any
    theta: Params
    box: Box | None = None

    @property
    def velocity(self) -> Velocity:
        """x -> -grad_x E(x) or -f(x), of a model of x alone."""
        return teacher_velocity(self.model, self.theta)


@dataclass(frozen=True, eq=False)
class Job:
    """What a run holds fixed; made by train_job.

    labels: (n,) NumPy integers   labelled: (n_lab,) integers, the data whose labels are used
    noise: what nce tells data from   points, w: the grid of ml   start: where chains restart, a name or Gaussians
    assign: how em pairs noise and data, None = as they come   teacher: what projection and student learn from.
    """

    backend: ModuleType
    energy: Any
    recipe: Recipe
    data: Array
    seed: int
    labels: Array | None = None
    labelled: Array | None = None
    noise: GaussianNoise | UniformNoise | None = None
    points: Array | None = None
    w: Array | None = None
    start: str | ClassGaussians = "uniform"
    assign: Assign | None = None
    teacher: Teacher | None = None

    @cached_property
    def pairs(self) -> Pairs:
        """Where the teacher goes from `recipe.pairs` starts, as student learns it; made when it is first asked for."""
        assert self.teacher is not None  # train_job has refused it
        known = (self.recipe.pairs, self.recipe.eta, self.seed, self.data.dtype)
        return student_pairs(self.backend, self.energy, self.teacher.velocity, *known, self.teacher.box)


def train_job(
    backend: ModuleType,
    energy: Any,
    recipe: Recipe,
    data: Array,
    seed: int,
    labels: Array | None = None,
    assign: Assign | None = None,
    teacher: Teacher | None = None,
) -> Job:
    """What `recipe` makes of the data before the first step.

    labels: (n,) NumPy integers, of methods that need them   assign: of coupling_permutation, where the recipe's
    coupling is optimal; None = coupling_assign   teacher: of methods that learn from one
    Raises RangeError, ShapeError, DTypeError, DataError.
    """
    method = METHODS[recipe.method]
    job: dict[str, Any] = {"start": recipe.start}
    if "coupling" in method.reads and recipe.coupling == "optimal":
        job["assign"] = coupling_assign if assign is None else assign
    if method.teacher:
        job["teacher"] = _teacher(teacher, energy, recipe)
    if method.labels:
        if labels is None:
            raise DataError(f"labels: method {recipe.method} needs the classes of the data, found none")
        if not hasattr(energy, "logits"):
            raise ShapeError(f"energy: method {recipe.method} needs a ClassifierEnergy, found {type(energy).__name__}")
        check_labels("labels", labels, energy.classes, data.shape[0])
        labelled = _labelled(recipe, seed, data.shape[0])
        job |= {"labels": labels, "labelled": labelled}
        if recipe.start == "class_gaussians":
            job["start"] = class_gaussians(data[labelled], labels[labelled], energy.classes, recipe.ridge)
    if "noise" in method.reads:
        if recipe.noise == "gaussian":
            job["noise"] = gaussian_noise_fit(data, recipe.noise_floor)
        else:
            assert recipe.box is not None  # the recipe has refused it
            job["noise"] = UniformNoise(tuple(energy.shape), recipe.box)
    if recipe.augment_shift or recipe.augment_flip:
        shape = tuple(energy.shape)
        if len(shape) != 3 or recipe.augment_shift >= min(shape[:2]):
            name = "augment_shift" if recipe.augment_shift else "augment_flip"
            found = f"{shape} and a shift of {recipe.augment_shift}"
            raise ShapeError(f"{name}: expected images (H, W, C) larger than the shift, found {found}")
    if "cells" in method.reads:
        if tuple(energy.shape) not in ((1,), (2,)):
            raise RangeError(
                f"method: ml sums over a grid, in one or two dimensions, found samples of {tuple(energy.shape)}; for "
                "more, cd and pcd draw the negatives"
            )
        assert recipe.box is not None  # the recipe has refused it
        points, w = quadrature_grid(recipe.box, recipe.cells, flat_size(energy.shape), data.dtype)
        job |= {"points": np.asarray(points, like=data), "w": np.asarray(w, like=data)}
    return Job(backend, energy, recipe, data, seed, **job)


def _teacher(teacher: Teacher | None, energy: Any, recipe: Recipe) -> Teacher:
    """The teacher, if the method can learn from it."""
    timed = METHODS[recipe.method].model == "energy"  # projection: v(x, t); a student: a descent of x alone
    wanted = "a flow, v(x, t)" if timed else "an energy or a field of x alone"
    if not isinstance(teacher, Teacher):
        raise DataError(f"teacher: method {recipe.method} learns from {wanted}, found none")
    if timed != hasattr(teacher.model, "at"):
        raise DTypeError(f"teacher: expected {wanted}, found {type(teacher.model).__name__}")
    if tuple(teacher.model.shape) != tuple(energy.shape):
        raise ShapeError(f"teacher: expected samples of shape {energy.shape}, found {teacher.model.shape}")
    theta_check(teacher.model, teacher.theta, "teacher.theta")
    return teacher


def _labelled(recipe: Recipe, seed: int, n: int) -> Array:
    """The data whose labels are used, in increasing order: all, or the first `labelled` of a permutation."""
    if recipe.labelled is None:
        return np.arange(n)
    if recipe.labelled > n:
        raise DataError(f"labelled: expected at most the {n} data, found {recipe.labelled}")
    return np.sort(noise_permutation(seed, Stream.LABELLED_INDEX, LAST_STEP, n)[: recipe.labelled])


def method_theta(job: Job, theta: Params) -> Params:
    """The energy's `theta`, and beside it what the method trains: log_z, from a first batch of noise."""
    if not METHODS[job.recipe.method].log_z:
        return theta
    assert job.noise is not None  # train_job made it
    chains = np.arange(job.recipe.batch)
    x_neg = job.noise.sample(job.backend, job.seed, LAST_STEP, chains, job.data.dtype)  # (batch, *shape)
    return nce_start(job.energy, theta, x_neg, job.noise.log_density(x_neg))


def method_buffer(job: Job) -> Buffer | None:
    """The chains before the first step; None for a method that carries none."""
    recipe, data = job.recipe, job.data
    if not METHODS[recipe.method].buffer:
        return None
    if isinstance(job.start, ClassGaussians):
        buffer = class_buffer_start(recipe.M, job.start, seed=job.seed, box=recipe.box)
        buffer.policy = recipe.policy
    else:
        buffer = buffer_start(
            recipe.M,
            job.energy.shape,
            start=job.start,
            seed=job.seed,
            box=recipe.box,
            data=data if job.start == "data_noise" else None,
            sigma=recipe.sigma_data,
            policy=recipe.policy,
            dtype=data.dtype,
        )
    buffer.slots = np.asarray(buffer.slots, like=data)
    return buffer


def energy_theta(energy: Any, theta: Params) -> Params:
    """The energy's own parameters of `theta`, without what its method trained beside them."""
    return {name: theta[name] for name in energy.theta_shapes()}
