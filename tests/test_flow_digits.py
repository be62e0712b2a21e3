"""bench/flow_digits, flow_nfe: tiny cases run to their end, and what is said of savings and bars is what it means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ebm_ref
from bench import flow_digits as bench
from bench.flow_nfe import nfe_rows, quality_of, savings
from ebm_fast.app.data import labelled_load

pytest.importorskip("sklearn")
pytest.importorskip("threadpoolctl")

EQM = bench.EqM(channels=(4, 8), steps=3, batch=8, K=4)
TERMS = ebm_ref.EMTerms(tau=0.01, weight=1e-2, K=3, dt=0.5, cutoff=0.8)
EM = bench.EM(channels=(4, 8), strides=(1, 2), steps=2, joint=1, batch=8, positives=4, terms=TERMS, T=1.5, dt=0.5)


@pytest.fixture(scope="module")
def digits():
    return labelled_load("digits", "float32")


@pytest.mark.parametrize("head", ["field", "dot", "norm"])
def test_equilibrium_matching_trains_and_samples(digits, head):
    numbers = replace(EQM, head=head)
    model, theta = bench.train_eqm(ebm_ref, digits.train, numbers, seed=0)
    assert any(np.any(theta[name] != value) for name, value in ebm_ref.theta_init(model, 0).items())
    x = bench.sample_eqm(ebm_ref, model, theta, numbers, 6, seed=0)
    assert x.shape == (6, 8, 8, 1) and np.abs(x).max() <= 1


def test_uncoupled_is_eqm_step(digits):
    """One step of the loop is one Adam step on the gradient of `eqm_step`, at the same addresses."""
    numbers = replace(EQM, coupled=False, steps=1, decay=0.0)
    model, theta = bench.train_eqm(ebm_ref, digits.train, numbers, seed=3)
    start = ebm_ref.theta_init(model, 3)
    x = next(bench.batches(ebm_ref, digits.train, 8, 3))
    _, grads, _ = ebm_ref.eqm_step(ebm_ref, model, start, x, ebm_ref.EquilibriumTarget(), 3, 0)
    grads, _ = ebm_ref.clip_global_norm(grads, numbers.clip)
    wanted, _ = ebm_ref.adam_step(start, grads, ebm_ref.adam_init(start), numbers.lr / numbers.warmup)
    ema = ebm_ref.ema_step(start, wanted, 0.0)
    assert all(np.array_equal(theta[name], ema[name]) for name in ema)


def test_energy_matching_has_two_phases(digits):
    V, first = bench.train_em(ebm_ref, digits.train, replace(EM, joint=0), seed=0)
    _, both = bench.train_em(ebm_ref, digits.train, EM, seed=0)
    assert any(np.any(first[name] != both[name]) for name in first)
    x = bench.sample_em(ebm_ref, V, both, EM, 6, seed=0)
    assert x.shape == (6, 8, 8, 1) and np.abs(x).max() <= 1


def test_student_is_one_evaluation(digits):
    field = ebm_ref.ConvField((8, 8, 1), (4, 8))
    numbers = bench.Student(channels=(4, 8), pairs=16, steps=3, batch=8)
    phi, theta = bench.train_student(ebm_ref, field, ebm_ref.theta_init(field, 0), EQM, numbers, seed=0)
    assert phi.h_max == EQM.eta * EQM.K
    assert phi.flow(theta, bench.start(ebm_ref, field.shape, 5, 0), phi.h_max).shape == (5, 8, 8, 1)


def test_rows_against_evaluations(digits):
    """With and without a stop; the judge's figures are those of the demo."""
    field = ebm_ref.ConvField((8, 8, 1), (4, 8))
    theta, x0 = ebm_ref.theta_init(field, 0), bench.start(ebm_ref, (8, 8, 1), 60, 0)
    quality = quality_of(digits, 0)
    rows = nfe_rows(ebm_ref, quality, field, theta, x0, 0.01, budgets=(1, 2), stops=(1e9,))
    assert [row["nfe"] for row in rows] == [1, 2, 1] * 4
    assert all(row["stopped"] == 1 and row["saved_of_max"] == 50 for row in rows if row["g_min"])
    x = np.clip(digits.test[:100] + 0.1 * x0[:1], -1, 1)
    judged, quick = bench.judge(digits, x, 0), quality(x)
    assert all(quick[name] == pytest.approx(judged[name], rel=1e-6) for name in quick)


def test_savings_are_of_the_smallest_budget_as_good():
    good = {"precision": 0.9, "recall": 0.9, "frechet_feature": 1.0, "frechet_feature_se": 0.1}
    plain = [good | {"K": 10, "frechet_feature": 1.2}, good | {"K": 40}, good | {"K": 80}]
    saved = savings(good | {"nfe": 30.0}, plain, 80)
    assert saved == {"saved_of_max": 62.5, "K_same": 40, "saved_of_same": 25.0}
    assert savings(good | {"nfe": 30.0, "recall": 0.95}, plain, 80) == {"saved_of_max": 62.5}


def test_missed_names_what_is_not_better():
    bar = {"precision": 0.9, "recall": 0.9, "frechet_feature": 1.0}
    assert bench.missed(bar | {"frechet_feature": 0.9, "precision": 0.95, "recall": 0.95}, bar) == []
    assert len(bench.missed(bar, bar)) == 3
