"""A run in memory: its configuration with the data, the backend and the energy that it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any

import numpy as np

from ebm_ref import annealed_run
from ebm_ref.contracts import Array, BackendError, ChainInfo, Stream, check_choice, flat_size
from ebm_ref.evaluation import auroc_estimate
from ebm_ref.train import Job, TrainState, check_method, energy_theta, state_from_arrays, train, train_job

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
        config = self.config
        return train_job(self.backend, self.energy, config.train, self.train_data, self.seed, self.data.train_labels)

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
        return Model(self.chains_backend, judged(self.chains_energy), theta, update)

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
    if config.run.auroc_every:
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


def uniform_start(run: Run, count: int, seed: int) -> Array:
    """Fresh noise in the box, (count, *shape), by address; an array of the chains' backend."""
    low, high = run.box
    dtype, size = run.data.train.dtype, flat_size(run.data.shape)
    u = run.chains_backend.noise_uniform(
        seed, Stream.SAMPLE_START, 0, np.arange(count), size, dtype=dtype
    )  # (count, D)
    return (low + (high - low) * u).astype(dtype).reshape(count, *run.data.shape)


def run_chains(run: Run, model: Model, x0: Array, K: int, seed: int) -> tuple[Array, ChainInfo]:
    """(x, info) of K Langevin steps from x0, an array of the chains' backend; what comes back is NumPy's.

    A model of several noise levels is annealed: the K steps are shared out among its levels, from high to low, and eta
    is half of the step that the lowest level has.
    """
    recipe = run.config.train
    if recipe.levels > 1 and K > 0:
        sigmas, T = recipe.sigmas(), max(1, K // recipe.levels)
        there = annealed_run(model.backend, run.chains_energy, model.theta, x0, None, sigmas, T, 2 * recipe.eta, seed)
    else:
        there = model.backend.langevin_run(
            model.energy, model.theta, x0, K, model.update, seed, stream=Stream.EVALUATION
        )
    x, info = to_host(model.backend, there)
    return x, info
