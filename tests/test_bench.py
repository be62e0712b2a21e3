"""A timing counts only where the result is right: every bench case, on every twin for the CPU, untimed."""

import csv

import numpy as np
import pytest

import ebm_ref
from bench.cases import CASES, Case
from bench.table import RESULTS, relative_error
from bench.tabular import BARS, METHODS, SPLITS, TASKS
from ebm_fast import BACKENDS, ON_A_CARD, backend, why_not

TWINS = [name for name in BACKENDS if name != "ebm_ref" and name not in ON_A_CARD]  # bench.gpu holds its own to theirs


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.bench}-{case.case}")
def test_bench__case_is_within_its_budget(case: Case, name: str) -> None:
    if why_not(name):
        pytest.skip(why_not(name))
    made, exact = case.make(backend(name), np.float32)(), case.make(ebm_ref, np.float64)()
    assert relative_error(made, exact) <= case.budget


def test_bench__tabular_rows_reach_their_bars_and_are_the_readme_s() -> None:
    with (RESULTS / "tabular.csv").open() as file:
        rows = list(csv.DictReader(file))
    totals = {(row["set"], row["method"]): row for row in rows if row["bar"]}
    assert set(totals) == {(name, method) for name in TASKS for method in METHODS}
    readme = (RESULTS.parent.parent / "README.md").read_text()
    for name, bar in BARS.items():
        assert max(float(totals[name, method]["auroc"]) for method in METHODS) >= bar
        cells = [f"{float(totals[name, m]['auroc']):.3f} ± {float(totals[name, m]['sd']):.3f}" for m in METHODS]
        line = next(line for line in readme.splitlines() if line.startswith(f"| {name}"))
        assert [cell.strip() for cell in line.split("|")][2:4] == cells
    assert all(int(row["splits"]) == SPLITS for row in rows)
