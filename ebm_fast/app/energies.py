"""The energy that a method trains, made of the network that the configuration names, and the backend that has it.

    jem               ClassifierEnergy: the network with one output a class
    dsm, levels > 1   NoiseConditionalEnergy: the network with one more channel, the noise level
    eqm-dot, eqm-l2   FieldEnergy of a field
    flow, student     TimeField and FlowMap of a field with one more channel, the time
    the others        the network itself: a field for eqm, an energy for the rest

run.backend trains; `auto` is numba_cpu where it can run. Where that lacks what the method needs, auto is ebm_ref, and
says so; a backend that was asked for by name is never exchanged.

run.chains draws chains and evaluates energies of what is trained, for which level 1 is enough; `auto` is the one that
trains, or the one that it took the place of. The configuration and the summary name both.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import ebm_ref
from ebm_fast import backend
from ebm_ref.contracts import BackendError, DataError
from ebm_ref.method import DERIVATIVES
from ebm_ref.methods import METHODS
from ebm_ref.specs import NetworkSpec
from ebm_ref.train import Recipe

from .data import Dataset

HEADS = ("dot", "norm")  # of a FieldEnergy
DRAWING = ("noise_bits", "noise_permutation", "noise_uniform", "langevin_run")  # what chains and their choice need


def choose_backends(name: str, chains: str, kind: str, recipe: Recipe) -> tuple[ModuleType, ModuleType]:
    """(what trains, what draws chains and evaluates), from run.backend and run.chains.

    Raises BackendError, with the one that has it, when a backend named by either lacks what is needed.
    """
    module = backend(name)
    lacks = what_lacks(module, kind, recipe)
    if lacks and name != "auto":
        raise BackendError(f"run.backend: {short(module)} {lacks}; ebm_ref has it: --backend ebm_ref")
    trains = ebm_ref if lacks else module
    draws = module if chains == "auto" else backend(chains)
    missing = missing_names(draws, kind, recipe, DRAWING)
    if missing and chains != "auto":
        raise BackendError(f"run.chains: {short(draws)} {missing}; ebm_ref has it: --set run.chains=ebm_ref")
    draws = trains if missing else draws
    if lacks:
        also = "" if draws is trains else f"; {short(draws)} draws the chains and evaluates what is trained"
        print(f"backend auto: ebm_ref, because {short(module)} {lacks}{also}", file=sys.stderr)
    return trains, draws


def short(module: ModuleType) -> str:
    """The name of a backend."""
    return module.__name__.rpartition(".")[2]


def what_lacks(module: ModuleType, kind: str, recipe: Recipe) -> str:
    """What keeps `module` from training `recipe` on an energy of `kind`, in words; empty when nothing does."""
    method = METHODS[recipe.method]
    missing = missing_names(module, kind, recipe, method.needs)
    if missing:
        return missing
    penalised = recipe.gp > 0 and method.level < 2
    level, needs = (2, "gp") if penalised else (method.level, f"method {recipe.method}")
    wanted = getattr(module, made_of(kind, recipe)[-1])
    asked = DERIVATIVES[level] if level else method.derivatives
    derivatives = [name for name in asked if not hasattr(wanted, name)]
    return f"has no {wanted.__name__}.{', '.join(derivatives)}, which {needs} needs" if derivatives else ""


def missing_names(module: ModuleType, kind: str, recipe: Recipe, needs: tuple[str, ...]) -> str:
    """The energies of `recipe` and the functions of `needs` that `module` has not, in words; empty when it has all."""
    needed = (*made_of(kind, recipe), *needs)
    missing = [name for name in needed if not hasattr(module, name)]
    return f"has no {', '.join(missing)}" if missing else ""


def made_of(kind: str, recipe: Recipe) -> tuple[str, ...]:
    """The classes of a backend that the energy is made of; the last one has the derivatives."""
    method = METHODS[recipe.method]
    head = ["ClassifierEnergy"] if method.labels else ["FieldEnergy"] if method.model in HEADS else []
    return (kind, *head)  # of the field of eqm, FieldEnergy judges, and is everywhere where the field is


def make_energy(module: ModuleType, kind: str, spec: NetworkSpec, recipe: Recipe, data: Dataset) -> Any:
    """The energy to train."""
    fields = dict(vars(spec))
    make, model = getattr(module, kind), METHODS[recipe.method].model
    if model in HEADS:
        return module.FieldEnergy(make(**fields), model)
    if model in ("time_field", "flow_map"):
        fields |= {"shape": (*spec.shape[:-1], spec.shape[-1] + 1), "out_channels": spec.shape[-1]}
        trunk = make(**fields)
        return ebm_ref.TimeField(trunk) if model == "time_field" else ebm_ref.FlowMap(trunk, recipe.horizon)
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
    if isinstance(energy, (ebm_ref.TimeField, ebm_ref.FlowMap)):
        return {"model": type(energy).__name__} | ({"h_max": energy.h_max} if hasattr(energy, "h_max") else {})
    if hasattr(energy, "head"):
        return {"head": energy.head}
    return {"classes": energy.classes} if hasattr(energy, "classes") else {}


def judged(module: ModuleType, energy: Any, recipe: Recipe) -> Any:
    """E(x) of what stands for the model; module: the backend that the energy is of.

    Of a noise-conditional energy that of its lowest level; of a potential V at the recipe's temperature V / tau; of a
    field that descent follows |f(x)|^2 / 2, which is small where descent ends; of a flow or a student nothing, None.
    """
    method = METHODS[recipe.method]
    if method.sampler == "heated":
        return ebm_ref.BoltzmannEnergy(energy, recipe.tau)
    if method.model == "field":
        return module.FieldEnergy(energy, "norm")
    if method.model in ("time_field", "flow_map"):
        return None
    return energy.at(energy.low) if isinstance(energy, ebm_ref.NoiseConditionalEnergy) else energy
