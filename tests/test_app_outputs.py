"""What the verbs leave behind: pictures, report, summary, samples, figures."""

import base64
import html.parser
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from app_runs import checkpoint, error_line, run, train

from ebm_fast import BACKENDS, why_not
from ebm_fast.app import main as app
from ebm_fast.app import progress
from ebm_fast.app.arrays import npz_read
from ebm_fast.app.main import main
from ebm_fast.app.run import run_open
from ebm_fast.app.runfolder import metrics_read
from ebm_fast.extras import require
from ebm_ref import langevin_run
from ebm_ref.contracts import (
    Stream,
)


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
    asked, builds = [], []

    class Kit:
        format_row = staticmethod(rows.format_row)
        host_build = SimpleNamespace(set_build=builds.append)

        @staticmethod
        def run(twins, cases, tell):
            asked.append((twins, cases))
            row = rows.Row("langevin_step", "numba_cpu", "float32", 9, 0.5, status)
            tell(row)
            return [row]

    monkeypatch.setattr(app, "import_module", lambda name: Kit)
    for status, code in (("pass", 0), ("fail", 1), ("skip", 0)):
        assert main(["verify", "--twin", "numba_cpu", "--json"]) == code
        assert json.loads(capsys.readouterr().out)[0]["status"] == status
    assert main(["verify", "--deep"]) == 0
    assert "langevin_step" in capsys.readouterr().out
    assert asked[0] == (["numba_cpu"], None) and asked[-1] == (None, 1000)
    assert main(["verify", "--build", "race"]) == 0
    assert asked[-1] == (["host_build"], None) and builds == ["race"]
    assert main(["verify", "--build", "race", "--twin", "naive"]) == 2
    assert "--build: expected no twin but host_build" in capsys.readouterr().err
