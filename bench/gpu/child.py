"""python -m bench.gpu.child JSON: one stage, or one part of a stage, in this process; the exit code is its outcome."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback

from .context import CODES, FAIL, PASS, SKIP, Context, Skip, said


def run_stage(context: Context) -> str:
    """Call the stage's function; pass, fail or skip, with a row that gives the reason."""
    module, _, name = context.target.partition(":")
    try:
        getattr(importlib.import_module(module), name)(context)
    except Skip as reason:
        context.row("stage", SKIP, str(reason))
        return SKIP
    except Exception as error:
        traceback.print_exc()
        context.row("stage", FAIL, said(error))
        return FAIL
    return FAIL if any(row["status"] == FAIL for row in context.rows(context.stage)) else PASS


if __name__ == "__main__":
    code = CODES[run_stage(Context(**json.loads(sys.argv[1])))]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a pool that still works must not delay the end: the plan ends the whole process group
