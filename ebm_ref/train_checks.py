"""What training needs of its arguments, before any work is done: the method's, the data's, theta's and a state's.

Level: none. Twins: none; it takes the backend.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

import numpy as np

from .contracts import (
    Array,
    BackendError,
    CheckpointError,
    DataError,
    DTypeError,
    EbmError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_derivatives,
    check_number,
)
from .energies import theta_check
from .job import LOG_Z
from .method import DERIVATIVES
from .methods import METHODS
from .optim import adam_init, sgd_init
from .recipe import Recipe
from .regularise import check_spectral
from .state import TrainState


def check_method(backend: ModuleType, energy: Energy, recipe: Recipe) -> None:
    """Raise unless the backend has the functions, and the energy the derivatives, that the recipe's method needs.

    Raises BackendError, SmoothnessError (a network that is only piecewise smooth).
    """
    method = METHODS[recipe.method]
    needs = (*method.needs, *(("noise_normal",) if recipe.smoothing else ()))
    missing = [name for name in needs if not hasattr(backend, name)]
    if missing:
        raise BackendError(
            f"backend {getattr(backend, '__name__', backend)}: lacks {', '.join(missing)}, which method "
            f"{recipe.method} needs; ebm_ref has them"
        )
    if method.level > 1:
        check_derivatives(f"method {recipe.method}", energy, *method.derivatives)
    elif method.level == 0 and not hasattr(getattr(energy, "trunk", energy), *method.derivatives):
        raise DTypeError(f"energy: method {recipe.method} trains a field, found {type(energy).__name__}")
    if recipe.gp:
        check_derivatives("gp", energy, *DERIVATIVES[2])


def check_data(backend: ModuleType, energy: Energy, recipe: Recipe, data: Any) -> None:
    check_array("data", data, shape=(None, *energy.shape))
    if data.shape[0] < recipe.batch:
        raise DataError(f"data: expected at least one batch of {recipe.batch}, found {data.shape[0]}; set batch")
    check_array("data", data, finite=True)
    if recipe.box is not None:
        low, high = float(data.min()), float(data.max())
        if low < recipe.box[0] or high > recipe.box[1]:
            raise DataError(f"data: expected values in the box {recipe.box}, found {low:g} to {high:g}; scale or widen")
    kind = type(backend.noise_normal(0, Stream.DATA_NOISE, 0, np.arange(0), 1, data.dtype))  # no chain, no draw
    if not isinstance(data, kind):
        raise DTypeError(f"data: expected the backend's {_type_name(kind)}, found {_type_name(type(data))}")


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def check_theta(energy: Energy, theta: Params, data: Array, log_z: bool = False) -> None:
    """Raise unless theta is the energy's, with log_z (1,) beside it where the method has one."""
    if log_z:
        if LOG_Z not in theta:
            raise ShapeError(f"theta: missing {LOG_Z}")
        check_array(f"theta[{LOG_Z!r}]", theta[LOG_Z], shape=(1,))
    dtype = theta_check(cast(Any, energy), {name: y for name, y in theta.items() if not (log_z and name == LOG_Z)})
    if dtype != data.dtype:
        raise DTypeError(f"theta: expected the data's {data.dtype}, found {dtype}")
    for name, y in theta.items():
        check_array(f"theta[{name!r}]", y, finite=True)


def check_state(energy: Energy, recipe: Recipe, state: TrainState, data: Array) -> None:
    """Raise CheckpointError unless `state` is one of this energy and recipe."""
    try:
        for theta in (state.theta, state.ema):
            check_theta(energy, theta, data, METHODS[recipe.method].log_z)
        fresh = adam_init(state.theta) if recipe.optimizer == "adam" else sgd_init(state.theta)
        if {name: y.shape for name, y in fresh.items()} != {name: y.shape for name, y in state.optimizer.items()}:
            raise ShapeError(
                f"optimizer: expected the arrays of {recipe.optimizer}, found {', '.join(state.optimizer)}"
            )
        check_spectral(recipe, state.theta, state.spectral)
        if (state.buffer is None) == METHODS[recipe.method].buffer:
            raise ShapeError(f"buffer: method {recipe.method} found {'none' if state.buffer is None else 'one'}")
        if state.buffer is not None:
            check_array("buffer", state.buffer.slots, shape=(recipe.M, *energy.shape), finite=True)
            check_choice("policy", state.buffer.policy, (recipe.policy,))
        if (state.eta is None) == (recipe.balance == "energy_target"):
            raise RangeError(f"eta: expected one where balance is energy_target and nowhere else, found {state.eta}")
        if state.eta is not None:
            check_number("eta", state.eta, low=recipe.eta_low, high=recipe.eta_high)
    except EbmError as error:
        raise CheckpointError(f"state: {error}") from error
