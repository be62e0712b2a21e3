"""What is not finite is rejected and counted by MALA and HMC; and the helpers that every sampler shares."""

from __future__ import annotations

import numpy as np
import pytest
from gaussian import Bowl, bowl_theta
from lopsided import Lopsided
from metropolis_runs import METHODS, normals, run

from ebm_ref.contracts import Stream
from ebm_ref.noise import noise_normal
from ebm_ref.samplers import hmc_leapfrog, metropolis_step
from ebm_ref.samplers.chain import chain_dot, chain_finite, chain_keep, chain_norm


def test_chain__helpers_see_every_element_of_a_sample():
    a, b = normals(1, 4, 2, 3), normals(2, 4, 2, 3)
    a[0, 1, 2], a[1, 0, 0], a[2] = np.nan, np.inf, 0
    assert chain_finite(a).tolist() == [False, False, True, True] and chain_finite(a[:, 0, 0]).tolist()[1] is False
    assert np.isclose(chain_dot(a, b)[3], sum(x * y for x, y in zip(a[3].ravel(), b[3].ravel(), strict=True)))
    size = chain_norm(a[2:] * 1e200)
    assert size[0] == 0 and np.isclose(size[1], 1e200 * np.sqrt((a[3] ** 2).sum()), rtol=1e-14)
    kept = chain_keep(np.array([True, False, True, False]), a, b)
    assert (kept[2] == a[2]).all() and (kept[[1, 3]] == b[[1, 3]]).all()


# ------------------------------------------------------------------- what is not finite is rejected


@pytest.mark.parametrize("method", METHODS)
def test_run__rejects_and_counts_what_lies_behind_a_wall(method):
    x0 = np.abs(normals(1, 500, 1)) + 0.1
    x, info = run(method, Lopsided(), {}, x0, 10, size=1.5)
    bad = ~np.isfinite(info.extra["log_ratio"])
    assert (x > 0).all() and info.nonfinite == bad.sum() > 20 and info.alive.all()
    assert (info.extra["log_ratio"][bad] == -np.inf).all() and not info.extra["accept"][bad].any()
    stuck = bad.all(axis=0)
    assert (x[stuck] == x0[stuck]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("bad_E", "bad_g"), [(np.nan, 0.0), (np.inf, 0.0), (-np.inf, 0.0), (0.0, np.nan), (0.0, np.inf)]
)
def test_run__never_accepts_a_number_that_is_not_finite(method, bad_E, bad_g):
    class Cliff(Bowl):
        def energy_and_grad_x(self, theta, x):
            assert np.isfinite(x).all()  # like the library's energies
            E, g = super().energy_and_grad_x(theta, x)
            over = x[:, 0] > 1
            return np.where(over, bad_E, E), np.where(over[:, None], bad_g, g)

    x0 = np.linspace(-2, 0.9, 200)[:, None]
    x, info = run(method, Cliff(), bowl_theta(1.0), x0, 12, size=0.8)
    assert (x <= 1).all() and info.nonfinite > 20 and info.alive.all()
    x, info = run(method, Cliff(), bowl_theta(1.0), np.array([[3.0], [0.0]]), 12, size=0.8)
    assert x[0] == 3.0 and info.alive.tolist() == [False, True] and info.nonfinite >= 12


@pytest.mark.parametrize("method", METHODS)
def test_run__rejects_a_proposal_that_overflows(method):
    class Steep(Bowl):
        def energy_and_grad_x(self, theta, x):
            assert np.isfinite(x).all()
            return np.zeros_like(x[:, 0]), np.full_like(x, 3e38)

    x0 = np.zeros((4, 1), np.float32)
    x, info = run(method, Steep(), {}, x0, 3, size=4.0)
    assert (x == x0).all() and info.nonfinite == 12 and x.dtype == np.float32


@pytest.mark.parametrize("method", METHODS)
def test_run__rejects_a_position_that_overflows_where_the_ratio_would_not(method):
    """E and its gradient are finite wherever they can be asked, and so is l of a chain that is held back."""

    class Even(Bowl):
        slope = 1.0 if method == "mala" else 0.0

        def energy_and_grad_x(self, theta, x):
            assert np.isfinite(x).all()
            return np.zeros_like(x[:, 0]), np.full_like(x, self.slope)

    x0 = np.full((200, 1), -3.3e38, np.float32)
    x, info = run(method, Even(), {}, x0, 1, size=1e38, L=1)
    over = np.ones(200, bool)  # MALA: every drift is -5e37
    if method == "hmc":
        over = noise_normal(7, Stream.MOMENTUM, 0, np.arange(200), 1)[:, 0] < -0.11
    assert info.nonfinite == over.sum() > 50 and (x[over] == x0[over]).all()
    accept = info.extra["accept"][0]
    assert not accept[over].any() and accept[~over].all()


def test_hmc_leapfrog__does_not_forget_that_its_path_left_the_finite_numbers():
    """The first leap overflows; the second, from where the path is held, would not."""

    class Slope(Bowl):
        def energy_and_grad_x(self, theta, x):
            return np.zeros_like(x[:, 0]), np.full_like(x, -3e-38)

    x0, p = np.full((1, 1), -3.3e38, np.float32), np.full((1, 1), -1.7, np.float32)
    with np.errstate(over="ignore"):
        x, _, _, _, finite = hmc_leapfrog(Slope(), {}, x0, p, np.full_like(x0, -3e-38), 1e38, 2)
    assert x == x0 and finite.tolist() == [False]


def test_metropolis_step__rejects_nan():
    old, new = (np.zeros((2, 1)), np.zeros(2), np.zeros((2, 1))), (np.ones((2, 1)), np.ones(2), np.ones((2, 1)))
    x, E, g, accept = metropolis_step(np.array([np.nan, 0.5]), np.array([0.5, 0.9]), old, new)
    assert x[:, 0].tolist() == E.tolist() == g[:, 0].tolist() == [0, 1] and accept.tolist() == [False, True]
