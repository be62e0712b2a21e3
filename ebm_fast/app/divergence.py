"""What training that diverges leads to: back to the last rollback point, with a smaller lr, and on from there.

    divergence       a loss, gradient or parameter that is not finite; every chain stopped; |gap| > run.rollback_gap
    rollback point   the state at every multiple of run.save_every, in the folder rollback/ of the run
    lr               run.rollback_factor ** (rollbacks so far) times the recipe's

The records after the point are dropped, and the first one that is made anew says what happened, so that the rollbacks
so far are those that the records tell of. Everything is a function of the records and the point: a run that is cut and
resumed, wherever it is cut, diverges and goes back at the same steps. With run.rollback = 0 nothing is kept, and what
is not finite ends the run. A point is not known to be healthy, only to be finite: run.save_every should be longer than
the way from the first sign of trouble to a number that is not finite.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ebm_ref.contracts import NonFiniteError
from ebm_ref.train import Recipe, TrainState, state_arrays, state_from_arrays

from .checkpoint import checkpoint_load, checkpoint_save
from .placement import to_backend, to_host
from .run import Run
from .runfolder import metrics_cut, os_errors

POINT = "rollback"
Records = list[dict[str, Any]]


class Rollback:
    """How often training has gone back, and how to go back once more."""

    def __init__(self, folder: Path, run: Run, records: Records) -> None:
        self.folder, self.run = folder, run
        self.notes: list[str] = []  # of rollbacks that no record tells of yet
        self.told = told(records)

    @property
    def recipe(self) -> Recipe:
        """The recipe with the lr that is left of it."""
        recipe, count = self.run.config.train, self.told + len(self.notes)
        return replace(recipe, lr=recipe.lr * self.run.config.run.rollback_factor**count) if count else recipe

    def keep(self, state: TrainState) -> None:
        """Make `state` the rollback point, where it is one."""
        settings = self.run.config.run
        if settings.rollback and state.step % settings.save_every == 0:
            with os_errors(self.folder):
                (self.folder / POINT).mkdir(exist_ok=True)
            arrays = to_host(self.run.backend, state_arrays(state))
            checkpoint_save(self.folder / POINT, arrays, state.step, self.run.identity())

    def check(self, record: dict[str, float], step: int) -> None:
        """Raise NonFiniteError when the gap has exploded."""
        bound = self.run.config.run.rollback_gap
        if bound is not None and abs(record["gap"]) > bound:
            raise NonFiniteError(f"step {step}: expected an energy gap within {bound:g}, found {record['gap']:.6g}")

    def back(self, error: NonFiniteError, records: Records) -> tuple[TrainState, Records] | None:
        """(state, records) of the rollback point, now the run's; None when no rollback is left. records: so far."""
        settings = self.run.config.run
        if self.told + len(self.notes) >= settings.rollback:
            return None
        arrays, step = checkpoint_load(self.folder / POINT, self.run.identity())
        checkpoint_save(self.folder, arrays, step, self.run.identity())  # before the records that it counts on go
        lost = [note for record in records[step:] for note in record.get("rollback", ())]
        records = metrics_cut(self.folder, step)
        self.notes = [*lost, *self.notes, f"{error}; back to step {step}, lr times {settings.rollback_factor:g}"]
        self.told = told(records)
        return state_from_arrays(to_backend(self.run.backend, arrays)), records

    def note(self, record: dict[str, Any]) -> None:
        """Let `record`, the first after a rollback, say what happened."""
        if self.notes:
            record["rollback"] = self.notes
            self.told, self.notes = self.told + len(self.notes), []


def told(records: Records) -> int:
    """The rollbacks that the records tell of."""
    return sum(len(record.get("rollback", ())) for record in records)
