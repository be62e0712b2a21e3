"""transport, energy_contrast: equations and derivatives, each sample on its own, what is not finite, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_theta_gradient, close
from gaussian import bowl_theta
from score_cases import Level1, SmoothBowl, case, normals

import ebm_ref
from ebm_ref import EMTerms, MLPEnergy, noise_uniform, theta_init
from ebm_ref.contracts import BackendError, DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError
from ebm_ref.objectives import (
    em_step,
    energy_contrast,
    energy_matching,
    flow_weight,
    transport,
)

TERMS = EMTerms(tau=0.15, s_star=0.8, weight=2.0, K=6, dt=0.2, trim=0.3, clamp=5.0, cutoff=0.5, clip=1.5)


def batch(network, N=4, dtype=np.float64):
    """energy, theta, x0, x1, t, w, x_pos, x_neg."""
    energy, theta, x1 = case(network, N, dtype)
    x0, x_pos, x_neg = (normals(stream, N, *energy.shape, dtype=dtype) for stream in (41, 42, 43))
    t = noise_uniform(1, 44, 0, np.arange(N), 1, dtype)[:, 0]
    return energy, theta, x0, x1, t, flow_weight(t, 0.5), x_pos, 2 * x_neg


# -------------------------------------------------------------------------------------------- equations and derivatives


def test_flow_weight__is_the_table():
    t = np.array([0.0, 0.3, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(flow_weight(t, 0.5), [1, 1, 1, 0.5, 0], rtol=0, atol=0)
    np.testing.assert_allclose(flow_weight(t, 0.0), 1 - t, rtol=0, atol=0)
    assert (flow_weight(t, 1.0) == 1).all()
    assert flow_weight(t.astype(np.float32), 0.5).dtype == np.float32
    with pytest.raises(RangeError, match="^t: expected times in"):
        flow_weight(np.array([0.5, 1.1]), 0.5)


@pytest.mark.parametrize("network", ["mlp", "mlp_image", "conv"])
@pytest.mark.parametrize("clip", [None, 2.5])
def test_transport__is_the_equation_and_its_derivative(network, clip):
    energy, theta, x0, x1, t, w, *_ = batch(network)
    loss, grads, info = transport(energy, theta, x0, x1, t, w, clip)

    def equation(p):
        total = 0.0
        for n in range(4):
            at = (1 - t[n]) * x0[n] + t[n] * x1[n]
            r = energy.grad_x(p, at[None])[0] + x1[n] - x0[n]
            size = np.sqrt((r * r).sum())
            rho = size**2 if clip is None or size <= clip else clip * (2 * size - clip)
            total += w[n] * rho / r.size / 4
        return total

    assert loss == pytest.approx(equation(theta), rel=1e-12)
    check_theta_gradient(lambda p: transport(energy, p, x0, x1, t, w, clip)[0], grads, theta, RNG, 1e-8)
    check_theta_gradient(equation, grads, theta, RNG, 1e-8)
    if clip is None:
        assert info["clipped"] == 0
    assert (w * info["residual"]).mean() == pytest.approx(transport(energy, theta, x0, x1, t, w)[0], rel=1e-12)


RNG = np.random.default_rng(5)


def test_transport__clips_some_and_says_how_many():
    energy, theta, x0, x1, t, w, *_ = batch("mlp", 64)
    sizes = np.sqrt(3 * transport(energy, theta, x0, x1, t, w)[2]["residual"])
    bound = float(np.quantile(sizes, 0.75, method="lower"))
    assert transport(energy, theta, x0, x1, t, w, bound)[2]["clipped"] == (sizes > bound).mean() == 0.25
    loose = transport(energy, theta, x0, x1, t, w, 1e6)
    want = transport(energy, theta, x0, x1, t, w)
    assert loose[0] == want[0] and all((loose[1][name] == want[1][name]).all() for name in theta)


@pytest.mark.parametrize("clip", [None, 0.7])
def test_transport__a_sample_s_part_depends_on_it_alone(clip):
    """The loss and gradient of a batch are the means of those of its samples, clipped or not."""
    energy, theta, x0, x1, t, w, *_ = batch("mlp", 6)
    whole = transport(energy, theta, x0, x1, t, w, clip)
    parts = [transport(energy, theta, *(a[n : n + 1] for a in (x0, x1, t, w)), clip) for n in range(6)]
    assert whole[0] == pytest.approx(np.mean([part[0] for part in parts]), rel=1e-12)
    for name in theta:
        close(whole[1][name], np.mean([part[1][name] for part in parts], axis=0), 1e-12)


def test_transport__of_a_straight_potential_is_zero():
    """V = -c . x moves everything by c: exact where x1 = x0 + c, at every time; the other sign costs |2 c|^2 / D."""
    c = np.array([0.5, -1.0, 2.0])

    class Slope(SmoothBowl):
        def grad_x(self, theta, x):
            return np.broadcast_to(-theta["lam"], x.shape)

    x0, t = normals(41, 5, 3), np.linspace(0, 1, 5)
    for lam, want in ((c, 0.0), (-c, (4 * c * c).mean())):
        assert transport(Slope((3,)), bowl_theta(*lam), x0, x0 + c, t)[0] == pytest.approx(want, abs=1e-14)


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("clamp", [None, 3.0])
def test_energy_contrast__is_the_derivative(network, clamp):
    energy, theta, *_, x_pos, x_neg = batch(network, 7)
    loss, grads, _ = energy_contrast(energy, theta, x_pos, x_neg, 0.4, 0.3, clamp)
    kept = np.sort(energy.energy(theta, x_neg))[:5]
    assert loss == pytest.approx(0.4 * (energy.energy(theta, x_pos).mean() - kept.mean()), rel=1e-12)
    check_theta_gradient(
        lambda p: energy_contrast(energy, p, x_pos, x_neg, 0.4, 0.3, clamp)[0], grads, theta, RNG, 1e-8
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clamp", [None, 0.1])
def test_energy_contrast__does_not_trim_away_what_is_not_finite(bad, clamp):
    class Wall(SmoothBowl):
        def energy(self, theta, x):
            return np.where(x[:, 0] > 3, bad, super().energy(theta, x))

    x_neg = np.array([[1.0], [4.0], [-2.0], [0.5]])
    with np.errstate(invalid="ignore"):
        loss, grads, _ = energy_contrast(Wall(), bowl_theta(1.0), np.ones((2, 1)), x_neg, 1.0, 0.5, clamp)
    assert np.isnan(loss) and np.isnan(grads["lam"]).all()


def test_energy_contrast__networks_refuse_what_is_not_finite():
    energy, theta, *_, x_pos, x_neg = batch("mlp")
    theta = {name: value * 1e200 for name, value in theta.items()}
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError):
        energy_contrast(energy, theta, x_pos, x_neg, 1.0, 0.3, 0.1)


def test_energy_matching__is_the_sum_of_its_parts():
    energy, theta, x0, x1, t, w, x_pos, x_neg = batch("mlp", 7)
    flow = transport(energy, theta, x0, x1, t, w, 0.7)
    contrast = energy_contrast(energy, theta, x_pos, x_neg, 0.4, 0.3, 0.1)
    loss, grads, info = energy_matching(energy, theta, x0, x1, t, x_pos, x_neg, 0.4, 0.3, 0.1, w, 0.7)
    assert loss == flow[0] + contrast[0] and info["transport"] == flow[0] and info["contrast"] == contrast[0]
    assert set(info) == {"transport", "contrast"} | set(flow[2]) | set(contrast[2])
    for name in theta:
        np.testing.assert_array_equal(grads[name], flow[1][name] + contrast[1][name])


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tau": 0.0}, RangeError),
        ({"s_star": 0.0}, RangeError),
        ({"s_star": 1.5}, RangeError),
        ({"trim": 1.0}, RangeError),
        ({"clamp": 0.0}, RangeError),
        ({"clip": 0.0}, RangeError),
        ({"cutoff": 1.01}, RangeError),
        ({"dt": 0.0}, RangeError),
        ({"K": 2.0}, DTypeError),
        ({"weight": -1.0}, RangeError),
    ],
)
def test_em_terms__refuses_by_name(change, error):
    with pytest.raises(error, match=rf"^{next(iter(change))}: expected"):
        EMTerms(**({"tau": 0.1} | change))


def test_energy_matching__refuses_by_name():
    energy, theta, x0, x1, t, w, x_pos, x_neg = batch("mlp")
    for args, error, said in (
        ((x0, x1[:3], t, w), ShapeError, "x1"),
        ((x0, x1, t[:3], w), ShapeError, "t"),
        ((x0, x1, t + 0.6, w), RangeError, "t"),
        ((x0, x1, t, -w), RangeError, "w"),
        ((x0, x1.astype(np.float32), t, w), DTypeError, "x1"),
    ):
        with pytest.raises(error, match=rf"^{said}: expected"):
            transport(energy, theta, *args)
    with pytest.raises(BackendError, match="transport needs grad_theta_along"):
        transport(Level1((3,)), bowl_theta(1.0, 1.0, 1.0), x0, x1, t)
    relu = MLPEnergy((3,), (4,), "relu")
    for call in (
        lambda: transport(relu, theta_init(relu, 0, np.float64), x0, x1, t),
        lambda: energy_matching(relu, theta_init(relu, 0, np.float64), x0, x1, t, x_pos, x_neg, 1.0),
        lambda: em_step(ebm_ref, relu, theta_init(relu, 0, np.float64), x0, x1, TERMS, 0, 0),
    ):
        with pytest.raises(SmoothnessError):
            call()
    with pytest.raises(DTypeError, match=r"^terms: expected EMTerms"):
        em_step(ebm_ref, energy, theta, x0, x1, {"tau": 1.0}, 0, 0)
