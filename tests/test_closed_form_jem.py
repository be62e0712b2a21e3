"""The JEM family against its exact checks: identities of the loss, enumeration, C = 1, proximal SGLD, information."""

from __future__ import annotations

from itertools import product
from math import exp, log

import numpy as np
import pytest
from derivatives import close, random_theta

import ebm_ref
from ebm_ref.contracts import Stream
from ebm_ref.energies import ClassifierEnergy, ConvEnergy, MLPEnergy
from ebm_ref.layers import conv2d_backward, linear_backward
from ebm_ref.noise import noise_normal
from ebm_ref.objectives import JEMTerms, contrastive, cross_entropy, jem, jem_step, mutual_information, pcd_step
from ebm_ref.samplers import buffer_start, class_gaussian_draw, class_gaussians, jempp_run, langevin_run
from ebm_ref.specs import SGLD

MLP = ClassifierEnergy(MLPEnergy((3,), (5, 4)), classes=4)
CONV = ClassifierEnergy(ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2), classes=3)
BOX = (-1.0, 1.0)


def case(energy, n=6, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, *energy.shape))
    return random_theta(energy, rng), x, rng.integers(0, energy.classes, n), rng


# --------------------------------------------------------------------------- 5.1: the joint model


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
def test_jem__of_one_labelled_batch_is_joint_maximum_likelihood(energy):
    """w_x = w_yx = 1 on one batch: the P of the cross entropy cancels, the positive part is grad mean E(x, y)."""
    theta, x, y, rng = case(energy)
    x_neg = rng.normal(size=x.shape)
    _, grads, _ = jem(energy, theta, JEMTerms(), x, x_neg, x, y)
    joint = energy.given(y).grad_theta(theta, x, np.full(6, 1 / 6))
    model = energy.grad_theta(theta, x_neg, np.full(6, -1 / 6))
    for name in theta:
        close(grads[name], joint[name] + model[name], 1e-13)


def test_jem__with_both_terms_is_the_log_likelihood_of_pairs():
    """L(w_x = w_yx = 1) + log Z = -mean log p(x, y), with Z by enumeration and x_neg from the exact p(x)."""
    theta, _, y, _ = case(MLP)
    states = np.array(list(product((-1.0, 0.5, 1.0), repeat=3)))  # (27, 3)
    F = MLP.logits(theta, states)
    log_z = log(sum(exp(value) for value in F.ravel()))
    x = states[:6]
    e_pair = -np.array([F[i, y[i]] for i in range(6)])
    loss, _, info = jem(MLP, theta, JEMTerms(), x, states, x, y)
    assert np.isclose(loss + info["energy_neg"] + log_z, e_pair.mean() + log_z, rtol=1e-13)


def test_classifier_energy__sums_to_one_over_all_pairs():
    theta, _, _, _ = case(MLP)
    states = np.array(list(product((-1.0, 0.5, 1.0), repeat=3)))
    joint = np.stack([np.exp(-MLP.given(c).energy(theta, states)) for c in range(4)], axis=1)  # (27, 4)
    marginal = np.exp(-MLP.energy(theta, states))
    z = marginal.sum()
    assert np.isclose(joint.sum() / z, 1.0, rtol=1e-13)
    close(joint.sum(axis=1), marginal, 1e-13)
    posterior = np.exp(ebm_ref.log_softmax(MLP.logits(theta, states)))
    close(joint / marginal[:, None], posterior, 1e-13)  # log p(x, y) = log p(x) + log p(y | x)


def test_jem__with_exact_samples_is_the_gradient_of_the_exact_likelihood():
    """States weighted by repeats: the model's half as E_p[grad E] against differences of log Z by enumeration."""
    theta, _, _, rng = case(MLP)
    states = np.array(list(product((-1.0, 1.0), repeat=3)))
    z = np.exp(-MLP.energy(theta, states))
    exact = MLP.grad_theta(theta, states, z / z.sum())  # E_p[grad E] = -grad log Z

    def log_z(parameters):
        return log(np.exp(-MLP.energy(parameters, states)).sum())

    for name, value in theta.items():
        u = rng.normal(size=value.shape)
        h = 1e-5
        slope = (log_z(theta | {name: value + h * u}) - log_z(theta | {name: value - h * u})) / (2 * h)
        assert np.isclose(-(exact[name] * u).sum(), slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("terms", [JEMTerms(), JEMTerms(0.7, 0.3, 0.9, 0.4)], ids=["default", "all"])
def test_jem__ignores_a_constant_on_all_logits(terms):
    theta, x, y, rng = case(MLP)
    x_neg, x_neg_y = rng.normal(size=x.shape), rng.normal(size=x.shape) if terms.w_xy else None
    shifted = theta | {"out.b": theta["out.b"] + 2.5}
    a = jem(MLP, theta, terms, x, x_neg, x, y, x_neg_y)
    b = jem(MLP, shifted, terms, x, x_neg, x, y, x_neg_y)
    close(b[0], a[0], 1e-12)
    for name in theta:
        close(b[1][name], a[1][name], 1e-12)
    close(np.exp(ebm_ref.log_softmax(MLP.logits(shifted, x))), np.exp(ebm_ref.log_softmax(MLP.logits(theta, x))), 1e-13)


def test_jem__gives_the_output_bias_no_push_along_a_constant():
    """The w_x gradient of out.b sums to 0 over the classes: P of the data and of the samples both sum to 1."""
    theta, x, _, rng = case(MLP)
    _, grads, _ = jem(MLP, theta, JEMTerms(w_yx=0.0), x, rng.normal(size=x.shape))
    assert abs(grads["out.b"].sum()) < 1e-15 and np.abs(grads["out.b"]).max() > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_jem__of_one_class_is_contrastive_to_the_bit(alpha):
    energy = ClassifierEnergy(MLPEnergy((3,), (5, 4)), classes=1)
    theta, x, _, rng = case(energy)
    x_neg = rng.normal(size=(4, 3))
    negated = theta | {name: -theta[name] for name in ("out.w", "out.b")}
    loss, grads, info = jem(energy, theta, JEMTerms(w_yx=0.0, alpha=alpha), x, x_neg)
    want = contrastive(energy.trunk, negated, x, x_neg, alpha)
    assert loss == want[0] and info["gap"] == want[2]["gap"]
    for name in theta:
        sign = -1 if name in ("out.w", "out.b") else 1
        assert (grads[name] == sign * want[1][name]).all(), name
    assert cross_entropy(energy.logits(theta, x), np.zeros(6, int))[0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jem_step__of_one_class_is_pcd_step_to_the_bit(dtype):
    energy = ClassifierEnergy(MLPEnergy((3,), (5, 4)), classes=1)
    rng = np.random.default_rng(4)
    theta, x = random_theta(energy, rng, dtype), rng.uniform(-1, 1, (6, 3)).astype(dtype)
    negated = theta | {name: -theta[name] for name in ("out.w", "out.b")}
    update, buffers = SGLD(0.05, 0.1, box=BOX), [buffer_start(9, (3,), seed=1, dtype=dtype) for _ in range(2)]
    terms = JEMTerms(w_yx=0.0, alpha=0.1)
    for step in range(3):
        loss, grads, info = jem_step(
            ebm_ref, energy, theta, x, None, None, buffers[0], 4, update, terms, 0.1, 0.3, 7, step, BOX
        )
        want = pcd_step(ebm_ref, energy.trunk, negated, x, buffers[1], 4, update, 0.1, 0.1, 0.3, 7, step, BOX)
        assert loss == want[0] and (info["x_neg"] == want[2]["x_neg"]).all()
        assert (grads["linear0.w"] == want[1]["linear0.w"]).all() and (grads["out.w"] == -want[1]["out.w"]).all()
        assert (buffers[0].slots == buffers[1].slots).all() and buffers[0].ptr == buffers[1].ptr


# ------------------------------------------------------------------------------------ 5.2: JEM++


def first_layer_adjoint(energy, theta, x, p):
    """L'(x)^T p of the first layer, the one that is linear in x."""
    if isinstance(energy.trunk, MLPEnergy):
        return linear_backward(x, theta["linear0.w"], p)[0]
    return conv2d_backward(x, theta["conv0.w"], p, energy.trunk.strides[0], "SAME")[0]


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
def test_jempp_run__frozen_p_is_frozen_gradient(energy, monkeypatch):
    """p = dE/dz caught where the pass enters the first layer: L^T p at any x is grad_x E at the point of p."""
    theta, x, _, rng = case(energy)
    module = ebm_ref.energies.mlp_energy if isinstance(energy.trunk, MLPEnergy) else ebm_ref.energies.parts
    name = "linear_backward" if isinstance(energy.trunk, MLPEnergy) else "conv2d_backward"
    layer, caught = getattr(module, name), []
    monkeypatch.setattr(module, name, lambda x, w, dy, *rest: caught.append(dy) or layer(x, w, dy, *rest))
    g = energy.grad_x(theta, x)
    p = caught[-1]  # of the layer that is left last
    for elsewhere in (x, rng.normal(size=x.shape)):
        assert (first_layer_adjoint(energy, theta, elsewhere, p) == g).all()


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
def test_jempp_run__is_its_inner_loop_with_frozen_p(energy):
    """The loop of the source, written out with p, against jempp_run."""
    theta, x, _, _ = case(energy)
    x = np.clip(x, *BOX)
    found, info = jempp_run(ebm_ref, energy, theta, x, 3, 4, SGLD(0.2, 0.0, clip=0.3, box=BOX), 0)
    for m in range(3):
        assert (info.energy[m] == energy.energy(theta, x)).all()
        g = energy.grad_x(theta, x)  # L^T p, by the test above
        for _ in range(4):
            x = np.clip(x - 0.2 * np.clip(g, -0.3, 0.3), *BOX)
    assert (found == x).all()


@pytest.mark.parametrize(("N", "eta"), [(1, 1.0), (2, 0.5), (5, 0.2), (10, 0.1)])
def test_jempp_run__depends_on_the_product_of_moves_and_step_alone(N, eta):
    theta, x, _, _ = case(CONV)
    x = np.clip(x, *BOX)
    found, _ = jempp_run(ebm_ref, CONV, theta, x, 3, N, SGLD(eta, 0.0, clip=1.0, box=BOX), 0)
    wanted, _ = langevin_run(CONV, theta, x, 3, SGLD(1.0, 0.0, clip=1.0, box=BOX), 0)
    close(found, wanted, 1e-12)
    assert (np.abs(found) == 1).any() and (np.abs(found) < 1).any()  # the box was met, and not by all


def test_jempp_run__with_one_move_is_langevin_run_to_the_bit():
    theta, x, _, _ = case(CONV)
    update = SGLD(0.1, 0.2, clip=0.5, clip_norm=1.0, box=BOX)
    found, info = jempp_run(ebm_ref, CONV, theta, x, 4, 1, update, 9, 12, np.arange(6) + 3)
    wanted, also = langevin_run(CONV, theta, x, 4, update, 9, 12, np.arange(6) + 3)
    assert (found == wanted).all() and (info.energy == also.energy).all() and (info.alive == also.alive).all()
    close(info.grad_norm, also.grad_norm, 1e-14)


def test_class_gaussians__draws_have_the_mean_and_covariance_of_the_class():
    """10^5 unclipped draws of one class: mean and covariance (of 1/n and the ridge) within 6 standard errors."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 3))
    x = np.concatenate([rng.normal(size=(40, 3)) @ mix + 1.0, rng.normal(size=(30, 3)) - 2.0])
    y = np.repeat([0, 1], [40, 30])
    fit = class_gaussians(x, y, 2, ridge=1e-4)
    mean, cov = x[:40].mean(axis=0), np.cov(x[:40].T, bias=True) + 1e-4 * np.eye(3)
    close(fit.factor[0] @ fit.factor[0].T, cov, 1e-12)
    n = 100_000
    xi = noise_normal(5, Stream.SAMPLE_START, 0, np.arange(n), 3)
    drawn = class_gaussian_draw(fit, np.zeros(n, int), xi)
    assert (np.abs(drawn.mean(axis=0) - mean) < 6 * np.sqrt(np.diag(cov) / n)).all()
    spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / n)  # of a sample covariance
    assert (np.abs(np.cov(drawn.T) - cov) < 6 * spread).all()


# --------------------------------------------------------------------------- 5.3: mutual information


def test_mutual_information__is_the_equation():
    F = np.random.default_rng(1).normal(size=(5, 3)) * 2
    p = np.exp(F) / np.exp(F).sum(axis=1, keepdims=True)
    mean = p.mean(axis=0)
    entropy = lambda q: -(q * np.log(q)).sum(axis=-1)  # noqa: E731
    assert np.isclose(mutual_information(F)[0], entropy(mean) - entropy(p).mean(), rtol=1e-13)
    assert np.isclose(mutual_information(F)[0], (p * np.log(p / mean)).sum(axis=1).mean(), rtol=1e-13)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_mutual_information__is_the_derivative(scale):
    F = np.random.default_rng(2).normal(size=(4, 5)) * scale
    _, dF = mutual_information(F)
    h = 1e-5 * max(scale, 1)
    for i, k in np.ndindex(F.shape):
        step = np.zeros_like(F)
        step[i, k] = h
        slope = (mutual_information(F + step)[0] - mutual_information(F - step)[0]) / (2 * h)
        assert np.isclose(dF[i, k], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mutual_information__lies_between_0_and_log_c_and_reaches_both(dtype):
    rng = np.random.default_rng(3)
    for scale in (1e-3, 1.0, 10.0, 1e4):
        value, dF = mutual_information((scale * rng.normal(size=(20, 6))).astype(dtype))
        assert -1e-6 <= value <= log(6) + 1e-6 and np.isfinite(dF).all() and value.dtype == dF.dtype == dtype
    same, none = mutual_information(np.tile(rng.normal(size=(1, 6)), (8, 1)).astype(dtype))
    assert abs(same) < 1e-6 and np.abs(none).max() < 1e-6
    most, _ = mutual_information((1e3 * np.tile(np.eye(6), (4, 1))).astype(dtype))  # one-hot and balanced
    assert np.isclose(most, log(6), rtol=1e-6)


def test_mutual_information__of_a_batch_of_one_is_0_with_no_gradient():
    value, dF = mutual_information(np.array([[3.0, -1.0, 800.0]]))
    assert value == 0 and (dF == 0).all()
