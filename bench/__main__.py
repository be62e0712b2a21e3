"""python -m bench [NAME ...]: numba_cpu against its peers, experiments, or the README's table.

chain pcd noise buffer start functions   each result checked, then timed in turns with the peers' (bench/cpu)
table                                    write the README's table from bench/results/cpu.csv
recipe jem tabular scoreboard            experiments, with a file of their own each
flow2d flow_digits                       energy flow: in the plane by exact figures, on digits against PCD
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from ebm_ref.contracts import EbmError

from .cpu.cases import cases_of
from .cpu.compare import compare
from .cpu.quiet import PROC, TRIES
from .cpu.rows import CSV, README, read_rows, render, save_rows
from .cpu.stacks import AGAINST, libraries
from .flow2d import compare_flows
from .flow_digits import compare_flows as compare_digits
from .jem import compare_jem
from .recipe import compare_recipes
from .scoreboard import compare_methods
from .table import Row
from .tabular import compare_tabular


def write_table() -> None:
    README.write_text(render(README.read_text(), read_rows(CSV)))


COMMANDS = {
    "table": write_table,
    "recipe": compare_recipes,
    "flow_digits": compare_digits,
    "jem": compare_jem,
    "tabular": compare_tabular,
    "scoreboard": compare_methods,
    "flow2d": compare_flows,
}


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=form)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every bench")
    parser.add_argument("--against", metavar="A,B", help=f"of {','.join(AGAINST)}; default: those installed")
    parser.add_argument("--rounds", type=int, default=9, help="timings of each stack")
    parser.add_argument("--tries", type=int, default=TRIES, help="of a timing that others disturb; 1 keeps all")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; saved with --out alone")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--out", type=Path, metavar="CSV", help=f"where rows are kept; default: {CSV.name}")
    parser.add_argument("--density", action="append", default=[], metavar="TOY", help="scoreboard, flow2d: these alone")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.density and args.names not in (["scoreboard"], ["flow2d"]):
        parser.error("--density: expected scoreboard or flow2d alone beside it")
    commands = COMMANDS | {
        "scoreboard": partial(compare_methods, args.density),
        "flow2d": partial(compare_flows, args.density, args.small, args.out),
    }
    try:
        asked = [commands[name] for name in args.names if name in commands]
        for run in asked:
            run()
        benches = tuple(name for name in args.names if name not in commands)
        if benches or not asked:
            run_benches(benches, args)
    except EbmError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


def run_benches(benches: tuple[str, ...], args: argparse.Namespace) -> None:
    """Compare, keep the rows after every case, print them."""
    cases = cases_of(benches, args.small)
    names, absent = libraries(args.against)
    for name in absent:
        print(f"missing: {name}, not compared with; --against {name} would insist", file=sys.stderr)
    if not (PROC / "stat").exists():
        print("no /proc here: nobody can tell whether others disturb a timing, all are kept", file=sys.stderr)
    out = args.out or (None if args.small else CSV)

    def keep(rows: list[Row]) -> None:
        if out is not None:
            save_rows(rows, out)

    rows = compare(cases, names, args.rounds, args.tries, keep)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
