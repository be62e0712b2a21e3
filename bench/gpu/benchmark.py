"""Stage 5: chains and single functions, ours and the peers', each contender in a process of its own.

Every contender computes the same function (tests hold the peers to the oracle on the CPU), is checked against the
float64 oracle here before it is timed, and is timed with the same clock on the same inputs. Ours come first, then the
peers; what no longer fits into the stage is skipped and says so. A contender gets its share of the time that is left.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

from .context import FAIL, SKIP, Context
from .plan import ROOT

CONTENDERS = (  # target, its share of the time that is left when it begins
    ("bench.gpu.ours:chains", 0.3),
    ("bench.gpu.peers:torch_eager", 0.25),
    ("bench.gpu.peers:torch_graphs", 0.4),
    ("bench.gpu.peers:jax_scan", 0.6),
    ("bench.gpu.functions:functions", 0.8),
    ("bench.gpu.peers:torch_graphs_tf32", 1.0),
)


def benchmark(context: Context) -> None:
    context.need_card()
    for target, share in CONTENDERS:
        contend(context, target, share)


def contend(context: Context, target: str, share: float) -> None:
    """One contender, until its share is used up; its rows are this stage's."""
    until = time.time() + share * (context.left() - 2)
    child = replace(context, target=target, until=until)
    if child.left() < 3:
        context.row(target, SKIP, f"no time left ({child.left():.0f} s)")
        return
    command = [sys.executable, "-m", "bench.gpu.child", child.json()]
    try:  # no session of its own: it must die with this stage
        done = subprocess.run(command, cwd=ROOT, timeout=child.left() + 1, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        context.row(target, SKIP, "stopped at its share of the time; what it had measured is kept")
        return
    if done.returncode < 0:
        context.row(target, FAIL, f"ended with signal {-done.returncode}")
