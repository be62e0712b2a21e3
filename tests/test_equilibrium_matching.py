"""eqm_implicit, eqm_explicit, eqm_step: their gradients, draws and arrays, the dead start, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import check_theta_gradient, close, random_theta
from duck import Duck
from score_cases import DUCK_BACKEND, Level1, SmoothBowl, ducks, same_on_ducks

import ebm_ref
from ebm_ref import (
    ConvField,
    EquilibriumField,
    EquilibriumTarget,
    FieldEnergy,
    MLPEnergy,
    MLPField,
    Stream,
    TimeField,
    eqm_explicit,
    eqm_implicit,
    eqm_step,
    noise,
    theta_init,
)
from ebm_ref.contracts import BackendError, DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError

FIELDS = {
    "mlp": MLPField((3,), (5, 4)),
    "conv": ConvField((2, 4, 1), (2, 4), max_groups=2, activation="tanh"),
    "held": TimeField(MLPField((4,), (5,), out_channels=3)).at(0.3),
}
HEADS = ("dot", "norm", "norm_below")
TARGET = EquilibriumTarget("piecewise", 0.7, 1.5, 3.0)


def case(name, N=4, dtype=np.float64):
    field, rng = FIELDS[name], np.random.default_rng(7)
    theta = random_theta(field, rng, dtype)
    x, e = (rng.normal(size=(N, *field.shape)).astype(dtype) for _ in range(2))
    return field, theta, x, e, np.linspace(0, 1, N).astype(dtype), rng


@pytest.mark.parametrize("name", FIELDS)
def test_eqm_implicit__is_the_equation_and_its_derivative(name):
    field, theta, x, e, gamma, rng = case(name)
    loss, grads, info = eqm_implicit(field, theta, x, e, gamma, TARGET)
    losses = []
    for n in range(len(x)):
        at = gamma[n] * x[n] + (1 - gamma[n]) * e[n]
        losses.append(np.mean((field.field(theta, at[None])[0] - TARGET.at(gamma[n]) * (e[n] - x[n])) ** 2))
    close(info["losses"], losses, 1e-13)
    assert loss == pytest.approx(np.mean(losses), rel=1e-13)
    check_theta_gradient(lambda t: eqm_implicit(field, t, x, e, gamma, TARGET)[0], grads, theta, rng, 1e-7)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", FIELDS)
def test_eqm_explicit__is_the_equation_and_its_derivative(name, head):
    field, theta, x, e, gamma, rng = case(name)
    energy = FieldEnergy(field, head)
    loss, grads, info = eqm_explicit(energy, theta, x, e, gamma, TARGET)
    wide = gamma.reshape((-1,) + (1,) * (x.ndim - 1))
    r = energy.grad_x(theta, wide * x + (1 - wide) * e) - TARGET.at(gamma).reshape(wide.shape) * (e - x)
    close(info["losses"], (r**2).reshape(len(x), -1).mean(axis=1), 1e-13)
    assert loss == pytest.approx((r**2).mean(), rel=1e-13)
    check_theta_gradient(lambda t: eqm_explicit(energy, t, x, e, gamma, TARGET)[0], grads, theta, rng, 1e-6)


def test_eqm_explicit__takes_any_energy_of_level_2():
    energy, rng = MLPEnergy((3,), (5, 4), "softplus"), np.random.default_rng(7)
    theta, (x, e), gamma = random_theta(energy, rng), rng.normal(size=(2, 4, 3)), rng.uniform(size=4)
    _, grads, _ = eqm_explicit(energy, theta, x, e, gamma, TARGET)
    check_theta_gradient(lambda t: eqm_explicit(energy, t, x, e, gamma, TARGET)[0], grads, theta, rng, 1e-7)


@pytest.mark.parametrize("head", HEADS)
def test_eqm_explicit__norm_heads_cannot_start_at_0_and_dot_can(head):
    """out.w = out.b = 0: every gradient under a norm head is exactly 0, so it is refused; under dot, out.w moves."""
    field, theta, x, e, gamma, _ = case("mlp")
    energy = FieldEnergy(field, head)
    dead = theta | {"out.w": np.zeros_like(theta["out.w"]), "out.b": np.zeros_like(theta["out.b"])}
    if head == "dot":
        grads = eqm_explicit(energy, dead, x, e, gamma, TARGET)[1]
        assert np.abs(grads["out.w"]).min() > 0 and np.abs(grads["out.b"]).min() > 0
        assert not any(grads[name].any() for name in grads if not name.startswith("out"))  # they move a step later
        return
    r = energy.grad_x(dead, x)
    assert not r.any() and not any(grad.any() for grad in energy.grad_theta_along(dead, x, e).values())
    for call in (lambda t: eqm_explicit(energy, t, x, e, gamma, TARGET), lambda t: eqm_step_of(energy, t, x)):
        with pytest.raises(RangeError, match=r"^theta\b"):
            call(dead)
        call(dead | {"out.b": np.full_like(dead["out.b"], 1e-3)})


def eqm_step_of(model, theta, x, backend=ebm_ref, seed=3, step=2):
    return eqm_step(backend, model, theta, x, TARGET, seed, step)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eqm_step__is_the_loss_at_its_addresses(dtype):
    field, theta, x, _, _, _ = case("conv", 5, dtype)
    gamma = noise.noise_uniform(3, Stream.FLOW_TIME, 2, np.arange(5), 1, dtype)[:, 0]
    e = noise.noise_normal(3, Stream.FLOW_NOISE, 2, np.arange(5), 8, dtype).reshape(x.shape)
    for model, objective in ((field, eqm_implicit), (FieldEnergy(field, "norm"), eqm_explicit)):
        loss, grads, info = eqm_step_of(model, theta, x)
        want, want_grads, _ = objective(model, theta, x, e, gamma, TARGET)
        assert loss == want and loss.dtype == dtype
        assert all((grads[name] == want_grads[name]).all() and grads[name].dtype == dtype for name in theta)
        alone = eqm_step_of(model, theta, x[:2])[2]["losses"]  # a sample's draw does not depend on the batch
        np.testing.assert_allclose(alone, info["losses"][:2], rtol=1e-5 if dtype == np.float32 else 1e-12)
        assert eqm_step_of(model, theta, x, step=3)[0] != loss != eqm_step_of(model, theta, x, seed=4)[0]


@pytest.mark.parametrize("head", [None, "dot", "norm"])
def test_eqm_step__learns_to_rest_at_two_points(head):
    """250 steps of Adam go 9/10 of the way from f = 0 to the least loss; descent from noise ends at the points."""
    points = np.array([[1.0, 0.5], [-1.0, -0.5]])
    model = MLPField((2,), (16, 16)) if head is None else FieldEnergy(MLPField((2,), (16, 16)), head)
    theta = theta_init(model, 1, np.float64)
    moments, x, target = ebm_ref.adam_init(theta), np.repeat(points, 64, axis=0), EquilibriumTarget()
    for step in range(250):
        _, grads, _ = eqm_step(ebm_ref, model, theta, x, target, 5, step)
        theta, moments = ebm_ref.adam_step(theta, grads, moments, 5e-3)
    fresh = np.repeat(points, 500, axis=0)
    found, _, info = eqm_step(ebm_ref, model, theta, fresh, target, 6, 0)
    least = eqm_step(ebm_ref, EquilibriumField(points, target, cells=1), {}, fresh, target, 6, 0)[0]
    assert least < found < least + 0.1 * (info["zero"] - least)
    start = noise.noise_normal(5, Stream.SAMPLE_START, 0, np.arange(40), 2)
    end, _, _ = ebm_ref.descent_run(model, theta, start, 150, ebm_ref.GradientDescent(0.02))
    gap = np.linalg.norm(end[:, None] - points, axis=2)  # (40, 2)
    assert gap.min(axis=1).max() < 0.15 and (np.bincount(gap.argmin(axis=1)) > 10).all()


class BowlField(SmoothBowl):
    """f(x) = lam x, in calls that any array answers."""

    out_shape = property(lambda self: self.shape)

    def field(self, theta, x):
        return SmoothBowl.hvp(self, theta, x, x)

    def field_grad_theta(self, theta, x, g):
        return SmoothBowl.grad_theta_along(self, theta, x, g)


@pytest.mark.parametrize("explicit", [False, True])
def test_eqm__works_on_any_array_that_answers_numpy(explicit):
    model, objective = (SmoothBowl((3,)), eqm_explicit) if explicit else (BowlField((3,)), eqm_implicit)
    theta = {"lam": np.array([0.5, 1.0, 2.0]), "bias": np.zeros(1)}
    _, _, x, e, gamma, _ = case("mlp")
    for target in (TARGET, EquilibriumTarget("linear"), EquilibriumTarget()):
        want = objective(model, theta, x, e, gamma, target)
        same_on_ducks(want, objective(model, ducks(theta), Duck.of(x), Duck.of(e), Duck.of(gamma), target))
    want = eqm_step_of(model, theta, x)
    same_on_ducks(want, eqm_step_of(model, ducks(theta), Duck.of(x), DUCK_BACKEND))


X, E, GAMMA = np.ones((4, 3)), np.zeros((4, 3)), np.full(4, 0.5)
THETA = theta_init(FIELDS["mlp"], 1, np.float64)
WIDE = MLPField((3,), (4,), out_channels=2)
ARGS = {"model": FIELDS["mlp"], "theta": THETA, "x": X, "e": E, "gamma": GAMMA, "target": TARGET}
BAD = {
    "gamma above 1": ({"gamma": np.array([0.5, 0.5, 0.5, 1.001])}, RangeError, "gamma"),
    "gamma below 0": ({"gamma": np.array([0.5, -1e-9, 0.5, 1.0])}, RangeError, "gamma"),
    "gamma a number": ({"gamma": 0.5}, DTypeError, "gamma"),
    "gamma as a column": ({"gamma": GAMMA[:, None]}, ShapeError, "gamma"),
    "gamma in float32": ({"gamma": GAMMA.astype(np.float32)}, DTypeError, "gamma"),
    "e of another shape": ({"e": E[:3]}, ShapeError, "e"),
    "e NaN": ({"e": np.full((4, 3), np.nan)}, NonFiniteError, "e"),
    "no data": ({"x": X[:0]}, ShapeError, "x"),
    "a target that is a number": ({"target": 4.0}, DTypeError, "target"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("explicit", [False, True])
def test_eqm__refuses_wrong_arguments(what, explicit):
    change, error, name = BAD[what]
    args = ARGS | change
    model = FieldEnergy(args.pop("model")) if explicit else args.pop("model")
    with pytest.raises(error, match=rf"^{name}\b"):
        (eqm_explicit if explicit else eqm_implicit)(model, **args)


class Ramp:
    """Somebody's own c, which checks nothing."""

    def at(self, gamma):
        return 1 - gamma


def test_eqm__checks_the_times_of_any_target():
    args = ARGS | {"target": Ramp()}
    assert eqm_implicit(args.pop("model"), **args)[0] > 0
    with pytest.raises(RangeError, match="^gamma"):
        eqm_implicit(FIELDS["mlp"], **args | {"gamma": GAMMA + 0.6})


@pytest.mark.parametrize(
    ("call", "error", "start"),
    [
        (lambda: eqm_implicit(MLPEnergy((3,)), THETA, X, E, GAMMA, TARGET), DTypeError, "field"),
        (lambda: eqm_implicit(WIDE, {}, X, E, GAMMA, TARGET), ShapeError, "field"),
        (lambda: eqm_explicit(Level1((3,)), THETA, X, E, GAMMA, TARGET), BackendError, "eqm_explicit"),
        (lambda: eqm_explicit(FieldEnergy(WIDE, "norm"), THETA, X, E, GAMMA, TARGET), ShapeError, "theta"),
        (
            lambda: eqm_explicit(FieldEnergy(MLPField((3,), (4,), "relu")), THETA, X, E, GAMMA, TARGET),
            SmoothnessError,
            "eqm_explicit",
        ),
        (lambda: eqm_step_of(TimeField(WIDE), THETA, X), DTypeError, "model: .* held by its at.*TimeField"),
        (lambda: eqm_implicit(TimeField(WIDE), THETA, X, E, GAMMA, TARGET), DTypeError, "field"),
        (lambda: eqm_step_of("a net", THETA, X), DTypeError, "model"),
        (lambda: eqm_step_of(FIELDS["mlp"], THETA, X[:0]), ShapeError, "x"),
        (lambda: eqm_step_of(FIELDS["mlp"], THETA, X, seed=-1), RangeError, "seed"),
        (lambda: EquilibriumTarget("constant"), RangeError, "kind"),
        (lambda: EquilibriumTarget(a=0.0), RangeError, "a"),
        (lambda: EquilibriumTarget(a=1.0), RangeError, "a"),
        (lambda: EquilibriumTarget("linear", a=1.0), RangeError, "a"),
        (lambda: EquilibriumTarget(b=-0.1), RangeError, "b"),
        (lambda: EquilibriumTarget(scale=0.0), RangeError, "scale"),
        (lambda: TARGET.at(1.1), RangeError, "gamma"),
        (lambda: TARGET.at(np.array([0.5, np.nan])), RangeError, "gamma"),
        (lambda: TARGET.at("half"), DTypeError, "gamma"),
    ],
)
def test_eqm__refuses(call, error, start):
    with pytest.raises(error, match=rf"^{start}\b"):
        call()
