"""One Hypothesis profile for all tests, and at the end one line per twin: what ran, and what did not and why."""

import os
import shutil
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from app_runs import run, train

SIMULATORS = {"numba_cpu": "NUMBA_DISABLE_JIT", "numba_cuda": "NUMBA_ENABLE_CUDASIM"}

hypothesis.settings.register_profile("ebm", derandomize=True, deadline=None, database=None, print_blob=False)
hypothesis.settings.load_profile("ebm")


def pytest_terminal_summary(terminalreporter):
    """`twin  ran 28, failed 0, skipped 2: why`, for every test that recorded its twin."""
    ran, failed, skipped = Counter(), Counter(), {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            twin = dict(getattr(report, "user_properties", ())).get("twin")
            if twin is None:
                continue
            if outcome == "skipped":
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                skipped.setdefault(twin, Counter())[reason.removeprefix("Skipped: ")] += 1
            else:
                ran[twin] += 1
                failed[twin] += outcome == "failed"
    show_budgets(terminalreporter)
    twins = sorted({*ran, *skipped})
    if twins:
        terminalreporter.section("twins")
    for twin in twins:
        how = " (simulated)" if os.environ.get(SIMULATORS.get(twin, ""), "0") == "1" else ""
        line = f"{twin:10}  ran {ran[twin]}{how}, failed {failed[twin]}"
        for reason, count in skipped.get(twin, {}).items():
            line += f", skipped {count}: {reason}"
        terminalreporter.write_line(line)


def show_budgets(terminalreporter):
    """The compile gate's table, where `-k budgets` asks for it."""
    if "budgets" not in terminalreporter.config.option.keyword:
        return
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            table = dict(getattr(report, "user_properties", ())).get("budgets")
            if table is not None:
                terminalreporter.section("budgets")
                terminalreporter.write_line(table)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(*train(folder, "--steps", "8"))
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"
