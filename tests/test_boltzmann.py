"""Potentials at a temperature, interacting copies, and the local intrinsic dimension."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from derivatives import check_level_1, check_level_2, check_level_3, close, random_theta
from duck import Duck
from score_cases import SmoothBowl, ducks

from ebm_fast import backend, why_not
from ebm_ref import (
    SGLD,
    ULA,
    BoltzmannEnergy,
    ConvEnergy,
    InteractionEnergy,
    MLPEnergy,
    QuadraticEnergy,
    hessian_eigenvalues,
    intrinsic_dimension,
    langevin_run,
    log_z_quadrature,
    repulsion,
    theta_init,
)
from ebm_ref.contracts import BackendError, DTypeError, RangeError, ShapeError, SmoothnessError
from ebm_ref.objectives import denoising

MLP, CONV = MLPEnergy((3,), (5, 4)), ConvEnergy((4, 3, 2), channels=(4, 6), strides=(2, 1), max_groups=2)
ENERGIES = {
    "boltzmann": BoltzmannEnergy(MLP, 0.15),
    "boltzmann of conv": BoltzmannEnergy(CONV, 2.5),
    "interaction": InteractionEnergy(MLP, 4, 1.7, 0.3),
    "interaction of one": InteractionEnergy(MLP, 1, 1.7, 0.3),
    "interaction of conv": InteractionEnergy(CONV, 2, 0.9, 0.3),
    "interaction at a temperature": BoltzmannEnergy(InteractionEnergy(MLP, 3, 0.8, 0.2), 0.2),
}


def case(name, n=3, dtype=np.float64):
    energy, rng = ENERGIES[name], np.random.default_rng(3)
    return energy, random_theta(energy, rng, dtype), rng.normal(size=(n, *energy.shape)).astype(dtype), rng


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("check", [check_level_1, check_level_2, check_level_3])
def test_energies__every_level_is_the_derivative(name, check):
    check(*case(name), tol=1e-7)


@pytest.mark.parametrize("name", ENERGIES)
def test_energies__keep_float32(name):
    energy, theta, x, _ = case(name, dtype=np.float32)
    v, w = np.ones_like(x), np.ones(3, np.float32)
    found = [energy.energy(theta, x), energy.grad_x(theta, x), energy.hvp(theta, x, v), energy.curvature(theta, x, v)]
    for grads in (
        energy.grad_theta(theta, x, w),
        energy.grad_theta_along(theta, x, v),
        energy.grad_theta_curvature(theta, x, v, w),
    ):
        found += grads.values()
    assert all(value.dtype == np.float32 for value in found)


# ---------------------------------------------------------------------------------------------------- temperature


def test_boltzmann__is_the_trunk_over_tau():
    energy, theta, x, _ = case("boltzmann")
    close(energy.energy(theta, x), MLP.energy(theta, x) / 0.15, 1e-14)
    assert energy.shape == (3,) and energy.theta_shapes() == MLP.theta_shapes()


def test_boltzmann__log_z_of_a_bowl_carries_the_temperature():
    """V = k x^2 / 2: log Z = log(2 pi tau / k) / 2."""
    theta = {"mu": np.zeros(1), "P": np.full((1, 1), 2.0)}
    found = log_z_quadrature(BoltzmannEnergy(QuadraticEnergy((1,)), 0.01), theta, (-2.0, 2.0), panels=40)
    assert found.log_z == pytest.approx(0.5 * log(2 * np.pi * 0.01 / 2), abs=1e-9)


def test_boltzmann__ula_is_sgld_on_the_potential():
    """ULA(2 dt tau) on V / tau is SGLD(dt, sqrt(2 dt tau)) on V."""
    theta, x0 = theta_init(MLP, 2, np.float64), case("boltzmann")[2]
    x, _ = langevin_run(BoltzmannEnergy(MLP, 0.15), theta, x0, 20, ULA(2 * 0.05 * 0.15), 4)
    y, _ = langevin_run(MLP, theta, x0, 20, SGLD(0.05, (2 * 0.05 * 0.15) ** 0.5), 4)
    close(x, y, 1e-13)


@pytest.mark.parametrize("kind", ["boltzmann", "interaction"])
def test_wrapped__energies_of_a_fast_backend_are_trunks(kind):
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    fast = backend("numba_cpu").MLPEnergy((3,), (5, 4))
    energy, theta, x, _ = case(kind)
    theirs = BoltzmannEnergy(fast, 0.15) if kind == "boltzmann" else InteractionEnergy(fast, 4, 1.7, 0.3)
    for method, rest in (
        ("energy", ()),
        ("grad_x", ()),
        ("grad_theta", (np.arange(3.0),)),
        ("grad_theta_along", (x[::-1].copy(),)),
        ("hvp", (x[::-1].copy(),)),
    ):
        found, want = (getattr(one, method)(theta, x, *rest) for one in (theirs, energy))
        for a, b in zip(found.values(), want.values(), strict=True) if isinstance(want, dict) else [(found, want)]:
            close(a, b, 1e-12)


def test_wrapped__refuse_by_name():
    for make, error, said in (
        (lambda: BoltzmannEnergy(MLP, 0.0), RangeError, "tau"),
        (lambda: BoltzmannEnergy(MLP, -1.0), RangeError, "tau"),
        (lambda: BoltzmannEnergy(3, 1.0), DTypeError, "trunk"),
        (lambda: InteractionEnergy(3, 2, 1.0, 1.0), DTypeError, "trunk"),
        (lambda: InteractionEnergy(MLP, 0, 1.0, 1.0), RangeError, "copies"),
        (lambda: InteractionEnergy(MLP, 2, 0.0, 1.0), RangeError, "sigma"),
        (lambda: InteractionEnergy(MLP, 2, 1.0, -1.0), RangeError, "tau"),
        (lambda: repulsion(np.zeros((2, 0, 3)), 1.0, 1.0), ShapeError, "x"),
        (lambda: repulsion(np.zeros(2), 1.0, 1.0), ShapeError, "x"),
        (lambda: repulsion(np.zeros((2, 3)), -1.0, 1.0), RangeError, "tau"),
        (lambda: repulsion(np.zeros((2, 3)), 1.0, 0.0), RangeError, "sigma"),
        (lambda: ENERGIES["interaction"].energy(random_theta(MLP, RNG), np.zeros((2, 3, 3))), ShapeError, "x"),
        (lambda: ENERGIES["interaction"].hvp(random_theta(MLP, RNG), np.zeros((2, 4, 3)), X), ShapeError, "v"),
    ):
        with pytest.raises(error, match=f"^{said}: expected"):
            make()
    for wrapped in (
        BoltzmannEnergy(MLPEnergy((3,), (4,), "relu"), 1.0),
        InteractionEnergy(MLPEnergy((3,), (4,), "relu"), 2, 1.0, 1.0),
    ):
        with pytest.raises(SmoothnessError):
            denoising(wrapped, {}, np.zeros((2, *wrapped.shape)), np.zeros((2, *wrapped.shape)), 0.1)


RNG, X = np.random.default_rng(1), np.zeros((3, 4, 3))


# ------------------------------------------------------------------------------------------------------ repulsion


def test_repulsion__is_the_sum_over_pairs():
    x = np.random.default_rng(2).normal(size=(3, 5, 2, 2))
    W, g = repulsion(x, 0.3, 1.7)
    for n in range(3):
        pairs = sum(((x[n, i] - x[n, j]) ** 2).sum() for i in range(5) for j in range(i))
        assert W[n] == pytest.approx(-0.3 / 1.7**2 * pairs, rel=1e-13)
        for i in range(5):
            apart = sum(x[n, i] - x[n, j] for j in range(5))
            close(g[n, i], -2 * 0.3 / 1.7**2 * apart, 1e-13)
            close(g[n, i], -2 * 0.3 * 5 / 1.7**2 * (x[n, i] - x[n].mean(axis=0)), 1e-13)


def test_repulsion__forces_add_to_zero_and_do_not_see_a_shift():
    x = np.random.default_rng(2).normal(size=(3, 5, 4))
    W, g = repulsion(x, 0.3, 0.7)
    close(g.sum(axis=1), np.zeros((3, 4)), 1e-13)
    moved = repulsion(x + np.array([5.0, -3.0, 0.5, 2.0]), 0.3, 0.7)
    close(moved[0], W, 1e-13)
    close(moved[1], g, 1e-13)
    order = np.array([3, 1, 4, 0, 2])
    close(repulsion(x[:, order], 0.3, 0.7)[1], g[:, order], 1e-13)
    assert (repulsion(x[:, :1], 0.3, 0.7)[1] == 0).all() and (repulsion(x, 0.0, 0.7)[0] == 0).all()


@pytest.mark.parametrize(("sigma", "grows"), [(1.9, True), (2.1, False)])
def test_repulsion__spreads_iff_it_is_stronger_than_the_bowl(sigma, grows):
    """k = 1, C = 4, tau = 0.5: distances die out iff 2 tau C / sigma^2 = 4 / sigma^2 < 1; the mean falls either way."""
    bowl = InteractionEnergy(SmoothBowl((1,)), 4, sigma, 0.5)
    theta = {"lam": np.ones(1), "bias": np.zeros(1)}
    x0 = 3.0 + np.array([[-0.5, 0.1, 0.3, 0.1]])[..., None]
    x, _ = langevin_run(bowl, theta, x0, 300, SGLD(0.05, 0.0), 1)
    spread = np.ptp(x) / np.ptp(x0)
    assert spread == pytest.approx((1 - 0.05 * (1 - 4 / sigma**2)) ** 300, rel=1e-6)
    assert (spread > 1) == grows and abs(x.mean()) < 1e-5


def test_repulsion__runs_on_any_array_that_answers_numpy():
    x = np.random.default_rng(2).normal(size=(3, 5, 2))
    for want, found in zip(repulsion(x, 0.3, 1.7), repulsion(Duck.of(x), 0.3, 1.7), strict=True):
        np.testing.assert_array_equal(found.get(), want)
    group = InteractionEnergy(SmoothBowl((2,)), 5, 1.7, 0.3)
    theta, w = {"lam": np.array([1.0, 2.0]), "bias": np.zeros(1)}, np.arange(3.0)
    on = ducks(theta)
    np.testing.assert_array_equal(group.energy(on, Duck.of(x)).get(), group.energy(theta, x))
    np.testing.assert_array_equal(group.grad_x(on, Duck.of(x)).get(), group.grad_x(theta, x))
    grads = group.grad_theta(theta, x, w)
    for name, grad in group.grad_theta(on, Duck.of(x), Duck.of(w)).items():
        np.testing.assert_array_equal(grad.get(), grads[name])


# -------------------------------------------------------------------------------------------- intrinsic dimension


def test_hessian_eigenvalues__of_a_quadratic_are_those_of_its_matrix():
    rng = np.random.default_rng(4)
    A = rng.normal(size=(4, 4))
    energy, theta = QuadraticEnergy((2, 2)), {"mu": rng.normal(size=4), "P": A + A.T}
    found = hessian_eigenvalues(energy, theta, rng.normal(size=(3, 2, 2)))
    close(found, np.tile(np.linalg.eigvalsh(A + A.T), (3, 1)), 1e-13)


def test_hessian_eigenvalues__agree_with_traces_of_a_network():
    """Sum of eigenvalues = tr H, sum of squares = tr H^2, by products with unit vectors."""
    theta, x = random_theta(MLP, np.random.default_rng(6)), np.random.default_rng(7).normal(size=(5, 3))
    H = np.stack([MLP.hvp(theta, x, np.tile(e, (5, 1))) for e in np.eye(3)], axis=1)
    found = hessian_eigenvalues(MLP, theta, x)
    close(found.sum(axis=1), H.trace(axis1=1, axis2=2), 1e-12)
    close((found**2).sum(axis=1), (H @ H).trace(axis1=1, axis2=2), 1e-12)
    assert (np.diff(found, axis=1) >= 0).all()


def test_intrinsic_dimension__counts_the_flat_directions():
    """P of rank 3 in 7 dimensions: 4 below any small threshold, negative curvature counts by its size."""
    rng = np.random.default_rng(8)
    q, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    P = q[:, :3] @ np.diag([2.0, 5.0, -3.0]) @ q[:, :3].T
    energy, theta, x = QuadraticEnergy((7,)), {"mu": np.zeros(7), "P": P}, rng.normal(size=(2, 7))
    for threshold, want in ((1e-6, 4), (1.9, 4), (2.1, 5), (3.1, 6), (5.1, 7)):
        assert intrinsic_dimension(energy, theta, x, threshold).tolist() == [want] * 2
    warm = intrinsic_dimension(BoltzmannEnergy(energy, 0.01), theta, x, 210.0)
    assert warm.tolist() == [5, 5]  # the threshold is in units of the energy
    small = {name: value.astype(np.float32) for name, value in theta.items()}
    assert intrinsic_dimension(energy, small, x.astype(np.float32), 1.9).tolist() == [4, 4]


def test_intrinsic_dimension__refuses_by_name():
    theta, x = random_theta(MLP, RNG), np.zeros((2, 3))
    with pytest.raises(RangeError, match="^threshold: expected"):
        intrinsic_dimension(MLP, theta, x, 0.0)
    with pytest.raises(ShapeError, match="^x: expected"):
        intrinsic_dimension(MLP, theta, x[:, :2], 0.1)
    relu = MLPEnergy((3,), (4,), "relu")
    with pytest.raises(SmoothnessError):
        hessian_eigenvalues(relu, theta_init(relu, 0, np.float64), x)

    class Level1:
        shape = (3,)

    with pytest.raises(BackendError, match="hessian_eigenvalues needs hvp"):
        hessian_eigenvalues(Level1(), {}, x)
