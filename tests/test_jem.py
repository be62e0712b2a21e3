"""jem: the equation, its derivative, the laws of a batch; and the balancing rules."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_theta_gradient, close
from jem_cases import ALL, CONV, MLP, case

from ebm_ref.objectives import (
    JEMTerms,
    balance_ratio,
    balance_reached,
    cross_entropy,
    jem,
    mutual_information,
)

TERMS = {
    "all": ALL,
    "x": JEMTerms(w_yx=0.0),
    "x alpha": JEMTerms(w_yx=0.0, alpha=0.3),
    "yx": JEMTerms(w_x=0.0),
    "xy": JEMTerms(w_x=0.0, w_yx=0.0, w_xy=1.0),
    "mi": JEMTerms(w_x=0.0, w_yx=0.0, w_mi=1.0),
    "x yx": JEMTerms(),
}


def samples_of(terms, x, x_neg, x_lab, y, x_neg_y):
    """What the terms need, None for the rest."""
    labels = bool(terms.w_yx or terms.w_xy)
    return (
        x if terms.w_x or terms.w_mi else None,
        x_neg if terms.w_x else None,
        x_lab if labels else None,
        y if labels else None,
        x_neg_y if terms.w_xy else None,
    )


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize("name", TERMS)
def test_jem__is_the_equation(name, energy):
    theta, x, x_neg, x_lab, y, x_neg_y, _ = case(energy)
    t, i = TERMS[name], np.arange(6)
    E, F = energy.energy, energy.logits
    softmax = np.exp(F(theta, x_lab)) / np.exp(F(theta, x_lab)).sum(axis=1, keepdims=True)
    wanted = t.w_x * (E(theta, x).mean() - E(theta, x_neg).mean())
    wanted += t.w_x * t.alpha * ((E(theta, x) ** 2).mean() + (E(theta, x_neg) ** 2).mean())
    wanted -= t.w_yx * np.log(softmax[i, y]).mean()
    wanted += t.w_xy * (F(theta, x_neg_y)[i, y] - F(theta, x_lab)[i, y]).mean()
    wanted -= t.w_mi * mutual_information(F(theta, x))[0]
    loss, _, info = jem(energy, theta, t, *samples_of(t, x, x_neg, x_lab, y, x_neg_y))
    close(loss, wanted, 1e-13)
    if t.w_x:
        close(info["gap"], E(theta, x_neg).mean() - E(theta, x).mean(), 1e-13)
    if t.w_yx:
        assert info["accuracy"] == (F(theta, x_lab).argmax(axis=1) == y).mean()


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize("name", TERMS)
def test_jem__is_the_derivative(name, energy):
    theta, *arrays, rng = case(energy)
    samples = samples_of(TERMS[name], *arrays)
    _, grads, _ = jem(energy, theta, TERMS[name], *samples)
    check_theta_gradient(lambda t: jem(energy, t, TERMS[name], *samples)[0], grads, theta, rng, 1e-7)


def test_jem__with_balance_weight_is_the_derivative_for_a_constant_ratio():
    theta, x, x_neg, x_lab, y, _, rng = case()
    _, grads, info = jem(MLP, theta, JEMTerms(alpha=0.1), x_neg, 3 * x, x_lab, y, balance_weight=True)
    ratio = info["ratio"]
    g_pos, g_neg = (MLP.grad_theta(theta, s, np.full(6, 1 / 6)) for s in (x_neg, 3 * x))
    norms = [np.sqrt(sum((g**2).sum() for g in half.values())) for half in (g_pos, g_neg)]
    assert np.isclose(ratio, min(norms[0] / norms[1], 1)) and 0 < ratio < 1

    def scalar(t):
        e_pos, e_neg = MLP.energy(t, x_neg), MLP.energy(t, 3 * x)
        value = e_pos.mean() - ratio * e_neg.mean() + 0.1 * ((e_pos**2).mean() + (e_neg**2).mean())
        return value + cross_entropy(MLP.logits(t, x_lab), y)[0]

    check_theta_gradient(scalar, grads, theta, rng, 1e-7)


def test_jem__with_balance_weight_no_longer_ignores_a_constant():
    """What the docs call its bias: a constant c on E moves the loss by (1 - r) c."""
    theta, x, x_neg, *_ = case()
    terms = JEMTerms(w_yx=0.0)
    shifted = theta | {"out.b": theta["out.b"] - 2.0}  # E + 2
    a = jem(MLP, theta, terms, x_neg, 3 * x, balance_weight=True)
    b = jem(MLP, shifted, terms, x_neg, 3 * x, balance_weight=True)
    close(b[0] - a[0], 2 * (1 - a[2]["ratio"]), 1e-12)
    assert a[2]["ratio"] < 1


def test_jem__adds_up_over_parts_and_ignores_order():
    theta, x, x_neg, x_lab, y, x_neg_y, rng = case()
    terms = JEMTerms(0.7, 1.3, 0.9, 0.0, 0.1)  # the information couples a batch
    whole = jem(MLP, theta, terms, x, x_neg, x_lab, y, x_neg_y)
    parts = [jem(MLP, theta, terms, *(a[k] for a in (x, x_neg, x_lab, y, x_neg_y))) for k in (slice(3), slice(3, 6))]
    order = rng.permutation(6)
    mixed = jem(MLP, theta, ALL, *(a[order] for a in (x, x_neg, x_lab, y, x_neg_y)))
    full = jem(MLP, theta, ALL, x, x_neg, x_lab, y, x_neg_y)
    close(whole[0], (parts[0][0] + parts[1][0]) / 2, 1e-12)
    close(mixed[0], full[0], 1e-12)
    for name in theta:
        close(whole[1][name], (parts[0][1][name] + parts[1][1][name]) / 2, 1e-12)
        close(mixed[1][name], full[1][name], 1e-12)


@pytest.mark.parametrize("energy", [MLP, CONV], ids=["mlp", "conv"])
def test_jem__keeps_float32(energy):
    theta, *arrays, _ = case(energy, dtype=np.float32)
    loss, grads, info = jem(energy, theta, ALL, *arrays, balance_weight=True)
    assert loss.dtype == np.float32 and {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    assert info["loss_yx"].dtype == np.float32


def test_jem__takes_a_batch_of_one():
    theta, x, x_neg, x_lab, y, x_neg_y, _ = case(n=1)
    loss, _, info = jem(MLP, theta, ALL, x, x_neg, x_lab, y, x_neg_y)
    assert np.isfinite(loss) and info["mutual_information"] == 0


# --------------------------------------------------------------------------------- balancing rules


def test_balance_ratio__is_the_equation():
    g = {"a": np.array([3.0]), "b": np.array([[4.0]])}  # norm 5
    tenth = {name: 0.1 * value for name, value in g.items()}
    none = {name: 0 * value for name, value in g.items()}
    assert np.isclose(balance_ratio(tenth, g), 0.1) and balance_ratio(g, tenth) == 1 and balance_ratio(g, g) == 1
    assert balance_ratio(none, g) == 0 and balance_ratio(g, none) == 1 and balance_ratio(none, none) == 0


def test_balance_reached__is_the_equation():
    assert balance_reached(1.0, 1.0, 0.0) and balance_reached(1.0, 1.5, 0.5) and not balance_reached(1.0, 1.6, 0.5)
    assert not balance_reached(1.0, np.nan, 0.5)
