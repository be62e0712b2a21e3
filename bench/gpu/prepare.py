"""Stage 1: everything that can be made before the card is asked, in parallel. Most of it needs no card.

every build of every CUDA source compiled by NVRTC, for the architectures of the gate and for the card that is here
the budgets of that machine code: registers, spills, shared memory, instructions
a few functions of the CUDA backend run by the host's compiler
the float64 oracle's answers that the benchmark checks against
with a card: the caches of torch.compile and of JAX
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebm_fast.cupy_raw.source import builds
from ebm_fast.driver import find_driver
from ebm_ref.contracts import EbmError

from .context import FAIL, SKIP, Context, Skip, no_card
from .nets import NETS, Net, fixture
from .plan import ROOT
from .probe import find_tool

SMOKE = ("noise_bits", "langevin_step", "group_norm_forward")
WARM = ("bench.gpu.peers:warm", "bench.gpu.peers:warm_jax")
QUICK_ARCH = "sm_90a"
SPARE = 4.0  # seconds


def prepare(context: Context) -> None:
    """What is not done SPARE seconds before the end is a skipped row: the plan then ends what is still running."""
    warming = [] if no_card() else [start(context, target) for target in WARM]
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), 16), spawn)
    jobs: dict[Any, str] = {}
    for net in NETS[:1] if context.quick else NETS:
        jobs[pool.submit(make_fixture, context.files, net)] = f"fixture {net.name}"
    jobs[pool.submit(smoke, context)] = "host build"
    for arch in context.part("nvrtc", architectures, context) or ():
        for file, defines in chosen(context.quick):
            label = f"nvrtc {file} {' '.join(f'{key}={value}' for key, value in defines)} {arch}"
            jobs[pool.submit(compile_one, file, defines, arch, not context.quick)] = label
    waiting = set(jobs)
    while waiting and context.left() > SPARE:
        done, waiting = wait_for(waiting, context.left() - SPARE, FIRST_COMPLETED)
        for job in done:
            context.part(jobs[job], finish, context, jobs[job], job)
    pool.shutdown(wait=False, cancel_futures=True)
    for job in waiting:
        context.row(jobs[job], SKIP, "not done in time")
    for target, process in zip(WARM, warming, strict=False):
        context.part(target, wait, context, process)
    if not warming:
        context.row("compile caches of torch and jax", SKIP, no_card() or "")


def architectures(context: Context) -> tuple[str, ...]:
    """Those of the gate, and the card's own. Raises Skip without NVRTC."""
    if importlib.util.find_spec("cuda") is None:
        raise Skip("cuda-bindings is not installed, so NVRTC cannot be called")
    nvrtc = context.need("ebm_fast.cupy_raw.nvrtc")
    nvrtc.load()
    own = tuple(nvrtc.arch_of(card.capability) for card in find_driver().cards[:1])
    return tuple(dict.fromkeys((*own, *((QUICK_ARCH,) if context.quick else nvrtc.ARCHS))))


def chosen(quick: bool) -> list[tuple[str, Any]]:
    """Every build; the float ones of order 0 where quick."""
    return [
        (file, defines)
        for file, defines in builds()
        if not quick or dict(defines) == {"EBM_ORDER": "0", "EBM_REAL": "float"}
    ]


def compile_one(file: str, defines: Any, arch: str, hold: bool) -> dict[str, Any]:
    """One build for one architecture; `hold` it to its budget where the tools that read machine code are here."""
    nvrtc, gate = (importlib.import_module(name) for name in ("ebm_fast.cupy_raw.nvrtc", "ebm_fast.verify.budgets"))
    begin = time.perf_counter()
    found = {"bytes": len(nvrtc.compile(file, defines, arch)), "seconds": time.perf_counter() - begin}
    if not hold:
        return found | {"budget": "not held: a quick run"}
    try:
        measured, problems = gate.measure([(file, defines)], [arch])
    except EbmError as error:  # no cuobjdump, no nvdisasm
        return found | {"budget": f"not held: {error}"}
    problems += gate.rule_problems(measured)
    budgets = gate.read()
    if budgets["nvrtc"] != nvrtc.version():
        held = f"rules only: the figures are of NVRTC {budgets['nvrtc']}, this is {nvrtc.version()}"
    elif arch not in nvrtc.ARCHS:
        held = f"rules only: there are no figures for {arch}"
    else:
        mine = {
            key: figures
            for key, figures in budgets["code"].items()
            if belongs(key, file, gate.build_name(defines), arch)
        }
        problems += gate.budget_problems(measured, mine)
        held = "held"
    if problems:
        raise AssertionError("; ".join(problems))
    return found | {"budget": held}


def belongs(key: str, file: str, build: str, arch: str) -> bool:
    """Whether a line of budgets.json, `file kernel build arch`, is of this build."""
    words = key.split()
    return (words[0], *words[2:]) == (file, build, arch)


def make_fixture(folder: Path, net: Net) -> dict[str, Any]:
    begin = time.perf_counter()
    made = fixture(net, folder)
    return {"chains": len(made["E"]), "seconds": time.perf_counter() - begin}


def smoke(context: Context) -> dict[str, Any]:
    """A few functions of the host build against the oracle."""
    find_tool("g++")
    context.need("hypothesis")
    verify = context.need("ebm_fast.verify")
    rows = verify.run(["host_build"], functions=SMOKE, dtypes=("float32",), cases=3)
    bad = [f"{row.function}: {row.why}" for row in rows if row.status == FAIL]
    if bad:
        raise AssertionError("; ".join(bad))
    return {"functions": [row.function for row in rows if row.status != SKIP]}


def finish(context: Context, label: str, job: Any) -> None:
    context.row(label, **job.result())


def start(context: Context, target: str) -> subprocess.Popen[bytes]:
    """A part of this stage in a process of its own, which dies with it."""
    child = replace(context, target=target, until=context.until - 3)
    return subprocess.Popen([sys.executable, "-m", "bench.gpu.child", child.json()], cwd=ROOT, stdin=subprocess.DEVNULL)


def wait(context: Context, process: subprocess.Popen[bytes]) -> None:
    """A cache that is not full in time costs the benchmark time, and is no failure."""
    try:
        process.wait(max(0.5, context.left() - 3))
    except subprocess.TimeoutExpired:
        process.kill()
        raise Skip("not done in time; what was compiled is kept") from None
