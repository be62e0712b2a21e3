"""The energy that a method trains, made of the network that the configuration names, and the backend that has it.

    jem               ClassifierEnergy: the network with one output a class
    dsm, levels > 1   NoiseConditionalEnergy: the network with one more channel, the noise level
    the others        the network itself

`auto` is numba_cpu where it can run. Where it lacks what the method needs, auto is ebm_ref, and says so; a backend that
was asked for by name is never exchanged.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import ebm_ref
from ebm_fast import backend
from ebm_ref.contracts import BackendError, DataError
from ebm_ref.methods import METHODS
from ebm_ref.specs import NetworkSpec
from ebm_ref.train import DERIVATIVES, Recipe

from .data import Dataset


def choose_backend(name: str, kind: str, recipe: Recipe) -> ModuleType:
    """The module of backend `name` or "auto"; BackendError, with the one that has it, when it lacks what is needed."""
    module = backend(name)
    lacks = what_lacks(module, kind, recipe)
    if not lacks:
        return module
    short = module.__name__.rpartition(".")[2]
    if name != "auto":
        raise BackendError(f"run.backend: {short} {lacks}; ebm_ref has it: --backend ebm_ref")
    print(f"backend auto: ebm_ref, because {short} {lacks}", file=sys.stderr)
    return ebm_ref


def what_lacks(module: ModuleType, kind: str, recipe: Recipe) -> str:
    """What keeps `module` from training `recipe` on an energy of `kind`, in words; empty when nothing does."""
    method = METHODS[recipe.method]
    needed = (kind, *(["ClassifierEnergy"] if method.labels else []), *method.needs)
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        return f"has no {', '.join(missing)}"
    penalised = recipe.gp > 0 and method.level < 2
    level, needs = (2, "gp") if penalised else (method.level, f"method {recipe.method}")
    wanted = getattr(module, "ClassifierEnergy" if method.labels else kind)
    derivatives = [name for name in DERIVATIVES[level] if not hasattr(wanted, name)]
    return f"has no {wanted.__name__}.{', '.join(derivatives)}, which {needs} needs" if derivatives else ""


def make_energy(module: ModuleType, kind: str, spec: NetworkSpec, recipe: Recipe, data: Dataset) -> Any:
    """The energy to train."""
    fields = dict(vars(spec))
    make = getattr(module, kind)
    if METHODS[recipe.method].labels:
        if data.train_labels is None:
            raise DataError(f"data: method {recipe.method} needs classes, {data.name} has none; digits and mnist5k do")
        return module.ClassifierEnergy(trunk=make(**fields), classes=int(data.train_labels.max()) + 1)
    if recipe.levels > 1:
        fields["shape"] = (*spec.shape[:-1], spec.shape[-1] + 1)
        return ebm_ref.NoiseConditionalEnergy(make(**fields), low=recipe.level, high=recipe.level_high)
    return make(**fields)


def energy_extras(energy: Any) -> dict[str, Any]:
    """What tells the energy from its network, for the identity of a checkpoint; nothing for the network itself."""
    if isinstance(energy, ebm_ref.NoiseConditionalEnergy):
        return {"levels": [energy.low, energy.high]}
    return {"classes": energy.classes} if hasattr(energy, "classes") else {}


def judged(energy: Any) -> Any:
    """E(x) of what stands for the model: of a noise-conditional energy that of its lowest level."""
    return energy.at(energy.low) if isinstance(energy, ebm_ref.NoiseConditionalEnergy) else energy
