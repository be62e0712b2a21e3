"""A timing counts only where the result is right: every bench case, on every twin for the CPU, untimed."""

import pytest

from bench.cases import CASES, Case
from bench.table import case_error
from ebm_fast import BACKENDS, ON_A_CARD, backend, why_not

TWINS = [name for name in BACKENDS if name != "ebm_ref" and name not in ON_A_CARD]  # bench.gpu holds its own to theirs


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.bench}-{case.case}")
def test_bench__case_is_within_its_budget(case: Case, name: str) -> None:
    if why_not(name):
        pytest.skip(why_not(name))
    assert case_error(case, backend(name)) <= case.budget
