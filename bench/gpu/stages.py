"""The eight stages, in order: correctness before speed, so that a run that is cut short still pays."""

from __future__ import annotations

from .plan import Stage

STAGES = (
    Stage("probe", 20, "bench.gpu.probe:probe", "what this machine has"),
    Stage("prepare", 60, "bench.gpu.prepare:prepare", "compile every build, check its budget, compute the fixtures"),
    Stage("ceilings", 30, "bench.gpu.ceilings:ceilings", "what the card can do at most"),
    Stage("correctness", 100, "bench.gpu.correctness:correctness", "the verification kit on the card"),
    Stage("sanitize", 80, "bench.gpu.sanitize:sanitize", "memcheck, racecheck, synccheck, initcheck"),
    Stage("benchmark", 170, "bench.gpu.benchmark:benchmark", "ours and the peers, the error beside the time"),
    Stage("ncu", 60, "bench.gpu.ncu:ncu", "where the time goes, a kernel a row"),
    Stage("table", 10, "bench.gpu.table:table", "what it comes to", always=True),
)
