"""What a training method is: a row of METHODS (methods.py, flow_methods.py), and the recipe's fields that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .contracts import Array, Params

if TYPE_CHECKING:
    from .job import Job
    from .state import TrainState

Result = tuple[Array, Params, dict[str, Any]]

CHAIN = ("K", "eta", "sigma", "clip", "clip_norm", "order", "box")
OPTIMISER = ("optimizer", "lr", "beta1", "beta2", "max_grad_norm", "ema_decay", "warmup", "schedule", "steps")
REGULARISERS = ("gp", "gp_target", "spectral_norm")
READ_BY_ALL = ("method", "batch", *CHAIN, *REGULARISERS, *OPTIMISER)  # but for what a method's `unread` says
DERIVATIVES = {1: (), 2: ("grad_theta_along",), 3: ("grad_theta_along", "curvature", "grad_theta_curvature")}


@dataclass(frozen=True)
class Method:
    """One row of METHODS."""

    step: Callable[[Job, TrainState, Array], Result]
    what: str  # in a few words, for people
    needs: tuple[str, ...]  # functions of the backend
    reads: tuple[str, ...]  # fields of the recipe, beside READ_BY_ALL
    records: tuple[str, ...]  # numbers of info that go into the record of a step, where they are there
    level: int = 1  # of the energy protocol; 0: the model is a field
    buffer: bool = False  # carries chains from step to step
    log_z: bool = False  # carries log_z in theta
    labels: bool = False  # needs the classes of the data, and a ClassifierEnergy
    teacher: bool = False  # learns from a model that is trained already
    unread: tuple[str, ...] = ()  # fields of READ_BY_ALL that it does not read
    sampler: str = "langevin"  # how samples are drawn from what is trained: heated, descent, flow, student
    model: str = "energy"  # what is trained, made of the network: field, dot, norm, time_field, flow_map

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field of the recipe that it reads."""
        return tuple(name for name in READ_BY_ALL + self.reads if name not in self.unread)

    @property
    def derivatives(self) -> tuple[str, ...]:
        """Methods of the model beside those of level 1, or of a field its products with the parameters' Jacobian."""
        return DERIVATIVES[self.level] if self.level else ("field_grad_theta",)
