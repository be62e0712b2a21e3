"""The engine of numba_cpu: threads, forks, determinism, its cache, its words. Equality with the oracle is the kit's."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ebm_fast
from ebm_fast import numba_cpu
from ebm_fast.numba_cpu import build, network
from ebm_fast.numba_cpu.registers import lane_count
from ebm_fast.numba_cpu.threads import parallel, thread_count
from ebm_ref.contracts import BackendError, DTypeError, RangeError
from ebm_ref.specs import SGLD

ROOT = Path(__file__).parent.parent
UPDATE = SGLD(eta=0.1, sigma=0.01, clip=0.05, box=(-1.0, 1.0))
ENERGY = numba_cpu.ConvEnergy(shape=(8, 8, 1), channels=(8, 12), strides=(2, 2), residual=True)


def numbers(seed, shape, dtype):
    return numba_cpu.noise_normal(seed, 0, 0, np.zeros(1, int), int(np.prod(shape)), dtype).reshape(shape)


def parameters(energy, dtype):
    return {name: numbers(i, shape, dtype) / 4 for i, (name, shape) in enumerate(energy.theta_shapes().items())}


def everything(dtype):
    """One result of each kind: a chain, parameter gradients of levels 1 and 2, a convolution, noise."""
    N = 531  # more tiles than strands, and a tail
    theta, x = parameters(ENERGY, dtype), numbers(99, (N, 8, 8, 1), dtype)
    chain, info = numba_cpu.langevin_run(ENERGY, theta, x, 2, UPDATE, seed=7)
    grads = ENERGY.grad_theta(theta, x, numbers(98, (N,), dtype)) | {
        f"along {name}": grad for name, grad in ENERGY.grad_theta_along(theta, x, x).items()
    }
    w = numbers(97, (3, 3, 1, 5), dtype)
    dx, dw, db = numba_cpu.conv2d_backward(x, w, numbers(96, (N, 4, 4, 5), dtype), stride=2)
    normal = numba_cpu.noise_normal(1, 2, 3, np.arange(N), 65, dtype)
    return [chain, info.energy, info.grad_norm, *grads.values(), dx, dw, db, normal]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numba_cpu__is_the_same_for_any_number_of_threads(dtype, monkeypatch):
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("EBM_NUM_THREADS", threads)
        results.append([array.tobytes() for array in everything(dtype)])
    assert results[0] == results[1] == results[2]


def test_langevin_run__names_what_an_energy_lacks():
    with pytest.raises(DTypeError, match="energy: expected .* found object without shape and energy_and_grad_x"):
        numba_cpu.langevin_run(object(), {}, np.zeros((3, 2), np.float32), 1, UPDATE, seed=0)


def test_langevin_run__does_not_depend_on_the_place_in_the_batch():
    theta, x = parameters(ENERGY, np.float32), numbers(5, (50, 8, 8, 1), np.float32)
    whole, _ = numba_cpu.langevin_run(ENERGY, theta, x, 3, UPDATE, seed=1)
    part, _ = numba_cpu.langevin_run(ENERGY, theta, x[40:43], 3, UPDATE, seed=1, chains=np.arange(40, 43))
    assert np.array_equal(whole[40:43], part)


def test_langevin_run__of_a_network_is_the_run_of_any_energy():
    class Wrapped:  # the protocol, and nothing that the backend could recognise
        shape = ENERGY.shape
        energy_and_grad_x = staticmethod(ENERGY.energy_and_grad_x)

    theta, x = parameters(ENERGY, np.float64), numbers(5, (37, 8, 8, 1), np.float64)
    for order in ("gradient_first", "noise_first"):
        update = SGLD(0.1, 0.01, clip=0.05, clip_norm=0.1, box=(-1.0, 1.0), order=order)
        fused, one = numba_cpu.langevin_run(ENERGY, theta, x, 3, update, seed=1, step=4)
        plain, two = numba_cpu.langevin_run(Wrapped(), theta, x, 3, update, seed=1, step=4)
        assert np.array_equal(fused, plain)
        assert np.array_equal(one.energy, two.energy) and np.array_equal(one.grad_norm, two.grad_norm)


def test_numba_cpu__runs_in_two_python_threads_at_once(monkeypatch):
    monkeypatch.setenv("EBM_NUM_THREADS", "2")
    expected, found = everything(np.float32)[0], {}

    def work(name):
        found[name] = [everything(np.float32)[0] for _ in range(3)]

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(expected, result) for name in "ab" for result in found[name])


def test_parallel__raises_what_a_task_raised(monkeypatch):
    monkeypatch.setenv("EBM_NUM_THREADS", "3")
    done = []

    def task(part, parts):
        if part == 2:
            raise ValueError("part 2")
        done.append((part, parts))

    with pytest.raises(ValueError, match="part 2"):
        parallel(task, 10)
    assert sorted(done) == [(0, 3), (1, 3)]


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_thread_count__refuses_what_is_not_a_count(text, monkeypatch):
    monkeypatch.setenv("EBM_NUM_THREADS", text)
    with pytest.raises(RangeError, match="EBM_NUM_THREADS"):
        thread_count()


# ------------------------------------------------------------------- other processes: fork, cache


def start(code, cwd=ROOT, **env):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd), "EBM_NUM_THREADS": "2"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output(process, timeout=240):
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with its children, if any
        raise
    assert process.returncode == 0, err
    return out.strip()


FORK = """
import os, warnings
import numpy as np
from ebm_fast.numba_cpu import noise_normal
def draw(): return noise_normal(1, 2, 3, np.arange(300), 400, np.float32)
before = draw()
warnings.simplefilter("ignore")  # newer Pythons warn of forks in a process with threads: that is the test
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(before, draw()) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(before, draw()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_numba_cpu__works_in_a_forked_child():
    assert output(start(FORK)) == "0 True"


STEP = """
import numpy as np
from ebm_fast.numba_cpu import langevin_step, machine, chain
one = np.ones((1, 1), np.float32)
langevin_step(one, one, one, 0.25, 0.5)
hits = [sum(kernel.stats.cache_hits.values()) for kernel in (machine.run_tiles, chain.move_tile)]
print(langevin_step(one, one, one, 0.25, 0.5).item(), *hits)
"""


@pytest.mark.skipif(not build.JIT, reason="without the compiler there is no cache")
def test_cache__is_shared_between_processes_and_never_stale(tmp_path):
    for room in ("ebm_ref", "ebm_fast"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    cold = [start(STEP, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2)]
    assert {output(process).split()[0] for process in cold} == {"1.25"}
    assert output(start(STEP, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))) == "1.25 1 1"
    scalar = tmp_path / "ebm_fast" / "scalar.py"
    scalar.write_text(scalar.read_text().replace("x - eta * g", "x + eta * g"))
    assert output(start(STEP, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))) == "1.75 0 0"


def test_sources_digest__sees_every_file(tmp_path):
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for file in files:
        file.write_text("x = 1\n")
    before = build.sources_digest(files)
    files[1].write_text("x = 2\n")
    assert before != build.sources_digest(files)
    room = Path(build.__file__).parent
    assert {*build.SOURCES} >= {*room.glob("*.py"), room.parent / "scalar.py"}


AGAINST_THE_ORACLE = """
import numpy as np
from ebm_fast import numba_cpu as fast
import ebm_ref as ref
from ebm_ref.specs import SGLD
make = dict(shape=(7, 6, 2), channels=(5, 8), strides=(2, 1), activation="gelu")  # blocks of 8, 4 and 1
update = SGLD(0.1, 0.1, clip=0.5, box=(-1.0, 1.0), order="noise_first")
N = np.arange(3)
x, v = (ref.noise_normal(seed, 0, 0, N, 84).reshape(3, 7, 6, 2) for seed in (1, 2))
results = []
for room in (ref, fast):
    energy = room.ConvEnergy(**make)
    shapes = energy.theta_shapes()
    theta = {k: ref.noise_normal(i, 1, 0, N[:1], 400)[0, : np.prod(shapes[k])] for i, k in enumerate(shapes)}
    theta = {k: theta[k].reshape(shapes[k]) for k in shapes}
    chain, info = room.langevin_run(energy, theta, x, 2, update, seed=3)
    along = energy.grad_theta_along(theta, x, v)
    alone = room.langevin_run(energy, theta, x[:1], 2, update, seed=3)[0]
    results.append([chain, alone, info.energy, energy.hvp(theta, x, v), *along.values()])
print(all(np.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(*results, strict=True)))  # False where NaN is
"""


def test_numba_cpu__is_right_without_the_compiler():
    assert output(start(AGAINST_THE_ORACLE, NUMBA_DISABLE_JIT="1")) == "True"


@pytest.mark.parametrize("size", ["16", "32"])
@pytest.mark.skipif(not build.JIT, reason="without the compiler there are no registers")
def test_numba_cpu__is_right_in_narrower_registers(size):
    assert output(start(AGAINST_THE_ORACLE, EBM_VECTOR_BYTES=size)) == "True"


@pytest.mark.parametrize("size", ["8", "128", "wide"])
def test_vector_bytes__refuses_what_the_machine_does_not_have(size, monkeypatch):
    monkeypatch.setenv("EBM_VECTOR_BYTES", size)
    with pytest.raises(RangeError, match="EBM_VECTOR_BYTES: expected one of 16"):
        build.vector_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_energies__are_the_same_whatever_the_width_of_a_tile(dtype, monkeypatch):
    """One sample, half a register, one, two or three: the width follows N, and no result follows the width."""
    monkeypatch.setenv("EBM_NUM_THREADS", "1")
    mlp = numba_cpu.MLPEnergy(shape=(3,), hidden=(20, 9), layer_norm=True)
    wide = numba_cpu.ConvEnergy((6, 10, 3), channels=(136, 17), strides=(1, 2), max_groups=1)  # blocks of all sizes
    lanes, widths = lane_count(dtype), set()
    for energy in (ENERGY, mlp, wide):
        theta, x = parameters(energy, dtype), numbers(3, (40, *energy.shape), dtype)
        whole, bent = energy.energy_and_grad_x(theta, x), energy.hvp(theta, x, x[::-1])
        chain, info = numba_cpu.langevin_run(energy, theta, x, 2, UPDATE, seed=7)
        for n in (1, 2, 3, lanes // 2, lanes // 2 + 1, lanes, lanes + 1, 17, 18):
            monkeypatch.setattr(network, "MANY", 32 if n < 18 else 0)
            widths.add(energy.tile_width(x[:n]))
            E, g = energy.energy_and_grad_x(theta, x[:n])
            assert np.array_equal(E, whole[0][:n]) and np.array_equal(g, whole[1][:n])
            assert np.array_equal(energy.hvp(theta, x[:n], x[::-1][:n]), bent[:n])
            few, few_info = numba_cpu.langevin_run(energy, theta, x[:n], 2, UPDATE, seed=7)
            assert np.array_equal(few, chain[:n]) and np.array_equal(few_info.grad_norm, info.grad_norm[:, :n])
    assert widths == {1, lanes, 2 * lanes, 3 * lanes} | ({lanes // 2} if lanes > 4 else set())


def test_tile_width__is_two_registers_where_pixels_have_no_partner_and_three_where_tiles_are_many():
    small, large = numba_cpu.ConvEnergy((8, 8, 1), strides=(1, 2, 2)), numba_cpu.ConvEnergy((28, 28, 1))
    lanes, x = lane_count(np.float32), np.empty((1600, 1), np.float32)
    assert small.tile_width(x[:100]) == 2 * lanes and small.tile_width(x) == 3 * lanes
    assert large.tile_width(x[:100]) == large.tile_width(x) == lanes


# --------------------------------------------------------------------------------- the front door


def test_ebm_fast__imports_no_compiler():
    code = "import sys, ebm_fast; ebm_fast.why_not('numba_cpu'); print({'numba', 'llvmlite'} & {*sys.modules})"
    assert output(start(code)) == "set()"


def test_backend__names_a_reason_or_the_choices(monkeypatch):
    assert ebm_fast.backend("numba_cpu") is ebm_fast.backend("auto") is numba_cpu
    with pytest.raises(RangeError, match="ebm_ref, numba_cpu"):
        ebm_fast.backend("numba_gpu")
    monkeypatch.setattr(ebm_fast.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"ebm-oracle\[cpu\]"):
        ebm_fast.backend("numba_cpu")
    assert ebm_fast.backend("auto").__name__ == "ebm_ref"


@pytest.mark.parametrize(("name", "where"), [("train", "it exists in ebm_ref"), ("trian", "no loaded backend has it")])
def test_missing__says_where_the_function_is(name, where):
    with pytest.raises(AttributeError, match=f"numba_cpu has no {name}; {where}"):
        getattr(numba_cpu, name)
