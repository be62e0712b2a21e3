"""What score_matching and denoising refuse, by name and type, and what is not finite."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from score_cases import (
    SIGMAS,
    Level1,
    SmoothBowl,
)

import ebm_ref
from ebm_ref import MLPEnergy, NoiseConditionalEnergy, QuadraticEnergy
from ebm_ref.contracts import BackendError, DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError
from ebm_ref.objectives import (
    denoising,
    denoising_ladder,
    denoising_levels,
    dsm_step,
    multi_dsm_step,
    score_matching,
    score_matching_sliced,
    ssm_step,
)

# ------------------------------------------------------------------------------------ what is refused

BOWL, BOWL_THETA = SmoothBowl((2,)), {"lam": np.ones(2), "bias": np.zeros(1)}
LEVELS = NoiseConditionalEnergy(SmoothBowl((3,)), 0.1, 1.0)
LEVELS_THETA = {"lam": np.ones(3), "bias": np.zeros(1)}
X, XI, IDX = np.ones((4, 2)), np.ones((4, 2)), np.zeros(4, np.int64)


def refuse_work(*args):
    raise AssertionError("work was done before the arguments were refused")


IDLE = SimpleNamespace(noise_bits=refuse_work, noise_normal=refuse_work, noise_index=refuse_work)


def sm(energy=BOWL, x=X, **more):
    return lambda: score_matching(energy, BOWL_THETA, x, **more)


def sliced(energy=BOWL, x=X, v=XI[None]):
    return lambda: score_matching_sliced(energy, BOWL_THETA, x, v)


def ssm(energy=BOWL, x=X, **more):
    return lambda: ssm_step(ebm_ref, energy, BOWL_THETA, x, **({"seed": 0, "step": 0} | more))


def dsm(energy=BOWL, x=X, xi=XI, sigma=0.5):
    return lambda: denoising(energy, BOWL_THETA, x, xi, sigma)


def levels(energy=LEVELS, x=X, xi=XI, idx=IDX, sigmas=SIGMAS, weights=None):
    return lambda: denoising_levels(energy, LEVELS_THETA, x, xi, idx, sigmas, weights)


RELU = MLPEnergy((2,), (3,), "relu")
REFUSED = {
    "hsm relu": (SmoothnessError, "score_matching needs.*relu", sm(RELU)),
    "ssm relu": (SmoothnessError, "ssm_step needs.*relu", ssm(RELU)),
    "sliced relu": (SmoothnessError, "score_matching_sliced needs.*relu", sliced(RELU)),
    "dsm relu": (SmoothnessError, "denoising needs.*relu", dsm(RELU)),
    "dsm step relu": (SmoothnessError, "dsm_step", lambda: dsm_step(IDLE, RELU, BOWL_THETA, X, 0.5, 0, 0)),
    "levels relu": (
        SmoothnessError,
        "denoising_levels needs.*leaky_relu",
        levels(NoiseConditionalEnergy(MLPEnergy((3,), (4,), "leaky_relu"), 0.1, 1.0)),
    ),
    "hsm level": (BackendError, "score_matching needs grad_theta_along and curvature .*Level1 lacks", sm(Level1((2,)))),
    "dsm level": (BackendError, "denoising needs grad_theta_along, which .*Level1 lacks", dsm(Level1((2,)))),
    "levels level": (BackendError, "Level1 lacks", levels(NoiseConditionalEnergy(Level1((3,)), 0.1, 1.0))),
    "x size": (ShapeError, r"x: expected shape \(any, 2\)", sm(x=np.ones((4, 3)))),
    "x rank": (ShapeError, "x: expected shape", ssm(x=np.ones(2))),
    "x none": (ShapeError, "x: expected at least one sample", sm(x=X[:0])),
    "x none, dsm": (ShapeError, "x: expected at least one sample", dsm(x=X[:0], xi=X[:0])),
    "x type": (DTypeError, "x: expected float32 or float64", sm(x=X.astype(int))),
    "x list": (DTypeError, "x: expected an array", dsm(x=X.tolist())),
    "chunk 0": (RangeError, "chunk", sm(chunk=0)),
    "chunk type": (DTypeError, "chunk", sm(chunk=1.5)),
    "v rank": (ShapeError, r"v: expected shape \(any, 4, 2\), found \(4, 2\)", sliced(v=XI)),
    "v batch": (ShapeError, "v: expected shape", sliced(v=np.ones((1, 3, 2)))),
    "v size": (ShapeError, "v: expected shape", sliced(v=np.ones((1, 4, 3)))),
    "v none": (ShapeError, "v: expected at least one direction", sliced(v=np.ones((0, 4, 2)))),
    "v type": (DTypeError, "v: expected x's float64", sliced(v=XI[None].astype(np.float32))),
    "projections": (RangeError, "projections", ssm(projections=0)),
    "projections type": (DTypeError, "projections", ssm(projections=2.0)),
    "kind": (RangeError, "kind: expected one of rademacher, gaussian, sphere, found 'unit'", ssm(kind="unit")),
    "step": (RangeError, "step", ssm(step=2**32)),
    "seed": (RangeError, "seed", ssm(seed=-1)),
    "sigma 0": (RangeError, r"sigma: expected a finite number in \(0.0", dsm(sigma=0.0)),
    "sigma < 0": (RangeError, "sigma", dsm(sigma=-0.1)),
    "sigma nan": (RangeError, "sigma", dsm(sigma=float("nan"))),
    "sigma type": (DTypeError, "sigma", dsm(sigma="0.1")),
    "sigma step": (RangeError, "sigma", lambda: dsm_step(IDLE, BOWL, BOWL_THETA, X, 0, 0, 0)),
    "xi shape": (ShapeError, "xi", dsm(xi=np.ones((4, 3)))),
    "xi type": (DTypeError, "xi: expected x's float64", dsm(xi=XI.astype(np.float32))),
    "not conditional": (DTypeError, "energy: expected a noise-conditional energy, found SmoothBowl", levels(BOWL)),
    "sigmas list": (DTypeError, "sigmas", levels(sigmas=[0.1, 1.0])),
    "sigmas none": (DTypeError, "sigmas: expected a non-empty tuple", levels(sigmas=())),
    "sigmas 0": (
        RangeError,
        r"sigmas\[1\]: expected a finite number in \(0",
        levels(NoiseConditionalEnergy(SmoothBowl((3,)), 0.0, 1.0, "linear"), sigmas=(0.5, 0.0)),
    ),
    "sigmas high": (RangeError, r"sigmas\[0\]: expected a finite number in \[0.1, 1.0\]", levels(sigmas=(1.5, 0.5))),
    "sigmas low": (RangeError, r"sigmas\[1\]", levels(sigmas=(0.5, 0.05))),
    "weights length": (ShapeError, "weights: expected a tuple of 3", levels(weights=(1.0,))),
    "weights < 0": (RangeError, r"weights\[2\]", levels(weights=(1.0, 1.0, -1.0))),
    "idx floats": (DTypeError, "idx: expected an array of integers", levels(idx=np.zeros(4))),
    "idx list": (DTypeError, "idx: expected an array of integers, found list", levels(idx=[0, 0, 0, 0])),
    "idx shape": (ShapeError, r"idx: expected shape \(4,\)", levels(idx=IDX[:3])),
    "idx high": (RangeError, r"idx: expected levels in \[0, 3\)", levels(idx=IDX + 3)),
    "idx low": (RangeError, "idx", levels(idx=IDX - 1)),
    "multi range": (
        RangeError,
        r"sigmas\[0\]",
        lambda: multi_dsm_step(IDLE, LEVELS, LEVELS_THETA, X, (2.0, 1.0), 0, 0),
    ),
    "multi x": (ShapeError, "x", lambda: multi_dsm_step(IDLE, LEVELS, LEVELS_THETA, np.ones((4, 3)), SIGMAS, 0, 0)),
    "ladder order": (RangeError, "high", lambda: denoising_ladder(0.01, 1.0, 4)),
    "ladder low": (RangeError, "low", lambda: denoising_ladder(1.0, 0.0, 4)),
    "ladder L": (RangeError, "L", lambda: denoising_ladder(1.0, 0.1, 1)),
    "nan": (
        NonFiniteError,
        "^x: expected finite numbers",
        lambda: score_matching(QuadraticEnergy((2,)), {"mu": X[0], "P": np.eye(2)}, X * np.nan),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_score_objective__refuses_bad_input_by_name(what):
    error, said, call = REFUSED[what]
    with pytest.raises(error, match=said):
        call()


def test_denoising__does_not_hide_what_is_not_finite():
    with np.errstate(over="ignore", invalid="ignore"):
        loss, _, info = denoising(BOWL, BOWL_THETA, np.array([[1e200, 0.0]]), np.ones((1, 2)), 0.5)
    assert loss == np.inf and info["centred"] == np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(score_matching(BOWL, BOWL_THETA, np.array([[1e200, 0.0]]))[0])
