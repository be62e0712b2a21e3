"""python -m bench [FUNCTION ...] [--twin NAME ...] [--rounds N] [--json] [--save NAME] [--density TOY ...]"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from ebm_fast import BACKENDS, ON_A_CARD, why_not

from .cases import CASES
from .jem import compare_jem
from .recipe import compare_recipes
from .scoreboard import compare_methods
from .table import bench_case, format_row, load_twins, save_rows, to_json
from .tabular import compare_tabular

EXPERIMENTS = {"recipe": compare_recipes, "jem": compare_jem, "tabular": compare_tabular}


def main() -> int:
    functions = list(dict.fromkeys(case.bench for case in CASES))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "functions",
        nargs="*",
        metavar="FUNCTION",
        help=f"of {', '.join(functions)}, {', '.join(EXPERIMENTS)}, scoreboard",
    )
    twins = [name for name in BACKENDS if name != "ebm_ref" and name not in ON_A_CARD]  # a card has bench.gpu
    parser.add_argument("--twin", action="append", choices=twins)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--density", action="append", default=[], metavar="TOY", help="scoreboard: of these alone")
    parser.add_argument("--save", metavar="NAME", help="write bench/results/NAME.csv")
    args = parser.parse_args()
    experiments = EXPERIMENTS | {"scoreboard": partial(compare_methods, args.density)}
    if args.density and args.functions != ["scoreboard"]:
        parser.error("--density: expected scoreboard alone beside it")
    unknown = [f for f in args.functions if f not in (*functions, *experiments)]
    if unknown:
        parser.error(f"unknown function {unknown[0]}; choose from {', '.join(functions)}, {', '.join(experiments)}")
    asked = [run for name, run in experiments.items() if name in args.functions]
    for run in asked:
        run()
    if asked:
        return 0
    names = args.twin or [name for name in twins if why_not(name) is None]
    rows = []
    for case in CASES:
        if args.functions and case.bench not in args.functions:
            continue
        for row in bench_case(case, load_twins(names), args.rounds):
            rows.append(row)
            if not args.json:
                print(format_row(row), flush=True)
    if args.json:
        print(to_json(rows))
    if args.save:
        print(f"wrote {save_rows(rows, args.save)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
