"""The stages that need a card, on stand-ins: the host build for the kernels, the host's clock for events, a script for
the sanitizer. What is measured means nothing here; what is checked, written and refused does."""

import importlib.util
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import ebm_fast
from bench.gpu import functions, nets, ours, peers
from bench.gpu.calls import Recorder, arrays_of, calls
from bench.gpu.context import Context
from bench.gpu.correctness import repeat_twin
from bench.gpu.launches import launch_all
from bench.gpu.nets import Net
from bench.gpu.timing import HostClock, measure, sets
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import current, on
from ebm_fast.verify.host_build import host_device

IMAGE = ("shape", (8, 8, 1)), ("max_groups", 2)
TINY = (
    Net("CNN28", "ConvEnergy", (*IMAGE, ("channels", (4, 6)), ("strides", (2, 2))), ((17, 2),)),
    Net("MLP", "MLPEnergy", (("shape", (2,)), ("hidden", (8, 8))), ((33, 2),)),
    Net("DEEP", "DeepConvEnergy", (*IMAGE, ("channels", (4,)), ("blocks", (1,))), ((17, 2),)),
)


class Event:
    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass


CUPY = SimpleNamespace(
    cuda=SimpleNamespace(
        Event=Event,
        get_elapsed_time=lambda a, b: 1e3 * (b.at - a.at),
        Device=lambda: SimpleNamespace(attributes={"L2CacheSize": 0}),
    )
)


class StandIn(Context):
    """A context on a machine whose card is the host build."""

    def need_card(self):
        pass

    def need(self, module):
        return CUPY if module == "cupy" else super().need(module)


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "NETS", TINY)
    for module in (ours, peers, functions):
        monkeypatch.setattr(module, "measure", partial(measure, repeats=2))
    monkeypatch.setattr(functions, "TWINS", ("cupy_raw",))
    monkeypatch.setattr(ebm_fast, "BACKENDS", ("ebm_ref", "cupy_raw"))
    monkeypatch.setattr(ebm_fast, "why_not", lambda name: None)
    monkeypatch.setattr(ebm_fast, "backend", lambda name: cupy_raw)
    with on(host_device()):
        yield StandIn("benchmark", "here", str(tmp_path), "now", time.time() + 600, quick=True)


def test_chains__are_checked_then_timed(context):
    ours.chains(context)
    rows = {(row["case"], row["twin"]): row for row in context.rows() if row["what"] == "bench"}
    for case in ("CNN28-N17-K2", "MLP-N33-K2"):
        for twin in ("cupy_raw chain", "cupy_raw layers"):
            row = rows[case, twin]
            assert row["status"] == "pass" and row["peer"] is None
            assert 0 < row["error"] < nets.GRAD_BUDGET
            assert 0 < row["floor_seconds"] < row["seconds"] and row["floor_measured"] is False
    assert rows["DEEP-N17-K2", "cupy_raw layers"]["seconds"] > 0
    assert rows["DEEP-N17-K2", "cupy_raw chain"]["status"] == "skip"
    assert "DeepConvEnergy" in rows["DEEP-N17-K2", "cupy_raw chain"]["why"]


class TorchEvents:
    """PyTorch's clock where PyTorch has no card."""

    def __new__(cls, torch):
        return HostClock(lambda: None)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_chains__are_checked_then_timed_beside_ours(context, monkeypatch):
    monkeypatch.setattr(peers, "TorchClock", TorchEvents)
    ours.chains(context)
    peers.torch_eager(context)
    rows = [row for row in context.rows() if row["what"] == "bench" and row.get("peer")]
    assert [row["case"] for row in rows] == ["CNN28-N17-K2", "MLP-N33-K2", "DEEP-N17-K2"]
    for row in rows:
        assert row["status"] == "pass" and 0 < row["peer_error"] < nets.GRAD_BUDGET
        assert row["twin"].startswith("cupy_raw ") and row["ratio"] == row["peer_seconds"] / row["seconds"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_chains__a_different_function_is_not_timed(context, monkeypatch):
    T = importlib.import_module("bench.gpu.torch_peer")
    monkeypatch.setattr(T, "EPS", 1e-3)  # of the normalisations: the first slip that a peer makes
    peers.torch_eager(context)
    rows = {row["case"]: row["status"] for row in context.rows() if row["what"] == "bench"}
    assert rows["CNN28-N17-K2"] == rows["DEEP-N17-K2"] == "fail"


@pytest.mark.parametrize("fault", ["gradient", "noise", "nan"])
def test_chains__what_is_wrong_is_not_timed(context, monkeypatch, fault):
    right = cupy_raw.langevin_run

    def wrong(energy, theta, x0, K, update, seed, **options):
        if fault == "gradient":  # so little that a chain of small steps would not show it
            update = replace(update, eta=1.0001 * update.eta)
        x, info = right(energy, theta, x0, K, update, seed + (fault == "noise"), **options)
        return x * np.float32(np.nan if fault == "nan" else 1), info

    monkeypatch.setattr(cupy_raw, "langevin_run", wrong)
    ours.chains(context)
    rows = [row for row in context.rows() if row["what"] == "bench" and row["status"] != "skip"]
    assert rows and all(row["status"] == "fail" and row["seconds"] is None for row in rows)
    assert all("over 1e-05" in row["why"] for row in rows)


def test_functions__are_checked_then_timed(context, monkeypatch):
    monkeypatch.setattr(functions, "SMALL", 5)
    small = [vars(f) | {"n": 64 * 9} for f in functions.function_table(None)]
    monkeypatch.setattr(functions, "function_table", lambda T: [functions.Function(**f) for f in small])
    functions.functions(context)
    rows = [row for row in context.rows() if row["what"] == "bench" and row.get("twin") == "cupy_raw"]
    assert [row["bench"] for row in rows] == [f["name"] for f in small]
    assert all(row["status"] == "pass" and row["seconds"] > 0 and row["case"].endswith("-N9") for row in rows)
    assert all(row["error"] <= f["budget"] for row, f in zip(rows, small, strict=True))


@pytest.mark.parametrize("backend", ["cupy_raw", "numba_cuda"])
def test_launches__reach_every_kernel(backend):
    listing = importlib.import_module("ebm_fast.numba_cuda.ptx").Listing()  # writes down what would be launched
    found = launch_all(backend, host_device() if backend == "cupy_raw" else listing, large=False)
    assert found["missed"] == [] and found["failed"] == {} and found["launched"] > 20


def test_launches__name_what_failed_and_what_never_ran(monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("not today")

    monkeypatch.setattr(cupy_raw, "buffer_draw", refuse)
    found = launch_all("cupy_raw", host_device(), large=False)
    assert found["failed"] == {"buffer_draw": "ValueError: not today"}
    assert "buffer_draw (buffer.cu)" in found["missed"]


def test_recorder__wraps_the_first_launch_of_a_kernel_only():
    seen = []
    recorder = Recorder(host_device(), lambda call: (seen.append("first"), call()))
    with on(recorder):
        one, two = (cupy_raw.noise_bits(1, 1, 0, np.arange(3), 4) for _ in range(2))
        assert current() is recorder
    assert seen.count("first") == len(recorder.launched)
    assert "noise_bits (noise.cu)" in recorder.launched
    assert np.array_equal(one, two)


def test_repeat__tells_a_result_that_moves(context, monkeypatch):
    class Moving:
        def __getattr__(self, name):
            return getattr(cupy_raw, name)

        def noise_uniform(self, *address):
            return cupy_raw.noise_uniform(*address) + np.float32(time.perf_counter_ns() % 1000)

    module = Moving()
    module.__name__ = "ebm_fast.cupy_raw"
    only = ("noise_bits", "noise_uniform", "buffer_push fifo")
    monkeypatch.setattr(
        "bench.gpu.correctness.calls", lambda *a, **k: {key: calls(module, *a[1:], False)[key] for key in only}
    )
    repeat_twin(context, "cupy_raw")
    outcome = {row["what"].removeprefix("repeat cupy_raw "): row["status"] for row in context.rows()}
    assert outcome == {"noise_bits": "pass", "noise_uniform": "fail", "buffer_push fifo": "pass"}


def test_arrays_of__walks_what_calls_return():
    info = SimpleNamespace(energy=np.zeros(2), note="text")
    assert [a.shape for a in arrays_of((np.zeros(3), info, {"b": np.zeros(5), "a": np.zeros(4)}))] == [
        (3,),
        (2,),
        (4,),
        (5,),
    ]
    assert arrays_of(7) == []


def test_measure__takes_the_better_of_two_medians():
    seen = []
    timed = measure(seen.append, HostClock(lambda: None), repeats=4)
    assert seen == list(range(3 + 8)) and timed.repeats == 4 and timed.seconds > 0
    slow = measure(lambda i: None, SimpleNamespace(mark=lambda: 0.0, seconds=lambda a, b: 1.0), repeats=20)
    assert slow.repeats == 7, "twenty calls of a second, twice, are more than a stage can give"
    assert (sets(10, 100), sets(0, 100), sets(1000, 10)) == (20, 64, 2)
