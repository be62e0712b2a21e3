"""The process that compiles with this one: when there is one, what it leaves in the cache, and that it goes."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ebm_fast import numba_cpu
from ebm_fast.numba_cpu import build, helper, machine
from ebm_fast.numba_cpu.registers import HALF, ONE, WHOLE, lanes_type
from ebm_ref.specs import SGLD

ROOT = Path(__file__).parent.parent
USED = machine.INSTRUCTIONS[3 : 4 + helper.FEW]
pytestmark = pytest.mark.skipif(not build.JIT, reason="there is no compiler")


class Recorded:
    """A process that is not started."""

    started: list["Recorded"]

    def __init__(self, command, env, **streams):
        self.command, self.env, self.streams, self.events = command, env, streams, []
        self.started.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.events.append("waited for")

    def kill(self):
        self.events.append("killed")


@pytest.fixture
def started(monkeypatch):
    """The helpers that this test starts, in a process with two processors that had none, and an empty cache."""
    monkeypatch.setattr(Recorded, "started", [], raising=False)
    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr(helper, "_once", threading.Lock())
    monkeypatch.setattr(helper, "held", lambda *arguments: False)
    monkeypatch.setenv("EBM_NUM_THREADS", "2")
    return Recorded.started


def help_with(used=USED):
    with helper.helper(machine.INSTRUCTIONS, dict.fromkeys(used, HALF), np.float64):
        return "body"


def test_helper__is_told_all_that_is_missing_last_first(started, monkeypatch):
    monkeypatch.setattr(helper, "held", lambda what, number: what is USED[1])
    assert help_with(machine.INSTRUCTIONS[3 : 5 + helper.FEW]) == "body"
    (process,) = started
    assert process.command[:2] == [sys.executable, "-P"]
    tasks = [f"{number} half" for number in (*range(4 + helper.FEW, 4, -1), 3)]
    assert process.command[-1 - len(tasks) :] == ["float64", *tasks]
    assert process.env["EBM_NUM_THREADS"] == "1" and process.env["EBM_VECTOR_BYTES"] == str(build.VECTOR_BYTES)
    assert set(process.streams.values()) == {subprocess.DEVNULL}
    assert process.events == ["killed", "waited for"]


def test_helper__is_told_no_places_that_are_not_text(started, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", ROOT, "there", b"bytes"])  # Python looks in none of these either
    assert help_with() == "body" and json.loads(started[0].command[4]) == ["", "there"]
    known = os.environ.get("PYTHONPATH")  # more there, and a sitecustomize beside a script would be run
    assert started[0].env.get("PYTHONPATH") == known


def test_helper__goes_when_compiling_fails(started):
    with (
        pytest.raises(ValueError, match="body"),
        helper.helper(machine.INSTRUCTIONS, dict.fromkeys(USED, WHOLE), np.float32),
    ):
        raise ValueError("body")
    assert started[0].events == ["killed", "waited for"]


def test_helper__is_one_for_a_process(started):
    assert [help_with(), help_with()] == ["body", "body"] and len(started) == 1


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (os.environ, "EBM_NUM_THREADS", "1"),
        (sys, "executable", ""),
        (sys, "executable", None),
        (sys, "executable", "/usr/bin/uwsgi"),
        (sys, "frozen", True),
        (helper, "JIT", False),
        (helper, "held", lambda *arguments: True),
        (helper, "FEW", len(USED)),
    ],
)
def test_helper__is_not_started_where_it_cannot_help(started, monkeypatch, where, name, value):
    if where is os.environ:
        monkeypatch.setenv(name, value)
    else:
        monkeypatch.setattr(where, name, value, raising=False)
    assert help_with() == "body" and not started


def test_helper__is_done_without_where_no_process_starts(started, monkeypatch):
    def refused(*arguments, **options):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert help_with() == "body"


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "raise SystemExit(1)"])
def test_helper__leaves_no_process_behind(started, monkeypatch, code):
    monkeypatch.undo()
    monkeypatch.setattr(helper, "_once", threading.Lock())
    monkeypatch.setattr(helper, "held", lambda *arguments: False)
    monkeypatch.setattr(helper, "CODE", code)
    monkeypatch.setenv("EBM_NUM_THREADS", "2")
    processes, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: processes.append(start(*a, **k)) or processes[-1])
    assert help_with() == "body"
    with pytest.raises(ChildProcessError):
        os.waitpid(processes[0].pid, os.WNOHANG)


def test_held__knows_what_is_on_disk(tmp_path, monkeypatch):
    what, number = machine.INSTRUCTIONS[3], lanes_type(np.float32, WHOLE)
    build.address(what, number)
    assert build.held(what, number)
    monkeypatch.setattr(build, "instruction_signature", lambda *arguments: "another")
    assert not build.held(what, number)

    def local(row, T, W, S, G, A):
        pass

    monkeypatch.setattr(build, "KernelCache", lambda function: (_ for _ in ()).throw(RuntimeError("read-only")))
    plain = build.instruction(local)
    monkeypatch.undo()
    assert build.held(plain, number)  # nowhere to hold it


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("N", "part"), [(1, ONE), (4, HALF), (100, WHOLE)])
def test_runner_types__are_those_of_a_call(dtype, N, part):
    energy = numba_cpu.MLPEnergy(shape=(3,), hidden=(4,))
    theta = {name: np.full(shape, 0.1, dtype) for name, shape in energy.theta_shapes().items()}
    before = len(machine.run_tiles.signatures)
    machine.run_tiles.compile(machine.runner_types(dtype, part))
    count = len(machine.run_tiles.signatures)
    assert count >= before
    numba_cpu.langevin_run(energy, theta, np.zeros((N, 3), dtype), 1, SGLD(eta=0.1, sigma=0.1), seed=1)
    if part != ONE:  # the gradient of parameters takes half registers then
        energy.grad_theta(theta, np.zeros((N, 3), dtype), np.ones(N, dtype))
    assert len(machine.run_tiles.signatures) == count


STEP = """
import numpy as np
from ebm_fast.numba_cpu import chain, langevin_step, machine
one = np.ones((1, 1), np.float32)
langevin_step(one, one, one, 0.25, 0.5)
print([sum(kernel.stats.cache_misses.values()) for kernel in (machine.run_tiles, chain.move_tile)])
"""


def run(code, *arguments, **env):
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def test_main__fills_the_cache_with_time_to_spare(tmp_path):
    number = [what.__name__ for what in machine.INSTRUCTIONS].index("move_tile")
    code = helper.CODE + "print(os.nice(0) if hasattr(os, 'nice') else 19)"
    assert (
        run(code, json.dumps(sys.path), "float32", f"{number} whole", NUMBA_CACHE_DIR=str(tmp_path)) == "19"
    )  # behind all others
    assert run(STEP, NUMBA_CACHE_DIR=str(tmp_path)) == "[0, 0]"


COLD = """
import numpy as np
from ebm_fast.numba_cpu import ConvEnergy, helper, langevin_run
from ebm_ref.specs import SGLD
energy = ConvEnergy(shape=(4, 4, 1), channels=(8,), strides=(1,))
theta = {name: np.full(shape, 0.1, np.float32) for name, shape in energy.theta_shapes().items()}
x, _ = langevin_run(energy, theta, np.ones((20, 4, 4, 1), np.float32), 2, SGLD(eta=0.1, sigma=0.1), seed=1)
print(helper._once.locked(), x.tobytes().hex())
"""


def test_helper__changes_no_result(tmp_path):
    alone, helped = (
        run(COLD, EBM_NUM_THREADS=threads, NUMBA_CACHE_DIR=str(tmp_path / threads)).split() for threads in "12"
    )
    assert (alone[0], helped[0]) == ("False", "True") and alone[1] == helped[1]
