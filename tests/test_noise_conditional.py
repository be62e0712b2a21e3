"""NoiseConditionalEnergy: its equation, every level's derivatives, its energies at held levels, its refusals."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, check_level_1, check_level_2, check_level_3, close, random_theta
from score_cases import Level1, normals

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import ConvEnergy, DeepConvEnergy, MLPEnergy, NoiseConditionalEnergy, QuadraticEnergy, SumEnergy
from ebm_ref.contracts import DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError
from ebm_ref.specs import SGLD

CONV = {"channels": (4, 6), "strides": (2, 1), "max_groups": 2}
ENERGIES = {
    "mlp": NoiseConditionalEnergy(MLPEnergy((4,), (5, 4)), 0.1, 2.0),
    "mlp_linear": NoiseConditionalEnergy(MLPEnergy((2, 3), (5,), "tanh", layer_norm=True), 0.0, 5.0, "linear"),
    "conv": NoiseConditionalEnergy(ConvEnergy((5, 4, 3), **CONV), 0.1, 2.0),
    "deep_conv": NoiseConditionalEnergy(DeepConvEnergy((5, 4, 2), (4,), (1,), max_groups=2), 0.1, 2.0),
    "quadratic": NoiseConditionalEnergy(QuadraticEnergy((3,)), 0.1, 2.0),
    "sum": NoiseConditionalEnergy(SumEnergy((QuadraticEnergy((3,)), MLPEnergy((3,), (4,))), (0.5, 1.0)), 0.1, 2.0),
}


def case(name, N=4, dtype=np.float64):
    energy, rng = ENERGIES[name], np.random.default_rng(7)
    t = np.linspace(0.3, 1.9, N).astype(dtype)
    return energy, random_theta(energy, rng, dtype), normals(20, N, *energy.shape, dtype=dtype), t, rng


@pytest.mark.parametrize("name", ENERGIES)
def test_noise_conditional__is_the_trunk_with_one_more_channel(name):
    energy, theta, x, t, _ = case(name)
    f = 2 * np.log(t / 0.1) / np.log(20) - 1 if energy.scale == "log" else 2 * t / 5 - 1
    channel = np.broadcast_to(f.reshape((4,) + (1,) * (x.ndim - 1)), (*x.shape[:-1], 1))
    joined = np.concatenate([x, channel], axis=-1)
    assert energy.shape == (*energy.trunk.shape[:-1], energy.trunk.shape[-1] - 1)
    close(energy.energy(theta, x, t), energy.trunk.energy(theta, joined), 1e-13)
    close(energy.grad_x(theta, x, t), energy.trunk.grad_x(theta, joined)[..., :-1], 1e-13)


def test_noise_conditional__feature_runs_from_minus_one_to_one():
    for scale, middle in (("log", 0.1), ("linear", 0.505)):
        energy = NoiseConditionalEnergy(MLPEnergy((3,)), 0.01, 1.0, scale)
        for t, f in ((0.01, -1), (1.0, 1), (middle, 0)):
            assert energy.at(t).feature == pytest.approx(f, abs=1e-14)
            assert energy.at(np.array([t])).feature[0] == pytest.approx(f, abs=1e-14)
    index = NoiseConditionalEnergy(MLPEnergy((3,)), 0, 6, "linear")
    assert [index.at(t).feature for t in (0, 3, 6)] == [-1, 0, 1]


@pytest.mark.parametrize("name", ENERGIES)
def test_noise_conditional__levels_1_to_3_are_the_derivatives(name):
    energy, theta, x, t, rng = case(name)
    for held in (energy.at(0.7), energy.at(t)):
        check_level_1(held, theta, x, rng)
        check_level_2(held, theta, x, rng)
        check_level_3(held, theta, x, rng)


@pytest.mark.parametrize("name", ENERGIES)
def test_noise_conditional__methods_are_those_at_the_levels(name):
    """And the level of a sample is its own: one call with (N,) levels is N calls with one."""
    energy, theta, x, t, rng = case(name)
    v, w, held = rng.normal(size=x.shape), rng.normal(size=4), energy.at(t)
    pairs = [
        (energy.energy(theta, x, t), held.energy(theta, x)),
        (energy.grad_x(theta, x, t), held.grad_x(theta, x)),
        (energy.energy_and_grad_x(theta, x, t)[0], held.energy_and_grad_x(theta, x)[0]),
        (energy.energy_and_grad_x(theta, x, t)[1], held.energy_and_grad_x(theta, x)[1]),
        (energy.hvp(theta, x, t, v), held.hvp(theta, x, v)),
        (energy.curvature(theta, x, t, v), held.curvature(theta, x, v)),
    ]
    for found, wanted in pairs:
        np.testing.assert_array_equal(found, wanted)
    for n in range(4):
        at_n, part = energy.at(float(t[n])), slice(n, n + 1)
        close(pairs[0][0][n], at_n.energy(theta, x[part])[0], 1e-12)
        close(pairs[1][0][n], at_n.grad_x(theta, x[part])[0], 1e-12)
        close(pairs[5][0][n], at_n.curvature(theta, x[part], v[part])[0], 1e-12)
    grads = [
        (energy.grad_theta(theta, x, t, w), held.grad_theta(theta, x, w)),
        (energy.grad_theta_along(theta, x, t, v), held.grad_theta_along(theta, x, v)),
        (energy.grad_theta_curvature(theta, x, t, v, w), held.grad_theta_curvature(theta, x, v, w)),
    ]
    for found, wanted in grads:
        assert list(found) == list(energy.theta_shapes())
        for key in wanted:
            np.testing.assert_array_equal(found[key], wanted[key])


@pytest.mark.parametrize("name", ENERGIES)
def test_noise_conditional__sees_its_level(name):
    energy, theta, x, t, _ = case(name)
    slopes = along(lambda t: energy.energy(theta, x, t), t, np.ones_like(t))
    assert (np.abs(slopes) > 1e-6).all()


def test_noise_conditional__would_lose_the_level_in_a_group_norm_of_one_channel():
    """Why such a trunk is refused: without padding its energy does not move with a constant channel at all."""
    trunk = ConvEnergy((5, 4, 3), channels=(4,), strides=(1,), padding="VALID", max_groups=4)
    theta, x = random_theta(trunk, np.random.default_rng(7)), normals(20, 2, 5, 4, 3)
    moved = x + np.array([0.0, 0.0, 1.0])
    close(trunk.energy(theta, moved), trunk.energy(theta, x), 1e-12)
    kept = ConvEnergy((5, 4, 3), channels=(4,), strides=(1,), padding="VALID", max_groups=2)
    assert (np.abs(kept.energy(theta, moved) - kept.energy(theta, x)) > 1e-3).all()


@pytest.mark.parametrize("name", ENERGIES)
def test_noise_conditional__keeps_float32(name):
    energy, theta, x, t, _ = case(name, dtype=np.float32)
    w = np.ones(4, np.float32)
    for held in (energy.at(0.7), energy.at(t)):
        found = [*held.energy_and_grad_x(theta, x), held.hvp(theta, x, x), held.curvature(theta, x, x)]
        found += held.grad_theta_curvature(theta, x, x, w).values()
        assert {a.dtype for a in found} == {np.dtype(np.float32)}


def test_noise_conditional__takes_a_float32_ladder_to_its_ends():
    energy = NoiseConditionalEnergy(MLPEnergy((3,)), 0.01, 0.3)
    ends = np.array([0.01, 0.3], np.float32)  # 0.01 rounds below 0.01, 0.3 above 0.3
    np.testing.assert_allclose(energy.at(ends).feature, [-1, 1], atol=1e-6)


@pytest.mark.parametrize("name", ["numba_cpu", "ebm_ref"])
def test_noise_conditional__chains_run_at_their_own_levels(name):
    """langevin_run takes at(t), one level for each chain; on a fast trunk the chains are the oracle's."""
    if why_not(name):
        pytest.skip(why_not(name))
    fast = backend(name)
    update, t = SGLD(eta=0.1, sigma=0.05), np.linspace(0.2, 1.9, 6)
    ours = NoiseConditionalEnergy(MLPEnergy((3,), (8,)), 0.1, 2.0)
    theirs = NoiseConditionalEnergy(fast.MLPEnergy((3,), (8,)), 0.1, 2.0)
    theta, x0 = ebm_ref.theta_init(ours.trunk, 1, np.float64), normals(20, 6, 2)
    found, info = fast.langevin_run(theirs.at(t), theta, x0, 4, update, 3)
    assert info.nonfinite == 0 and found.shape == (6, 2)
    for n in range(6):
        chain, _ = ebm_ref.langevin_run(ours.at(float(t[n])), theta, x0[n : n + 1], 4, update, 3, chains=np.array([n]))
        close(found[n], chain[0], 1e-11)


def test_noise_conditional__lets_theta_init_and_objectives_in():
    energy = ENERGIES["conv"]
    theta = ebm_ref.theta_init(energy, 0)
    assert list(theta) == list(energy.trunk.theta_shapes())
    loss, _, _ = ebm_ref.cd_step(
        ebm_ref, energy.at(0.5), theta, normals(1, 2, 5, 4, 2, dtype=np.float32), 2, SGLD(0.1, 0.1), 0.0, 0.0, 0, 0
    )
    assert np.isfinite(loss)


MLP = ENERGIES["mlp"]
MLP_THETA, X, T = random_theta(MLP, np.random.default_rng(1)), np.ones((2, 3)), np.ones(2)
KINKED = NoiseConditionalEnergy(MLPEnergy((4,), (5, 4), "relu"), 0.1, 2.0)
REFUSED = {
    "trunk: expected an energy": (DTypeError, lambda: NoiseConditionalEnergy("net", 0.1, 1.0)),
    "trunk: expected x's channels": (ShapeError, lambda: NoiseConditionalEnergy(MLPEnergy((1,)), 0.1, 1.0)),
    "scale: expected one of log, linear": (RangeError, lambda: NoiseConditionalEnergy(MLP.trunk, 0.1, 1.0, "sqrt")),
    r"low: .*\(0.0, inf\], found 0": (RangeError, lambda: NoiseConditionalEnergy(MLP.trunk, 0, 1.0)),
    "low: .*found nan": (RangeError, lambda: NoiseConditionalEnergy(MLP.trunk, float("nan"), 1.0, "linear")),
    r"high: .*\(0.1, inf\], found 0.1": (RangeError, lambda: NoiseConditionalEnergy(MLP.trunk, 0.1, 0.1)),
    "trunk: its first group_norm .* max_groups < channels.0. = 32, found 32": (
        RangeError,
        lambda: NoiseConditionalEnergy(ConvEnergy((8, 8, 2)), 0.1, 1.0),
    ),
    r"t: expected a finite number in \[0.1, 2.0\], found 2.5": (RangeError, lambda: MLP.at(2.5)),
    r"t: .*found 0.05": (RangeError, lambda: MLP.energy(MLP_THETA, X, 0.05)),
    r"t: expected levels in \[0.1, 2.0\], found 3.0": (RangeError, lambda: MLP.energy(MLP_THETA, X, T * [1, 3])),
    "t: expected levels in .* found nan": (RangeError, lambda: MLP.grad_x(MLP_THETA, X, T * np.nan)),
    "t: expected shape .2.": (ShapeError, lambda: MLP.grad_x(MLP_THETA, X, np.ones(3))),
    "t: expected 1 axes": (ShapeError, lambda: MLP.grad_x(MLP_THETA, X, np.ones((2, 1)))),
    "t: expected float64 like x": (DTypeError, lambda: MLP.hvp(MLP_THETA, X, T.astype(np.float32), X)),
    "t: expected float32 or float64": (DTypeError, lambda: MLP.at(np.ones(2, int))),
    "t: expected a real number": (DTypeError, lambda: MLP.at("1.0")),
    r"x: expected shape \(any, 3\)": (ShapeError, lambda: MLP.energy(MLP_THETA, np.ones((2, 4)), T)),
    r"v: expected shape \(2, 3\)": (ShapeError, lambda: MLP.hvp(MLP_THETA, X, T, np.ones((2, 4)))),
    "x: expected finite": (NonFiniteError, lambda: MLP.energy(MLP_THETA, X * np.nan, T)),
    "hvp needs a twice differentiable": (SmoothnessError, lambda: KINKED.hvp(MLP_THETA, X, T, X)),
    "the thing needs": (SmoothnessError, lambda: KINKED.at(1.0).require_smooth("the thing")),
    "grad_theta_along": (
        AttributeError,
        lambda: NoiseConditionalEnergy(Level1((3,)), 0.1, 1.0).at(0.5).grad_theta_along({}, X[:, :2], X[:, :2]),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_noise_conditional__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
