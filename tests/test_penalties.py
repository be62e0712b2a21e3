"""gradient_penalty and spectral normalisation: equations, derivatives, state, devices, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import along, check_theta_gradient, close, random_theta
from duck import Duck
from duck_backend import Away, inside, outside
from gaussian import Bowl, bowl_theta

from ebm_ref import (
    BackendError,
    ConvEnergy,
    DTypeError,
    MLPEnergy,
    QuadraticEnergy,
    RangeError,
    ShapeError,
    SmoothnessError,
    Stream,
    contrastive,
    gradient_penalty,
    noise_normal,
    spectral_norm_backward,
    spectral_norm_forward,
    spectral_norm_grads,
    spectral_norm_iterate,
    spectral_norm_start,
    spectral_norm_theta,
)

ENERGIES = {
    "mlp": MLPEnergy((3,), (5, 4)),
    "conv": ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2),
}


def case(name="mlp", dtype=np.float64, N=5):
    energy, rng = ENERGIES[name], np.random.default_rng(3)
    return energy, random_theta(energy, rng, dtype), rng.normal(size=(N, *energy.shape)).astype(dtype), rng


# -------------------------------------------------------------------------------- gradient penalty


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("name", ENERGIES)
def test_gradient_penalty__is_the_derivative(name, target):
    energy, theta, x, rng = case(name)
    loss, grads, info = gradient_penalty(energy, theta, x, target, 0.7)
    norms = np.linalg.norm(energy.grad_x(theta, x).reshape(5, -1), axis=1)
    assert loss == pytest.approx(0.7 * ((norms - target) ** 2).mean(), rel=1e-13)
    assert info["grad_norm"] == pytest.approx(norms.mean(), rel=1e-13)
    check_theta_gradient(lambda t: gradient_penalty(energy, t, x, target, 0.7)[0], grads, theta, rng, 1e-7)


def test_gradient_penalty__of_a_quadratic_is_its_closed_form():
    """E = x' P x / 2: |grad E|^2 = x' P^2 x, so dP of the penalty with target 0 is the symmetric part of 2 P x x'."""
    P = np.array([[2.0, 0.5], [0.5, 1.0]])
    x = np.array([[1.0, -2.0], [0.3, 0.4], [0.0, 0.0]])
    loss, grads, _ = gradient_penalty(QuadraticEnergy((2,)), {"mu": np.zeros(2), "P": P}, x)
    S = x.T @ x / 3
    assert loss == pytest.approx(np.trace(P @ P @ S), rel=1e-14)
    close(0.5 * (grads["P"] + grads["P"].T), P @ S + S @ P, 1e-14)


def test_gradient_penalty__at_a_point_of_slope_0_has_no_direction():
    """The third point is a minimum: it counts (0 - 1)^2 and pulls on nothing, and nothing becomes NaN."""
    theta = {"mu": np.zeros(1), "P": np.array([[2.0]])}
    x = np.array([[1.0], [-1.0], [0.0]])
    loss, grads, _ = gradient_penalty(QuadraticEnergy((1,)), theta, x, 1.0)
    assert loss == pytest.approx((1 + 1 + 1) / 3) and grads["P"][0, 0] == pytest.approx(4 / 3)


def test_gradient_penalty__ignores_a_constant_and_adds_up_over_parts():
    energy, theta, x, _ = case(N=6)
    whole = gradient_penalty(energy, theta, x, 1.0)
    moved = gradient_penalty(energy, theta | {"out.b": theta["out.b"] + 3}, x, 1.0)
    halves = [gradient_penalty(energy, theta, x[part], 1.0) for part in (slice(0, 3), slice(3, 6))]
    assert whole[1]["out.b"] == 0 and whole[0] == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-13)
    for key in whole[1]:
        np.testing.assert_array_equal(whole[1][key], moved[1][key])
        close((halves[0][1][key] + halves[1][1][key]) / 2, whole[1][key], 1e-13)


def test_gradient_penalty__keeps_float32_and_runs_on_any_array_that_answers_numpy():
    energy, theta, x, _ = case("conv", np.float32)
    want = gradient_penalty(energy, theta, x, 1.0, 0.5)
    assert want[0].dtype == np.float32 and {g.dtype for g in want[1].values()} == {np.dtype(np.float32)}
    loss, grads, _ = gradient_penalty(Away(energy), outside(theta), Duck.of(x), 1.0, 0.5)
    assert isinstance(loss, Duck) and loss.get() == want[0]
    for key in grads:
        np.testing.assert_array_equal(inside(grads[key]), want[1][key])


def test_gradient_penalty__with_the_energy_of_numba_cpu_is_the_oracle_s():
    numba_cpu = pytest.importorskip("ebm_fast.numba_cpu")
    energy, theta, x, _ = case()
    want = gradient_penalty(energy, theta, x, 1.0)
    loss, grads, _ = gradient_penalty(numba_cpu.MLPEnergy((3,), (5, 4)), theta, x, 1.0)
    assert loss == pytest.approx(want[0], rel=1e-12)
    for key in grads:
        close(grads[key], want[1][key], 1e-12)


# ---------------------------------------------------------------------------- spectral normalisation


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 2, 5), (1, 1)])
def test_spectral_norm__is_the_derivative_for_any_u(shape):
    rng = np.random.default_rng(1)
    w, dy, v = (rng.normal(size=shape) for _ in range(3))
    u = rng.normal(size=shape[-1])
    W = w.reshape(-1, shape[-1])
    close(spectral_norm_forward(w, u), w / np.linalg.norm(W @ u), 1e-14)
    wanted = along(lambda w: (dy * spectral_norm_forward(w, u)).sum(), w, v)
    close((spectral_norm_backward(w, u, dy) * v).sum(), wanted, 1e-9)


def test_spectral_norm__converges_to_the_largest_singular_value():
    rng = np.random.default_rng(2)
    theta = {"a.w": rng.normal(size=(7, 5)), "b.w": rng.normal(size=(3, 3, 2, 6)), "b.b": rng.normal(size=6)}
    state = spectral_norm_start(theta, ("a.w", "b.w"), 4)
    before = {name: u.copy() for name, u in state.items()}
    assert {name: u.shape for name, u in state.items()} == {"a.w": (5,), "b.w": (6,)}
    sizes = []
    for _ in range(60):
        y = spectral_norm_theta(theta, state)
        sizes.append([np.linalg.norm(theta[n].reshape(-1, theta[n].shape[-1]) @ state[n]) for n in state])
        state = spectral_norm_iterate(theta, state)
    assert all((np.diff(sizes, axis=0) > -1e-12).ravel())  # power iteration rises to the norm, from below
    for name in ("a.w", "b.w"):
        singular = np.linalg.svd(y[name].reshape(-1, y[name].shape[-1]), compute_uv=False)
        assert singular[0] == pytest.approx(1, abs=1e-6)
        assert np.linalg.norm(state[name]) == pytest.approx(1, abs=1e-14)
        assert np.linalg.norm(before[name]) == pytest.approx(1, abs=1e-14)
    assert y["b.b"] is theta["b.b"]


def test_spectral_norm__gradient_of_an_objective_goes_through_the_normalisation():
    """theta -> normalised theta -> contrastive -> back: the derivative of the whole, u a constant."""
    energy, theta, x, rng = case("conv")
    names = tuple(name for name in theta if name.endswith("w"))
    state = spectral_norm_iterate(theta, spectral_norm_start(theta, names, 0), 2)
    x_neg = rng.normal(size=x.shape)

    def loss(t):
        return contrastive(energy, spectral_norm_theta(t, state), x, x_neg, 0.1)[0]

    _, grads, _ = contrastive(energy, spectral_norm_theta(theta, state), x, x_neg, 0.1)
    check_theta_gradient(loss, spectral_norm_grads(theta, state, grads), theta, rng, 1e-7)
    scaled = theta | {names[0]: 3 * theta[names[0]]}  # the energy does not see the scale of a normalised weight
    assert loss(scaled) == pytest.approx(loss(theta), rel=1e-12)


def test_spectral_norm__state_moves_only_when_it_is_told_to():
    energy, theta, x, _ = case()
    state = spectral_norm_start(theta, ("linear0.w",), 0)
    kept = {name: u.copy() for name, u in state.items()}
    for _ in range(3):
        energy.grad_x(spectral_norm_theta(theta, state), x)
        spectral_norm_grads(theta, state, theta)
    np.testing.assert_array_equal(state["linear0.w"], kept["linear0.w"])
    assert spectral_norm_iterate(theta, state, 0)["linear0.w"] is state["linear0.w"]
    again = spectral_norm_start(theta, ("linear0.w",), 0)
    np.testing.assert_array_equal(again["linear0.w"], kept["linear0.w"])
    n = noise_normal(0, Stream.PARAMS_INIT, 1, np.array([0]), 5)[0]  # step 0 is theta_init's
    close(kept["linear0.w"], n / np.linalg.norm(n), 1e-15)


def test_spectral_norm__keeps_float32_and_runs_on_any_array_that_answers_numpy():
    _, theta, _, rng = case("mlp", np.float32)
    state = spectral_norm_start(theta, ("linear0.w",), 0)
    dy = rng.normal(size=theta["linear0.w"].shape).astype(np.float32)
    w, u = theta["linear0.w"], state["linear0.w"]
    after = spectral_norm_iterate(theta, state, 3)
    found = [u, after["linear0.w"], spectral_norm_forward(w, u), spectral_norm_backward(w, u, dy)]
    assert {a.dtype for a in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(inside(spectral_norm_forward(Duck.of(w), Duck.of(u))), found[2])
    np.testing.assert_array_equal(inside(spectral_norm_backward(Duck.of(w), Duck.of(u), Duck.of(dy))), found[3])
    moved = spectral_norm_iterate(outside(theta), outside(state), 3)
    np.testing.assert_array_equal(inside(moved["linear0.w"]), found[1])


MLP, THETA, X, _ = case()
W, V = np.ones((3, 2)), np.ones(2)
RELU = MLPEnergy((3,), (4,), "relu")
REFUSED = {
    "gradient_penalty .*relu": (SmoothnessError, lambda: gradient_penalty(RELU, {}, X)),
    "gradient_penalty needs": (BackendError, lambda: gradient_penalty(Bowl((3,)), bowl_theta(1.0), X)),
    "x: .*one sample": (ShapeError, lambda: gradient_penalty(MLP, THETA, X[:0])),
    "target": (RangeError, lambda: gradient_penalty(MLP, THETA, X, -1.0)),
    "weight": (RangeError, lambda: gradient_penalty(MLP, THETA, X, 0.0, float("inf"))),
    "names": (ShapeError, lambda: spectral_norm_start(THETA, ("linear9.w",), 0)),
    "out.b: .*two axes": (ShapeError, lambda: spectral_norm_start(THETA, ("out.b",), 0)),
    "u: ": (ShapeError, lambda: spectral_norm_forward(W, np.ones(3))),
    "dy": (ShapeError, lambda: spectral_norm_backward(W, V, W[:2])),
    "w: ": (DTypeError, lambda: spectral_norm_forward(W.astype(int), V)),
    "iterations": (RangeError, lambda: spectral_norm_iterate(THETA, {}, -1)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_penalties__refuse_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
