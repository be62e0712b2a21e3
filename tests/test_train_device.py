"""Training, sampling and evaluation with a backend whose arrays are not NumPy's, as on a card.

The device is tests/strict_device.py: the kernels of cupy_raw, compiled for the CPU, behind arrays that refuse every
silent conversion.
"""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from app_runs import checkpoint, contents, equal, error_line, run, train
from strict_device import FUNCTIONS, METHODS, UFUNCS, SilentConversion, StrictArray, StrictDevice, StrictTyped, inner

import ebm_fast
import ebm_ref
from ebm_fast import cupy_raw, find_driver, numba_cuda
from ebm_fast.app import training
from ebm_fast.app.main import main
from ebm_fast.app.placement import to_backend, to_host
from ebm_fast.cupy_raw import card as card_module
from ebm_fast.cupy_raw import device
from ebm_fast.numba_cuda.device import Typed
from ebm_fast.verify import host_build
from ebm_ref import Recipe, state_arrays, state_from_arrays
from ebm_ref.contracts import BackendError, DTypeError

pytestmark = pytest.mark.skipif(host_build.why_not() is not None, reason=str(host_build.why_not()))

ENERGIES = {
    "MLPEnergy": {"shape": (2,), "hidden": (8,)},
    "ConvEnergy": {"shape": (6, 6, 1), "channels": (4, 8), "strides": (2, 1)},
}
BOX = (-2.0, 2.0)
PCD = Recipe(
    batch=6, K=2, eta=0.05, sigma=0.05, box=BOX, M=10, rho=0.3, sigma_data=0.1, lr=1e-2, ema_decay=0.9, steps=6
)
PLAIN = replace(PCD, optimizer="sgd", beta1=0.5)  # Adam makes parameters of what rounding makes of a zero gradient
RECIPES = {
    "pcd": PCD,
    "cd": replace(PCD.using("cd"), max_grad_norm=0.1),
    "fifo": replace(PCD, policy="fifo", optimizer="sgd", beta1=0.5, order="noise_first"),
    "reservoir": replace(PCD, policy="reservoir", start="data_noise", clip=0.5, clip_norm=1.0),
    "regularised": replace(PCD, gp=0.1, gp_target=1.0, spectral_norm=True),
}


def data_of(kind, dtype=np.float32):
    shape = ENERGIES[kind]["shape"]
    u = ebm_ref.noise_uniform(7, 0, 0, np.arange(20), int(np.prod(shape)), dtype)
    return (BOX[0] + (BOX[1] - BOX[0]) * u).astype(dtype).reshape(20, *shape)


def trained(backend, kind, recipe, data, state=None, until=4):
    """(state, records) of a run of `backend`."""
    records = []
    energy = getattr(backend, kind)(**ENERGIES[kind])
    state = ebm_ref.train(backend, energy, recipe, data, 3, state, until, lambda _, record: records.append(record))
    return state, records


@pytest.mark.parametrize("kind", ENERGIES)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_train__on_a_device_is_the_run_on_numpy_arrays(kind, recipe):
    """To the bit, with every array of the state on the device and none made of it unasked."""
    x = data_of(kind)
    with device.on(StrictDevice()):
        state, records = trained(cupy_raw, kind, recipe, to_backend(cupy_raw, x))
        on_device = state_arrays(state)
        found = to_host(cupy_raw, on_device)
    host, expected = trained(host_build, kind, recipe, x)
    assert records == expected and len(records) == 4
    assert equal(found, state_arrays(host))
    kept = [name for name, y in on_device.items() if not isinstance(y, StrictArray)]
    assert set(kept) <= {"optimizer/t", "step", "buffer/filled", "buffer/ptr", "buffer/policy"}


@pytest.mark.parametrize("kind", ENERGIES)
@pytest.mark.parametrize("recipe", [PLAIN, PLAIN.using("cd")], ids=["pcd", "cd"])
def test_train__on_a_device_is_the_oracle_s(kind, recipe):
    """In double to 1e-9; in float at most 8 times as far from the oracle in double as the oracle in float is."""

    def found(dtype):
        x = data_of(kind).astype(dtype)
        with device.on(StrictDevice()):
            state, _ = trained(cupy_raw, kind, recipe, to_backend(cupy_raw, x))
            there = to_host(cupy_raw, state_arrays(state))
        return there, state_arrays(trained(ebm_ref, kind, recipe, x)[0])

    (double, exact), (single, rounded) = found(np.float64), found(np.float32)
    for name, y in exact.items():
        assert np.allclose(double[name], y, rtol=1e-9, atol=1e-12), name
        error, allowed = np.abs(single[name] - y).max(), np.abs(rounded[name] - y).max()
        assert error <= 8 * allowed + 1e-6 * max(1, np.abs(y).max()), name  # 1: what cancels in a sum of weights


@pytest.mark.parametrize("recipe", [PCD, RECIPES["reservoir"]], ids=["pcd", "reservoir"])
def test_train__on_a_device_of_numba_cuda(recipe):
    x = data_of("MLPEnergy")
    with numba_cuda.device.on(StrictTyped()):
        state, records = trained(numba_cuda, "MLPEnergy", recipe, to_backend(numba_cuda, x), until=2)
        there = to_host(numba_cuda, state_arrays(state))
    with numba_cuda.device.on(Typed()):
        host, expected = trained(numba_cuda, "MLPEnergy", recipe, x, until=2)
    assert records == expected and equal(there, state_arrays(host))


@pytest.mark.parametrize("kind", ENERGIES)
def test_train__on_a_device_resumes_to_the_bit(kind, tmp_path):
    """Saved as NumPy's arrays, loaded, moved back: the run that was never cut."""
    x, recipe = data_of(kind), RECIPES["pcd"]
    with device.on(StrictDevice()):
        there = to_backend(cupy_raw, x)
        whole = to_host(cupy_raw, state_arrays(trained(cupy_raw, kind, recipe, there)[0]))
        middle, _ = trained(cupy_raw, kind, recipe, there, until=2)
        np.savez(tmp_path / "state.npz", **to_host(cupy_raw, state_arrays(middle)))
        with np.load(tmp_path / "state.npz") as file:
            loaded = state_from_arrays(to_backend(cupy_raw, dict(file)))
        end, _ = trained(cupy_raw, kind, recipe, there, loaded)
        assert equal(to_host(cupy_raw, state_arrays(end)), whole)
        for name, y in to_host(cupy_raw, state_arrays(middle)).items():  # the given state is left as it was
            assert np.array_equal(y, to_host(cupy_raw, state_arrays(loaded))[name])


def test_train__starts_from_given_parameters_and_samples_on_a_device():
    kind, recipe = "MLPEnergy", RECIPES["pcd"]
    energy, x = cupy_raw.MLPEnergy(**ENERGIES[kind]), data_of(kind)
    theta = ebm_ref.theta_init(energy, 1, np.float32)
    with device.on(StrictDevice()):
        there = to_backend(cupy_raw, x)
        state = ebm_ref.train_start(cupy_raw, energy, recipe, there, 3, np.float32, theta)
        buffer = ebm_ref.buffer_start(30, (2,), start="samples", seed=0, samples=there)
        assert equal(to_host(cupy_raw, state.theta), theta)
        assert np.array_equal(to_host(cupy_raw, buffer.slots)[:20], x)


def test_train__refuses_data_of_another_kind():
    kind, x = "MLPEnergy", data_of("MLPEnergy")
    with device.on(StrictDevice()):
        with pytest.raises(DTypeError, match="data: expected the backend's strict_device.StrictArray, found numpy.nd"):
            trained(cupy_raw, kind, RECIPES["cd"], x)
        with pytest.raises(DTypeError, match="data: expected the backend's numpy.ndarray, found strict_device"):
            trained(ebm_ref, kind, RECIPES["cd"], to_backend(cupy_raw, x))


# ------------------------------------------------------------------------------------ the command line


@pytest.fixture
def card(monkeypatch):
    """The strict device as the card of cupy_raw, in a machine that has all it needs."""
    found = StrictDevice()
    monkeypatch.setattr(ebm_fast, "why_not", lambda name: None)
    monkeypatch.setattr(card_module, "card", lambda: found)
    return found


@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_ebm__trains_samples_and_evaluates_on_a_device(tmp_path, card, method):
    folder = tmp_path / "run"
    report = "run.report=true"
    run(*train(folder, "--steps", "3", "--method", method, backend="cupy_raw", sets=(report, "ema_decay=0.9")))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["backend"] == "cupy_raw" and summary["steps"] == 3
    assert (folder / "report.html").stat().st_size > 1000
    run("sample", str(folder), "--n", "5", "--start", "uniform", "--K", "2")
    with np.load(folder / "samples.npz") as file:
        samples, energy = file["x"], file["energy"]
    assert samples.shape == (5, 2) and energy.shape == (5,)
    if method == "pcd":
        run("sample", str(folder), "--n", "5", "--start", "buffer", "--K", "0")
        with np.load(folder / "samples.npz") as file:
            slots = checkpoint(folder)["buffer/slots"]
            assert all((x == slots).all(axis=1).any() for x in file["x"])
    run("eval", str(folder))
    again = json.loads((folder / "summary.json").read_text())
    assert again == summary
    assert card.copies > 0


def test_ebm__resumes_on_a_device_to_the_bit(tmp_path, card):
    run(*train(tmp_path / "whole", "--steps", "6", backend="cupy_raw"))
    run(*train(tmp_path / "parts", "--steps", "3", backend="cupy_raw"))
    run("train", "toy2d", "--out", str(tmp_path / "parts"), "--resume", "--steps", "6")
    assert (tmp_path / "whole" / "checkpoint.npz").read_bytes() == (tmp_path / "parts" / "checkpoint.npz").read_bytes()


def test_ebm__resumes_a_device_s_run_on_the_host_and_back(tmp_path, card):
    folder = tmp_path / "run"
    run(*train(folder, "--steps", "2", backend="cupy_raw"))
    for steps, name in (("4", "ebm_ref"), ("6", "cupy_raw")):
        run("train", "toy2d", "--out", str(folder), "--resume", "--steps", steps, "--backend", name)
    run(*train(tmp_path / "oracle", "--steps", "6", backend="ebm_ref"))
    a, b = checkpoint(folder), checkpoint(tmp_path / "oracle")
    assert list(a) == list(b) and all(np.allclose(a[k], b[k], rtol=1e-3, atol=1e-4) for k in a)


@pytest.mark.skipif(find_driver().why is None, reason="this machine has a card")
def test_ebm__a_run_of_a_card_is_carried_over_as_the_error_says(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "a run"
    with monkeypatch.context() as patch:
        patch.setattr(ebm_fast, "why_not", lambda name: None)
        patch.setattr(card_module, "card", StrictDevice)
        run(*train(folder, "--steps", "2", backend="cupy_raw"))
    state = checkpoint(folder)
    capsys.readouterr()
    assert main(["eval", str(folder)]) == 2
    command = error_line(capsys).partition("another backend: ebm ")[2]
    run(*shlex.split(command))
    run("eval", str(folder))
    assert equal(checkpoint(folder), state)
    assert json.loads((folder / "summary.json").read_text())["backend"] != "cupy_raw"


def test_ebm__init_moves_another_run_s_parameters(tmp_path, card):
    run(*train(tmp_path / "a", "--steps", "2", backend="ebm_ref"))
    run(*train(tmp_path / "b", "--steps", "1", "--init", str(tmp_path / "a"), backend="cupy_raw", sets=("lr=0",)))
    a, b = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    assert all(np.array_equal(b[f"theta/{name}"], a[f"ema/{name}"]) for name in ("linear0.w", "out.w"))


@pytest.mark.skipif(find_driver().why is None, reason="this machine has a card")
@pytest.mark.parametrize("name", ["cupy_raw", "numba_cuda"])
def test_ebm__without_a_card_is_one_line(tmp_path, capsys, name):
    assert main(train(tmp_path / "run", backend=name)) == 2
    assert f"{name} needs a CUDA card" in error_line(capsys)
    assert not (tmp_path / "run").exists()


def test_ebm__a_card_that_fails_is_one_line(tmp_path, capsys, monkeypatch):
    """Driver and libraries are there, and the card still says no: before a folder is touched."""

    def refuse():
        raise BackendError("cupy_raw: the CUDA driver finds no card")

    run(*train(tmp_path / "run", "--steps", "1"))
    capsys.readouterr()
    before = contents(tmp_path)
    monkeypatch.setattr(training, "lock_folder", None)  # not even locked
    monkeypatch.setattr(ebm_fast, "why_not", lambda name: None)
    monkeypatch.setattr(card_module, "card", refuse)
    for folder, more in (("new", ()), ("run", ("--resume",))):
        assert main(train(tmp_path / folder, *more, backend="cupy_raw")) == 2
        assert error_line(capsys) == "ebm: error: cupy_raw: the CUDA driver finds no card"
    assert contents(tmp_path) == before and not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------- the stand-in itself


def test_strict_array__has_the_names_of_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: its names are not compared with the stand-in's")
    assert [name for name in FUNCTIONS + UFUNCS if not hasattr(cupy, name)] == []
    assert [name for name in METHODS if not hasattr(cupy.ndarray, name)] == []


def test_strict_array__refuses_silent_conversion():
    x = StrictArray(np.ones(3, np.float32))
    for misuse in (
        lambda: np.asarray(x),
        lambda: x + np.ones(3, np.float32),
        lambda: np.ones(3, np.float32) + x,
        lambda: np.stack([x, x]),
        lambda: list(x),
        lambda: x.__setitem__(0, np.ones(1)),
        lambda: np.ones(3).__setitem__(slice(None), x),
    ):
        with pytest.raises(SilentConversion):
            misuse()
    assert isinstance(x * np.float32(2), StrictArray) and isinstance(np.asarray(np.ones(2), like=x), StrictArray)
    assert inner(x[np.array([0, 2])]).shape == (2,) and float(np.mean(x)) == 1
