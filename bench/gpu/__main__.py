"""python -m bench.gpu [--only STAGE ...] [--quick] [--out DIR]: exit code 0, or 1 when a stage that ran failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.table import RESULTS

from .plan import run_plan
from .stages import STAGES


def main(argv: list[str] | None = None) -> int:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="STAGE", choices=names, default=[], help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer cases and sizes: a look, not a result")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="for gpu.jsonl and gpu_files/")
    options = parser.parse_args(argv)
    return run_plan(STAGES, options.out, options.only, options.quick)


if __name__ == "__main__":
    sys.exit(main())
