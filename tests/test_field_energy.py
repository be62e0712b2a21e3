"""FieldEnergy: its three heads, every level's derivatives, its gradients in the field's terms, the dead start."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_level_1, check_level_2, check_level_3, close, per_sample, random_theta

from ebm_ref import ConvField, FieldEnergy, MLPEnergy, MLPField, theta_init
from ebm_ref.contracts import DTypeError, RangeError, ShapeError, SmoothnessError
from ebm_ref.field_specs import HEADS

FIELDS = {"mlp": MLPField((3,), (5, 4), "tanh"), "mlp-image": MLPField((2, 2, 2), (6,))}
FIELDS["conv"] = ConvField((4, 2, 2), (4, 6), max_groups=2)
WIDE = {"mlp-out": MLPField((2, 3), (6,), out_channels=4)}
ENERGIES = {
    f"{name}-{head}": FieldEnergy(field, head)
    for name, field in (FIELDS | WIDE).items()
    for head in HEADS
    if head != "dot" or name in FIELDS
}


def case(name, N=3, dtype=np.float64):
    energy, rng = ENERGIES[name], np.random.default_rng(7)
    return energy, random_theta(energy, rng, dtype), rng.normal(size=(N, *energy.shape)).astype(dtype), rng


@pytest.mark.parametrize("name", ENERGIES)
def test_field_energy__is_the_equation(name):
    energy, theta, x, _ = case(name)
    f = energy.field.field(theta, x)
    wanted = {"dot": lambda: per_sample(x, f), "norm": lambda: per_sample(f, f) / 2}
    wanted["norm_below"] = lambda: -per_sample(f, f) / 2
    close(energy.energy(theta, x), wanted[energy.head](), 1e-13)


@pytest.mark.parametrize("name", ENERGIES)
def test_field_energy__levels_1_to_3_are_the_derivatives(name):
    energy, theta, x, rng = case(name)
    check_level_1(energy, theta, x, rng)
    check_level_2(energy, theta, x, rng)
    check_level_3(energy, theta, x, rng, 1e-7)


@pytest.mark.parametrize("name", ENERGIES)
def test_field_energy__gradients_are_the_field_s_products(name):
    """dot: f + J'x, and its gradient along v by (g, h, v) = (v, x, v); norm: J'f, by (J v, f, v)."""
    energy, theta, x, rng = case(name)
    field, v = energy.field, rng.normal(size=x.shape)
    f, jv = field.field_jvp(theta, x, v)
    sign = {"dot": 1, "norm": 1, "norm_below": -1}[energy.head]
    dot = energy.head == "dot"
    wanted = f + field.field_vjp(theta, x, x) if dot else sign * field.field_vjp(theta, x, f)
    close(energy.grad_x(theta, x), wanted, 1e-13)
    g, h = (v, x) if dot else (sign * jv, sign * f)
    grads, found = field.field_grad_theta_along(theta, x, g, h, v), energy.grad_theta_along(theta, x, v)
    for key in theta:
        close(found[key], grads[key], 1e-12)


@pytest.mark.parametrize("name", ENERGIES)
def test_field_energy__keeps_float32(name):
    energy, theta, x, _ = case(name, dtype=np.float32)
    w = np.ones(3, np.float32)
    found = [*energy.energy_and_grad_x(theta, x), *energy.grad_theta(theta, x, w).values()]
    found += [energy.hvp(theta, x, x), energy.curvature(theta, x, x)]
    found += energy.grad_theta_along(theta, x, x).values()
    found += energy.grad_theta_curvature(theta, x, x, w).values()
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


@pytest.mark.parametrize("head", HEADS)
def test_check_live__refuses_exactly_what_cannot_move(head):
    """With out.w = out.b = 0 the loss |grad_x E - target|^2 has gradient exactly 0 under a norm head, not under dot."""
    energy, x = FieldEnergy(MLPField((3,), (4,)), head), np.random.default_rng(5).normal(size=(6, 3))
    theta = theta_init(energy, 0, np.float64)
    energy.check_live(theta)
    dead = theta | {"out.w": 0 * theta["out.w"]}
    residual = energy.grad_x(dead, x) - 1.0
    moves = any((g != 0).any() for g in energy.grad_theta_along(dead, x, residual).values())
    assert moves == (head == "dot")
    if head == "dot":
        energy.check_live(dead)
        return
    with pytest.raises(RangeError, match=f"^theta: expected a last layer .* head {head}"):
        energy.check_live(dead)
    energy.check_live(dead | {"out.b": theta["out.b"] + 1})
    biased = energy.grad_theta_along(dead | {"out.b": theta["out.b"] + 1}, x, residual)
    assert (biased["out.w"] != 0).any()  # f = out.b is enough for J' f to grow


REFUSED = {
    "field: expected a field, found MLPEnergy": (DTypeError, lambda: FieldEnergy(MLPEnergy((3,)))),
    "field: expected a field, found str": (DTypeError, lambda: FieldEnergy("net")),
    "head: expected one of dot, norm, norm_below, found 'l2'": (RangeError, lambda: FieldEnergy(FIELDS["mlp"], "l2")),
    r"field: expected f like x, \(2, 3\), found \(2, 4\)": (ShapeError, lambda: FieldEnergy(WIDE["mlp-out"])),
    "the thing needs a twice": (
        SmoothnessError,
        lambda: FieldEnergy(MLPField((3,), (4,), "relu")).require_smooth("the thing"),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_field_energy__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=f"^{said}"):
        call()


@pytest.mark.parametrize("method", ["hvp", "grad_theta_along", "curvature"])
def test_field_energy__refuses_level_2_of_a_kinked_field(method):
    energy = FieldEnergy(MLPField((3,), (4,), "relu"))
    theta, x = theta_init(energy, 0, np.float64), np.ones((2, 3))
    energy.grad_x(theta, x)
    with pytest.raises(SmoothnessError, match=f"^{method}"):
        getattr(energy, method)(theta, x, x)
