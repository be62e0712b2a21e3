"""bench/flow_digits, flow_nfe: tiny runs to their end, and what is said of savings and bars is what it means."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import ebm_ref
from bench import flow_digits as bench
from bench.flow_nfe import nfe_rows, quality_of, savings
from ebm_fast.app.data import labelled_load
from ebm_fast.app.evaluate import REAL, SAMPLES, choose
from ebm_fast.app.fidelity import classes, fidelity

pytest.importorskip("sklearn")
pytest.importorskip("threadpoolctl")

SHORT = ("train.steps=2", "train.batch=8", "train.warmup=0")


@pytest.fixture(scope="module")
def digits():
    return labelled_load("digits", "float32")


def test_run_methods__a_row_each_against_pcd(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "METHODS", ("pcd", "eqm", "student"))
    rows = bench.run_methods(tmp_path, 0, SHORT)
    assert [(row["method"], row["nfe"]) for row in rows] == [("pcd", None), ("eqm", 50), ("student", 1)]
    assert rows[2]["recall_kept"] == rows[2]["recall"] / rows[1]["recall"]
    assert all(row["precision_pcd"] == rows[0]["precision"] for row in rows)
    bench.save(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["pcd", "eqm", "student"]


def test_rows_against_evaluations(digits):
    """With and without a stop; the judge's figures are those of the demo."""
    field = ebm_ref.ConvField((8, 8, 1), (4, 8))
    theta, x0 = ebm_ref.theta_init(field, 0), np.random.default_rng(0).standard_normal((60, 8, 8, 1), np.float32)
    quality = quality_of(digits, 0)
    rows = nfe_rows(ebm_ref, quality, field, theta, x0, 0.01, budgets=(1, 2), stops=(1e9,))
    assert [row["nfe"] for row in rows] == [1, 2, 1] * 4
    assert all(row["stopped"] == 1 and row["saved_of_max"] == 50 for row in rows if row["g_min"])
    x = np.clip(digits.test[:100] + 0.1 * x0[:1], -1, 1)
    real = choose(ebm_ref, digits.train, SAMPLES, 0, REAL)
    judged, quick = fidelity(digits, real, x) | classes(digits, x, real), quality(x)
    assert all(quick[name] == pytest.approx(judged[name], rel=1e-6) for name in quick)


def test_savings_are_of_the_smallest_budget_as_good():
    good = {"precision": 0.9, "recall": 0.9, "frechet_feature": 1.0, "frechet_feature_se": 0.1}
    plain = [good | {"K": 10, "frechet_feature": 1.2}, good | {"K": 40}, good | {"K": 80}]
    saved = savings(good | {"nfe": 30.0}, plain, 80)
    assert saved == {"saved_of_max": 62.5, "K_same": 40, "saved_of_same": 25.0}
    assert savings(good | {"nfe": 30.0, "recall": 0.95}, plain, 80) == {"saved_of_max": 62.5}


def test_missed_names_what_is_not_better():
    bar = {"precision_pcd": 0.9, "recall_pcd": 0.9, "frechet_feature_pcd": 1.0}
    same = bar | {"method": "em", "precision": 0.9, "recall": 0.9, "frechet_feature": 1.0, "seconds": 700.0}
    assert len(bench.missed(same)) == 4
    assert bench.missed(same | {"precision": 0.95, "recall": 0.95, "frechet_feature": 0.9, "seconds": 500.0}) == []
    assert bench.missed(same | {"method": "pcd"}) == []
    assert bench.missed({"method": "student", "recall_kept": 0.7}) == []
    assert bench.missed({"method": "student", "recall_kept": 0.69}) == ["keeps 69.0% of the recall, of 70%"]
