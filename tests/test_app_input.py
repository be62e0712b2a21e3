"""Bad input is one line, a typed error, before any work is done or file touched."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from app_runs import checkpoint, contents, equal, error_line, run, train

from ebm_fast.app.config import SECTIONS, section_keys
from ebm_fast.app.main import VERBS, build_parser, main
from ebm_fast.app.runfolder import lock_folder, metrics_read
from ebm_ref.contracts import (
    BackendError,
    CheckpointError,
    ConfigError,
    DataError,
    EbmError,
    MissingExtraError,
    RangeError,
    RunFolderError,
    ShapeError,
)

NAN = np.full((30, 2), np.nan)
BAD_INPUT = {
    "unknown preset": (["train", "toy2"], ConfigError, "did you mean toy2d"),
    "unknown key": (["train", "toy2d", "--set", "train.bacth=3"], ConfigError, "did you mean train.batch"),
    "negative step size": (["train", "toy2d", "--set", "eta=-0.1"], RangeError, "eta"),
    "NaN step size": (["train", "toy2d", "--set", "eta=nan"], RangeError, "eta"),
    "infinite noise": (["train", "toy2d", "--set", "sigma=inf"], RangeError, "sigma"),
    "negative K": (["train", "toy2d", "--set", "K=-1"], RangeError, "K"),
    "batch beyond the data": (["train", "toy2d", "--set", "data.n=100", "batch=101"], DataError, "batch"),
    "data outside the box": (["train", "toy2d", "--set", "box=[-0.1, 0.1]"], DataError, "box"),
    "unknown method": (["train", "toy2d", "--method", "pdc"], RangeError, "method"),
    "unknown backend": (["train", "toy2d", "--backend", "gpu"], RangeError, "backend"),
    "wrong shape": (["train", "toy2d", "--set", "energy.shape=[3]"], ShapeError, "energy.shape"),
    "wrong channels": (["train", "digits", "--set", "energy.shape=[8, 8, 3]"], ShapeError, "energy.shape"),
    "seed below 0": (["train", "toy2d", "--seed", "-1"], RangeError, "seed"),
    "steps below 0": (["train", "toy2d", "--steps", "-1"], RangeError, "steps"),
    "config file missing": (["train", "toy2d", "--config", "nothing.toml"], ConfigError, "nothing.toml"),
    "init is no run": (["train", "toy2d", "--init", "nowhere"], CheckpointError, "nowhere"),
    "nothing to resume": (["train", "toy2d", "--resume"], RunFolderError, "nothing there"),
    "NaN in data": (["train", "toy2d", "--set", "data.path=nan.npy"], DataError, "NaN"),
    "data beyond float32": (["train", "toy2d", "--set", "data.path=big.npy"], DataError, "float32 can hold"),
    "empty data": (["train", "toy2d", "--set", "data.path=empty.npy"], DataError, "at least 2 samples"),
    "data of rank 1": (["train", "toy2d", "--set", "data.path=rank.npy"], DataError, "found shape"),
    "data of integers": (["train", "toy2d", "--set", "data.path=integers.npy"], DataError, "int64"),
    "truncated data": (["train", "toy2d", "--set", "data.path=short.npy"], DataError, "are there"),
    "data missing": (["train", "toy2d", "--set", "data.path=nothing.npy"], DataError, "nothing.npy"),
    "number beyond float": (["train", "toy2d", "--set", "lr=1" + "0" * 400], ConfigError, "train.lr"),
    "number of 5,000 digits": (["train", "toy2d", "--set", "K=1" + "0" * 5000], ConfigError, "train.K"),
    "digits beyond TOML": (["train", "toy2d", "--config", "digits.toml"], ConfigError, "digits.toml"),
    "nested beyond TOML": (["train", "toy2d", "--config", "nested.toml"], ConfigError, "nested.toml"),
    "NUL in a path": (["train", "toy2d", "--config", "nul.toml"], ConfigError, "data.path"),
    "key outside a section": (["train", "toy2d", "--config", "outside.toml"], ConfigError, r"under .train."),
    "unknown key in a file": (["train", "toy2d", "--config", "key.toml"], ConfigError, "key.toml: key 'train.step'"),
    "another file": (["train", "toy2d", "--set", "data.path=vectors.npy", "data.sha256=ab"], DataError, "sha256"),
    "vectors for a ConvEnergy": (["train", "digits", "--set", "data.path=vectors.npy"], EbmError, "shape"),
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a few bad files in it."""
    monkeypatch.chdir(tmp_path)
    np.save("nan.npy", NAN)
    np.save("big.npy", np.full((300, 2), 1e39))
    np.save("empty.npy", np.zeros((0, 2)))
    np.save("rank.npy", np.zeros(9))
    np.save("integers.npy", np.zeros((9, 2), dtype=np.int64))
    np.save("vectors.npy", np.zeros((300, 3)))
    Path("digits.toml").write_text("[train]\nsteps = 1" + "0" * 5000)
    Path("nested.toml").write_text("[data]\npath = " + "[" * 5000)
    Path("nul.toml").write_text('[data]\npath = "a\\u0000.npy"')
    Path("outside.toml").write_text("steps = 5")
    Path("key.toml").write_text("[train]\nstep = 5")
    Path("short.npy").write_bytes(Path("vectors.npy").read_bytes()[:-1])
    return tmp_path


@pytest.mark.parametrize("what", BAD_INPUT)
def test_main__bad_input_is_one_line_and_touches_nothing(
    what: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, error, why = BAD_INPUT[what]
    arguments = [*arguments, "--out", "run"]
    before = sorted(workplace.rglob("*"))
    with pytest.raises(error, match=why):
        VERBS["train"](build_parser().parse_args(arguments))
    assert main(arguments) == 2
    assert re.search(why, error_line(capsys))
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments", [[], ["trian"], ["train"], ["train", "toy2d", "--step", "x"], ["train", "--what"]]
)
def test_main__unusable_command_line_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error_line(capsys)


def test_main__help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and max(map(len, text.splitlines())) <= 100
    words = re.split(r"[\s,]+", text.partition("keys of --set")[2])
    assert {key for section in SECTIONS for key in section_keys(section)} <= set(words)


def test_main__missing_extra_is_named_before_any_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError):
        VERBS["train"](build_parser().parse_args(["train", "toy2d", "--out", "run"]))
    assert main(["train", "toy2d", "--out", "run"]) == 2
    assert "ebm-oracle[plot]" in error_line(capsys) and not Path("run").exists()
    run(*train(Path("run"), "--steps", "1"))  # run.report=false needs no plots


def test_main__backend_that_cannot_run_says_why(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install"):
        VERBS["train"](
            build_parser().parse_args(["train", "toy2d", "--backend", "numba_cpu", "--set", "run.report=false"])
        )


@pytest.mark.parametrize("absent", ["sklearn.neural_network", "threadpoolctl", "PIL.ImageFont", "matplotlib"])
def test_train__what_the_evaluation_needs_is_asked_for_before_the_training(
    absent: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    before = sorted(workplace.rglob("*"))
    assert main(["train", "digits", "--steps", "1", "--out", "run", "--set", "run.report=false"]) == 2
    assert "pip install" in error_line(capsys) and sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("12 TiB"), OSError(28, "No space left", "disk")])
def test_main__whatever_ends_a_verb_is_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setitem(VERBS, "doctor", fail)
    code = main(["doctor"])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("ebm: ")
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert isinstance(error, KeyboardInterrupt) or "12 TiB" in captured.err or "disk: No space left" in captured.err


def test_main__closed_and_full_outputs_leave_no_traceback() -> None:
    command = f"{sys.executable} -m ebm_fast.app.main"
    for shell, code, wanted in (
        (f"({command} doctor; echo code $? >&2) | (exec 0<&-; sleep 3)", 0, "code 141"),
        (f"{command} doctor > /dev/full", 2, "ebm: error: No space left on device"),
        (f"{command} nothing 2>&-", 2, ""),
    ):
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "", wanted), shell


def test_main__name_that_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["train", "toy2d", "--out"], ["train", "toy2d", "--resume", "--out"], ["sample"], ["eval"]):
        assert main([*verb, str(tmp_path / ("a" * 300))]) == 2
        assert "too long" in error_line(capsys)


BAD_RESUME = {
    "existing run": (["train", "toy2d"], RunFolderError, "--resume"),
    "another preset": (["train", "digits", "--resume"], ConfigError, "preset toy2d"),
    "fewer steps": (["train", "toy2d", "--resume", "--steps", "5"], ConfigError, "at step 8 already"),
    "another recipe": (["train", "toy2d", "--resume", "--set", "eta=0.3"], ConfigError, "train.eta"),
    "another energy": (["train", "toy2d", "--resume", "--set", "hidden=[9]"], CheckpointError, "energy.hidden"),
}


@pytest.mark.parametrize("what", BAD_RESUME)
def test_train__resume_refuses_another_run(what: str, copied: Path) -> None:
    arguments, error, why = BAD_RESUME[what]
    before = contents(copied)
    with pytest.raises(error, match=why):
        VERBS["train"](build_parser().parse_args([*arguments, "--out", str(copied)]))
    assert contents(copied) == before


def test_train__stopping_early_does_not_bend_the_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--steps says where to stop; a cosine ends at train.steps, so that two parts are the whole."""
    cosine = ("schedule=cosine", "train.steps=8")
    run(*train(tmp_path / "whole", sets=cosine))
    run(*train(tmp_path / "parts", "--steps", "3", sets=cosine))
    assert [r["lr"] for r in metrics_read(tmp_path / "parts")] == [
        r["lr"] for r in metrics_read(tmp_path / "whole")[:3]
    ]
    resume = ["train", "toy2d", "--resume", "--out", str(tmp_path / "parts"), "--steps"]
    run(*resume, "8")
    assert equal(checkpoint(tmp_path / "parts"), checkpoint(tmp_path / "whole"))
    assert "laid out" not in capsys.readouterr().err
    run(*resume, "10")  # beyond the schedule's end: told, and laid out anew
    assert "cosine schedule" in capsys.readouterr().err
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["train"]["steps"] == 10
    lr = [r["lr"] for r in metrics_read(tmp_path / "parts")]
    assert len(lr) == 10 and lr[8] > lr[7]


@pytest.mark.parametrize("verb", [["train", "toy2d", "--resume", "--steps", "9", "--out"], ["sample"], ["eval"]])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "other energy", "missing"])
def test_main__damaged_checkpoint_is_refused(
    verb: list[str], damage: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied / "checkpoint.npz"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    else:
        run(*train(tmp_path / "other", "--steps", "8", sets=("energy.activation=tanh",)))
        for name in ("checkpoint.npz", "checkpoint.json"):
            (copied / name).write_bytes((tmp_path / "other" / name).read_bytes())
    capsys.readouterr()
    before = contents(copied)
    with pytest.raises(CheckpointError):
        VERBS[verb[0]](build_parser().parse_args([*verb, str(copied)]))
    assert main([*verb, str(copied)]) == 2
    error_line(capsys)
    after = contents(copied)
    del before[str(copied / ".lock")], after[str(copied / ".lock")]  # who looked last
    assert after == before


@pytest.mark.parametrize("content", [b"", b'{"step": 1}\n', b'{"a": 1}\n' * 8, b'{"step": 1}\n' * 8])
def test_eval__lost_records_are_refused(content: bytes, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "metrics.jsonl").write_bytes(content)
    assert main(["eval", str(copied)]) == 2
    assert "metrics.jsonl" in error_line(capsys)


def test_eval__needs_no_record_after_the_checkpoint(copied: Path) -> None:
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')  # cut short by a kill
    run("eval", str(copied))


def test_train__lost_configuration_is_not_answered_by_resume(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "config.json").unlink()
    assert main(["train", "toy2d", "--resume", "--out", str(copied)]) == 2
    assert "no config.json" in error_line(capsys)


def test_main__folder_in_use_is_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock_folder(copied):
        for verb in (["train", "toy2d", "--resume", "--steps", "9", "--out"], ["sample"], ["eval"]):
            with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"):
                VERBS[verb[0]](build_parser().parse_args([*verb, str(copied)]))
            assert main([*verb, str(copied)]) == 2
            error_line(capsys)


def test_main__file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        for more in ([], ["--resume"]):
            with pytest.raises(RunFolderError):
                VERBS["train"](build_parser().parse_args([*train(tmp_path / out), *more]))
    assert (tmp_path / "file").read_text() == "mine"


def test_train__run_that_died_before_it_wrote_is_started_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("123\n")
    run(*train(tmp_path, "--steps", "1", "--resume"))
    assert len(metrics_read(tmp_path)) == 1
