"""The problems: awkward enough, and none that the oracle cannot take."""

import numpy as np
import pytest

import ebm_ref
from ebm_fast.verify import problems
from ebm_fast.verify.case import export, lay
from ebm_fast.verify.judge import search


@pytest.mark.parametrize("function", problems.PROBLEMS)
def test_problems__draw_awkward_cases_that_the_oracle_takes(function):
    seen = []
    search(function, np.float32, lambda case: seen.append(case) or 0.0, 60, 0)
    sizes = {size for case in seen for _, a in case.arrays() for size in a.shape}
    for case in seen:
        outputs = case.run(getattr(ebm_ref, export(function)))
        assert outputs and all(value is not None for value in outputs.values())
        sizes |= {*getattr(outputs.get("result"), "shape", ())}
    layouts = [a.flags.c_contiguous for case in seen for _, a in case.arrays()]
    assert {*layouts} == {True, False} or function.startswith("noise")
    assert sizes & {15, 16, 17, 31, 33, 63, 65} and 1 in sizes


@pytest.mark.parametrize("seed", problems.noise.TIES)
def test_problems__equal_words_do_occur(seed):
    words = ebm_ref.noise_bits(seed, ebm_ref.contracts.Stream.DATA_INDEX, 0, np.zeros(1, int), problems.noise.TIED)
    assert len(np.unique(words)) == problems.noise.TIED - 1


def test_lay__keeps_values_and_hides_poison():
    x = np.arange(6.0).reshape(2, 3)
    for layout in ("C", "F", "strided", "reversed", "inside"):
        assert np.array_equal(lay(x, layout), x)
    assert np.isnan(lay(x, "strided").base).sum() == 6
    assert lay(x, "reversed").strides[0] < 0
