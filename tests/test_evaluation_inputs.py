"""Evaluations refuse bad input before any work, by name; feature files are read without trust."""

from __future__ import annotations

import pickle
from io import BytesIO

import numpy as np
import pytest
from evaluation_parts import LinearLogits, normals
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import DataError, DTypeError, NonFiniteError, RangeError, ShapeError
from ebm_ref.evaluation import (
    BernoulliBase,
    Estimate,
    FlipTransition,
    GaussianBase,
    HMCTransition,
    MALATransition,
    NormalBase,
    TemperedEnergy,
    UniformBase,
    ais_reverse_run,
    ais_run,
    ais_tune,
    beta_ladder,
    bits_per_dim,
    bits_per_dim_run,
    brier,
    dequantise,
    ece,
    energy_gap,
    energy_gap_ema,
    estimate_log_mean_exp,
    estimate_mean,
    feature_load,
    feature_unit_norm,
    frechet_feature,
    frechet_gaussian,
    inception_style_score,
    mmd_rbf,
    mutate,
    nll,
    pgd_run,
    pgd_start,
    pgd_step,
    probe_accuracy,
    probe_logistic,
    probe_ridge,
    rbf_kernel,
    score_likelihood_ratio,
    score_typicality,
    temperature_fit,
)

BOWL, THETA = Bowl((2,)), bowl_theta(1.0, 2.0)
LINEAR, WEIGHTS = LinearLogits((2,)), {"W": np.eye(2), "c": np.zeros(2)}
X, Y, P = normals(4, 2), np.array([0, 1, 0, 1]), np.full((4, 2), 0.5)
PIXELS = np.zeros((3, 2), np.uint8)
LADDER = beta_ladder(2)


def ais(**change):
    args = dict(base=NormalBase(), betas=LADDER, N=4, transition=MALATransition(0.1), seed=0) | change
    return ais_run(ebm_ref, BOWL, THETA, **args)


def reverse(x=X, **change):
    args = dict(base=NormalBase(), betas=LADDER, x=x, transition=MALATransition(0.1), seed=0) | change
    return ais_reverse_run(ebm_ref, BOWL, THETA, **args)


def attack(**change):
    args = dict(x=X, y=Y, eps=0.1, alpha=0.05, K=2, seed=0) | change
    return pgd_run(ebm_ref, LINEAR, WEIGHTS, **args)


CASES = [
    (lambda: ais(N=0), RangeError, "N"),
    (lambda: ais(betas=()), RangeError, "betas"),
    (lambda: ais(betas=(0.0, float("nan"), 1.0)), RangeError, "betas"),
    (lambda: ais(base=GaussianBase(np.zeros(3), np.eye(3))), ShapeError, "mu"),
    (lambda: ais(base=GaussianBase(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))), DTypeError, "mu"),
    (lambda: reverse(exact=1), DTypeError, "exact"),
    (lambda: reverse(np.zeros((0, 2))), ShapeError, "x"),
    (lambda: reverse(np.zeros((3, 1))), ShapeError, "x"),
    (lambda: reverse(np.full((3, 2), np.nan)), NonFiniteError, "x"),
    (lambda: ais_tune(ebm_ref, BOWL, THETA, NormalBase(), LADDER, 4, FlipTransition(), 0), DTypeError, "transition"),
    (lambda: MALATransition(0.0), RangeError, "eps_step"),
    (lambda: MALATransition(()), ShapeError, "eps_step"),
    (lambda: HMCTransition((0.1, -0.1)), RangeError, "h"),
    (lambda: HMCTransition(0.1, L=0), RangeError, "L"),
    (lambda: FlipTransition(0), RangeError, "sweeps"),
    (lambda: GaussianBase(np.zeros(2), np.ones((2, 2))), RangeError, "root"),
    (lambda: GaussianBase(np.zeros(2), np.eye(2, dtype=np.float32)), DTypeError, "root"),
    (lambda: UniformBase(None), RangeError, "box"),
    (lambda: BernoulliBase(1.0), RangeError, "p"),
    (lambda: TemperedEnergy(BOWL, NormalBase(), 1.1), RangeError, "beta"),
    (lambda: beta_ladder(3, "cosine"), RangeError, "kind"),
    (lambda: estimate_mean(np.zeros(0)), ShapeError, "x"),
    (lambda: estimate_log_mean_exp(np.zeros((2, 2))), ShapeError, "log_w"),
    (lambda: dequantise(np.array([[256]]), np.ones((1, 1)), (0.0, 1.0)), RangeError, "v"),
    (lambda: dequantise(np.array([[1.0]]), np.ones((1, 1)), (0.0, 1.0)), DTypeError, "v"),
    (lambda: dequantise(np.array([[1]]), np.ones((2, 1)), (0.0, 1.0)), ShapeError, "u"),
    (lambda: bits_per_dim(np.zeros(3), 0, (0.0, 1.0)), RangeError, "D"),
    (lambda: bits_per_dim(np.zeros(3), 2, None), RangeError, "box"),
    (lambda: bits_per_dim_run(ebm_ref, BOWL, THETA, PIXELS[:, :1], 0.0, (0.0, 1.0), 0), ShapeError, "v"),
    (lambda: bits_per_dim_run(ebm_ref, BOWL, THETA, PIXELS, 0.0, (0.0, 1.0), 0, S=0), RangeError, "S"),
    (lambda: bits_per_dim_run(ebm_ref, BOWL, THETA, PIXELS, float("inf"), (0.0, 1.0), 0), RangeError, "log_z"),
    (lambda: energy_gap(np.zeros(0), np.zeros(2)), ShapeError, "energy_pos"),
    (lambda: energy_gap_ema(np.zeros(3), 1.0), RangeError, "decay"),
    (lambda: energy_gap_ema(np.zeros(0)), ShapeError, "gaps"),
    (lambda: score_typicality(BOWL, THETA, X, float("nan")), RangeError, "mean_energy"),
    (lambda: score_likelihood_ratio(BOWL, THETA, Bowl((3,)), THETA, X), ShapeError, "energy_bg"),
    (lambda: mutate(PIXELS, np.ones((3, 2)), PIXELS, 1.5), RangeError, "mu"),
    (lambda: mutate(X, np.ones((4, 2)), PIXELS, 0.5), DTypeError, "v"),
    (lambda: mutate(PIXELS, np.ones((3, 2)), PIXELS[:2], 0.5), ShapeError, "r"),
    (lambda: nll(X, Y[:3]), ShapeError, "y"),
    (lambda: nll(X, np.array([0, 1, 0, 2])), RangeError, "y"),
    (lambda: nll(np.zeros((0, 2)), Y[:0]), ShapeError, "logits"),
    (lambda: brier(X, Y), RangeError, "probabilities"),
    (lambda: ece(2 * P, Y), RangeError, "probabilities"),
    (lambda: ece(P, Y, bins=0), RangeError, "bins"),
    (lambda: ece(P, Y.astype(np.float64)), DTypeError, "y"),
    (lambda: temperature_fit(np.zeros((4, 2)), Y), RangeError, "logits"),
    (lambda: temperature_fit(np.full((4, 2), np.inf), Y), NonFiniteError, "logits"),
    (lambda: attack(eps=-0.1), RangeError, "eps"),
    (lambda: attack(norm="l1"), RangeError, "norm"),
    (lambda: attack(K=-1), RangeError, "K"),
    (lambda: attack(starts=2, random_start=False), RangeError, "starts"),
    (lambda: attack(random_start=0), DTypeError, "random_start"),
    (lambda: attack(box=(1.0, 0.0)), RangeError, "box"),
    (lambda: attack(y=Y[:2]), ShapeError, "y"),
    (lambda: attack(x=np.zeros((0, 2)), y=Y[:0]), ShapeError, "x"),
    (lambda: pgd_step(X, X[:1], X, 0.1, 0.1), ShapeError, "g"),
    (lambda: pgd_step(X, X.astype(np.float32), X, 0.1, 0.1), DTypeError, "g"),
    (lambda: pgd_start(X, np.ones((4, 1)), None, 0.1, "l2"), DTypeError, "xi"),
    (lambda: probe_ridge(X, Y, 2, 0.0), RangeError, "lam"),
    (lambda: probe_ridge(X, Y, 1, 1.0), RangeError, "C"),
    (lambda: probe_logistic(X, Y, 3, 1.0), RangeError, "y"),
    (lambda: probe_logistic(normals(60, 2), np.arange(60) % 2, 2, 1e-9, tol=1e-12, steps=1), RangeError, "steps"),
    (lambda: probe_accuracy(probe_ridge(X, Y, 2, 1.0), X[:, :1], Y), ShapeError, "features"),
    (
        lambda: frechet_gaussian(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.zeros(2), np.eye(2)),
        RangeError,
        "S_1",
    ),
    (lambda: frechet_feature(X, X[:1]), ShapeError, "b"),
    (lambda: frechet_feature(X, np.full((3, 2), np.nan)), NonFiniteError, "b"),
    (lambda: mmd_rbf(X, normals(3, 1), 1.0), ShapeError, "b"),
    (lambda: rbf_kernel(X, X, 0.0), RangeError, "bandwidth"),
    (lambda: inception_style_score(X), RangeError, "probabilities"),
    (lambda: inception_style_score(P, splits=5), RangeError, "splits"),
    (lambda: feature_unit_norm(np.zeros((2, 2))), RangeError, "f"),
]


@pytest.mark.parametrize(("call", "error", "name"), CASES, ids=range(len(CASES)))
def test_evaluation__bad_input_is_refused_by_name(call, error, name):
    with pytest.raises(error, match=f"^{name}"):
        call()


def test_evaluation__non_finite_weights_stay_non_finite():
    """An energy that is NaN somewhere is not replaced: the estimates say NaN."""

    class Broken(Bowl):
        def energy(self, theta, x):
            return np.where(x[:, 0] > 0, np.nan, super().energy(theta, x))

    def still(backend, energy, theta, x, k, seed, step):
        return x, np.ones(len(x))

    run = ais_run(ebm_ref, Broken((2,)), THETA, NormalBase(), LADDER, 20, still, seed=0)
    assert np.isnan(run.log_w).any() and np.isnan(run.mean_log_w.value) and np.isnan(run.log_mean_w.value)
    assert np.isnan(run.ess) and isinstance(run.mean_log_w, Estimate)


# ------------------------------------------------------------------------------------ feature files


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_feature_load__reads_npy_and_npz(tmp_path, dtype):
    f = normals(5, 3).astype(dtype)
    np.save(tmp_path / "f.npy", f)
    np.savez(tmp_path / "one.npz", f=f)
    np.savez(tmp_path / "two.npz", f=f, g=f[:2])
    for found in (
        feature_load(tmp_path / "f.npy", F=3),
        feature_load(str(tmp_path / "one.npz")),
        feature_load(tmp_path / "two.npz", "f", 3),
    ):
        np.testing.assert_array_equal(found, f)
        assert found.dtype == dtype
    with pytest.raises(DataError, match="two.npz: expected a key, one of f, g"):
        feature_load(tmp_path / "two.npz")
    with pytest.raises(DataError, match="found no 'h'"):
        feature_load(tmp_path / "two.npz", "h")
    with pytest.raises(DataError, match=r"expected shape \(any, 4\)"):
        feature_load(tmp_path / "f.npy", F=4)


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def huge():
    """The header of an array of 2^60 numbers, and no numbers."""
    file = BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**57, 8)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def test_feature_load__runs_no_pickle_and_refuses_what_is_no_feature_array(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([Boom()], dtype=object), allow_pickle=True)
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Boom()))
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    np.savez_compressed(tmp_path / "torn.npz", f=normals(50, 9))
    torn = bytearray((tmp_path / "torn.npz").read_bytes())
    torn[200:300] = bytes(100)
    (tmp_path / "torn.npz").write_bytes(torn)
    (tmp_path / "huge.npy").write_bytes(huge())
    np.save(tmp_path / "whole.npy", np.zeros((3, 2), np.int64))
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "nan.npy", np.array([[np.nan]]))
    (tmp_path / "folder.npy").mkdir()
    names = "objects raw text empty huge whole flat nan folder absent"
    for name in ("broken.npz", "torn.npz", *(f"{name}.npy" for name in names.split())):
        with pytest.raises(DataError, match=name):
            feature_load(tmp_path / name)
