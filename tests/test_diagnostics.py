"""diagnostics: effective sample size and R-hat on chains whose answer is known, and alarms that ring in time."""

from __future__ import annotations

from math import log10, sqrt

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta

from ebm_ref.contracts import NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.diagnostics import (
    Alarms,
    diagnostics_gap,
    diagnostics_grad_norms,
    effective_sample_size,
    split_rhat,
)
from ebm_ref.noise import noise_normal
from ebm_ref.samplers import langevin_run
from ebm_ref.specs import SGLD, ULA


def autoregressive(a, T, N, seed=31):
    """x_t = a x_(t-1) + sqrt(1 - a^2) xi_t, stationary: rho_t = a^t, so ESS = T N (1 - a) / (1 + a)."""
    xi = noise_normal(seed, Stream.EVALUATION, 0, np.arange(N), T).T  # (T, N)
    x = np.empty((T, N))
    x[0] = xi[0]
    for t in range(1, T):
        x[t] = a * x[t - 1] + sqrt(1 - a * a) * xi[t]
    return x


def test_diagnostics_gap__is_samples_minus_data():
    assert diagnostics_gap(np.array([1.0, 3.0]), np.array([7.0])) == 5.0
    assert diagnostics_gap(np.full(3, 1e8, np.float32), np.full(3, 1e8 + 8, np.float32)) == 8.0
    with pytest.raises(NonFiniteError, match="energy_neg"):
        diagnostics_gap(np.ones(2), np.array([np.nan]))
    with pytest.raises(ShapeError, match="energy_pos"):
        diagnostics_gap(np.ones(0), np.ones(2))


def test_diagnostics_grad_norms__is_the_equation():
    norms = diagnostics_grad_norms({"a": np.array([3.0, 4.0]), "b": np.array([[2.0]])})
    assert norms == {"a": 5.0, "b": 2.0}


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("N", [1, 8])
def test_effective_sample_size__of_an_autoregression(a, N):
    T = 16_000 // N
    exact = T * N * (1 - a) / (1 + a)
    assert abs(effective_sample_size(autoregressive(a, T, N)) / exact - 1) < 0.15


def test_effective_sample_size__exceeds_the_draws_when_they_alternate():
    size = effective_sample_size(autoregressive(-0.5, 4000, 4))
    assert abs(size / (16_000 * 3) - 1) < 0.2  # (1 + 1/2) / (1 - 1/2)
    swing = np.tile([[1.0], [-1.0]], (50, 1)) + 1e-9 * autoregressive(0.0, 100, 1)
    assert effective_sample_size(swing) == 100 * log10(100)  # the bound


def test_effective_sample_size__is_small_when_chains_disagree():
    x = autoregressive(0.0, 500, 4)
    assert effective_sample_size(x) > 1500
    assert effective_sample_size(x + np.array([0, 0, 0, 5.0])) < 10


def test_effective_sample_size__predicts_the_error_of_a_mean():
    """Over 200 runs the spread of the mean is std / sqrt(ESS), within its own error."""
    runs = [autoregressive(0.8, 400, 1, seed=s) for s in range(200)]
    spread = np.std([run.mean() for run in runs], ddof=1)
    predicted = np.mean([run.std() / sqrt(effective_sample_size(run)) for run in runs])
    assert abs(spread / predicted - 1) < 4 / sqrt(2 * 200) + 0.05


def test_effective_sample_size__does_not_depend_on_scale_or_place():
    x = autoregressive(0.6, 300, 3)
    assert np.isclose(effective_sample_size(x), effective_sample_size(7 - 1000 * x), rtol=1e-6)


def test_split_rhat__is_the_equation():
    x = autoregressive(0.5, 10, 2)
    parts = [x[:5, 0], x[:5, 1], x[5:, 0], x[5:, 1]]
    W = np.mean([part.var(ddof=1) for part in parts])
    B = 5 * np.var([part.mean() for part in parts], ddof=1)
    assert np.isclose(split_rhat(x), sqrt((4 / 5 * W + B / 5) / W), rtol=1e-14)


def test_split_rhat__sees_chains_that_disagree_or_drift():
    x = autoregressive(0.3, 1000, 4)
    assert split_rhat(x) < 1.01
    assert split_rhat(x + np.array([0, 0, 0, 1.0])) > 1.1
    assert split_rhat(x + np.linspace(0, 2, 1000)[:, None]) > 1.1


@pytest.mark.parametrize("measure", [effective_sample_size, split_rhat])
def test_diagnostics__refuse_what_is_not_a_chain(measure):
    for chain, error in (
        (np.ones(10), ShapeError),
        (np.ones((3, 2)), ShapeError),
        (np.ones((20, 0)), ShapeError),
        (np.full((20, 2), np.nan), NonFiniteError),
        (np.ones((20, 2)), RangeError),
    ):
        with pytest.raises(error, match="chain"):
            measure(chain)


# ---------------------------------------- the samplers' stationary laws, by their own sample size


def trajectory(update, lam, T, N, burn):
    """(T, N) states of N chains on E = lam x^2 / 2, one draw per step after `burn` steps."""
    x, theta, out = np.full((N, 1), 3.0), bowl_theta(lam), np.empty((T, N))
    for k in range(burn + T):
        x, _ = langevin_run(Bowl(), theta, x, 1, update, seed=41, step=k)
        out[max(k - burn, 0)] = x[:, 0]
    return out


@pytest.mark.parametrize(
    ("update", "lam", "variance"),
    [
        (ULA(0.5), 2.0, 2 / 3),  # 1 / (lam (1 - eps lam / 4))
        (ULA(0.2), 4.0, 1 / (4.0 * (1 - 0.2))),
        (SGLD(0.3, 0.5), 2.0, 0.25 / (0.6 * (2 - 0.6))),  # sigma^2 / (eta lam (2 - eta lam))
        (SGLD(0.3, 0.5, order="noise_first"), 2.0, 0.4**2 * 0.25 / (0.6 * (2 - 0.6))),  # times (1 - eta lam)^2
        (SGLD(0.9, 0.5), 2.0, 0.25 / (1.8 * 0.2)),  # eta lam near 2: the chain swings
    ],
)
def test_langevin_run__has_its_stationary_variance(update, lam, variance):
    x = trajectory(update, lam, T=400, N=64, burn=60)
    assert split_rhat(x) < 1.02
    for value, exact in ((x, 0.0), (x**2, variance)):
        error = value.std() / sqrt(effective_sample_size(value))
        assert abs(value.mean() - exact) < 4 * error
    if isinstance(update, ULA):  # and it is not the variance of exp(-E)
        error = (x**2).std() / sqrt(effective_sample_size(x**2))
        assert abs((x**2).mean() - 1 / lam) > 4 * error


# ----------------------------------------------------------------------------------------- alarms


def record(energy_pos=-1.0, energy_neg=1.0, grad_x_norm=1.0, nonfinite=0.0):
    gap = energy_neg - energy_pos
    return {
        "energy_pos": energy_pos,
        "energy_neg": energy_neg,
        "gap": gap,
        "grad_x_norm": grad_x_norm,
        "nonfinite": nonfinite,
    }


def heard(records, **settings):
    alarms = Alarms(**settings)
    return [(t, text) for t, r in enumerate(records) for text in alarms.update(r)]


def test_alarms__are_silent_on_healthy_training():
    wobble = noise_normal(1, Stream.EVALUATION, 0, np.arange(1), 600)[0]
    healthy = [record(-1 + 0.3 * w, 1 - 0.3 * w, 1 + 0.2 * w) for w in wobble]
    assert heard(healthy, window=20) == []
    gentle = [r | {"grad_x_norm": 1e-5 * r["grad_x_norm"]} for r in healthy]  # a scale of its own, no collapse
    assert heard(gentle, window=20) == []


def test_alarms__explosion_says_what_to_try():
    records = [record(-0.1 * 1.05**t, 0.1 * 1.05**t) for t in range(200)]
    said = heard(records, window=40)
    assert len(said) == 1 and "Explosion" in said[0][1] and "max_grad_norm" in said[0][1]
    assert 10 < 0.1 * 1.05 ** said[0][0] < 100
    assert heard([record(-5.0 * t, 5.0 * t) for t in range(100)], window=100, large=10.0) == []  # no window before


def test_alarms__collapse_says_what_to_try():
    records = [record(grad_x_norm=1.0)] * 30 + [record(grad_x_norm=1e-5)] * 60
    said = heard(records, window=20)
    assert len(said) == 1 and "Collapse" in said[0][1] and "alpha" in said[0][1]
    assert said[0][0] == 49  # the first window without a steep record


def test_alarms__separation_is_measured_against_1_over_alpha():
    """Saturated at E = -1/(2 alpha) on data and +1/(2 alpha) on samples, which is neither large nor flat."""
    records = [record(0.0, 0.0)] * 30 + [record(-5.0, 5.0)] * 60
    said = heard(records, window=20, alpha=0.1)
    assert len(said) == 1 and "Separation" in said[0][1] and "max_grad_norm" in said[0][1]
    assert said[0][0] == 40  # the first window with 11 of 20 separated records
    assert heard(records, window=20) == heard(records, window=20, alpha=0.04) == []


def test_alarms__ring_again_only_after_a_quiet_window():
    bad, good = record(nonfinite=3.0), record()
    said = heard([bad] * 5 + [good] * 3 + [bad] + [good] * 10 + [bad], window=10)
    assert [t for t, _ in said] == [0, 19]
    assert "3 chains" in said[0][1] and "clip" in said[0][1]


def test_alarms__refuse_wrong_settings():
    for change in ({"window": 0}, {"growth": 1.0}, {"large": 0.0}, {"flat": -1.0}, {"alpha": -1.0}):
        with pytest.raises(RangeError, match=next(iter(change))):
            Alarms(**change)


def test_alarms__drift_of_the_auroc_below_its_best():
    """A fall by more than 0.05 and more than 5 standard errors; records without an AUROC are passed over."""
    areas = [0.7, 0.9, 0.86, 0.84, 0.5]
    records = [record() | ({"auroc": areas[t // 3], "auroc_se": 0.001} if t % 3 == 0 else {}) for t in range(15)]
    said = heard(records, window=2)
    assert [t for t, _ in said] == [9] and "fell to 0.840, from 0.900" in said[0][1]
    assert heard([r | {"auroc_se": 0.09} if "auroc" in r else r for r in records], window=2) == []
    assert heard([r | {"auroc_se": None} if "auroc" in r else r for r in records], window=2, drift=0.5) == []


def test_alarms__hear_a_method_without_chains():
    records = [{"loss": -1.0, "lr": 0.1}] * 30 + [{"loss": -1.0, "auroc": 0.9}, {"loss": 9.0, "auroc": 0.2}]
    assert [t for t, _ in heard(records, window=5)] == [31]


def test_alarms__hear_stopped_chains_of_a_method_that_does_not_look_at_their_slopes():
    """em: transport has no chains, and then their slopes are not in its records."""
    alarms = Alarms(window=3)
    records = [{"loss": 1.0}] * 3 + [{"nonfinite": 0.0, "gap": 0.1, "energy_pos": -1.0, "energy_neg": -1.0}] * 7
    assert not any(alarms.update(record) for record in records)
    assert "stopped" in alarms.update(records[-1] | {"nonfinite": 2.0})[0]
