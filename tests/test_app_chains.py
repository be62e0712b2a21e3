"""run.chains: the backend that draws chains and evaluates what another one has trained; both are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from app_runs import checkpoint, equal, error_line, run, train, untimed
from strict_device import StrictDevice

import ebm_fast
import ebm_ref
from ebm_fast import numba_cpu, why_not
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.energies import choose_backends
from ebm_fast.app.main import main
from ebm_fast.app.run import run_open
from ebm_fast.cupy_raw import card as card_module
from ebm_fast.verify import host_build
from ebm_ref import Recipe

pytestmark = pytest.mark.skipif(why_not("numba_cpu") is not None, reason=str(why_not("numba_cpu")))

SETS = ("data.n=200", "hidden=[8]", "batch=16", "K=2", "run.report=true")


def hsm(folder: Path, *more: str, sets: tuple[str, ...] = (), backend: str = "auto") -> list[str]:
    named = ["train", "toy2d", "--method", "hsm", "--backend", backend, "--out", str(folder), *more]
    return [*named, "--set", *SETS, *sets]


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def chains_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends whose langevin_run is called, in turn."""
    called: list[str] = []
    for name, module in (("ebm_ref", ebm_ref), ("numba_cpu", numba_cpu)):

        def spy(*args, real=module.langevin_run, name=name, **kwargs):
            called.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, "langevin_run", spy)
    return called


def test_train__auto_that_gives_way_to_the_oracle_keeps_the_chains(
    tmp_path: Path, chains_of: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*hsm(tmp_path, "--steps", "2"))
    assert set(chains_of) == {"numba_cpu"}
    said = "which method hsm needs; numba_cpu draws the chains and evaluates what is trained"
    assert said in capsys.readouterr().err
    assert (summary(tmp_path)["backend"], summary(tmp_path)["chains_backend"]) == ("ebm_ref", "numba_cpu")
    assert "chains and energies on numba_cpu" in (tmp_path / "report.html").read_text()
    opened, state = run_open(tmp_path)
    model = opened.model(state)
    assert isinstance(opened.energy, ebm_ref.MLPEnergy) and isinstance(model.energy, numba_cpu.MLPEnergy)
    x = opened.data.test
    assert np.allclose(model.energies(x), opened.energy.energy(model.theta, x), rtol=1e-4, atol=1e-5)
    run("sample", str(tmp_path), "--n", "4", "--json")
    assert json.loads(capsys.readouterr().out)["backend"] == "numba_cpu" and set(chains_of) == {"numba_cpu"}


@pytest.mark.parametrize("sets", [(), ("run.chains=ebm_ref",)])
def test_train__the_oracle_asked_for_draws_its_own_chains(
    sets: tuple[str, ...], tmp_path: Path, chains_of: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*hsm(tmp_path, "--steps", "2", sets=sets, backend="ebm_ref" if not sets else "auto"))
    assert set(chains_of) == {"ebm_ref"} and "draws the chains" not in capsys.readouterr().err
    assert summary(tmp_path)["chains_backend"] == "ebm_ref"
    assert "chains and energies on" not in (tmp_path / "report.html").read_text()


def test_train__chains_of_another_backend_leave_the_training_as_it_was(tmp_path: Path, chains_of: list[str]) -> None:
    """Also where it is resumed with other chains than it began with."""
    run(*hsm(tmp_path / "a", "--steps", "4"))
    run(*hsm(tmp_path / "b", "--steps", "2", backend="ebm_ref"))
    run("train", "toy2d", "--method", "hsm", "--out", str(tmp_path / "b"), "--resume", "--steps", "4")
    assert equal(checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b"))
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")
    resume = ["train", "toy2d", "--method", "hsm", "--out", str(tmp_path / "a"), "--resume", "--steps", "4"]
    chains_of.clear()
    run(*resume)
    assert set(chains_of) == {"numba_cpu"}  # the folder says so
    chains_of.clear()
    run(*resume, "--set", "run.chains=ebm_ref")
    run("eval", str(tmp_path / "a"))
    assert set(chains_of) == {"ebm_ref"}


@pytest.mark.parametrize("start", ["buffer", "uniform"])
def test_sample__chains_that_another_backend_left_go_on(start: str, tmp_path: Path) -> None:
    run(*train(tmp_path, "--steps", "2", sets=("run.chains=numba_cpu",)))
    run("sample", str(tmp_path), "--n", "5", "--K", "3", "--start", start)
    opened, state = run_open(tmp_path)
    model = opened.model(state)
    assert opened.backend is ebm_ref and model.backend is numba_cpu
    if start == "buffer":
        bits = ebm_ref.noise_bits(0, ebm_ref.Stream.SAMPLE_START, 0, np.arange(5), 1)[:, 0]
        x0 = state.buffer.slots[ebm_ref.noise_index(bits, 32)]
    else:
        u = ebm_ref.noise_uniform(0, ebm_ref.Stream.SAMPLE_START, 0, np.arange(5), 2, np.float32)
        x0 = np.float32(-4) + np.float32(8) * u
    args = (x0, 3, opened.config.train.update(), 0)
    x, _ = numba_cpu.langevin_run(model.energy, model.theta, *args, stream=ebm_ref.Stream.EVALUATION)
    assert np.array_equal(npz_read(tmp_path / "samples.npz")["x"], x)


def test_sample__several_levels_are_annealed_by_the_chains_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*args: object) -> None:
        raise AssertionError("the backend that trains was asked")

    named = ["train", "toy2d", "--method", "dsm", "--backend", "ebm_ref", "--steps", "2", "--out", str(tmp_path)]
    run(*named, "--set", *SETS, "levels=3", "level=0.1", "level_high=2.0", "run.chains=numba_cpu")
    for name in ("energy", "grad_x", "energy_and_grad_x"):
        monkeypatch.setattr(ebm_ref.MLPEnergy, name, work)
    run("sample", str(tmp_path), "--n", "4", "--K", "6")
    opened, _ = run_open(tmp_path)
    assert isinstance(opened.chains_energy.trunk, numba_cpu.MLPEnergy)
    assert isinstance(opened.energy.trunk, ebm_ref.MLPEnergy) and summary(tmp_path)["chains_backend"] == "numba_cpu"


def test_train__chains_of_a_backend_without_the_energy_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(numba_cpu, "DeepConvEnergy")
    deep = ["energy.kind=DeepConvEnergy", "batch=4", "K=1", "M=8", "run.report=false"]
    command = ["train", "digits", "--steps", "1", "--out", str(tmp_path / "run"), "--set", *deep]
    assert main([*command, "run.chains=numba_cpu"]) == 2
    assert "run.chains: numba_cpu has no DeepConvEnergy; ebm_ref has it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_choose_backends__auto_without_the_energy_leaves_all_to_the_oracle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(numba_cpu, "DeepConvEnergy")
    assert choose_backends("auto", "auto", "DeepConvEnergy", Recipe()) == (ebm_ref, ebm_ref)
    assert capsys.readouterr().err == "backend auto: ebm_ref, because numba_cpu has no DeepConvEnergy\n"
    assert choose_backends("auto", "auto", "ConvEnergy", Recipe()) == (numba_cpu, numba_cpu)
    assert capsys.readouterr().err == ""


def test_train__chains_of_no_backend_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(hsm(tmp_path / "run", sets=("run.chains=gpu",))) == 2
    assert "chains: expected one of auto, ebm_ref, numba_cpu" in error_line(capsys)


@pytest.mark.skipif(host_build.why_not() is not None, reason=str(host_build.why_not()))
@pytest.mark.parametrize(("trains", "draws"), [("ebm_ref", "cupy_raw"), ("cupy_raw", "ebm_ref")])
def test_ebm__chains_go_between_a_device_and_the_host(
    trains: str, draws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebm_fast, "why_not", lambda name: None)
    device = StrictDevice()
    monkeypatch.setattr(card_module, "card", lambda: device)
    sets = (f"run.chains={draws}", "run.auroc_every=1")
    run(*train(tmp_path / "one", "--steps", "2", backend=trains, sets=sets))
    run(*train(tmp_path / "two", "--steps", "2", backend=trains, sets=sets[1:]))
    assert equal(checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two"))
    one, two = summary(tmp_path / "one"), summary(tmp_path / "two")
    assert (one["chains_backend"], two["chains_backend"]) == (draws, trains)
    assert one["energy_data"] == pytest.approx(two["energy_data"], rel=1e-4, abs=1e-5)
    for start in ("buffer", "uniform"):
        run("sample", str(tmp_path / "one"), "--n", "5", "--K", "2", "--start", start)
        x = npz_read(tmp_path / "one" / "samples.npz")["x"]
        run("sample", str(tmp_path / "two"), "--n", "5", "--K", "2", "--start", start)
        assert np.allclose(x, npz_read(tmp_path / "two" / "samples.npz")["x"], rtol=1e-4, atol=1e-5)
