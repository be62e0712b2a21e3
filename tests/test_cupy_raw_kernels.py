"""The kit launches every CUDA kernel, and says so when it does not."""

import numpy as np
import pytest

from ebm_fast import verify
from ebm_fast.cupy_raw.source import ORDERS, kernel_names
from ebm_fast.verify import host_build, runner
from ebm_fast.verify.case import export

if host_build.why_not():
    pytest.skip(host_build.why_not(), allow_module_level=True)

NAMES = [name for file in ORDERS for name in kernel_names(file)]


def test_run__launches_every_kernel():
    *rows, last = verify.run(["host_build"], dtypes=["float32"], cases=12)
    assert [row.function for row in rows] == [*verify.FUNCTIONS]
    lacking = [name for name in verify.PROBLEMS if not hasattr(host_build, export(name))]
    assert {row.status for row in rows if row.function not in lacking} == {"pass"}
    assert all(row.status == "skip" for row in rows if row.function in lacking)
    assert [row.why for row in rows if row.function == "classifier_energy"] == ["host_build has no ClassifierEnergy"]
    assert (last.function, last.status, last.cases) == ("kernels", "pass", len(NAMES)), last.why
    assert last.why == f"{len(NAMES)} of {len(NAMES)} kernels launched"


def test_run__fails_where_a_kernel_is_not_launched(monkeypatch):
    monkeypatch.setattr(runner, "FUNCTIONS", ("noise_index",))
    row, last = verify.run(["host_build"], cases=1)
    assert row.status == "pass" and last.status == "fail" and last.build == host_build.build()
    assert last.why.startswith(f"1 of {len(NAMES)} kernels launched, not noise_bits (noise.cu), ")
    assert "noise_philox (noise.cu)" in last.why and "noise_index" not in last.why


def test_run__has_no_row_of_kernels_for_some_functions():
    assert [row.function for row in verify.run(["host_build"], ["noise_index"], cases=1)] == ["noise_index"]


def test_twin__plans_for_one_processor_and_for_many_in_turn(monkeypatch):
    """Two tiles: the wide ones where one processor has both, halved where 132 would idle; the bits are the same."""
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((1, 9, 9, 2)), rng.standard_normal((1, 1, 2, 40)), np.zeros(40)

    def launches():
        return [host_build.launched().get(("conv2d.cu", f"conv2d_forward_{tile}"), 0) for tile in ("wide", "middle")]

    monkeypatch.setattr(host_build, "_device", None)
    before = launches()
    wide = host_build.conv2d_forward(x, w, b)
    assert launches() == [before[0] + 1, before[1]]
    halved = host_build.conv2d_forward(x, w, b)
    assert launches() == [before[0] + 1, before[1] + 1]
    assert wide.tobytes() == halved.tobytes()
