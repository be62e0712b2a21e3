"""The numba_cuda backend on the CPU: its bodies as Numba types them for a card, compiled by njit.

Every public name of numba_cuda, each call run inside `on(TYPED)`, so that its launches run here, indices checked, in
the order of threads that TYPED says. Arrays are NumPy's. What the card's compiler makes of a body is not seen here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..checks import missing
from ..extras import require

numba_cuda = require("ebm_fast.numba_cuda", "cpu")
device = require("ebm_fast.numba_cuda.device", "cpu")

TYPED = device.Typed()
METHODS = ("energy", "grad_x", "energy_and_grad_x", "grad_theta", "grad_theta_along", "hvp")
OF_FIELDS = ("field", "field_jvp", "field_vjp", "field_grad_theta", "field_grad_theta_along")


def here(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, run inside `on(TYPED)`."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with device.on(TYPED):
            return function(*args, **kwargs)

    return call


def energy_here(energy: type) -> type:
    """A subclass of `energy`, or of a field, whose methods run inside `on(TYPED)`."""
    names = OF_FIELDS if hasattr(energy, "field_vjp") else METHODS
    space: dict[str, Any] = {name: here(getattr(energy, name)) for name in names}
    return type(energy.__name__, (energy,), {"__doc__": energy.__doc__, "__module__": __name__} | space)


__all__ = list(numba_cuda.__all__)
for _name in __all__:
    _public = getattr(numba_cuda, _name)
    globals()[_name] = energy_here(_public) if isinstance(_public, type) else here(_public)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"{__name__} has no {name}")
    raise missing(name, __name__)
