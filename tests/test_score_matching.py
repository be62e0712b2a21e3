"""score_matching, denoising: their gradients, invariants and addresses."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_theta_gradient, close, random_theta
from score_cases import (
    NAMES,
    NETWORKS,
    SIGMAS,
    TRUNKS,
    SmoothBowl,
    case,
    normals,
    objectives,
)

import ebm_ref
from ebm_ref import MLPEnergy, NoiseConditionalEnergy
from ebm_ref.contracts import Stream
from ebm_ref.objectives import (
    denoising,
    denoising_ladder,
    denoising_levels,
    dsm_step,
    hsm_step,
    multi_dsm_step,
    score_matching,
    score_matching_sliced,
    ssm_step,
)
from ebm_ref.objectives.score_matching import KINDS, draw_directions

# ------------------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_score_objective__is_the_derivative(network, objective):
    energy, theta, x = case(network)
    run = objectives(x)[objective]
    grads = run(energy, theta)[1]
    assert list(grads) == list(theta)
    check_theta_gradient(lambda t: run(energy, t)[0], grads, theta, np.random.default_rng(8), 1e-8)


@pytest.mark.parametrize("weights", [None, (0.3, 2.0, 1.0)])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_denoising_levels__is_the_derivative(trunk, weights):
    energy = NoiseConditionalEnergy(TRUNKS[trunk], 0.1, 1.0)
    theta = random_theta(energy, np.random.default_rng(7))
    x, xi, idx = normals(20, 5, *energy.shape), normals(21, 5, *energy.shape), np.array([0, 2, 1, 2, 0])
    grads = denoising_levels(energy, theta, x, xi, idx, SIGMAS, weights)[1]
    check_theta_gradient(
        lambda t: denoising_levels(energy, t, x, xi, idx, SIGMAS, weights)[0],
        grads,
        theta,
        np.random.default_rng(8),
        1e-8,
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_score_matching__is_the_equation(network):
    """From grad_x and hvp alone: |g|^2/2 - sum_d (H e_d)_d."""
    energy, theta, x = case(network)
    g, D = energy.grad_x(theta, x), int(np.prod(energy.shape))
    unit = np.eye(D).reshape((D, *energy.shape))
    trace = sum((energy.hvp(theta, x, np.broadcast_to(e, x.shape)) * e).reshape(4, D).sum(axis=1) for e in unit)  # (N,)
    close(score_matching(energy, theta, x)[0], np.mean(0.5 * (g * g).reshape(4, D).sum(axis=1) - trace), 1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000, None])
def test_score_matching__does_not_depend_on_the_chunk(chunk):
    energy, theta, x = case("mlp_image")
    want, found = score_matching(energy, theta, x, 3), score_matching(energy, theta, x, chunk)
    close(found[0], want[0], 1e-13)
    for name in theta:
        close(found[1][name], want[1][name], 1e-13)


def test_score_matching__passes_hold_no_more_than_the_chunk():
    sizes = []

    class Counted(SmoothBowl):
        def curvature(self, theta, x, v):
            sizes.append(len(x))
            return super().curvature(theta, x, v)

    theta = {"lam": np.ones(5), "bias": np.zeros(1)}
    score_matching(Counted((5,)), theta, normals(1, 3, 5), chunk=2)
    assert sizes == [6, 6, 3]
    sizes.clear()
    score_matching(Counted((5,)), theta, normals(1, 700, 5))
    assert sizes == [700] * 5  # 1024 rows hold one direction of 700 samples


class Apart:
    """An energy of level 3 that gives v' H v and its gradient by two passes only."""

    def __init__(self, energy):
        self.shape = energy.shape
        for name in ("grad_x", "grad_theta_along", "curvature", "grad_theta_curvature"):
            setattr(self, name, getattr(energy, name))


@pytest.mark.parametrize("objective", ["exact", "sliced", "reduced"])
def test_score_objective__needs_one_pass_a_direction_of_an_energy_that_offers_it(objective, monkeypatch):
    energy, theta, x = case("mlp_image")
    run, passes, forward = objectives(x)[objective], [], type(energy).forward

    def counted(self, theta, x):
        passes.append(len(x))
        return forward(self, theta, x)

    monkeypatch.setattr(type(energy), "forward", counted)
    loss, grads, _ = run(energy, theta)
    once = len(passes)
    again, same, _ = run(Apart(energy), theta)
    curved = len(passes) - 2 * once  # two passes where there was one
    assert curved > 0 and once == curved + 2  # and two for g and grad_theta a . g
    assert loss == again and all(np.array_equal(grads[name], same[name]) for name in theta)


# -------------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_score_objective__ignores_a_constant_in_the_energy(network, objective):
    energy, theta, x = case(network)
    run = objectives(x)[objective]
    loss, grads, _ = run(energy, theta)
    shifted_loss, shifted, _ = run(energy, theta | {"out.b": theta["out.b"] + 3.0})
    assert grads["out.b"] == 0.0 and shifted_loss == loss
    for name in theta:
        np.testing.assert_array_equal(shifted[name], grads[name])


def on_part(network, objective, part):
    """The objective on some of six samples, with their own draws."""
    energy, theta, _ = case(network)
    x, xi = normals(20, 6, *energy.shape)[part], normals(21, 6, *energy.shape)[part]
    v = np.stack([normals(22 + m, 6, *energy.shape)[part] for m in range(2)])
    if objective == "exact":
        return score_matching(energy, theta, x)
    if objective == "denoising":
        return denoising(energy, theta, x, xi, 0.4)
    return score_matching_sliced(energy, theta, x, v, objective == "reduced")


@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_score_objective__does_not_see_the_order_and_adds_up_over_parts(network, objective):
    loss, grads, _ = on_part(network, objective, slice(None))
    turned_loss, turned, _ = on_part(network, objective, np.array([3, 0, 5, 1, 4, 2]))
    halves = [on_part(network, objective, part) for part in (slice(0, 2), slice(2, 6))]
    close(turned_loss, loss, 1e-12)
    close((halves[0][0] * 2 + halves[1][0] * 4) / 6, loss, 1e-12)
    for name, grad in grads.items():
        close(turned[name], grad, 1e-12)
        close((halves[0][1][name] * 2 + halves[1][1][name] * 4) / 6, grad, 1e-12)


@pytest.mark.parametrize("objective", NAMES)
def test_score_objective__value_does_not_depend_on_the_shape_of_x(objective):
    flat, image = MLPEnergy((6,), (6,), "softplus"), MLPEnergy((2, 3, 1), (6,), "softplus")
    theta, x = random_theta(flat, np.random.default_rng(7)), normals(20, 4, 6)
    want = objectives(x)[objective](flat, theta)
    found = objectives(x.reshape(4, 2, 3, 1))[objective](image, theta)
    close(found[0], want[0], 1e-13)
    for name in theta:
        close(found[1][name], want[1][name], 1e-13)


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_ssm_step__draws_the_same_for_flat_and_image(kind, reduced):
    theta, x = {"lam": np.arange(1.0, 7), "bias": np.zeros(1)}, normals(20, 4, 6)
    flat = ssm_step(ebm_ref, SmoothBowl((6,)), theta, x, 3, 2, 2, kind, reduced)
    image = ssm_step(ebm_ref, SmoothBowl((2, 3, 1)), theta, x.reshape(4, 2, 3, 1), 3, 2, 2, kind, reduced)
    assert image[0] == pytest.approx(flat[0], rel=1e-13)
    close(image[1]["lam"], flat[1]["lam"], 1e-13)


def test_score_steps__leave_their_arguments_alone():
    energy, theta, x = case("mlp")
    before = [value.copy() for value in (x, *theta.values())]
    hsm_step(ebm_ref, energy, theta, x, 0, 0)
    for kind in KINDS:
        ssm_step(ebm_ref, energy, theta, x, 0, 0, 2, kind)
    dsm_step(ebm_ref, energy, theta, x, 0.3, 0, 0)
    for value, was in zip((x, *theta.values()), before, strict=True):
        np.testing.assert_array_equal(value, was)


# --------------------------------------------------------------------------------------- addresses


def test_ssm_step__is_its_parts_at_their_addresses():
    energy, theta, x = case("mlp_image")
    N, D, seed, t, M = 4, 6, 9, 5, 3
    for kind in KINDS:
        v = []
        for m in range(M):
            at = (seed, Stream.PROJECTION, t * M + m, np.arange(N), D)
            if kind == "rademacher":
                v.append(np.where(ebm_ref.noise_uniform(*at) < 0.5, 1.0, -1.0))
            else:
                n = ebm_ref.noise_normal(*at)
                v.append(n if kind == "gaussian" else np.sqrt(D) * n / np.linalg.norm(n, axis=1, keepdims=True))
        v = np.stack(v).reshape((M, N, *energy.shape))
        want = score_matching_sliced(energy, theta, x, v, False)
        found = ssm_step(ebm_ref, energy, theta, x, seed, t, M, kind, False)
        close(found[0], want[0], 1e-13)
        for name in theta:
            close(found[1][name], want[1][name], 1e-13)
        np.testing.assert_allclose(draw_directions(ebm_ref, x, M, kind, seed, t), v, rtol=1e-14)


def test_score_steps__default_to_one_rademacher_direction_reduced():
    energy, theta, x = case("mlp")
    found = ssm_step(ebm_ref, energy, theta, x, 3, 2)
    assert found[0] == ssm_step(ebm_ref, energy, theta, x, 3, 2, 1, "rademacher", True)[0]
    assert hsm_step(ebm_ref, energy, theta, x, 3, 2)[0] == score_matching(energy, theta, x)[0]


def test_dsm_steps__are_their_parts_at_their_addresses():
    energy, theta, x = case("conv")
    xi = ebm_ref.noise_normal(9, Stream.LEVEL_NOISE, 5, np.arange(4), 24).reshape(x.shape)
    want = denoising(energy, theta, x, xi, 0.3)
    loss, grads, _ = dsm_step(ebm_ref, energy, theta, x, 0.3, 9, 5)
    assert loss == want[0] and all((grads[name] == want[1][name]).all() for name in theta)

    conditional = NoiseConditionalEnergy(TRUNKS["conv"], 0.1, 1.0)
    theta = random_theta(conditional, np.random.default_rng(7))
    bits = ebm_ref.noise_bits(9, Stream.NOISE_LEVEL, 5, np.arange(4), 1)[:, 0]
    idx = ebm_ref.noise_index(bits, 3)
    want = denoising_levels(conditional, theta, x, xi, idx, SIGMAS)
    loss, grads, info = multi_dsm_step(ebm_ref, conditional, theta, x, SIGMAS, 9, 5)
    assert loss == want[0] and (info["idx"] == idx).all()
    assert all((grads[name] == want[1][name]).all() for name in theta)


def test_denoising_ladder__is_geometric_with_exact_ends():
    ladder = denoising_ladder(1.0, 0.01, 10)
    assert ladder[0] == 1.0 and ladder[-1] == 0.01 and len(ladder) == 10
    np.testing.assert_allclose(np.diff(np.log(ladder)), np.log(0.01) / 9, rtol=1e-12)
    assert denoising_ladder(3, 2, 2) == (3.0, 2.0)
