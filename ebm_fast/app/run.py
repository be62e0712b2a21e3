"""A run in memory: its configuration with the data, the backend and the energy that it names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shlex import quote
from types import ModuleType

import numpy as np

from ebm_fast import backend
from ebm_ref.contracts import Array, BackendError, ChainInfo, Energy, Stream, flat_size
from ebm_ref.train import TrainState, state_from_arrays, train

from .checkpoint import checkpoint_load
from .config import DataConfig, RunConfig, Tables, config_read, resolve, section_read
from .data import SHAPES, Dataset, data_load, file_sha256
from .evaluate import Model
from .placement import device_of, to_backend, to_host
from .runfolder import CONFIG, check_existing


@dataclass(frozen=True)
class Run:
    """What a verb works on; nothing here has touched the run folder."""

    config: RunConfig
    data: Dataset
    backend: ModuleType
    energy: Energy

    @property
    def seed(self) -> int:
        return self.config.run.seed

    @property
    def box(self) -> tuple[float, float]:
        """Where chains start from uniform noise, and what pictures map to black and white."""
        return self.config.train.box or (-1.0, 1.0)

    @cached_property
    def train_data(self) -> Array:
        """The training data where the backend's arrays live."""
        x: Array = to_backend(self.backend, self.data.train)
        return x

    def model(self, state: TrainState) -> Model:
        """The energy with the parameters that are judged: their moving average (theta itself where ema_decay is 0)."""
        return Model(self.backend, self.energy, state.ema)


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
    module = backend(config.run.backend)
    name = module.__name__.rpartition(".")[2]
    if not hasattr(module, config.kind):
        raise BackendError(f"run.backend: {name} has no {config.kind}; ebm_ref has it: --backend ebm_ref")
    device_of(module)  # a backend on a card says here what it lacks
    config = replace(config, run=replace(config.run, backend=name))
    return Run(config, data, module, getattr(module, config.kind)(**vars(config.spec)))


def run_open(folder: Path) -> tuple[Run, TrainState]:
    """The run in a folder, and its last good checkpoint."""
    check_existing(folder)
    preset, tables = config_read(folder / CONFIG)
    try:
        run = prepare(preset, tables)
    except BackendError as error:
        carry = f"ebm train {preset} --out {quote(str(folder))} --resume --backend auto"
        raise BackendError(f"{error}; to carry the run over to another backend: {carry}") from error
    return run, state_load(folder, run)


def state_load(folder: Path, run: Run) -> TrainState:
    """The state of the last good checkpoint; CheckpointError unless it is of this run's energy and recipe."""
    arrays, _ = checkpoint_load(folder, run.config.identity())
    state = state_from_arrays(to_backend(run.backend, arrays))
    # until = state.step: no step is made, but train checks the state that it is handed
    return train(run.backend, run.energy, run.config.train, run.train_data, run.seed, state, until=state.step)


def uniform_start(run: Run, count: int, seed: int) -> Array:
    """Fresh noise in the box, (count, *shape), by address; an array of the backend."""
    low, high = run.box
    dtype, size = run.data.train.dtype, flat_size(run.data.shape)
    u = run.backend.noise_uniform(seed, Stream.SAMPLE_START, 0, np.arange(count), size, dtype=dtype)  # (count, D)
    return (low + (high - low) * u).astype(dtype).reshape(count, *run.data.shape)


def run_chains(run: Run, model: Model, x0: Array, K: int, seed: int) -> tuple[Array, ChainInfo]:
    """(x, info) of K Langevin steps from x0, an array of the backend; what comes back is NumPy's."""
    update, there = run.config.train.update(), (run.energy, model.theta, x0)
    x, info = to_host(run.backend, run.backend.langevin_run(*there, K, update, seed, stream=Stream.EVALUATION))
    return x, info
