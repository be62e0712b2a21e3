"""The samplers on the energies, draws and Langevin chains of the twins: the oracle's result within rounding."""

from __future__ import annotations

import numpy as np
import pytest

import ebm_ref
from ebm_fast.verify.runner import open_twin, why_not
from ebm_ref import PSGLD, MLPEnergy, NesterovDescent, Stream, noise_normal, noise_uniform, theta_init

N = 32
ENERGY = MLPEnergy((3,), (8, 8))
each_twin = pytest.mark.parametrize("twin", ["numba_cpu", "host_build"])
each_dtype = pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 1e-4), (np.float64, 1e-11)])


def opened(twin, record_property):
    record_property("twin", twin)
    if why_not(twin):
        pytest.skip(why_not(twin))
    return open_twin(twin)


def start(dtype):
    return theta_init(ENERGY, 1, dtype), noise_normal(29, Stream.SAMPLE_START, 0, np.arange(N), 3, dtype)


@each_twin
@each_dtype
@pytest.mark.parametrize("method", ["mala", "hmc"])
def test_metropolis__on_a_twin_is_the_oracle_s(twin, dtype, tol, method, record_property):
    """One step: the ratios within rounding, and every decision that rounding cannot turn."""
    module, (theta, x0) = opened(twin, record_property), start(dtype)
    args = (theta, x0, 1, 0.6) if method == "mala" else (theta, x0, 1, 0.6, 3)
    run = getattr(ebm_ref, f"{method}_run")
    x, info = run(ebm_ref, ENERGY, *args, seed=7)
    y, found = run(module, module.MLPEnergy((3,), (8, 8)), *args, seed=7)
    l = info.extra["log_ratio"][0]
    assert y.dtype == dtype and np.allclose(found.extra["log_ratio"][0], l, rtol=0, atol=tol)
    clear = np.abs(np.log(noise_uniform(7, Stream.MH_UNIFORM, 0, np.arange(N), 1)[:, 0]) - l) > tol
    assert (found.extra["accept"] == info.extra["accept"])[0, clear].all() and clear.sum() >= N - 1
    assert np.allclose(y[clear], x[clear], rtol=0, atol=tol)


@each_twin
@each_dtype
def test_annealed_run__on_a_twin_is_the_oracle_s(twin, dtype, tol, record_property):
    module, (theta, x0) = opened(twin, record_property), start(dtype)
    x, info = ebm_ref.annealed_run(ebm_ref, [ENERGY] * 2, theta, x0, None, (1.0, 0.5), 2, 0.1, seed=7, step=3)
    twins = [module.MLPEnergy((3,), (8, 8))] * 2
    y, found = ebm_ref.annealed_run(module, twins, theta, x0, None, (1.0, 0.5), 2, 0.1, seed=7, step=3)
    assert y.dtype == dtype and np.allclose(y, x, rtol=0, atol=tol)
    assert np.allclose(found.energy, info.energy, rtol=0, atol=tol) and found.alive.all()


@each_twin
@each_dtype
@pytest.mark.parametrize("gamma", [False, True])
def test_psgld_run__on_a_twin_is_the_oracle_s(twin, dtype, tol, gamma, record_property):
    module, (theta, x0) = opened(twin, record_property), start(dtype)
    update = PSGLD(0.05, 0.9, 0.1, gamma)
    x, V, _ = ebm_ref.psgld_run(ebm_ref, ENERGY, theta, x0, 3, update, seed=7)
    y, W, _ = ebm_ref.psgld_run(module, module.MLPEnergy((3,), (8, 8)), theta, x0, 3, update, seed=7)
    assert y.dtype == dtype and np.allclose(y, x, rtol=0, atol=tol) and np.allclose(W, V, rtol=0, atol=tol)


@each_twin
@each_dtype
def test_descent_run__on_a_twin_is_the_oracle_s(twin, dtype, tol, record_property):
    module, (theta, x0) = opened(twin, record_property), start(dtype)
    rule = NesterovDescent(0.2, 0.5)
    x, _, info = ebm_ref.descent_run(ENERGY, theta, x0, 10, rule, 0.05)
    y, _, found = ebm_ref.descent_run(module.MLPEnergy((3,), (8, 8)), theta, x0, 10, rule, 0.05)
    same = found.extra["nfe"] == info.extra["nfe"]
    assert y.dtype == dtype and np.allclose(y[same], x[same], rtol=0, atol=tol) and same.sum() >= N - 1
