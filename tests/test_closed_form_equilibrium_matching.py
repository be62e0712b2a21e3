"""Equilibrium matching against closed forms: its target, its best linear field."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from derivatives import close

from ebm_ref import (
    EquilibriumTarget,
    FieldBase,
    FieldEnergy,
    QuadraticEnergy,
    Stream,
    eqm_explicit,
    eqm_implicit,
    noise_normal,
    noise_uniform,
)

LINEAR, TRUNCATED = EquilibriumTarget("linear"), EquilibriumTarget()
TARGETS = [LINEAR, TRUNCATED, EquilibriumTarget("piecewise", 0.6, 2.0, 3.0)]
THREE = np.array([[1.0, 0.0], [0.0, 1.5], [-1.0, -0.5]])


def normals(seed, N, D):
    return noise_normal(seed, Stream.TOY, 0, np.arange(N), D)


def uniforms(seed, N):
    return noise_uniform(seed, Stream.TOY, 0, np.arange(N), 1)[:, 0]


# ------------------------------------------------------------------------------------------------ c(gamma)


@pytest.mark.parametrize("kind", ["linear", "truncated", "piecewise"])
@pytest.mark.parametrize("b", [0.0, 1.0, 1.7, 9.0])
def test_equilibrium_target__ends_at_0_and_has_no_step(kind, b):
    c = EquilibriumTarget(kind, 0.7, b, 3.0)
    assert c.at(1) == 0 and c.at(1.0) == 0
    assert c.at(0) == pytest.approx({"linear": 3, "truncated": 3, "piecewise": 3 * b}[kind], abs=1e-14)
    gamma = np.linspace(0, 1, 4001)
    slope = 3 * max(1 / 0.3, abs(b - 1) / 0.7)
    assert np.abs(np.diff(c.at(gamma))).max() <= slope * (gamma[1] - gamma[0]) * (1 + 1e-9)
    close(c.at(gamma), [c.at(float(g)) for g in gamma], 1e-14)
    close(c.remaining(1 - gamma), c.at(gamma), 0)
    if kind != "linear":
        assert c.kinks == (0.7,) and c.at(0.7) == pytest.approx(3, rel=1e-14)


def test_equilibrium_target__is_the_formula():
    gamma = np.array([0.0, 0.4, 0.8, 0.9, 1.0])
    close(LINEAR.at(gamma), [4, 2.4, 0.8, 0.4, 0], 1e-14)
    close(TRUNCATED.at(gamma), [4, 4, 4, 2, 0], 1e-14)
    close(EquilibriumTarget("piecewise", 0.8, 3.0).at(gamma), [12, 8, 4, 2, 0], 1e-14)
    for found in (TRUNCATED.at(gamma.astype(np.float32)), LINEAR.at(gamma.astype(np.float32))):
        assert found.dtype == np.float32


def test_equilibrium_target__piecewise_is_truncated_at_1_and_linear_at_its_largest_b():
    gamma, a = np.linspace(0, 1, 101), 0.8
    close(EquilibriumTarget("piecewise", a, 1.0).at(gamma), TRUNCATED.at(gamma), 1e-14)
    close(EquilibriumTarget("piecewise", a, 1 / (1 - a)).at(gamma) * (1 - a), LINEAR.at(gamma), 1e-14)


@pytest.mark.parametrize("a", [0.3, 0.8])
def test_equilibrium_target__is_the_smaller_line_iff_b_is_at_most_its_bound(a):
    gamma, bound = np.linspace(0, 1, 1001), 1 / (1 - a)
    for b in (0.5, 1.0, 0.99 * bound, 1.01 * bound, 2 * bound):
        smaller = 4 * np.minimum(b - (b - 1) * gamma / a, (1 - gamma) / (1 - a))
        same = np.allclose(EquilibriumTarget("piecewise", a, b).at(gamma), smaller, rtol=0, atol=1e-12)
        assert same == (b <= bound)


# ------------------------------- the best linear field of N(0, s^2): every moment is exact (two Gauss nodes, signs)


@dataclass(frozen=True)
class LinearField(FieldBase):
    """f(x) = x w, in one or more dimensions; theta: w (D, D)."""

    shape: tuple[int, ...] = (1,)

    @property
    def out_shape(self):
        return self.shape

    def theta_shapes(self):
        return {"w": (*self.shape, *self.shape)}

    def forward(self, theta, x):
        return x @ theta["w"], [x]

    def backward(self, theta, tape, dy):
        return dy @ theta["w"].T, {"w": tape.pop().T @ dy}


def exact_batch(s):
    """x = +-s, e = +-1 and gamma at the two Gauss nodes: polynomials of degree 3 in gamma have their mean."""
    x, e, gamma = np.meshgrid([-s, s], [-1.0, 1.0], [0.5 - sqrt(1 / 12), 0.5 + sqrt(1 / 12)], indexing="ij")
    return x.reshape(-1, 1), e.reshape(-1, 1), gamma.ravel()


def best(s, scale=4.0):
    """w = E[c (u - gamma s^2)] / E[gamma^2 s^2 + u^2] = scale (2 - s^2) / (2 (1 + s^2)), and its loss, c = scale u."""
    w = scale * (2 - s * s) / (2 * (1 + s * s))
    return w, (scale**2 - w * w) * (1 + s * s) / 3


@pytest.mark.parametrize("s", [0.5, 1.0, 1.4, 2.0])
def test_eqm__best_linear_field_of_a_gaussian(s):
    """Loss and slope at the minimum, of a field and of the energy that has it as its gradient."""
    w, loss = best(s)
    batch = (*exact_batch(s), LINEAR)
    field, quadratic = LinearField(), QuadraticEnergy((1,))
    at_w = eqm_implicit(field, {"w": np.array([[w]])}, *batch)
    at_p = eqm_explicit(quadratic, {"mu": np.zeros(1), "P": np.array([[w]])}, *batch)
    for found, name in ((at_w, "w"), (at_p, "P")):
        assert found[0] == pytest.approx(loss, rel=1e-13) and abs(found[1][name][0, 0]) < 1e-13
        assert found[2]["zero"] == pytest.approx(16 * (1 + s * s) / 3, rel=1e-13)
    slope = eqm_implicit(field, {"w": np.array([[w + 0.3]])}, *batch)[1]["w"]
    assert slope[0, 0] == pytest.approx(2 * 0.3 * (1 + s * s) / 3, rel=1e-12)


def test_eqm_explicit__heads_see_the_gradient_and_not_the_field():
    """Of f = w x: dot has the gradient 2 w x, norm w^2 x, norm_below -w^2 x: minima at w/2, sqrt w, sqrt -w."""
    field = LinearField()
    for head, s, at in (("dot", 1.0, 0.5), ("norm", 1.0, 1.0), ("norm_below", 2.0, sqrt(4 / 5))):
        w, loss = best(s)
        assert w == pytest.approx({1.0: 1.0, 2.0: -0.8}[s])
        found = eqm_explicit(FieldEnergy(field, head), {"w": np.array([[at]])}, *exact_batch(s), LINEAR)
        assert found[0] == pytest.approx(loss, rel=1e-12) and abs(found[1]["w"][0, 0]) < 1e-12


def test_eqm__loss_is_a_mean_over_elements():
    """The same sample in D independent coordinates: the loss stays, as the mean over D does."""
    x, e, gamma = exact_batch(1.0)
    one = eqm_implicit(LinearField(), {"w": np.array([[0.4]])}, x, e, gamma, TRUNCATED)
    wide = [np.repeat(part, 5, axis=1) for part in (x, e)]
    five = eqm_implicit(LinearField((5,)), {"w": 0.4 * np.eye(5)}, *wide, gamma, TRUNCATED)
    assert five[0] == pytest.approx(one[0], rel=1e-13)
    assert np.trace(five[1]["w"]) == pytest.approx(one[1]["w"][0, 0], rel=1e-13)
