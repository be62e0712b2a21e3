"""Several threads on one tile of numba_cpu: who does what, and that no result shows it."""

import os
import signal
import threading

import numpy as np
import pytest
from test_numba_cpu import numbers, output, parameters, start

from ebm_fast import numba_cpu
from ebm_fast.numba_cpu import build, machine, network, runner, threads
from ebm_ref.specs import SGLD

UPDATE = SGLD(eta=0.1, sigma=0.01, clip=0.05, box=(-1.0, 1.0))
ENERGIES = {
    "conv": numba_cpu.ConvEnergy(shape=(9, 7, 2), channels=(8, 12), strides=(2, 1), residual=True),
    "relu": numba_cpu.ConvEnergy(shape=(8, 8, 1), channels=(5, 6), strides=(2, 2), activation="leaky_relu"),
    "deep": numba_cpu.DeepConvEnergy(shape=(8, 8, 3), channels=(8, 16), blocks=(1, 1)),
    "mlp": numba_cpu.MLPEnergy(shape=(5,), hidden=(20, 9), layer_norm=True),
}


@pytest.fixture
def teams(monkeypatch):
    """Teams for whatever work, and how many members those had that worked."""
    monkeypatch.setattr(runner, "STEP_WORK", 0)
    monkeypatch.setattr(runner, "RUN_WORK", 0)
    seen, run_tiles = [], machine.run_tiles

    def watched(*args):
        seen.append(args[-2])
        return run_tiles(*args)

    monkeypatch.setattr(machine, "run_tiles", watched)
    return seen


def answers(energy, theta, x):
    """The bytes of one result of each kind."""
    state, info = numba_cpu.langevin_run(energy, theta, x, 3, UPDATE, seed=7)
    found = [state, info.energy, info.grad_norm, *energy.energy_and_grad_x(theta, x)]
    found += energy.grad_theta(theta, x, x.reshape(len(x), -1)[:, 0].copy()).values()
    if energy.activation != "leaky_relu":
        found += [energy.hvp(theta, x, x[::-1].copy()), *energy.grad_theta_along(theta, x, x).values()]
    return [array.tobytes() for array in found]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ENERGIES)
def test_teams__give_the_same_bits(name, dtype, teams, monkeypatch):
    energy = ENERGIES[name]
    theta = parameters(energy, dtype)
    for N in (1, 5, 20):
        x, results = numbers(N, (N, *energy.shape), dtype), []
        for count in (1, 2, 3, 8):
            monkeypatch.setenv("EBM_NUM_THREADS", str(count))
            teams.clear()
            results.append(answers(energy, theta, x))
            if N == 1:
                assert set(teams) == {min(count, threads.TEAM)}
            for _ in range(3 if count == 2 else 0):
                assert answers(energy, theta, x) == results[0]
        assert all(result == results[0] for result in results)


def test_teams__are_for_work_that_is_worth_it(teams, monkeypatch):
    monkeypatch.undo()
    seen = []
    monkeypatch.setenv("EBM_NUM_THREADS", "2")
    monkeypatch.setattr(runner, "team", lambda pieces: seen.append(pieces) or threads.team(pieces))
    digits, seed = ENERGIES["relu"], numba_cpu.ConvEnergy(shape=(28, 28, 1))
    for energy, K in ((digits, 1), (seed, 9)):
        x = numbers(1, (1, *energy.shape), np.float32)
        numba_cpu.langevin_run(energy, parameters(energy, np.float32), x, K, UPDATE, seed=7)
    assert seen == [0, 1]


def test_team__is_one_at_a_time(monkeypatch):
    monkeypatch.setenv("EBM_NUM_THREADS", "6")
    with threads.team(2) as first, threads.team(2) as second:
        assert (first, second) == (3, 1)
    with threads.team(1) as first:
        assert first == threads.TEAM
    with threads.team(4) as first:
        assert first == 1


def test_teams__of_two_python_threads_do_not_wait_for_each_other(teams, monkeypatch):
    monkeypatch.setenv("EBM_NUM_THREADS", "3")
    energy = ENERGIES["conv"]
    theta, x = parameters(energy, np.float32), numbers(1, (4, *energy.shape), np.float32)
    want, found = answers(energy, theta, x), []

    def work():
        for _ in range(10):
            found.append(answers(energy, theta, x))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert len(found) == 30 and all(result == want for result in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_teams__work_in_a_forked_child(teams, monkeypatch):
    monkeypatch.setenv("EBM_NUM_THREADS", "2")
    energy = ENERGIES["conv"]
    theta, x = parameters(energy, np.float32), numbers(1, (4, *energy.shape), np.float32)
    want = answers(energy, theta, x)
    with threads.team(1):  # held by the parent while it forks
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(0 if answers(energy, theta, x) == want and max(teams) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


INTERRUPTED = """
import numpy as np
from ebm_fast import numba_cpu
from ebm_fast.numba_cpu import machine, runner, threads
from ebm_ref.specs import SGLD
runner.STEP_WORK = runner.RUN_WORK = 0
energy = numba_cpu.MLPEnergy(shape=(5,), hidden=(20, 9))
theta = {name: np.full(shape, 0.1, np.float32) for name, shape in energy.theta_shapes().items()}

def chain():
    return numba_cpu.langevin_run(energy, theta, np.ones((1, 5), np.float32), 3, SGLD(0.1, 0.1), seed=1)[0].tobytes()

def stopped(room, name, function):
    before = getattr(room, name)
    setattr(room, name, function(before))
    try:
        chain()
    except KeyboardInterrupt:
        return True
    finally:
        setattr(room, name, before)

def before_the_part(part):
    def wrapped(run_tiles):
        def run(*args):
            if args[-3] == part:
                raise KeyboardInterrupt
            return run_tiles(*args)
        return run
    return wrapped

def before_all_parts(submit):
    def run(pool, one, part):
        if part == 2:
            raise KeyboardInterrupt
        return submit(pool, one, part)
    return run

want = chain()
print(*(stopped(machine, "run_tiles", before_the_part(part)) for part in (0, 2)), end=" ")
print(stopped(threads.ThreadPoolExecutor, "submit", before_all_parts), chain() == want)
"""


@pytest.mark.skipif(not build.JIT, reason="without the compiler there are no teams")
def test_teams__go_on_where_one_of_them_is_interrupted():
    assert output(start(INTERRUPTED, EBM_NUM_THREADS="3"), timeout=60) == "True True True True"


def test_every_instruction__waits_for_what_others_wrote():
    """All wait before an instruction, but where the first thread goes on with what it has made itself."""
    P = network.chain_program(numba_cpu.ConvEnergy(shape=(28, 28, 1)), np.dtype(np.float32), False, 16)
    for (before, *_), (what, *_), wait in zip(P.code, P.code[1:], P.waits[1:], strict=False):
        assert wait or not {before, what} & machine.SHARES, (before, what)
    assert not all(P.waits)
