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
import os
from types import ModuleType

from ebm_ref.contracts import BackendError, check_choice

from .driver import find_driver

BACKENDS = ("ebm_ref", "numba_cpu", "numba_cuda", "cupy_raw")
MODULES = {"ebm_ref": "ebm_ref"} | {name: f"ebm_fast.{name}" for name in BACKENDS[1:]}
NEEDS = {  # what a backend imports: the module, the library's name, the extra that brings it
    "numba_cpu": (("numba", "Numba", "cpu"),),
    "numba_cuda": (("numba", "Numba", "cuda13"), ("numba_cuda", "numba-cuda", "cuda13")),
    "cupy_raw": (("cuda.bindings", "cuda-bindings", "cuda13"),),
}
CUPY = ("cupy", "CuPy", "cuda13")
ON_A_CARD = ("numba_cuda", "cupy_raw")


def why_not(name: str) -> str | None:
    """Why backend `name` cannot run here, in words; None when it can. Imports no library."""
    check_choice("backend", name, BACKENDS)
    on_a_card = name in ON_A_CARD and not (name == "numba_cuda" and simulated())
    why = find_driver().why if on_a_card else None
    if why is not None:  # first: no library would mend it
        return f"{name} needs a CUDA card: {why}"
    for module, library, extra in NEEDS.get(name, ()) + (CUPY,) * on_a_card:
        if not _installed(module):
            return f'{name} needs {library}, which is not installed: pip install "ebm-oracle[{extra}]"'
    return None


def simulated() -> bool:
    """Whether Numba's simulator stands in for the card of numba_cuda."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"


def backend(name: str = "auto") -> ModuleType:
    """The module of backend `name`; "auto" is numba_cpu where it can run, else ebm_ref.

    "auto" never picks a backend on a card: their arrays live there, and none is yet measured on a GPU.
    Raises RangeError for an unknown name, BackendError (with the reason) for one that cannot run.
    """
    check_choice("backend", name, ("auto", *BACKENDS))
    if name == "auto":
        name = "ebm_ref" if why_not("numba_cpu") else "numba_cpu"
    reason = why_not(name)
    if reason is not None:
        raise BackendError(reason)
    return importlib.import_module(MODULES[name])


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent package
        return False
