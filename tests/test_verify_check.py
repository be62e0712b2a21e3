"""verify.check: what it says of a failure, what it draws, what it refuses and what it takes."""

import numpy as np
import planted
import pytest

from ebm_fast import verify
from ebm_fast.verify.judge import search
from ebm_ref.contracts import RangeError


def test_check__failure_names_all_that_is_needed():
    report = verify.check(planted.langevin.step_climbs, "langevin_step", dtype=np.float32)
    for word in ("langevin_step", "step_climbs", "float32", "result[", "budget", "expected", "eta="):
        assert word in report.why
    assert report.case.args["x"].size == 1  # shrunk to one sample of one element
    assert report.worst > 1
    assert "fail" in str(report)


def test_check__failure_of_a_law_names_the_law_s_call():
    def cuts_the_last_axis(x, g, xi, eta, sigma, clip=None, clip_norm=None, box=None):
        if clip_norm is not None:
            norm = np.abs(g).max(axis=-1, keepdims=True) * np.sqrt(g.shape[-1])
            g = np.where(norm > clip_norm, g * (clip_norm / norm), g).astype(x.dtype)
        return planted.langevin.step_right(x, g, xi, eta, sigma, clip, None, box)

    report = verify.check(cuts_the_last_axis, "langevin_step", dtype=np.float64)
    failure, call, case = report.why.splitlines()
    assert "law: clip_norm bounds a long gradient" in failure
    assert call.startswith("the law's call: langevin_step(x=") and "1e+25" in call and "clip_norm=1.0" in call
    assert case == report.case.describe()


def test_check__takes_no_list_for_an_array():
    def lists(x, xi, sigma, box=None):
        return (x if sigma == 0 else x + sigma * xi).tolist()

    report = verify.check(lists, "langevin_jitter", dtype=np.float64, cases=3)
    assert report.status == "fail" and "result: found a list, expected shape" in report.why


def test_check__is_deterministic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (
        verify.check(planted.langevin.step_clips_the_move, "langevin_step", cases=40, seed=3) for _ in range(2)
    )
    assert first.rows == second.rows
    assert list(tmp_path.iterdir()) == []


def test_check__seed_and_cases_decide_what_is_drawn():
    def drawn(cases, seed):
        seen = []
        found = search("langevin_jitter", np.float64, lambda case: seen.append(case.describe()) or 0.0, cases, seed)
        assert found.cases == len(seen) <= cases
        return seen

    assert drawn(20, 1) == drawn(20, 1)
    assert drawn(20, 1) != drawn(20, 2)
    assert len(drawn(40, 1)) > 20


def test_check__refuses_unknown_names():
    with pytest.raises(RangeError, match="langevin_stepp"):
        verify.check(planted.langevin.step_right, "langevin_stepp")
    with pytest.raises(RangeError, match="dtype"):
        verify.check(planted.langevin.step_right, "langevin_step", dtype=np.float16)
    with pytest.raises(RangeError, match="twins"):
        verify.run(["numba_gpu"])
    with pytest.raises(RangeError, match="functions"):
        verify.run(["naive"], ["langevin"])


def test_check__reports_an_exception_as_a_failure():
    def crashes(x, xi, sigma, box=None):
        raise IndexError("off the end")

    report = verify.check(crashes, "langevin_jitter", cases=3)
    assert report.status == "fail" and "raised IndexError: off the end" in report.why


def test_check__takes_tensors_that_still_have_a_graph():
    torch = pytest.importorskip("torch")

    def jitter(x, xi, sigma, box=None):
        x, xi = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (x, xi))
        return x + sigma * xi if box is None else (x + sigma * xi).clamp(*box)

    verify.check(jitter, "langevin_jitter", cases=10).raise_if_failed()
