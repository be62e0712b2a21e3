"""How numba_cpu would run the network of a preset."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ebm_fast import backend

from .config import merge, preset_tables, set_tables
from .run import prepare


def network_plan(preset: str) -> tuple[dict[str, Any], Callable[[dict[str, Any]], str]]:
    """The plan of the preset's chains, and what makes text of it. Raises BackendError, MissingExtraError."""
    backend("numba_cpu")  # can it run?
    plan = import_module("ebm_fast.numba_cpu.plan")
    run = prepare(preset, merge(preset_tables(preset), set_tables(['run.backend="numba_cpu"'])))
    return plan.chain_plan(run.energy, run.config.train.batch), plan.plan_text
