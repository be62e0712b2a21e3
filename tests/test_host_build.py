"""The host build: what its lint counts, what its launches refuse, how it compiles, and the twin that it is."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import cuda_launches
import numpy as np
import pytest
from cuda_launches import SOURCES, device, f32, i32, kernel, numbers

from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import current, launch, on
from ebm_fast.verify import host_build, host_compile
from ebm_fast.verify.host_build import access_lint, host_device, launched
from ebm_ref.contracts import BackendError, DTypeError, RangeError

# ------------------------------------------------------------------------------------------- access lint


def lint(name):
    def body():
        x = numbers(64, 64)
        y = current().empty(x.shape, np.float32)
        launch(kernel("good_conv", name), (2, 2), (32, 32), [y, current().put(x), i32(64)])
        np.testing.assert_array_equal(y, x.T)

    return access_lint(body, SOURCES)[name]


def test_access_lint__counts_a_transpose():
    padded, plain, direct = lint("good_transpose"), lint("slow_transpose"), lint("slowest_transpose")
    assert padded["global"] == {"requests": 256, "sectors": 4.0, "ideal": 4.0}
    assert padded["shared"] == {"requests": 256, "passes": 1.0, "ideal": 1.0}
    assert [row["passes"] for row in plain["lines"] if row["space"] == "shared"] == [1.0, 32.0]
    store = next(row for row in direct["lines"] if row["kind"] == "store")
    assert store == {"line": "good_conv.cu:52", "space": "global", "kind": "store", "requests": 128} | {
        "sectors": 32.0,
        "ideal": 4.0,
    }


def test_access_lint__four_reals_at_once_are_one_request():
    found = access_lint(lambda: cuda_launches.blocks(current(), "good_vector"), SOURCES)["good_vector"]
    assert found["global"]["requests"] == 4  # 50 threads, two warps, a load and a store
    assert found["global"]["sectors"] == found["global"]["ideal"] == 12.5


def test_access_lint__each_turn_of_a_loop_is_a_request():
    found = access_lint(lambda: cuda_launches.norm(current(), N=5, L=333, block=96), SOURCES)["good_norm"]
    stores = [row for row in found["lines"] if row["space"] == "global" and row["kind"] == "store"]
    assert [row["requests"] for row in stores] == [5 * (4 + 4 + 3)]  # rows, turns of each of three warps


# ---------------------------------------------------------------------------------- arguments and the compiler


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((np.zeros(4, np.float32),), "expected 3 arguments, found 1"),
        ((np.zeros(4), np.zeros(4, np.float32), i32(4)), "argument 0: expected an array of float32, found .*float64"),
        ((np.zeros(4, np.float32), np.zeros(4, np.float32), 4), "argument 2: .* found int"),
        (
            (np.zeros(4, np.float32), np.zeros(4, np.float32), np.int64(4)),
            "argument 2: expected a number of type int32",
        ),
        ((np.zeros(4, np.float32), np.zeros(4, np.float32), None), "argument 2: expected a number"),
        ((np.zeros(4, np.float32), np.zeros(8, np.float32)[::2], i32(4)), "argument 1: .*contiguous"),
    ],
)
def test_launch__refuses_what_the_kernel_does_not_declare(args, says):
    with on(device()), pytest.raises(DTypeError, match=says):
        launch(kernel("good_blocks", "good_vector"), 1, 32, args)


def test_launch__refuses_unknown_names():
    with on(device()), pytest.raises(RangeError, match="does not export"):
        launch(kernel("good_blocks", "absent"), 1, 32, ())
    with on(device()), pytest.raises(RangeError, match="no CUDA source"):
        launch(kernel("absent", "absent"), 1, 32, ())
    with pytest.raises(RangeError, match="build"):
        host_device("quick")
    with pytest.raises(RangeError, match="order"):
        host_device(order="sideways")


def test_array__is_numpy_and_contiguous():
    dev, x = device(), numbers(4, 6)
    assert dev.array("x", x) is x
    gaps = x[:, ::2]
    assert dev.array("x", gaps).flags.c_contiguous and (dev.array("x", gaps) == gaps).all()
    with pytest.raises(DTypeError, match="x: expected a NumPy array, found list"):
        dev.array("x", [1.0])


def test_empty__is_poisoned():
    assert np.isnan(device().empty((3, 5), np.float32)).all()
    assert (device().empty((3,), np.int32) == -1).all()


@pytest.mark.parametrize("launches", [1, 2, 3, 6])
def test_rotate__no_launch_has_the_order_it_had_in_the_call_before(launches, monkeypatch):
    monkeypatch.setattr(host_build, "_device", None)
    call = host_build.run_here(lambda: [current().next_order()[0] for _ in range(launches)])
    nested = host_build.run_here(lambda: call())
    found = [call(), nested(), call(), nested()]
    assert all(len(set(orders)) == 3 for orders in zip(*found[:3], strict=True))
    assert found[3] == found[0]


def test_compiler__is_named_when_there_is_none(tmp_path):
    code = "from ebm_fast.verify.host_compile import compiler; compiler()"
    env = {"PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert "BackendError: no C++ compiler: c++, g++, clang++ not found" in done.stderr


def test_compile__message_is_the_compilers():
    texts = {"broken.cu": '#include "cuda.cuh"\nextern "C" __global__ void broken(real* y) { y[0] = nothing; }\n'}
    with pytest.raises(BackendError, match="broken.cu:2.*nothing"):
        host_compile.compile_library(
            "broken.cu", (("EBM_ORDER", "0"), ("EBM_REAL", "float")), "fast", cupy_raw.source.sources() | texts
        )


def test_compile__two_processes_share_a_cache(tmp_path):
    code = (
        "import cuda_launches as c; found, right = c.blocks(c.device(), 'good_atomic'); assert (found == right).all()"
    )
    env = host_compile.plain_environment() | {
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": f"{Path(__file__).parent.parent}:{Path(__file__).parent}",
    }
    both = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(2)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    kept = sorted(path.suffix for path in (tmp_path / "ebm-oracle" / "host").iterdir())
    assert kept == [".o", ".so"]


# --------------------------------------------------------------------------------------------------- the twin


@dataclasses.dataclass(frozen=True)
class Doubler:
    """2 x."""

    factor: int = 2

    def energy(self, theta, x):
        return self.factor * x, current().build

    @property
    def sizes(self):
        return (self.factor,)


def double(x, factor=2):
    return factor * x, current().build


def test_twin__has_every_name_of_the_backend():
    assert set(host_build.__all__) == set(cupy_raw.__all__)
    for name in cupy_raw.__all__:
        assert inspect.signature(getattr(host_build, name)) == inspect.signature(getattr(cupy_raw, name))
    with pytest.raises(AttributeError, match="has no nothing"):
        _ = host_build.nothing


def test_twin__functions_and_classes_run_on_the_host(monkeypatch):
    monkeypatch.setattr(host_build, "_device", None)
    monkeypatch.setenv("EBM_HOST_BUILD", "race")
    function, made = host_build.twin_of(double), host_build.twin_of(Doubler)
    assert function(3) == (6, "race") and inspect.signature(function) == inspect.signature(double)
    energy = made(factor=5)
    assert energy.energy(None, 2) == (10, "race") and energy.sizes == (5,)
    assert energy == made(5) and isinstance(energy, Doubler) and dataclasses.fields(made)[0].name == "factor"
    assert inspect.signature(made) == inspect.signature(Doubler)
    assert inspect.signature(made.energy) == inspect.signature(Doubler.energy)
    host_build.set_build("fast")
    assert energy.energy(None, 2) == (10, "fast")
    with pytest.raises(RangeError, match="build"):
        host_build.set_build("slow")


def test_launched__names_what_ran():
    before = launched().get(("good_blocks.cu", "good_vector"), 0)
    cuda_launches.blocks(device(), "good_vector")
    assert launched()["good_blocks.cu", "good_vector"] == before + 1


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize("part", [slice(None), slice(-1, None), slice(2, 5), slice(3, 3), slice(5, 99)])
def test_part__says_which_blocks_of_a_launch_run(part, order):
    x, dev = numbers(7 * 32), host_device(order=order, sources=SOURCES, part=part)
    with on(dev):
        y = dev.put(np.zeros_like(x))
        launch(kernel("good_blocks", "good_vector"), 7, 8, [y, dev.put(x), i32(x.size)])
    alone = np.zeros((7, 32), np.float32)
    with on(host_device(sources=SOURCES)):
        whole = dev.put(np.zeros_like(x))
        launch(kernel("good_blocks", "good_vector"), 7, 8, [whole, dev.put(x), i32(x.size)])
    alone[part] = whole.reshape(7, 32)[part]
    np.testing.assert_array_equal(y.reshape(7, 32), alone)


def test_part__is_blocks_that_follow_one_another():
    dev = host_device(sources=SOURCES, part=slice(None, None, 2))
    with on(dev), pytest.raises(RangeError, match="part: expected blocks that follow one another"):
        launch(kernel("good_blocks", "good_vector"), 7, 8, [dev.empty((9,), f32), dev.empty((9,), f32), i32(9)])
