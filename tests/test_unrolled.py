"""unrolled_run is langevin_run step by step; unrolled_backward is the derivative of the whole chain."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, check_theta_gradient, close, random_theta
from duck import Duck
from duck_backend import DUCK_BACKEND, Away, SmoothBowl, inside, outside
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    SGLD,
    ULA,
    BackendError,
    ConvEnergy,
    DTypeError,
    MLPEnergy,
    NonFiniteError,
    QuadraticEnergy,
    RangeError,
    ShapeError,
    SmoothnessError,
    langevin_clip_backward,
    langevin_run,
    langevin_step,
    unrolled_backward,
    unrolled_run,
)

BOX = (-0.9, 1.1)  # the seeds below keep every element clear of an edge or a clip by more than the differences reach
UPDATES = {
    "ula": ULA(0.3),
    "gradient_first": SGLD(0.2, 0.3),
    "gradient_first-box": SGLD(0.2, 0.3, box=BOX),
    "noise_first": SGLD(0.2, 0.3, order="noise_first"),
    "noise_first-box": SGLD(0.2, 0.3, box=BOX, order="noise_first"),
    "clip": SGLD(0.2, 0.3, clip=0.4),
    "clip_norm": SGLD(0.2, 0.3, clip_norm=0.7),
    "all": SGLD(0.2, 0.3, clip=0.5, clip_norm=0.6, box=BOX, order="noise_first"),
}
ENERGIES = {
    "mlp": MLPEnergy((3,), (5, 4)),
    "conv": ConvEnergy((4, 3, 2), channels=(4,), strides=(2,), max_groups=2),
}


def case(name="mlp", dtype=np.float64, N=4):
    energy, rng = ENERGIES[name], np.random.default_rng(2)
    theta, x0 = random_theta(energy, rng, dtype), rng.normal(size=(N, *energy.shape)).astype(dtype)
    if name == "conv":
        theta["out.w"] *= 8  # steep enough for the clips to bite
    return energy, theta, np.clip(x0, *BOX).astype(dtype), rng


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UPDATES)
def test_unrolled_run__is_langevin_run_to_the_bit(name, dtype):
    energy, theta, x0, _ = case(dtype=dtype)
    before, chains = x0.copy(), np.array([4, 0, 9, 2])
    x, steps, info = unrolled_run(ebm_ref, energy, theta, x0, 5, UPDATES[name], 3, 11, chains)
    want, expected = langevin_run(energy, theta, x0, 5, UPDATES[name], 3, 11, chains)
    np.testing.assert_array_equal(x, want)
    assert x.dtype == dtype and len(steps) == 5 and (x0 == before).all()
    for field in ("energy", "grad_norm", "alive", "nonfinite"):
        np.testing.assert_array_equal(getattr(info, field), getattr(expected, field))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", ENERGIES)
def test_unrolled_backward__is_the_derivative(name, update, K):
    """L = sum b . x_K: dL/dtheta and dL/dx_0 against central differences of the chain itself, clips and boxes on."""
    energy, theta, x0, rng = case(name)
    b, rule = rng.normal(size=x0.shape), UPDATES[update]

    def end(theta, x0):
        return (b * langevin_run(energy, theta, x0, K, rule, 8)[0]).sum()

    _, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, K, rule, 8)
    grads, start = unrolled_backward(energy, theta, steps, b, rule)
    check_theta_gradient(lambda t: end(t, x0), grads, theta, rng, 2e-7)
    v = rng.normal(size=x0.shape)
    close((start * v).sum(), along(lambda x: end(theta, x), x0, v), 2e-7)
    if rule.box is not None and K == 3:
        cut = [~s.moved for s in steps] + [~s.jittered for s in steps if s.jittered is not None]
        assert any(mask.any() for mask in cut) and not all(mask.all() for mask in cut)
    if rule.clip is not None:
        assert any((np.abs(s.g) > rule.clip).any() for s in steps)


def test_unrolled__does_not_see_the_order_of_its_chains():
    energy, theta, x0, rng = case(N=6)
    rule, u, chains = UPDATES["all"], rng.normal(size=x0.shape), np.array([3, 5, 0, 1, 4, 2])
    x, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 3, rule, 8)
    grads, start = unrolled_backward(energy, theta, steps, u, rule)
    y, mixed, _ = unrolled_run(ebm_ref, energy, theta, x0[chains], 3, rule, 8, chains=chains)
    again, begin = unrolled_backward(energy, theta, mixed, u[chains], rule)
    close(y, x[chains], 1e-13)
    close(begin, start[chains], 1e-13)
    for name in grads:
        close(again[name], grads[name], 1e-12)


def test_unrolled_backward__of_the_last_steps_is_the_chain_cut_there():
    energy, theta, x0, rng = case()
    rule, u = UPDATES["noise_first-box"], rng.normal(size=x0.shape)
    x, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 5, rule, 8)
    middle = langevin_run(energy, theta, x0, 3, rule, 8)[0]
    again, last, _ = unrolled_run(ebm_ref, energy, theta, middle, 2, rule, 8, 3)
    np.testing.assert_array_equal(x, again)
    cut, start = unrolled_backward(energy, theta, steps[-2:], u, rule)
    want, begin = unrolled_backward(energy, theta, last, u, rule)
    np.testing.assert_array_equal(start, begin)
    for name in cut:
        np.testing.assert_array_equal(cut[name], want[name])
    spared, none = unrolled_backward(energy, theta, last, u, rule, to_start=False)
    assert none is None
    for name in cut:
        np.testing.assert_array_equal(spared[name], want[name])


def test_unrolled_backward__of_a_gaussian_chain_is_its_power():
    """E = lam x^2 / 2: x_K = a^K x_0 + ..., a = 1 - eta lam, so dx_K/dx_0 = a^K and, without noise, dx_K/dlam."""
    x0, lam, eta, K = np.array([[2.0], [-0.5]]), 1.3, 0.2, 6
    rule = SGLD(eta, 0.0)
    _, steps, _ = unrolled_run(ebm_ref, SmoothBowl(), bowl_theta(lam), x0, K, rule, 0)
    grads, start = unrolled_backward(SmoothBowl(), bowl_theta(lam), steps, np.ones((2, 1)), rule)
    a = 1 - eta * lam
    close(start, np.full((2, 1), a**K), 1e-14)
    close(grads["lam"], [-eta * K * a ** (K - 1) * x0.sum()], 1e-14)
    assert grads["bias"] == 0


@pytest.mark.parametrize(("clip", "clip_norm"), [(None, None), (0.5, None), (None, 0.8), (0.5, 0.8), (9.0, 9.0)])
def test_langevin_clip_backward__is_the_derivative(clip, clip_norm):
    rng = np.random.default_rng(4)
    g, u = rng.normal(size=(6, 2, 3)), rng.normal(size=(6, 2, 3))
    g[0] *= 1e-3  # a short one, which no clip touches
    zero = np.zeros_like(g)

    def clipped(g):
        return -(u * langevin_step(zero, g, zero, 1.0, 0.0, clip, clip_norm)).sum()

    for _ in range(3):
        v = rng.normal(size=g.shape)
        close((langevin_clip_backward(g, u, clip, clip_norm) * v).sum(), along(clipped, g, v), 1e-8)


def test_langevin_clip_backward__keeps_a_gradient_of_zero():
    u = np.ones((2, 3))
    np.testing.assert_array_equal(langevin_clip_backward(np.zeros((2, 3)), u, 0.1, 0.1), u)


@pytest.mark.parametrize("order", ["gradient_first", "noise_first"])
def test_unrolled__a_chain_that_stops_keeps_its_place_and_has_no_part_in_theta(order):
    """Chain 1 overflows on its second step: x_K does not depend on theta any more, and dx_K/dx_2 is 1."""
    energy, theta = QuadraticEnergy((1,)), {"mu": np.zeros(1), "P": np.array([[1e60]])}
    x0, rule = np.array([[0.0], [1e150]]), SGLD(1.0, 0.0, order=order)
    x, steps, info = unrolled_run(ebm_ref, energy, theta, x0, 3, rule, 0)
    np.testing.assert_array_equal(x, langevin_run(energy, theta, x0, 3, rule, 0)[0])
    assert list(info.alive) == [True, False] and info.nonfinite == 1
    grads, start = unrolled_backward(energy, theta, steps, np.ones((2, 1)), rule)
    assert start[1] == 1 and np.isfinite(start).all() and grads["P"][0, 0] == 0 and np.isfinite(grads["mu"]).all()


@pytest.mark.parametrize("name", ["ula", "all"])
def test_unrolled__runs_on_any_array_that_answers_numpy(name):
    energy, theta, x0, rng = case()
    rule, u = UPDATES[name], rng.normal(size=x0.shape)
    _, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 3, rule, 8)
    want, start = unrolled_backward(energy, theta, steps, u, rule)
    away, device = Away(energy), outside(theta)
    x, steps, info = unrolled_run(DUCK_BACKEND, away, device, Duck.of(x0), 3, rule, 8)
    grads, begin = unrolled_backward(away, device, steps, Duck.of(u), rule)
    np.testing.assert_array_equal(x.get(), langevin_run(energy, theta, x0, 3, rule, 8)[0])
    close(inside(begin), start, 1e-14)
    for key in want:
        close(inside(grads[key]), want[key], 1e-14)
    assert isinstance(info.alive, Duck) and isinstance(info.energy, Duck)


def test_unrolled__with_the_energy_of_numba_cpu_is_the_oracle_s():
    numba_cpu = pytest.importorskip("ebm_fast.numba_cpu")
    energy, theta, x0, rng = case()
    rule, u = UPDATES["all"], rng.normal(size=x0.shape)
    found = []
    for backend, own in ((ebm_ref, energy), (numba_cpu, numba_cpu.MLPEnergy((3,), (5, 4)))):
        x, steps, _ = unrolled_run(backend, own, theta, x0, 3, rule, 8)
        grads, start = unrolled_backward(own, theta, steps, u, rule)
        found.append({"x": x, "start": start, **grads})
    for key in found[0]:
        close(found[1][key], found[0][key], 1e-12)


KINKED = MLPEnergy((3,), (4,), "relu")
REFUSED = {
    "K": (RangeError, lambda e, t, x, s: unrolled_run(ebm_ref, e, t, x, 0, ULA(0.1), 0)),
    "update": (DTypeError, lambda e, t, x, s: unrolled_run(ebm_ref, e, t, x, 1, 0.1, 0)),
    "x0": (NonFiniteError, lambda e, t, x, s: unrolled_run(ebm_ref, e, t, x + np.nan, 1, ULA(0.1), 0)),
    "chains": (ShapeError, lambda e, t, x, s: unrolled_run(ebm_ref, e, t, x, 1, ULA(0.1), 0, 0, np.arange(9))),
    "u: ": (ShapeError, lambda e, t, x, s: unrolled_backward(e, t, s, x[:1], ULA(0.1))),
    "u: .*float64": (DTypeError, lambda e, t, x, s: unrolled_backward(e, t, s, x.astype(np.float32), ULA(0.1))),
    "steps": (RangeError, lambda e, t, x, s: unrolled_backward(e, t, [], x, ULA(0.1))),
    "relu": (SmoothnessError, lambda e, t, x, s: unrolled_backward(KINKED, {}, s, x, ULA(0.1))),
    "unrolled_backward needs .*hvp": (BackendError, lambda e, t, x, s: unrolled_backward(Bowl(), {}, s, x, ULA(0.1))),
    "clip_norm": (RangeError, lambda e, t, x, s: langevin_clip_backward(x, x, None, 0.0)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_unrolled__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    energy, theta, x0, _ = case()
    _, steps, _ = unrolled_run(ebm_ref, energy, theta, x0, 1, ULA(0.1), 0)
    with pytest.raises(error, match=said):
        call(energy, theta, x0, steps)
