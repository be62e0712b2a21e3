"""The command line as its users meet it: runs, exact resumption, kills, bad input, and what a run leaves behind."""

import base64
import html.parser
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ebm_fast import BACKENDS, backend, why_not
from ebm_fast.app import main as app
from ebm_fast.app import progress, training
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.config import SECTIONS, section_keys
from ebm_fast.app.main import VERBS, build_parser, main
from ebm_fast.app.run import run_open
from ebm_fast.app.runfolder import lock_folder, metrics_read
from ebm_fast.extras import require
from ebm_ref import langevin_run
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
    Stream,
)

TINY = ["data.n=200", "hidden=[8]", "batch=16", "K=2", "M=32"]
TRAINERS = [name for name in BACKENDS if why_not(name) is None and hasattr(backend(name), "MLPEnergy")]


def train(folder: Path, *more: str, backend: str = "ebm_ref", sets: tuple[str, ...] = ()) -> list[str]:
    settings = [*TINY, *sets]
    if "run.report=true" not in sets:
        settings.append("run.report=false")
    return ["train", "toy2d", "--backend", backend, "--out", str(folder), "--set", *settings, *more]


def run(*arguments: str) -> None:
    assert main(list(arguments)) == 0


def checkpoint(folder: Path) -> dict[str, np.ndarray]:
    return npz_read(folder / "checkpoint.npz")


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


def untimed(folder: Path) -> list[dict]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in metrics_read(folder)]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that bad input leaves on stderr."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and len(lines) == 1 and lines[0].startswith("ebm: error: ")
    return lines[0]


# --------------------------------------------------------------------------------------- exact resumption


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("sets", [(), ("ema_decay=0.9", "sigma_data=0.05", "warmup=10")], ids=["plain", "ema"])
def test_train__resume_is_exact_to_the_bit(tmp_path: Path, name: str, sets: tuple[str, ...]) -> None:
    run(*train(tmp_path / "whole", "--steps", "200", backend=name, sets=sets))
    run(*train(tmp_path / "parts", "--steps", "100", backend=name, sets=sets))
    halfway = checkpoint(tmp_path / "parts")
    run("train", "toy2d", "--out", str(tmp_path / "parts"), "--resume", "--steps", "200")
    assert not equal(halfway, checkpoint(tmp_path / "parts"))
    assert (tmp_path / "whole" / "checkpoint.npz").read_bytes() == (tmp_path / "parts" / "checkpoint.npz").read_bytes()
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")
    assert [record["step"] for record in untimed(tmp_path / "parts")] == list(range(1, 201))
    seconds = [record["seconds"] for record in metrics_read(tmp_path / "parts")]
    assert seconds == sorted(seconds)  # counted on, not from zero
    summaries = [json.loads((tmp_path / f / "summary.json").read_text()) for f in ("whole", "parts")]
    for summary in summaries:
        del summary["seconds_train"]
    assert summaries[0] == summaries[1]


def test_train__seed_and_method_change_the_run(tmp_path: Path) -> None:
    run(*train(tmp_path / "a", "--steps", "3"))
    run(*train(tmp_path / "b", "--steps", "3", "--seed", "1"))
    run(*train(tmp_path / "c", "--steps", "3", "--method", "cd"))
    a, b, c = (checkpoint(tmp_path / f) for f in "abc")
    assert not equal(a, b) and not equal(a, c)


def test_train__init_starts_from_the_other_run_s_parameters(tmp_path: Path) -> None:
    run(*train(tmp_path / "a", "--steps", "5", sets=("ema_decay=0.9",)))
    run(*train(tmp_path / "b", "--steps", "1", "--init", str(tmp_path / "a"), "--seed", "9", sets=("lr=0",)))
    a, b = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    names = [name for name in b if name.startswith("theta")]
    assert names and not np.array_equal(a["theta/out.w"], a["ema/out.w"])
    for name in names:
        assert np.array_equal(b[name], a[name.replace("theta", "ema", 1)])


LAUNCHER = """
import os, sys
from ebm_fast.app.main import main
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(main(sys.argv[1:]))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""  # forks a real process for each line, so that the twenty starts do not each pay for the imports


def test_train__survives_sigkill_at_random_moments(tmp_path: Path) -> None:
    """Twenty kills while a checkpoint is written every step; then the run equals one that was never killed."""
    steps, rng = "600", np.random.default_rng(0)
    arguments = [*train(tmp_path / "killed", "--steps", steps, sets=("run.save_every=1",)), "--resume"]
    (tmp_path / "killed").mkdir()
    metrics = tmp_path / "killed" / "metrics.jsonl"
    command = [sys.executable, "-c", LAUNCHER, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    ) as launcher:
        assert launcher.stdin is not None and launcher.stdout is not None
        reached, untouched = [], 0
        for _ in range(20):
            launcher.stdin.write("start\n")
            child = int(launcher.stdout.readline())
            while (metrics.stat().st_size if metrics.exists() else 0) == untouched:
                time.sleep(0.0005)
            time.sleep(float(rng.uniform(0, 0.04)))
            os.kill(child, signal.SIGKILL)
            assert int(launcher.stdout.readline()) == -signal.SIGKILL  # it was still at work
            reached.append(metrics.read_bytes().count(b"\n"))
            untouched = metrics.stat().st_size
        launcher.stdin.close()
    assert reached[-1] < int(steps) and len(set(reached)) > 5
    run(*arguments)
    run(*train(tmp_path / "whole", "--steps", steps))
    assert (tmp_path / "killed/checkpoint.npz").read_bytes() == (tmp_path / "whole/checkpoint.npz").read_bytes()
    assert untimed(tmp_path / "killed") == untimed(tmp_path / "whole")


def test_train__interrupt_saves_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ebm_fast.app.main", *train(tmp_path / "r", "--steps", "5000")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "r" / "checkpoint.npz").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130 and f"--out {tmp_path / 'r'} --resume" in errors and "Traceback" not in errors
    reached = len(metrics_read(tmp_path / "r"))
    assert 0 < reached < 5000 and int(checkpoint(tmp_path / "r")["step"]) == reached
    run("train", "toy2d", "--out", str(tmp_path / "r"), "--resume", "--steps", str(reached + 1))


def test_train__resume_needs_the_first_run_s_init_no_more(tmp_path: Path) -> None:
    run(*train(tmp_path / "a", "--steps", "2"))
    run(*train(tmp_path / "b", "--steps", "2", "--init", str(tmp_path / "a")))
    shutil.rmtree(tmp_path / "a")
    run("train", "toy2d", "--out", str(tmp_path / "b"), "--resume", "--steps", "3")


def test_train__resume_knows_its_file_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, moved = tmp_path / "x.npy", tmp_path / "with a space" / "é.npy"
    np.save(data, np.random.default_rng(0).normal(size=(60, 5)))
    run(*train(tmp_path / "run", "--steps", "2", sets=(f"data.path={data}", "box=[-9, 9]")))
    moved.parent.mkdir()
    data.rename(moved)
    resume = ["train", "toy2d", "--out", str(tmp_path / "run"), "--resume", "--steps", "3"]
    run(*resume, "--set", f"data.path={moved}")
    np.save(moved, np.random.default_rng(1).normal(size=(60, 5)))
    capsys.readouterr()
    for verb in (resume, ["eval", str(tmp_path / "run")], ["sample", str(tmp_path / "run")]):
        assert main(verb) == 2
        assert "data.sha256" in error_line(capsys)


def test_train__alarms_are_told_recorded_and_survive_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class SevenRecords:
        seen = 0

        def __init__(self, alpha: float) -> None:
            assert alpha == 0.01

        def update(self, record: dict[str, float]) -> list[str]:
            self.seen += 1
            return ["the energy is flat"] if self.seen == 7 else []

    monkeypatch.setattr(training, "Alarms", SevenRecords)
    run(*train(tmp_path, "--steps", "5"))
    run("train", "toy2d", "--out", str(tmp_path), "--resume", "--steps", "9")
    assert "alarm at step 7: the energy is flat" in capsys.readouterr().err
    assert [r["step"] for r in metrics_read(tmp_path) if r.get("alarms") == ["the energy is flat"]] == [7]
    assert json.loads((tmp_path / "summary.json").read_text())["alarms"] == ["step 7: the energy is flat"]


def test_train__non_finite_numbers_stop_the_run_and_keep_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = train(tmp_path, "--steps", "50", sets=("lr=1e30", "alpha=0", "run.save_every=1"))
    assert main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"ebm: error: {tmp_path}: stopped in step ") and "finite" in last
    assert last.endswith(f"kept as of step {checkpoint(tmp_path)['step']}")
    assert len(metrics_read(tmp_path)) == int(checkpoint(tmp_path)["step"]) < 50


# ----------------------------------------------------------------------------------------------- bad input

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(*train(folder, "--steps", "8"))
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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


# ------------------------------------------------------------------------------------- what a run leaves


class Page(html.parser.HTMLParser):
    """The tags of a page, the sources of its pictures, and everything it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        for key, value in attributes:
            if tag == "img" and key == "src":
                self.pictures.append(value or "")
            elif key in ("src", "href"):
                self.fetched.append(value or "")


def picture_size(content: bytes) -> tuple[int, int]:
    image = require("PIL.Image", "data").open(io.BytesIO(content))
    image.load()
    return image.size


def test_train__toy2d_leaves_pictures_a_report_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*train(tmp_path, "--steps", "12", "--json", sets=("run.report=true",)))
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert "step 12/12" in captured.err
    assert {"run": str(tmp_path), **json.loads((tmp_path / "summary.json").read_text())} == summary
    assert {"backend", "steps", "seconds_train", "gap", "nonfinite", "precision", "recall"} <= set(summary)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["preset"] == "toy2d" and config["run"]["backend"] == "ebm_ref" and config["train"]["batch"] == 16
    for name in ("samples.png", "curves.png"):
        assert min(picture_size((tmp_path / name).read_bytes())) > 200
    page = Page((tmp_path / "report.html").read_text())
    assert page.fetched == [] and page.opened.count("script") == 0
    assert len(page.pictures) >= 4
    for source in page.pictures:
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64" and picture_size(base64.b64decode(content))[0] > 100


def test_train__digits_summary_has_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["energy.channels=[4, 8]", "energy.strides=[2, 2]", "batch=8", "K=1", "M=1024"]
    run("train", "digits", "--backend", "ebm_ref", "--steps", "2", "--out", str(tmp_path), "--json", "--set", *small)
    summary = json.loads(capsys.readouterr().out)
    named = (
        "backend steps seconds_train gap nonfinite auroc_letters auroc_uniform auroc_inverted classes_covered precision"
    )
    assert set(f"{named} recall auroc_rot90 auroc_shuffled auroc_constant parameters".split()) <= set(summary)
    assert summary["steps"] == 2 and summary["samples"] == "1000 of 1024 persistent chains"
    assert summary["recall"] < 0.1  # two steps: the chains are still noise
    assert summary["auroc_inverted"] == pytest.approx(summary["auroc_inverted"]) and 0 <= summary["auroc_letters"] <= 1
    assert picture_size((tmp_path / "samples.png").read_bytes())[0] > 400
    text = (tmp_path / "report.html").read_text()
    assert "held out from the training" in text and "100 samples of 1000 of 1024 persistent chains" in text
    assert "0.5 is chance" in text and f"--out {tmp_path} --resume --steps 4" in text and 'alt=""' not in text
    assert "Persistent chains during training" in text and "auroc_letters" in text and "train.sigma" in text


def test_train__own_file_is_a_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 5)))
    sets = (f"data.path={tmp_path / 'x.npy'}", "box=[-9, 9]")
    run(*train(tmp_path / "run", "--steps", "2", sets=sets))
    assert checkpoint(tmp_path / "run")["buffer/slots"].shape == (32, 5)
    run("eval", str(tmp_path / "run"))


def test_train__records_hold_the_curves(finished: Path) -> None:
    records = metrics_read(finished)
    assert [record["step"] for record in records] == list(range(1, 9))
    for key in ("gap", "energy_pos", "energy_neg", "grad_norm", "nonfinite", "seconds"):
        assert all(np.isfinite(record[key]) for record in records)
    for record in records:
        assert record["gap"] == pytest.approx(record["energy_neg"] - record["energy_pos"], abs=1e-6)


def test_sample__writes_what_its_address_says(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []
    for seed, start, K in ((1, "buffer", "3"), (1, "buffer", "3"), (2, "buffer", "3"), (1, "uniform", "0")):
        capsys.readouterr()
        run("sample", str(copied), "--n", "40", "--K", K, "--seed", str(seed), "--start", start, "--json")
        done = json.loads(capsys.readouterr().out)
        assert done["K"] == int(K) and done["n"] == 40 and done["start"] == start
        arrays = npz_read(copied / "samples.npz")
        assert arrays["x"].shape == (40, 2) and np.isfinite(arrays["x"]).all() and arrays["energy"].shape == (40,)
        drawn.append(arrays["x"])
        picture_size((copied / "samples.png").read_bytes())
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert np.abs(drawn[3]).max() > 3 and np.abs(drawn[3]).max() <= 4  # uniform in the box of the preset


def test_sample__zero_steps_from_the_buffer_are_its_slots(copied: Path) -> None:
    run("sample", str(copied), "--n", "50", "--K", "0")
    slots, x = checkpoint(copied)["buffer/slots"], npz_read(copied / "samples.npz")["x"]
    assert all((slots == row).all(axis=1).any() for row in x)
    assert len(np.unique(x, axis=0)) > 16  # of 32 slots, drawn 50 times


def test_sample__is_langevin_run_of_the_averaged_energy(copied: Path) -> None:
    drawn = {}
    for K in (0, 4):
        run("sample", str(copied), "--n", "9", "--K", str(K), "--seed", "5")
        drawn[K] = npz_read(copied / "samples.npz")
    opened, state = run_open(copied)
    assert not np.array_equal(state.theta["out.w"], state.ema["out.w"])
    update = opened.config.train.update()
    x, _ = langevin_run(opened.energy, state.ema, drawn[0]["x"], 4, update, 5, stream=Stream.EVALUATION)
    assert np.array_equal(drawn[4]["x"], x)
    assert np.array_equal(drawn[4]["energy"], opened.energy.energy(state.ema, x))


@pytest.mark.parametrize("more", [["--n", "0"], ["--K", "-1"], ["--seed", "-1"], ["--start", "data"]])
def test_sample__bad_numbers_are_refused(more: list[str], finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(finished), *more]) == 2
    assert more[0].removeprefix("--") in error_line(capsys)


def test_eval__recomputes_the_same_summary(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copied / "summary.json").read_text()
    (copied / "summary.json").unlink()
    run("eval", str(copied), "--json")
    assert (copied / "summary.json").read_text() == before
    assert json.loads(capsys.readouterr().out)["steps"] == 8


def test_eval__sums_the_chains_that_stopped(copied: Path) -> None:
    records = [record | {"nonfinite": 2.0} for record in metrics_read(copied)]
    (copied / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    run("eval", str(copied))
    assert json.loads((copied / "summary.json").read_text())["nonfinite"] == 16


def test_doctor__names_versions_backends_and_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["libraries"]["numpy"]["version"] == np.__version__
    assert found["backends"] == {name: why_not(name) for name in BACKENDS} and found["threads"] >= 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run("doctor")
    text = capsys.readouterr().out
    assert 'missing: pip install "ebm-oracle[cpu]"' in text and "cannot run" in text


class FakeRow:
    pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("rich", "term"), [(True, "xterm"), (False, "xterm"), (False, "dumb")])
def test_progress__is_live_on_a_terminal_with_rich_and_plain_elsewhere(
    rich: bool, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", term)
    if not rich and term != "dumb":
        monkeypatch.setattr(progress, "find_spec", lambda name: None)
    with progress.Progress(0, 4) as shown:
        for step in range(1, 5):
            shown.update(step, {"gap": step / 8, "energy_pos": 0.0, "energy_neg": step / 8, "grad_norm": 1.0})
        shown.message("alarm at step 4: [x]")
    text = terminal.getvalue()
    assert "gap +0.500" in text and "steps/s" in text and "alarm at step 4: [x]" in text
    assert ("\x1b[" in text) is rich
    assert rich or text.count("steps/s") == 1  # a plain line every two seconds, and the last


def test_main__start_is_light() -> None:
    code = "import sys, ebm_fast.app.main; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["sklearn", "scipy", "matplotlib", "PIL", "rich", "numba", "hypothesis", "mlxtend"]
    found = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_verify__exit_code_says_whether_a_twin_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = require("ebm_fast.verify.rows", "verify")
    asked = []

    class Kit:
        format_rows = staticmethod(rows.format_rows)

        @staticmethod
        def run(twins, cases):
            asked.append((twins, cases))
            return [rows.Row("langevin_step", "numba_cpu", "float32", cases, 0.5, status)]

    monkeypatch.setattr(app, "import_module", lambda name: Kit)
    for status, code in (("pass", 0), ("fail", 1), ("skip", 0)):
        assert main(["verify", "--twin", "numba_cpu", "--json"]) == code
        assert json.loads(capsys.readouterr().out)[0]["status"] == status
    assert main(["verify", "--deep"]) == 0
    assert "langevin_step" in capsys.readouterr().out
    assert asked[0] == (["numba_cpu"], 25) and asked[-1] == (None, 250)
