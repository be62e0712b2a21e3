"""`ebm train`: a run folder that is whole after every step, whatever ends the process.

A step's record is flushed to metrics.jsonl when it is made; every `save_every` steps the records are synced, then the
checkpoint is replaced. A resumed run drops the records after its checkpoint and makes them again, to the bit. What
happens when training diverges is in divergence.py.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any

from ebm_fast.extras import require
from ebm_ref.contracts import Array, CheckpointError, ConfigError, NonFiniteError
from ebm_ref.diagnostics import Alarms
from ebm_ref.methods import METHODS
from ebm_ref.train import TrainState, energy_theta, state_arrays, state_from_arrays, train_start, train_step

from .checkpoint import checkpoint_exists, checkpoint_load, checkpoint_save, checkpoint_settle
from .config import Tables, config_read, merge, resolve
from .divergence import Rollback
from .evaluate import check_extras
from .placement import to_host
from .progress import Progress
from .results import results_write, snapshot_write
from .run import Run, prepare, state_load
from .runfolder import (
    CONFIG,
    Metrics,
    check_existing,
    check_new,
    check_no_run,
    check_untouched,
    lock_folder,
    metrics_cut,
    write_atomic,
)

# on --resume; the rest is another run. A file that moved is still known by data.sha256
MAY_CHANGE = ("train.steps", "run.until", "run.backend", "run.chains", "run.save_every", "run.report", "data.path")


class Interrupted(Exception):
    """The process was asked to stop; the state after the last whole step is saved."""


def train_new(preset: str, tables: Tables, folder: Path) -> dict[str, Any]:
    """A new run in `folder`; its summary."""
    check_new(folder)
    run = ready(preset, tables)
    state = first_state(run)
    with lock_folder(folder):
        check_no_run(folder)
        write_atomic(folder / CONFIG, run.config.dumps().encode())
        return carry_on(folder, run, state)


def train_resume(preset: str, tables: Tables, changes: list[Tables], folder: Path) -> dict[str, Any]:
    """The run in `folder`, continued up to step run.until; its summary. What it holds wins over the preset."""
    check_existing(folder)
    if not (folder / CONFIG).exists():  # ended before it wrote anything: nothing is lost by starting it again
        check_untouched(folder)
        return train_new(preset, tables, folder)
    stored_preset, stored = config_read(folder / CONFIG)
    if preset != stored_preset:
        raise ConfigError(f"{folder}: holds a run of preset {stored_preset}, found {preset}")
    run = ready(preset, merge(stored, *changes))
    check_changes(folder, stored, run)
    with lock_folder(folder):
        if checkpoint_exists(folder):
            checkpoint_settle(folder)
            state = state_load(folder, run)
        else:
            state = first_state(run)
        if state.step > run.config.until:
            raise ConfigError(f"--steps: {folder} is at step {state.step} already, found {run.config.until}")
        write_atomic(folder / CONFIG, run.config.dumps().encode())
        return carry_on(folder, run, state)


def ready(preset: str, tables: Tables) -> Run:
    """The run, after all that its training and its results need proved to be there."""
    run = prepare(preset, tables)
    if run.config.run.report:
        require("matplotlib.figure", "plot")
    check_extras(run.data)
    return run


def first_state(run: Run) -> TrainState:
    """The state before the first step; what can be wrong with the recipe, the data and run.init is found here."""
    config, theta = run.config, None
    if config.run.init and not METHODS[config.train.method].teacher:
        arrays, _ = checkpoint_load(Path(config.run.init), run.identity())
        theta = energy_theta(run.energy, state_from_arrays(arrays).ema)
    data = run.train_data
    labels = run.data.train_labels
    start = (run.backend, run.energy, config.train, data, run.seed, data.dtype, theta, labels)
    return train_start(*start, teacher=run.teacher)


def host_arrays(run: Run, state: TrainState) -> dict[str, Array]:
    """What a checkpoint holds: the state's arrays, whichever backend they are of, as NumPy's."""
    arrays: dict[str, Array] = to_host(run.backend, state_arrays(state))
    return arrays


def check_changes(folder: Path, stored: Tables, run: Run) -> None:
    """Raise unless a resumed run differs from what `folder` holds only in MAY_CHANGE."""
    before = resolve(run.config.preset, stored, run.data.shape).tables()  # what a run of an older version left out
    settings = run.config.run
    fixed = ("run.save_every",) if settings.rollback else ()  # where training goes back to
    changed = [
        f"{section}.{key}: the run has {before[section].get(key)!r}, found {value!r}"
        for section, table in run.config.tables().items()
        for key, value in table.items()
        if (f"{section}.{key}" not in MAY_CHANGE or f"{section}.{key}" in fixed) and before[section].get(key) != value
    ]
    if changed:
        error = CheckpointError if changed[0].startswith("energy.") else ConfigError
        raise error(f"{folder}: {changed[0]}; name another folder with --out")
    recipe, planned = run.config.train, before["train"]["steps"]
    if recipe.schedule != "constant" and planned != recipe.steps:
        print(
            f"the {recipe.schedule} schedule of {folder} was laid out over {planned} steps, from here on over "
            f"{recipe.steps}: not the run that had them from the start",
            file=sys.stderr,
        )


def carry_on(folder: Path, run: Run, state: TrainState) -> dict[str, Any]:
    """Train from `state` to step run.until, then write the results; the summary."""
    settings, identity, until = run.config.run, run.identity(), run.config.until
    records = metrics_cut(folder, state.step)
    alarms = heard(run, records)
    seconds = float(records[-1]["seconds"]) if records else 0.0
    saved = state.step
    if state.step == 0:
        snapshot_write(folder, run, state)
        checkpoint_save(folder, host_arrays(run, state), state.step, identity)
    rollback = Rollback(folder, run, records)
    rollback.keep(state)
    metrics = Metrics(folder)
    with metrics, stop_requests() as asked, Progress(state.step, until) as progress:
        while state.step < until:
            began = time.perf_counter()
            try:
                after, record = train_step(
                    run.backend, run.energy, rollback.recipe, state, run.train_data, run.seed, run.job
                )
                rollback.check(record, state.step)
            except NonFiniteError as error:
                gone_back = rollback.back(error, records)
                if gone_back is None:
                    raise NonFiniteError(
                        f"{folder}: stopped in step {state.step + 1}: {error}; kept as of step {saved}"
                    ) from error
                state, records = gone_back
                saved, alarms = state.step, heard(run, records)
                progress.message(f"rollback: {rollback.notes[-1]}")
                continue
            state = after
            seconds += time.perf_counter() - began
            record = {"step": state.step, **record}
            if settings.auroc_every and state.step % settings.auroc_every == 0:
                record |= run.auroc(state)
            rollback.note(record)
            record["seconds"] = round(seconds, 4)
            raised = alarms.update(record)
            if raised:
                record["alarms"] = raised
            metrics.append(record)
            records.append(record)
            for text in raised:
                progress.message(f"alarm at step {state.step}: {text}")
            snapshot_write(folder, run, state)
            progress.update(state.step, record)
            if state.step % settings.save_every == 0 or state.step == until or asked:
                metrics.sync()
                checkpoint_save(folder, host_arrays(run, state), state.step, identity)
                rollback.keep(state)
                saved = state.step
            if asked:
                again = f"ebm train {run.config.preset} --out {quote(str(folder))} --resume"
                raise Interrupted(f"stopped at step {state.step} of {until}; continue with {again}")
    return results_write(folder, run, state, records)


def heard(run: Run, records: list[dict[str, Any]]) -> Alarms:
    """The alarms after these records."""
    alarms = Alarms(alpha=run.config.train.alpha)
    for record in records:
        alarms.update(record)
    return alarms


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that fills when the process is asked to stop (SIGINT, SIGTERM); a second request ends it at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread receives signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
