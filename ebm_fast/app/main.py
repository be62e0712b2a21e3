"""The command `ebm`: train, sample, eval, verify, doctor.

Exit codes: 0 done, 1 a check failed, 2 bad input or a machine that says no (one line on stderr), 130 interrupted,
141 the reader of the output went away. With --json a verb prints one JSON value on stdout; progress is on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from ebm_fast import BACKENDS
from ebm_fast.extras import require
from ebm_ref.contracts import ConfigError, EbmError, check_count
from ebm_ref.methods import METHODS

from .annealing import CHAINS, TEMPERATURES, Annealing
from .classifying import EPS, Attacking
from .config import SECTIONS, file_tables, merge, preset_names, preset_tables, section_keys, set_tables
from .doctor import doctor, doctor_text
from .doctor_plan import network_plan
from .others import verify_others
from .report import cell
from .sampling import STARTS, evaluate_again, sample
from .training import Interrupted, train_new, train_resume

HOST_BUILDS = ("fast", "race", "asan")
DEEP = 1000  # cases drawn for each function, twin and dtype


class Parser(argparse.ArgumentParser):
    """argparse whose complaint is one line, as for every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
        prog="ebm",
        description="Train, sample, evaluate and verify energy-based models.",
        epilog="Start with `ebm doctor`, then `ebm train toy2d` (about a minute), then `ebm train digits` (minutes).",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    train = add_verb(verbs, "train", "train an energy on a preset's data, into a run folder")
    train.add_argument("preset", metavar="PRESET", help=f"one of {', '.join(preset_names())}")
    train.add_argument("--method", help=f"{', '.join(METHODS)}; default the preset's")
    train.add_argument("--steps", type=int, help="stop after this step; default the recipe's train.steps")
    train.add_argument("--seed", type=int, help="0..2^64-1; every random number follows from it")
    train.add_argument("--out", type=Path, help="run folder; default runs/PRESET-METHOD")
    train.add_argument("--backend", help=f"{', '.join(BACKENDS)} or auto")
    train.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="start from the parameters of this run; of projection and student, the teacher",
    )
    train.add_argument("--resume", action="store_true", help="continue the run in --out up to --steps in all")
    train.add_argument("--config", type=Path, metavar="FILE", help="TOML with sections data, energy, train, run")
    train.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="after PRESET; any key below, e.g. train.lr=1e-3 energy.kind=MLPEnergy",
    )
    train.formatter_class = argparse.RawDescriptionHelpFormatter
    train.epilog = "keys of --set and --config:\n" + "\n".join(
        fill(", ".join(section_keys(section)), 100, initial_indent=f"  {section:<8}", subsequent_indent=" " * 10)
        for section in SECTIONS
    )

    draw = add_verb(verbs, "sample", "draw samples from a run, into samples.npz and samples.png")
    draw.add_argument("run", metavar="RUN", type=Path, help="a run folder, such as runs/digits-pcd")
    draw.add_argument("--n", type=int, default=64, help="samples (64)")
    draw.add_argument(
        "--K", type=int, help="steps; default the recipe's K, ten times that from uniform noise, its time / eta of em"
    )
    draw.add_argument("--seed", type=int, default=0, help="another seed, other samples (0)")
    draw.add_argument(
        "--start", help=f"where chains start: {' or '.join(STARTS)}; default the buffer where there is one"
    )

    again = add_verb(verbs, "eval", "recompute a run's summary and pictures")
    again.add_argument("run", metavar="RUN", type=Path, help="a run folder, such as runs/digits-pcd")

    again.add_argument("--ais", action="store_true", help="slow: log Z, likelihood and bits per dimension by annealing")
    again.add_argument("--chains", type=int, metavar="N", help=f"of --ais, in either direction ({CHAINS})")
    again.add_argument("--temperatures", type=int, metavar="K", help=f"of --ais, from base to model ({TEMPERATURES})")
    again.add_argument("--pgd", action="store_true", help="accuracy of a classifier under attack")
    again.add_argument("--eps", type=float, help=f"of --pgd, the l_inf radius, pixels in [-1, 1] ({EPS})")
    again.add_argument(
        "--background", type=Path, metavar="RUN", help="another run on the same data: the likelihood ratio as a score"
    )

    check = add_verb(verbs, "verify", "check every twin against the oracle")
    check.add_argument("--twin", nargs="+", metavar="NAME", help="backends to check; default all that can run here")
    check.add_argument(
        "--deep",
        action="store_true",
        help=f"{DEEP} cases a function instead of 25 (host_build: 200, its race build: 60)",
    )
    check.add_argument(
        "--build",
        choices=HOST_BUILDS,
        help="of host_build, the CUDA C++ sources on this CPU: fast; race (races, bounds, unwritten reads); asan",
    )
    check.add_argument(
        "--mutants",
        action="store_true",
        help="bugs found in other people's code, each in a function of ours: the kills",
    )
    check.add_argument("--against", metavar="MODULE:FUNCTION", help="check this function instead, on NumPy arrays")
    check.add_argument("--as", dest="name", metavar="NAME", help="the function of ours it answers to; default its name")

    ill = add_verb(verbs, "doctor", "say what is installed, what can run, and what to install")
    ill.add_argument("--plan", metavar="PRESET", choices=preset_names(), help="instead: how numba_cpu runs its network")
    return parser


def add_verb(verbs: Any, name: str, what: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    verb.add_argument("--json", action="store_true", help="print one JSON value on stdout")
    return verb


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    if sys.stderr is None:  # closed by the caller: what belongs there must not land on stdout
        sys.stderr = open(os.devnull, "w")
    try:
        options = build_parser().parse_args(argv)
        code = VERBS[options.verb](options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except EbmError as error:
        return complain(str(error))
    except Interrupted as interruption:
        print(f"ebm: {interruption}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("ebm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has read enough; nothing more can be said, also not at exit
        sys.stdout = sys.stderr = open(os.devnull, "w")
        return 141
    except MemoryError as error:
        return complain(f"not enough memory: {error or 'an allocation failed'}")
    except OSError as error:
        return complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))


def complain(message: str) -> int:
    """One line on stderr; the exit code of bad input."""
    print("ebm: error: " + " ".join(message.split()), file=sys.stderr)
    return 2


def run_train(options: argparse.Namespace) -> int:
    given = {
        "train.method": options.method,
        "run.until": options.steps,
        "run.seed": options.seed,
        "run.backend": options.backend,
        "run.init": None if options.init is None else str(options.init.absolute()),
    }
    if options.steps is not None:
        check_count("--steps", options.steps, low=1)
    flags = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    changes = [] if options.config is None else [file_tables(options.config)]
    changes.append(set_tables(options.set + flags))
    tables = merge(preset_tables(options.preset), *changes)
    folder = options.out or Path("runs") / f"{options.preset}-{tables['train'].get('method', 'pcd')}"
    if options.resume:
        summary = train_resume(options.preset, tables, changes, folder)
    else:
        summary = train_new(options.preset, tables, folder)
    show(options, {"run": str(folder), **summary}, summary_text)
    return 0


def run_sample(options: argparse.Namespace) -> int:
    show(options, sample(options.run, options.n, options.K, options.seed, options.start), summary_text)
    return 0


def run_eval(options: argparse.Namespace) -> int:
    for flag, of in (("chains", "ais"), ("temperatures", "ais"), ("eps", "pgd")):
        if getattr(options, flag) is not None and not getattr(options, of):
            raise ConfigError(f"--{flag}: expected --{of} beside it")
    given = {name: getattr(options, name) for name in ("chains", "temperatures") if getattr(options, name) is not None}
    annealing = Annealing(**given) if options.ais else None
    attacking = Attacking(EPS if options.eps is None else options.eps) if options.pgd else None
    summary = evaluate_again(options.run, annealing, attacking, options.background)
    show(options, {"run": str(options.run), **summary}, summary_text)
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    if options.plan is None:
        show(options, doctor(), doctor_text)
    else:
        show(options, *network_plan(options.plan))
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Exit code 1 when a twin fails a check, a mutant survives one, or the function of --against fails one."""
    if options.mutants or options.against is not None or options.name is not None:
        return verify_others(options)
    require("hypothesis", "verify")
    verify = import_module("ebm_fast.verify")
    twins = options.twin
    if options.build is not None:
        twins = twins or ["host_build"]
        if twins != ["host_build"]:
            raise ConfigError(f"--build: expected no twin but host_build beside it, found {', '.join(twins)}")
        if options.build == "asan" and not verify.host_build.inside_asan():
            return verify_in_asan(verify.host_build, options)
        verify.host_build.set_build(options.build)
    tell = (lambda row: None) if options.json else lambda row: print(verify.format_row(row), flush=True)
    rows = verify.run(twins, cases=DEEP if options.deep else None, tell=tell)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    return int(any(row.status == "fail" for row in rows))


def verify_in_asan(host_build: Any, options: argparse.Namespace) -> int:
    """The same command in a process that began with the address sanitiser's libraries; 1 where it found something."""
    flags = [flag for flag, given in (("--json", options.json), ("--deep", options.deep)) if given]
    done = host_build.run_in_asan(["-m", "ebm_fast.app.main", "verify", "--build", "asan", *flags])
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return min(done.returncode, 1) if done.returncode >= 0 else 1


VERBS = {"train": run_train, "sample": run_sample, "eval": run_eval, "verify": run_verify, "doctor": run_doctor}


def show(options: argparse.Namespace, value: Any, text: Any) -> None:
    print(json.dumps(value) if options.json else text(value))


def summary_text(summary: dict[str, Any]) -> str:
    """A line a figure, its standard error beside it."""
    width = max(map(len, summary))
    lines = {key: cell(value) for key, value in summary.items() if not key.endswith("_se")}
    for key in lines:
        if summary.get(f"{key}_se") is not None:
            lines[key] += f" +- {summary[f'{key}_se']:.2g}"
    return "\n".join(f"{key:<{width}}  {text}" for key, text in lines.items())


if __name__ == "__main__":
    sys.exit(main())
