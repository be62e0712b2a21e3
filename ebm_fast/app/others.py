"""`ebm verify --mutants` and `ebm verify --against`: other people's bugs, and other people's functions."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from importlib import import_module

from ebm_ref.contracts import ConfigError


def verify_others(options: argparse.Namespace) -> int:
    """Neither looks at a twin. The exit code: 1 when a mutant survives or a function fails a check."""
    verb = "--mutants" if options.mutants else "--against" if options.against is not None else "--as"
    barred = ("twin", "deep", "build", *(("against", "name") if options.mutants else ()))
    beside = ["--as" if flag == "name" else f"--{flag}" for flag in barred if getattr(options, flag)]
    if beside:
        raise ConfigError(f"{verb}: expected it without {', '.join(beside)}")
    if verb == "--as":
        raise ConfigError("--as: expected --against MODULE:FUNCTION beside it, found none")
    mutants = import_module("ebm_fast.verify.mutants")
    form = mutants.format_kill if options.mutants else mutants.format_ruling
    tell = (lambda row: None) if options.json else lambda row: print(form(row), flush=True)
    if options.mutants:
        rows = mutants.kill_matrix(tell=tell)
    else:
        rows = mutants.against(options.against, options.name, tell=tell)
    if options.json:
        print(json.dumps([asdict(row) | {"want": str(row.want)} for row in rows]))
    return int(not all(row.good if options.mutants else row.passed for row in rows))
