"""The tools around a card, played by scripts: what a sanitizer and a profiler say, and what the plan makes of it."""

import importlib
import importlib.util
import time
from pathlib import Path

import pytest

from bench.gpu import ncu, sanitize
from bench.gpu.context import Context, Skip
from bench.gpu.rows import append_row, read_rows
from bench.gpu.table import table
from ebm_ref.contracts import EbmError

CUDA = sorted(path.name for path in (Path(__file__).parent.parent / "bench" / "gpu").glob("*.cu"))


@pytest.fixture
def context(tmp_path):
    return Context("sanitize", "here", str(tmp_path), "now", time.time() + 600)


def script(tmp_path, name, text):
    """A tool of that name that runs `text` in a shell."""
    tool = tmp_path / name
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("echo '========= ERROR SUMMARY: 2 errors'; exit 9", "pass", ""),
        ("echo '========= ERROR SUMMARY: 0 errors'; exit 0", "fail", "not caught"),
        ("echo '========= ERROR SUMMARY: 0 errors'; exit 9", "fail", "not caught"),
        ("echo '========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)'; exit 9", "pass", ""),
        ("echo 'Unable to attach: operation not permitted'; exit 1", "skip", "operation not permitted"),
    ],
)
def test_sanitize__a_planted_fault_must_be_caught(context, tmp_path, text, status, says):
    tool = script(tmp_path, "compute-sanitizer", text)
    assert sanitize.planted(context, tool, "memcheck") is (status == "pass")
    (row,) = context.rows()
    assert row["status"] == status and says in row["why"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("echo '========= ERROR SUMMARY: 0 errors'; exit 0", "pass"),
        ("echo '========= ERROR SUMMARY: 0 errors'; exit 1", "fail"),
        (
            "echo '========= Invalid __global__ write of size 4'; echo '========= ERROR SUMMARY: 1 error'; exit 9",
            "fail",
        ),
    ],
)
def test_sanitize__a_report_or_a_failed_call_fails(context, tmp_path, text, status):
    tool = script(tmp_path, "compute-sanitizer", text)
    sanitize.every_kernel(context, tool, "memcheck", "cupy_raw")
    (row,) = context.rows()
    assert row["status"] == status
    assert status == "pass" or row["why"].startswith("code ")


CSV = """==PROF== Connected to process 7
==PROF== Profiling "chain_run": 0%....100% - 5 passes
"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"
"0","7","chain_run","GPU Speed Of Light Throughput","Duration","us","1,523.4"
"0","7","chain_run","GPU Speed Of Light Throughput","L2 Cache Throughput","%","81.2"
"0","7","chain_run","Launch Statistics","Registers Per Thread","register/thread","128"
"0","7","chain_run","Launch Statistics","Something Else","","1"
"1","7","chain_pack","GPU Speed Of Light Throughput","Duration","us","3.1"
"2","7","chain_run","GPU Speed Of Light Throughput","Duration","us","9,999.9"
"""


def test_ncu__a_row_a_kernel_from_its_first_launch(context, tmp_path):
    (tmp_path / "table.csv").write_text(CSV)
    tool = script(tmp_path, "ncu", f'while [ "$1" != --log-file ]; do shift; done; cp {tmp_path}/table.csv "$2"')
    ncu.profile(context, tool, "cupy_raw")
    rows = {row["kernel"]: row for row in context.rows()}
    assert list(rows) == ["chain_run", "chain_pack"]
    assert rows["chain_run"]["duration"] == "1,523.4 us" and rows["chain_run"]["l2_percent"] == "81.2 %"
    assert rows["chain_run"]["registers"] == "128 register/thread"
    assert (context.files / "ncu_cupy_raw.csv").read_text() == CSV


def test_ncu__without_permission_says_so(context, tmp_path):
    tool = script(tmp_path, "ncu", "echo '==ERROR== ERR_NVGPUCTRPERM - no permission for the counters'; exit 1")
    with pytest.raises(Skip, match="ERR_NVGPUCTRPERM"):
        ncu.profile(context, tool, "cupy_raw")


def test_ncu__never_touches_the_clocks(context, tmp_path):
    tool = script(tmp_path, "ncu", f'echo "$@" > {tmp_path}/said; exit 1')
    with pytest.raises(Skip):
        ncu.profile(context, tool, "cupy_raw")
    said = (tmp_path / "said").read_text()
    assert "--clock-control none" in said and "--profile-from-start off" in said
    assert all(f"--section {name}" in said for name in ncu.SECTIONS)


@pytest.mark.parametrize("name", CUDA)
def test_cuda__compiles(name):
    nvrtc = importlib.import_module("ebm_fast.cupy_raw.nvrtc")
    try:
        nvrtc.load()
    except EbmError as error:
        pytest.skip(str(error))
    text = (Path(__file__).parent.parent / "bench" / "gpu" / name).read_text()
    for arch in nvrtc.ARCHS:
        assert nvrtc.build(name, text, {}, (), arch).startswith(nvrtc.ELF)


def test_table__compares_ours_with_the_best_peer_of_its_class(tmp_path, capsys):
    where = {"run": "now", "stage": "benchmark", "what": "bench", "status": "pass", "why": "", "bench": "langevin_run"}
    where |= {"case": "CNN28-N128-K60", "floor_seconds": 1e-3, "floor_measured": True}
    mine = {"twin": "cupy_raw chain", "peer": None, "seconds": 2e-3, "error": 1e-6, "prediction": [1.5, 1.8]}
    append_row(tmp_path, where | mine)
    card = {"stage": "probe", "what": "card", "status": "pass", "name": "A Card", "capability": [9, 0], "cuda": [13, 0]}
    append_row(tmp_path, {"run": "now"} | card)
    for peer, seconds in (("jax", 6e-3), ("torch_graph", 4e-3), ("torch_graph_tf32", 1e-3)):
        append_row(
            tmp_path, where | mine | {"peer": peer, "peer_seconds": seconds, "peer_error": 2e-6, "prediction": None}
        )
    append_row(tmp_path, {"run": "now", "stage": "sanitize", "what": "racecheck", "status": "fail", "why": "a race"})
    append_row(tmp_path, {"run": "before", "stage": "sanitize", "what": "memcheck", "status": "fail", "why": "old"})
    table(Context("table", "here", str(tmp_path), "now", time.time() + 9))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "card: A Card, compute capability 9.0, driver for CUDA 13.0"
    (line,) = [line for line in lines if "cupy_raw chain" in line]
    assert "torch_graph 2.00x" in line and "1.5-1.8 1.1x over" in line and " 2.0 " in line
    assert any("jax" in line and "ours 3.00x" in line for line in lines)
    assert lines[-1] == "FAIL sanitize, racecheck: a race"
    assert not any("old" in line for line in lines)
    assert len(read_rows(tmp_path)) == 7
