"""RBMEnergy: the free energy, exact sums over all states, and block Gibbs against its own transition matrix."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from derivatives import close, random_theta
from duck import Duck

import ebm_ref
from ebm_ref import (
    DTypeError,
    NonFiniteError,
    QuadraticEnergy,
    RangeError,
    RBMEnergy,
    ShapeError,
    Stream,
    binary_index,
    binary_states,
    noise_uniform,
    rbm_gibbs_run,
    rbm_gibbs_step,
    theta_init,
)


def case(visible=4, hidden=3, dtype=np.float64):
    energy = RBMEnergy(visible, hidden)
    return energy, random_theta(energy, np.random.default_rng(3), dtype)


def joint(theta, x, h):
    return theta["visible.b"] @ x + theta["hidden.b"] @ h + x @ theta["w"] @ h


def test_rbm_energy__is_minus_the_log_sum_over_the_hidden_bits():
    energy, theta = case()
    for x in np.random.default_rng(0).normal(size=(3, 4)):  # any real x, not only bits
        wanted = -np.log(sum(np.exp(joint(theta, x, np.array(h))) for h in product((0, 1), repeat=3)))
        close(energy.energy(theta, x[None])[0], wanted, 1e-13)


@pytest.mark.parametrize(("visible", "hidden"), [(4, 3), (3, 5), (1, 1)])
def test_rbm_log_z__sums_every_state_of_both_layers(visible, hidden):
    energy, theta = case(visible, hidden)
    bits = [np.array(b) for b in product((0.0, 1.0), repeat=visible)]
    units = [np.array(b) for b in product((0.0, 1.0), repeat=hidden)]
    wanted = np.log(sum(np.exp(joint(theta, x, h)) for x in bits for h in units))
    assert energy.log_z(theta) == pytest.approx(wanted, abs=1e-12)
    x, p = binary_states(visible), energy.probabilities(theta)
    close(p, np.exp(-energy.energy(theta, x) - energy.log_z(theta)), 1e-13)
    assert p.sum() == pytest.approx(1, abs=1e-14)


def test_rbm_log_z__counts_hidden_states_where_they_are_fewer():
    energy = RBMEnergy(40, 3)
    theta = {name: np.zeros(shape) for name, shape in energy.theta_shapes().items()}
    assert energy.log_z(theta) == pytest.approx(43 * np.log(2), rel=1e-14)


def test_binary_index__is_the_row_of_binary_states():
    np.testing.assert_array_equal(binary_index(binary_states(5)), np.arange(32))


@pytest.mark.parametrize(("visible", "hidden"), [(4, 3), (2, 5)])
def test_rbm_gibbs_matrix__leaves_the_model_as_it_is(visible, hidden):
    energy, theta = case(visible, hidden)
    T, p = energy.gibbs_matrix(theta), energy.probabilities(theta)
    close(T.sum(axis=1), np.ones(2**visible), 1e-13)
    close(p @ T, p, 1e-14)
    close(p[:, None] * T, (p[:, None] * T).T, 1e-14)  # block Gibbs through h is reversible
    assert (T > 0).all()


@pytest.mark.parametrize("K", [1, 3])
def test_rbm_gibbs_run__has_the_law_of_the_matrix_power(K):
    """Counts of N chains from one state, against N (T^K)[start]: chi-square of 15 degrees of freedom."""
    energy, theta = case()
    start, N = 5, 20_000
    x0 = np.tile(binary_states(4)[start], (N, 1))
    x = rbm_gibbs_run(ebm_ref, energy, theta, x0, K, 11)
    wanted = N * np.linalg.matrix_power(energy.gibbs_matrix(theta), K)[start]
    counts = np.bincount(binary_index(x), minlength=16)
    assert ((counts - wanted) ** 2 / wanted).sum() < 15 + 5 * np.sqrt(30)


def test_rbm_gibbs_run__is_its_steps_at_their_addresses():
    energy, theta = case()
    x, chains = binary_states(4)[:6], np.array([9, 2, 7, 30, 1, 0])
    u = [noise_uniform(3, Stream.CHAIN_NOISE, 8 + k, chains, 7) for k in range(2)]
    wanted = rbm_gibbs_step(theta, x, u[0][:, :3], u[0][:, 3:])
    wanted = rbm_gibbs_step(theta, wanted, u[1][:, :3], u[1][:, 3:])
    found = rbm_gibbs_run(ebm_ref, energy, theta, x, 2, 3, 8, chains)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(rbm_gibbs_run(ebm_ref, energy, theta, x, 0, 3), x)
    assert rbm_gibbs_run(ebm_ref, energy, theta, x, 0, 3) is not x
    again = rbm_gibbs_run(ebm_ref, energy, theta, x, np.int32(2), np.int32(3), np.int32(8), chains)
    np.testing.assert_array_equal(again, wanted)


def test_rbm_gibbs_step__decides_by_the_probability():
    theta = {"visible.b": np.array([0.0, 40.0]), "hidden.b": np.array([-40.0]), "w": np.array([[80.0], [0.0]])}
    x = np.array([[0.0, 0.0], [1.0, 0.0]])  # h = 0 and 1, so x'_0 has probability 1/2 and 1
    half = np.full((2, 2), 0.4999)
    np.testing.assert_array_equal(rbm_gibbs_step(theta, x, half[:, :1], half), [[1, 1], [1, 1]])
    half = np.full((2, 2), 0.5001)
    np.testing.assert_array_equal(rbm_gibbs_step(theta, x, half[:, :1], half), [[0, 1], [1, 1]])


def test_rbm_sample_exact__picks_the_state_whose_interval_holds_u():
    energy, theta = case()
    p = energy.probabilities(theta)
    edge = np.cumsum(p)
    u = np.concatenate([edge - p / 2, [1.0]])[:, None]
    np.testing.assert_array_equal(binary_index(energy.sample_exact(theta, u)), [*range(16), 15])


def test_rbm__keeps_float32_and_runs_on_any_array_that_answers_numpy():
    energy, theta = case(dtype=np.float32)
    x0 = binary_states(4, np.float32)
    x = rbm_gibbs_run(ebm_ref, energy, theta, x0, 2, 1)
    assert x.dtype == np.float32 and set(np.unique(x)) <= {0, 1}
    assert energy.sample_exact(theta, np.full((2, 1), 0.3, np.float32)).dtype == np.float32
    u = noise_uniform(1, Stream.CHAIN_NOISE, 0, np.arange(16), 7)
    device = {name: Duck.of(value) for name, value in theta.items()}
    found = rbm_gibbs_step(device, Duck.of(x0), Duck.of(u[:, :3]), Duck.of(u[:, 3:]))
    np.testing.assert_array_equal(found.get(), rbm_gibbs_step(theta, x0, u[:, :3], u[:, 3:]))


def test_theta_init__knows_the_parameters_of_an_rbm():
    theta = theta_init(RBMEnergy(100, 5), 0, np.float64)
    assert (theta["visible.b"] == 0).all() and (theta["hidden.b"] == 0).all()
    assert 0.05 < theta["w"].std() < 0.15  # 1 / sqrt(100)


REFUSED = {
    "visible": (RangeError, lambda e, t: RBMEnergy(0, 1)),
    "hidden": (DTypeError, lambda e, t: RBMEnergy(1, 1.0)),
    r"n: .*16": (RangeError, lambda e, t: binary_states(17)),
    r"n: .*\b17": (RangeError, lambda e, t: RBMEnergy(17, 20).log_z(theta_init(RBMEnergy(17, 20), 0))),
    r"hidden: .*12": (RangeError, lambda e, t: RBMEnergy(4, 13).gibbs_matrix(theta_init(RBMEnergy(4, 13), 0))),
    "bits": (RangeError, lambda e, t: binary_index(np.array([[0.5]]))),
    "x: ": (ShapeError, lambda e, t: rbm_gibbs_step(t, np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 4)))),
    "u_hidden": (ShapeError, lambda e, t: rbm_gibbs_step(t, np.zeros((2, 4)), np.ones((2, 4)), np.ones((2, 4)))),
    "u_visible": (
        DTypeError,
        lambda e, t: rbm_gibbs_step(t, np.zeros((2, 4)), np.ones((2, 3)), np.ones((2, 4), np.float32)),
    ),
    "energy": (DTypeError, lambda e, t: rbm_gibbs_run(ebm_ref, QuadraticEnergy((4,)), t, np.zeros((2, 4)), 1, 0)),
    "theta": (ShapeError, lambda e, t: rbm_gibbs_run(ebm_ref, e, {}, np.zeros((2, 4)), 1, 0)),
    "x0": (NonFiniteError, lambda e, t: rbm_gibbs_run(ebm_ref, e, t, np.full((2, 4), np.nan), 1, 0)),
    "K": (RangeError, lambda e, t: rbm_gibbs_run(ebm_ref, e, t, np.zeros((2, 4)), -1, 0)),
    "chains": (ShapeError, lambda e, t: rbm_gibbs_run(ebm_ref, e, t, np.zeros((2, 4)), 1, 0, 0, np.arange(3))),
    r"u: .*\(0, 1\]": (RangeError, lambda e, t: e.sample_exact(t, np.zeros((2, 1)))),
}


@pytest.mark.parametrize("said", REFUSED)
def test_rbm__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call(*case())
