"""The neural energies: derivatives of order 0, 1, 2 against finite differences, and the laws of a batch."""

import numpy as np
import pytest
from derivatives import check_level_1, check_level_2, check_level_3, close, random_theta

from ebm_ref.contracts import SmoothnessError
from ebm_ref.energies import ConvEnergy, DeepConvEnergy, MLPEnergy
from ebm_ref.specs import ACTIVATIONS, SMOOTH_ACTIVATIONS

CONV = {"channels": (4, 6), "strides": (2, 1), "max_groups": 2}
SMOOTH = {f"mlp-{name}": MLPEnergy((3,), (5, 4), name) for name in SMOOTH_ACTIVATIONS}
SMOOTH |= {f"conv-{name}": ConvEnergy((5, 4, 2), **CONV, activation=name) for name in SMOOTH_ACTIVATIONS}
SMOOTH |= {
    "mlp-layer_norm": MLPEnergy((2, 3), (6, 5), layer_norm=True),
    "conv-residual": ConvEnergy((5, 4, 2), **CONV, residual=True),
    "conv-residual-identity": ConvEnergy((3, 3, 4), channels=(4,), strides=(1,), max_groups=1, residual=True),
    "conv-valid-sum": ConvEnergy((6, 5, 1), **CONV, kernel=2, padding="VALID", pool="sum"),
}
DEEP = {"channels": (4, 6), "blocks": (1, 2), "max_groups": 2}
SMOOTH |= {f"deep_conv-{name}": DeepConvEnergy((7, 6, 2), **DEEP, activation=name) for name in SMOOTH_ACTIVATIONS}
SMOOTH |= {"deep_conv-stem-sum": DeepConvEnergy((4, 4, 1), **DEEP, stem_stride=1, pool="sum")}
KINKED = {
    f"{room}-{name}": energy
    for name in ACTIVATIONS
    if name not in SMOOTH_ACTIVATIONS
    for room, energy in {
        "mlp": MLPEnergy((3,), (5, 4), name),
        "conv": ConvEnergy((5, 4, 2), **CONV, activation=name),
        "deep_conv": DeepConvEnergy((5, 4, 2), channels=(2, 4), blocks=(1, 1), max_groups=2, activation=name),
    }.items()
}
ALL = SMOOTH | KINKED


def case(name, n=3, dtype=np.float64):
    energy, rng = ALL[name], np.random.default_rng(7)
    return energy, random_theta(energy, rng, dtype), rng.normal(size=(n, *energy.shape)).astype(dtype), rng


@pytest.mark.parametrize("name", ALL)
def test_energy__level_1_is_the_derivative(name):
    energy, theta, x, rng = case(name)
    # A kink within 2h of a pre-activation would spoil the difference quotient: this seed has none.
    check_level_1(energy, theta, x, rng)


@pytest.mark.parametrize("name", SMOOTH)
def test_energy__level_2_is_the_derivative(name):
    check_level_2(*case(name))


@pytest.mark.parametrize("name", SMOOTH)
def test_energy__level_3_is_the_derivative(name):
    check_level_3(*case(name))


@pytest.mark.parametrize("name", SMOOTH)
def test_energy__gives_a_curvature_and_its_gradient_at_once(name):
    energy, theta, x, rng = case(name)
    v, w = rng.normal(size=x.shape), rng.normal(size=len(x))
    vhv, grads = energy.curvature_and_grad_theta(theta, x, v, w)
    apart = energy.curvature(theta, x, v), energy.grad_theta_curvature(theta, x, v, w)
    assert np.array_equal(vhv, apart[0]) and list(grads) == list(apart[1])
    assert all(np.array_equal(grads[name], apart[1][name]) for name in grads)


@pytest.mark.parametrize("name", KINKED)
def test_energy__refuses_second_derivatives_of_a_kinked_network(name):
    energy, theta, x, _ = case(name)
    w = np.ones(len(x))
    calls = {
        "grad_theta_along": (x,),
        "hvp": (x,),
        "curvature": (x,),
        "grad_theta_curvature": (x, w),
        "curvature_and_grad_theta": (x, w),
    }
    for method, args in calls.items():
        with pytest.raises(SmoothnessError, match=f"{method} .*{energy.activation}"):
            getattr(energy, method)(theta, x, *args)


@pytest.mark.parametrize("name", SMOOTH)
def test_energy__keeps_every_derivative_under_an_added_constant(name):
    energy, theta, x, rng = case(name)
    v, w = rng.normal(size=x.shape), rng.normal(size=len(x))
    shifted = theta | {"out.b": theta["out.b"] + 3.0}
    close(energy.energy(shifted, x), energy.energy(theta, x) + 3.0, 1e-12)
    np.testing.assert_array_equal(energy.grad_x(shifted, x), energy.grad_x(theta, x))
    grads = energy.grad_theta(theta, x, w - w.mean())
    again = energy.grad_theta(shifted, x, w - w.mean())
    for key in theta:
        np.testing.assert_array_equal(grads[key], again[key])
    close(grads["out.b"], np.zeros(1), 1e-14)
    assert energy.grad_theta_along(theta, x, v)["out.b"] == 0
    assert energy.grad_theta_curvature(theta, x, v, w)["out.b"] == 0


@pytest.mark.parametrize("name", ALL)
def test_energy__keeps_samples_apart(name):
    energy, theta, x, rng = case(name, n=5)
    order, w = rng.permutation(5), rng.normal(size=5)
    y, dx = energy.energy_and_grad_x(theta, x)
    y_permuted, dx_permuted = energy.energy_and_grad_x(theta, x[order])
    close(y_permuted, y[order], 1e-13)
    close(dx_permuted, dx[order], 1e-13)
    whole = energy.grad_theta(theta, x, w)
    parts = [energy.grad_theta(theta, x[k], w[k]) for k in (slice(0, 2), slice(2, 5))]
    for key in theta:
        close(parts[0][key] + parts[1][key], whole[key], 1e-12)


@pytest.mark.parametrize("name", ALL)
def test_energy__keeps_float32(name):
    energy, theta, x, rng = case(name, dtype=np.float32)
    v, w = rng.normal(size=x.shape).astype(np.float32), np.ones(len(x), np.float32)
    found = [*energy.energy_and_grad_x(theta, x), *energy.grad_theta(theta, x, w).values()]
    if name in SMOOTH:
        found += [energy.hvp(theta, x, v), energy.curvature(theta, x, v)]
        found += energy.grad_theta_along(theta, x, v).values()
        found += energy.grad_theta_curvature(theta, x, v, w).values()
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ALL)
def test_energy__accepts_an_empty_batch(name):
    energy, theta, x, _ = case(name, n=0)
    y, dx = energy.energy_and_grad_x(theta, x)
    assert y.shape == (0,) and dx.shape == x.shape
    assert all((g == 0).all() for g in energy.grad_theta(theta, x, np.zeros(0)).values())


def test_mlp_energy__is_the_equation():
    """One hidden layer: E = w2 . softplus(x W1 + b1) + b2, and its closed-form derivatives of every order."""
    energy, rng = MLPEnergy((3,), (4,), "softplus"), np.random.default_rng(3)
    theta, x, v = random_theta(energy, rng), rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    w1, b1, w2 = theta["linear0.w"], theta["linear0.b"], theta["out.w"][:, 0]
    s = 1 / (1 + np.exp(-(x @ w1 + b1)))
    s1, s2, t = s * (1 - s), s * (1 - s) * (1 - 2 * s), v @ w1
    close(energy.energy(theta, x), np.log1p(np.exp(x @ w1 + b1)) @ w2 + theta["out.b"], 1e-13)
    close(energy.grad_x(theta, x), (w2 * s) @ w1.T, 1e-13)
    close(energy.hvp(theta, x, v), (w2 * s1 * t) @ w1.T, 1e-13)
    along = energy.grad_theta_along(theta, x, v)
    close(along["linear0.b"], (w2 * s1 * t).sum(0), 1e-13)
    close(along["linear0.w"], x.T @ (w2 * s1 * t) + v.T @ (w2 * s), 1e-13)
    bent = energy.grad_theta_curvature(theta, x, v, np.ones(6))
    close(bent["linear0.b"], (w2 * s2 * t**2).sum(0), 1e-13)
    close(bent["linear0.w"], x.T @ (w2 * s2 * t**2) + 2 * v.T @ (w2 * s1 * t), 1e-13)
