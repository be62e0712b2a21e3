"""The functions of ebm_ref, fast: one backend a module, each checked against the oracle.

    from ebm_fast import backend
    B = backend("auto")          # numba_cpu where it can run, else ebm_ref
    x, info = B.langevin_run(B.ConvEnergy(shape=(28, 28, 1)), theta, x0, K=60, update=update, seed=0)

A backend is a module, and a twin is a function of the same name in another module. Nothing falls back
silently: a name that a backend lacks is an AttributeError that says where the function does exist.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from ebm_ref.contracts import BackendError, check_choice

BACKENDS = ("ebm_ref", "numba_cpu")
MODULES = {"ebm_ref": "ebm_ref", "numba_cpu": "ebm_fast.numba_cpu"}


def why_not(name: str) -> str | None:
    """Why backend `name` cannot run here, in words; None when it can."""
    check_choice("backend", name, BACKENDS)
    if name == "numba_cpu" and importlib.util.find_spec("numba") is None:
        return 'numba_cpu needs Numba, which is not installed: pip install "ebm-oracle[cpu]"'
    return None


def backend(name: str = "auto") -> ModuleType:
    """The module of backend `name`; "auto" is the fastest that can run here.

    Raises RangeError for an unknown name, BackendError (with the reason) for one that cannot run.
    """
    check_choice("backend", name, ("auto", *BACKENDS))
    if name == "auto":
        name = "ebm_ref" if why_not("numba_cpu") else "numba_cpu"
    reason = why_not(name)
    if reason is not None:
        raise BackendError(reason)
    return importlib.import_module(MODULES[name])
