"""A run in memory: its configuration with the data, the backend and the energy that it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any

from ebm_fast.extras import require
from ebm_ref.contracts import Array, BackendError, RangeError, check_choice
from ebm_ref.evaluation import auroc_estimate
from ebm_ref.methods import METHODS
from ebm_ref.train import Job, Teacher, TrainState, check_method, energy_theta, state_from_arrays, train, train_job

from .checkpoint import checkpoint_load
from .config import RunConfig, Tables, config_read, resolve, section_read
from .data import SHAPES, Dataset, data_load, file_sha256
from .energies import choose_backends, energy_extras, judged, make_energy, short
from .figures import with_error
from .model import Model
from .ood_sets import ood_names, ood_sets_of
from .placement import device_of, to_backend, to_host
from .runfolder import CONFIG, check_existing
from .settings import DataConfig


@dataclass(frozen=True)
class Run:
    """What a verb works on; nothing here has touched the run folder."""

    config: RunConfig
    data: Dataset
    backend: ModuleType
    energy: Any  # what is trained
    chains_backend: ModuleType  # draws chains and evaluates what is trained
    chains_energy: Any  # the same energy, of that backend

    @property
    def seed(self) -> int:
        return self.config.run.seed

    @property
    def box(self) -> tuple[float, float]:
        """The recipe's, or the range of the data: where uniform starts lie, and what is black and white in pictures."""
        return self.config.train.box or (float(self.data.train.min()), float(self.data.train.max()))

    @cached_property
    def train_data(self) -> Array:
        """The training data where the backend's arrays live."""
        x: Array = to_backend(self.backend, self.data.train)
        return x

    @cached_property
    def job(self) -> Job:
        """What the recipe makes of the data, once."""
        recipe, labels = self.config.train, self.data.train_labels
        solver = None
        if "coupling" in METHODS[recipe.method].reads and recipe.coupling == "optimal":
            solver = require("scipy.optimize", "data").linear_sum_assignment
        known = (self.backend, self.energy, recipe, self.train_data, self.seed, labels)
        return train_job(*known, assign=solver, teacher=self.teacher)

    @cached_property
    def teacher(self) -> Teacher | None:
        """The model of run.init that the method learns from, its average; None where the method has no teacher."""
        if not METHODS[self.config.train.method].teacher:
            return None
        folder = Path(self.config.run.init)
        other, state = run_open(folder)
        if other.backend is not self.backend:
            there = f"{short(other.backend)}; name it: --backend {short(other.backend)}"
            raise BackendError(f"init: expected a run of {short(self.backend)}, found one of {there}")
        recipe = other.config.train
        box = recipe.box if METHODS[recipe.method].sampler == "heated" else None  # its samples are in one all the way
        return Teacher(other.energy, energy_theta(other.energy, state.ema), box)

    def identity(self) -> dict[str, Any]:
        """The energy as JSON holds it; a checkpoint belongs to exactly one."""
        return self.config.identity() | energy_extras(self.energy)

    def model(self, state: TrainState) -> Model:
        """The energy with the parameters that are judged: their moving average (theta itself where ema_decay is 0).

        Its chains have the eta that the state carries, where energy_target has moved it.
        """
        update, theta = self.config.train.update(state.eta), energy_theta(self.energy, state.ema)
        if self.chains_backend is not self.backend:
            theta = to_backend(self.chains_backend, to_host(self.backend, theta))
        return Model(
            self.chains_backend, judged(self.chains_backend, self.chains_energy, self.config.train), theta, update
        )

    @cached_property
    def auroc_sets(self) -> tuple[Array, Array]:
        """Held-out data, and what they are told apart from on the way."""
        return self.data.test, ood_sets_of(self.data)[self.config.run.auroc_set]

    def auroc(self, state: TrainState) -> dict[str, Any]:
        """AUROC of the scores -E(x) of held-out data against run.auroc_set, and its standard error."""
        model, (inside, outside) = self.model(state), self.auroc_sets
        return with_error("auroc", auroc_estimate(-model.energies(inside), -model.energies(outside)))


def prepare(preset: str, tables: Tables) -> Run:
    """Resolve the configuration, load and check the data, find the backend; every error comes before any work."""
    data_config = section_read(DataConfig, "data", tables["data"])
    if data_config.path:
        path = Path(data_config.path).absolute()
        data_config = replace(data_config, path=str(path), sha256=file_sha256(path, data_config.sha256))
        tables = tables | {"data": tables["data"] | {"path": data_config.path, "sha256": data_config.sha256}}
        dtype = str(tables["run"].get("dtype", "float32"))
        data = data_load(data_config, dtype if dtype in ("float32", "float64") else "float32")
        config = resolve(preset, tables, data.shape)
    else:
        config = resolve(preset, tables, SHAPES[data_config.name])
        data = data_load(data_config, config.run.dtype)
    settings = config.run
    module, draws = choose_backends(settings.backend, settings.chains, config.kind, config.train)
    for each in (module, draws):
        device_of(each)  # a backend on a card says here what it lacks
    chains = short(draws) if settings.chains == "auto" and draws is not module else settings.chains
    config = replace(config, run=replace(settings, backend=short(module), chains=chains))
    energy, other = (make_energy(each, config.kind, config.spec, config.train, data) for each in (module, draws))
    check_method(module, energy, config.train)
    if METHODS[config.train.method].teacher and not config.run.init:
        raise RangeError(f"init: method {config.train.method} learns from a run; name it: --init RUN")
    if config.run.auroc_every:
        if judged(module, energy, config.train) is None:
            wanted = f"0, as method {config.train.method} trains no energy"
            raise RangeError(f"run.auroc_every: expected {wanted}, found {config.run.auroc_every}")
        check_choice("run.auroc_set", config.run.auroc_set, ood_names(data))
    return Run(config, data, module, energy, draws, other)


def run_open(folder: Path) -> tuple[Run, TrainState]:
    """The run in a folder, and its last good checkpoint."""
    check_existing(folder)
    preset, tables = config_read(folder / CONFIG)
    try:
        run = prepare(preset, tables)
    except BackendError as error:
        carry = f"ebm train {preset} --out {quote(str(folder))} --resume --backend auto --set run.chains=auto"
        raise BackendError(f"{error}; to carry the run over to another backend: {carry}") from error
    return run, state_load(folder, run)


def state_load(folder: Path, run: Run) -> TrainState:
    """The state of the last good checkpoint; CheckpointError unless it is of this run's energy and recipe."""
    arrays, _ = checkpoint_load(folder, run.identity())
    state = state_from_arrays(to_backend(run.backend, arrays))
    # until = state.step: no step is made, but train checks the state that it is handed
    return train(run.backend, run.energy, run.config.train, run.train_data, run.seed, state, until=state.step)
