"""GaussianNoise, gaussian_noise_fit, UniformNoise: each is the law that it evaluates."""

from __future__ import annotations

from math import log, pi

import numpy as np
import pytest
from derivatives import close

import ebm_ref
from ebm_ref import (
    GaussianNoise,
    RangeError,
    ShapeError,
    UniformNoise,
    gaussian_noise_fit,
)


def test_gaussian_noise__is_the_law_it_evaluates():
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 2).reshape(50, 2, 2)
    noise = gaussian_noise_fit(x, 0.1)
    rows, S = x.reshape(50, 4), np.cov(x.reshape(50, 4).T, bias=True) + 0.1 * np.eye(4)
    close(noise.mean, rows.mean(axis=0), 1e-13)
    close(noise.L @ noise.L.T, S, 1e-12)
    d = rows - rows.mean(axis=0)
    exact = -0.5 * (d * np.linalg.solve(S, d.T).T).sum(1) - 0.5 * np.linalg.slogdet(S)[1] - 2 * log(2 * pi)
    close(noise.log_density(x), exact, 1e-11)
    n = 20_000
    y = noise.sample(ebm_ref, 3, 0, np.arange(n), np.float64).reshape(n, 4)
    assert (np.abs(y.mean(0) - noise.mean) < 5 * np.sqrt(np.diag(S) / n)).all()
    spread = np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / n)
    assert (np.abs(np.cov(y.T, bias=True) - S) < 5 * spread).all()
    assert noise.sample(ebm_ref, 3, 0, np.arange(2), np.float32).shape == (2, 2, 2)


def test_uniform_noise__has_density_in_its_box_alone():
    noise = UniformNoise((2,), (-1.0, 3.0))
    x = np.array([[-1.0, 3.0], [0.0, 0.0], [3.01, 0.0], [0.0, np.nan]])
    np.testing.assert_array_equal(noise.log_density(x), [-2 * log(4)] * 2 + [-np.inf] * 2)
    y = noise.sample(ebm_ref, 3, 0, np.arange(20_000), np.float32)
    assert y.dtype == np.float32 and y.min() >= -1 and y.max() <= 3
    assert abs(y.mean() - 1) < 5 * 4 / np.sqrt(12 * 40_000)
    assert noise.log_density(y).dtype == np.float32 and np.isfinite(noise.log_density(y)).all()


X = np.zeros((2, 3))
GAUSS = GaussianNoise((3,), np.zeros(3), np.eye(3), np.eye(3))

REFUSED = {
    "x: .*found shape|x: expected shape": (ShapeError, lambda: GAUSS.log_density(np.zeros((2, 4)))),
    "mean": (ShapeError, lambda: GaussianNoise((3,), np.zeros(2), np.eye(3), np.eye(3))),
    "singular": (RangeError, lambda: gaussian_noise_fit(np.zeros((5, 3)))),
    "floor": (RangeError, lambda: gaussian_noise_fit(X, -1.0)),
    "N >= 2": (ShapeError, lambda: gaussian_noise_fit(X[:1])),
    "box: .*None": (RangeError, lambda: UniformNoise((3,), None)),
    "box: .*low < high": (RangeError, lambda: UniformNoise((3,), (1.0, 1.0))),
}


@pytest.mark.parametrize("said", REFUSED)
def test_contrast_noise__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
