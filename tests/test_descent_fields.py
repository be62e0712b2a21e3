"""Descent on fields: what it shares with descent on energies, the early stop's rules, labels, and where it ends."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
import pytest
from derivatives import close, random_theta
from duck import Duck
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    SGLD,
    ULA,
    AdamDescent,
    ClassifierEnergy,
    EquilibriumField,
    EquilibriumTarget,
    FieldEnergy,
    GradientDescent,
    GuidedField,
    LabelField,
    LookAheadDescent,
    MLPEnergy,
    MLPField,
    NesterovDescent,
    NoiseConditionalEnergy,
    QuadraticEnergy,
    Stream,
    SumField,
    TimeField,
    descent_point,
    descent_run,
    descent_start,
    descent_step,
    noise_normal,
)
from ebm_ref.contracts import DTypeError, ShapeError
from ebm_ref.evaluation import auroc, score_energy, score_field_norm, score_grad_norm

RULES = [GradientDescent(0.1), NesterovDescent(0.1, 0.6), LookAheadDescent(0.1, 0.3), AdamDescent(0.05)]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


@dataclass(frozen=True)
class Spiral:
    """f(x, y) = (a x - b y, a y + b x): no gradient for b != 0; sample by sample, in calls that any array answers."""

    shape: tuple[int, ...] = (2,)
    out_shape: tuple[int, ...] = (2,)

    def theta_shapes(self):
        return {"a": (1,), "b": (1,)}

    def field(self, theta, x):
        return theta["a"] * x + theta["b"] * x[:, ::-1] * np.asarray([-1.0, 1.0], dtype=x.dtype, like=x)


SPIRAL, TURN = Spiral(), {"a": np.array([1.0]), "b": np.array([0.7])}


def starts(N=7, D=2, dtype=np.float64):
    return 2 * noise_normal(43, Stream.SAMPLE_START, 0, np.arange(N), D, dtype)


def norms(field, theta, x):
    return np.sqrt((field.field(theta, x) ** 2).sum(axis=1))


# ------------------------------------------------------------------------------------- the rules of the early stop


def test_descent_run__on_a_spiral_is_the_matrix_power():
    """x_K = (I - eta A)^K x_0, each step by |1 - eta (a + b i)|, on a field that no energy has."""
    x0, eta, K = starts(), 0.1, 30
    A = np.array([[1.0, -0.7], [0.7, 1.0]])
    x, _, info = descent_run(SPIRAL, TURN, x0, K, GradientDescent(eta))
    close(x, x0 @ np.linalg.matrix_power(np.eye(2) - eta * A, K).T, 1e-13)
    rate = abs(1 - eta * (1 + 0.7j))
    close(info.grad_norm, norms(SPIRAL, TURN, x0) * rate ** np.arange(K)[:, None], 1e-13)
    assert info.energy.shape == (0, 7) and info.energy.dtype == x.dtype and (info.extra["nfe"] == K).all()


@each_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_descent_run__of_a_field_without_a_stop_is_the_loop(rule, dtype):
    theta = {name: value.astype(dtype) for name, value in TURN.items()}
    x0 = starts(dtype=dtype)
    x, end, info = descent_run(SPIRAL, theta, x0, 9, rule)
    want, state = x0, descent_start(rule, x0)
    for _ in range(9):
        want, state = descent_step(rule, want, SPIRAL.field(theta, descent_point(rule, want, state)), state)
    assert (x == want).all() and x.dtype == dtype and not info.extra["stopped"].any()
    half, middle, _ = descent_run(SPIRAL, theta, x0, 4, rule)
    rest, last, _ = descent_run(SPIRAL, theta, half, 5, rule, state=middle)
    assert (rest == x).all() and all((last[name] == end[name]).all() for name in end)


@each_rule
def test_descent_run__of_a_field_stops_each_sample_alone_and_for_good(rule):
    """A sample in a batch is the sample alone to the bit; a second run stops at once; |f| < g_min where it stopped."""
    x0, g_min = starts(), 0.3
    x, state, info = descent_run(SPIRAL, TURN, x0, 900, rule, g_min)
    nfe = info.extra["nfe"]
    assert info.extra["stopped"].all() and len(set(nfe)) > 3 and (norms(SPIRAL, TURN, x) < g_min).all()
    for n in range(7):
        alone, _, one = descent_run(SPIRAL, TURN, x0[n : n + 1], 900, rule, g_min)
        assert (alone[0] == x[n]).all() and one.extra["nfe"] == nfe[n]
        assert (info.grad_norm[: nfe[n] - 1, n] >= g_min).all() and (info.grad_norm[nfe[n] - 1 :, n] < g_min).all()
    for carried in (None, state):
        again, _, info = descent_run(SPIRAL, TURN, x, 900, rule, g_min, carried)
        assert (again == x).all() and (info.extra["nfe"] == 1).all()


@each_rule
def test_descent_run__stops_no_later_for_a_larger_g_min(rule):
    """For a field, and for an energy; g_min = 0 takes all K steps."""
    cases = [(SPIRAL, TURN, starts()), (Bowl((2,)), bowl_theta(0.5, 2.0), starts())]
    cases.append((FieldEnergy(MLPField((2,), (4,)), "norm"), random_theta(MLPField((2,), (4,)), RNG), starts()))
    for model, theta, x0 in cases:
        counts = [descent_run(model, theta, x0, 60, rule, g)[2].extra["nfe"] for g in (0.0, 0.01, 0.1, 0.5, 2.0)]
        assert (counts[0] == 60).all() and all((a >= b).all() for a, b in zip(counts[:-1], counts[1:], strict=True))
        assert counts[-1].sum() < counts[0].sum()


RNG = np.random.default_rng(7)


@pytest.mark.parametrize("g_min", [0.3, 0.03])
def test_descent_run__meets_the_descent_lemma_off_the_quadratics(g_min):
    """nfe <= ceil(2 (E_0 - min E) / (eta g_min^2)) for eta = 1 / L, on a field and on its energy: log cosh, L = 1."""
    x0 = 3 * starts(40)
    for model in (LogCosh(), Slope()):
        x, _, info = descent_run(model, {}, x0, 20_000, GradientDescent(1.0), g_min)
        bound = np.ceil(2 * LogCosh().energy({}, x0) / g_min**2)
        assert info.extra["stopped"].all() and (info.extra["nfe"] <= bound).all() and (np.abs(np.tanh(x)) < g_min).all()
        assert info.extra["nfe"].max() > 5


class Slope:
    """f(x) = tanh x."""

    shape = out_shape = (2,)

    def theta_shapes(self):
        return {}

    def field(self, theta, x):
        return np.tanh(x)


class LogCosh(Bowl):
    """E(x) = sum_d log cosh x_d, of curvature at most 1."""

    shape = (2,)

    def __init__(self):
        pass

    def energy_and_grad_x(self, theta, x):
        return np.sum(np.log(np.cosh(x)), axis=1), np.tanh(x)


@pytest.mark.parametrize("update", [ULA(0.1), SGLD(0.1, 0.1)], ids=["ULA", "SGLD"])
def test_descent_run__is_for_descent_only(update):
    with pytest.raises(DTypeError, match="^rule: expected one of GradientDescent"):
        descent_run(SPIRAL, TURN, starts(), 5, update, 0.1)


def test_langevin__stopped_where_the_gradient_is_small_is_not_the_law():
    """Why there is no such stop: chains of N(0, 1) that stop at |g| < 0.1 have a variance below 0.01 / 1, not 1."""
    energy, theta, N = Bowl(), bowl_theta(1.0), 400
    x, done = noise_normal(1, Stream.SAMPLE_START, 0, np.arange(N), 1), np.zeros(N, bool)
    free = x
    for k in range(400):
        done |= np.abs(energy.grad_x(theta, x))[:, 0] < 0.1
        x = np.where(done[:, None], x, ebm_ref.langevin_run(energy, theta, x, 1, ULA(0.1), 2, k)[0])
        free = ebm_ref.langevin_run(energy, theta, free, 1, ULA(0.1), 2, k)[0]
    assert done.all() and x.var() < 0.01 and 0.75 < free.var() < 1.3


def test_descent_run__of_a_field_counts_what_is_not_finite():
    class Cliff(Spiral):
        def field(self, theta, x):
            assert np.isfinite(x).all()
            return np.where(np.abs(x) < 0.5, np.nan, super().field(theta, x))

    x0 = np.array([[2.0, 2.0], [0.1, 0.1], [np.float64(1e308), 1e308]])
    x, _, info = descent_run(Cliff(), TURN | {"b": np.zeros(1)}, x0, 200, GradientDescent(0.1))
    assert np.isfinite(x).all() and info.nonfinite == 3 - info.alive.sum() and not info.alive[:2].any()
    assert (x[1] == x0[1]).all() and 0.44 < x[0, 0] < 0.5 and info.extra["nfe"][1] == 1


def test_descent_run__of_a_field_on_any_array_that_answers_numpy():
    want, _, info = descent_run(SPIRAL, TURN, starts(), 40, NesterovDescent(0.1, 0.6), 0.3)
    ducks = {name: Duck.of(value) for name, value in TURN.items()}
    x, _, found = descent_run(SPIRAL, ducks, Duck.of(starts()), 40, NesterovDescent(0.1, 0.6), 0.3)
    assert (x.get() == want).all() and (found.extra["nfe"].get() == info.extra["nfe"]).all()
    assert found.energy.shape == (0, 7)


def test_descent_run__refuses_what_is_no_slope():
    wide = MLPField((3,), (4,), out_channels=2)
    with pytest.raises(ShapeError, match=r"^energy: expected a field with f like x, \(3,\), found \(2,\)"):
        descent_run(wide, random_theta(wide, RNG), np.zeros((2, 3)), 1, GradientDescent(0.1))
    for unheld in (LabelField(wide, 1), TimeField(wide)):
        with pytest.raises(DTypeError, match=rf"^energy: .* held by its at\(\), found {type(unheld).__name__}"):
            descent_run(unheld, {}, starts(), 1, GradientDescent(0.1))
    with pytest.raises(DTypeError, match="^energy: expected an energy or a field.*, found str"):
        descent_run("a net", {}, starts(), 1, GradientDescent(0.1))


# ----------------------------------------------------------------------------- an explicit energy, sums, labels, times


@pytest.mark.parametrize("head", ["dot", "norm", "norm_below"])
def test_descent_run__of_an_explicit_energy_follows_its_gradient_and_not_its_field(head):
    energy, x0 = FieldEnergy(MLPField((2,), (8,)), head), starts()
    theta = random_theta(energy, RNG)
    x, _, info = descent_run(energy, theta, x0, 1, GradientDescent(0.01))
    h = 1e-5
    slope = [
        (energy.energy(theta, x0 + h * unit) - energy.energy(theta, x0 - h * unit)) / (2 * h) for unit in np.eye(2)
    ]
    close(x, x0 - 0.01 * np.stack(slope, axis=-1), 1e-8)
    close(info.energy[0], energy.energy(theta, x0), 0)
    assert np.abs(x - (x0 - 0.01 * energy.field.field(theta, x0))).max() > 1e-3
    lower = energy.energy(theta, descent_run(energy, theta, x0, 3, GradientDescent(1e-4))[0])
    assert (lower < energy.energy(theta, x0)).all()


def test_descent_run__of_copies_is_a_longer_step():
    """K copies added are K f: eta / K takes the same path."""
    field, x0 = MLPField((2,), (8,)), starts()
    theta = random_theta(field, RNG)
    copies = {f"{i}.{name}": value for i in range(4) for name, value in theta.items()}
    x, _, _ = descent_run(SumField((field,) * 4, (1.0,) * 4), copies, x0, 10, GradientDescent(0.02))
    close(x, descent_run(field, theta, x0, 10, GradientDescent(0.08))[0], 1e-10)


def test_descent_run__of_samples_held_at_something_of_their_own():
    """With a stop, which leaves rows out: each sample with its label, its time or its class is the sample alone."""
    x0, y, t = starts(), np.array([0, 1, -1, 1, 0, -1, 1]), np.linspace(0.1, 0.9, 7)
    labels, times = LabelField(MLPField((4,), (8,), out_channels=2), 2), TimeField(MLPField((3,), (8,), out_channels=2))
    classes, levels = (
        ClassifierEnergy(MLPEnergy((2,), (8,)), 3),
        NoiseConditionalEnergy(MLPEnergy((3,), (8,)), 0.1, 1.0),
    )
    cases = [
        (labels, lambda n: labels.at(y[n]), 1),
        (labels, lambda n: GuidedField(labels, y[n] % 2, 2.0), 1),
        (labels, lambda n: FieldEnergy(labels.at(y[n]), "norm"), 1),
        (labels, lambda n: SumField((labels.at(y[n]), QUIET), (1.0, 0.5)), "0."),
        (times, lambda n: times.at(t[n]), 1),
        (levels, lambda n: levels.at(t[n]), 1),
        (classes, lambda n: classes.given(y[n] % 2), 1),
    ]
    for of, at, prefix in cases:
        theta = random_theta(of, np.random.default_rng(3))
        theta = theta if prefix == 1 else {prefix + name: value for name, value in theta.items()}
        free = descent_run(at(slice(None)), theta, x0, 20, GradientDescent(0.02))[2]
        g_min = 1.001 * float(np.median(free.grad_norm[10]))
        x, _, info = descent_run(at(slice(None)), theta, x0, 20, GradientDescent(0.02), g_min)
        assert 0 < info.extra["stopped"].sum() < 7 and len(set(info.extra["nfe"])) > 1
        for n in range(7):
            alone, _, one = descent_run(at(slice(n, n + 1)), theta, x0[n : n + 1], 20, GradientDescent(0.02), g_min)
            close(alone[0], x[n], 1e-12)
            assert one.extra["nfe"] == info.extra["nfe"][n]


QUIET = Slope()


# ------------------------------------------------------------------------ where equilibrium matching's descent ends

POINTS = np.array([[1.0, 0.5], [-1.0, -0.5], [0.5, -1.5]])
BEST = EquilibriumField(POINTS, EquilibriumTarget(), cells=1)


def nearest(x):
    """Distance to the nearest point, and which it is."""
    gap = np.linalg.norm(x[:, None] - POINTS, axis=2)
    return gap.min(axis=1), gap.argmin(axis=1)


def test_descent_run__on_the_best_field_ends_at_the_data():
    """Run on, it returns the data set: all of its points, and nothing between. What is not a copy stopped early."""
    x0 = noise_normal(2, Stream.SAMPLE_START, 0, np.arange(60), 2)
    x, _, info = descent_run(BEST, {}, x0, 200, GradientDescent(0.02), 1e-6)
    gap, which = nearest(x)
    assert gap.max() < 1e-6 and (np.bincount(which, minlength=3) >= 8).all() and info.extra["stopped"].all()
    early, _, info = descent_run(BEST, {}, x0, 200, GradientDescent(0.02), 2.0)
    assert info.extra["stopped"].all() and nearest(early)[0].max() > 0.05 and info.extra["nfe"].mean() < 40


def test_descent_run__starts_from_an_input_that_is_noisy_in_part():
    """From gamma x + (1 - gamma) e more end at their own x, the larger gamma is; from gamma = 1 all, at once."""
    e, own = noise_normal(3, Stream.SAMPLE_START, 0, np.arange(90), 2), np.arange(90) % 3
    share, steps = [], []
    for gamma in (0.0, 0.5, 0.8, 1.0):
        x, _, info = descent_run(BEST, {}, gamma * POINTS[own] + (1 - gamma) * e, 200, GradientDescent(0.02), 1e-5)
        share.append((nearest(x)[1] == own).mean())
        steps.append(info.extra["nfe"].mean())
    assert share == sorted(share) and share[0] < 0.55 and share[2] > 0.95 and share[3] == 1
    assert steps == sorted(steps, reverse=True) and steps[3] == 1


def test_scores__of_a_field_and_of_its_energy_rank_data_first():
    """-|f| of an implicit field; of an explicit one -E, and -|grad E|, which is score_field_norm of its gradient."""
    away = 3 * noise_normal(4, Stream.EVALUATION, 0, np.arange(50), 2)
    near = np.repeat(POINTS, 10, axis=0) + 0.01 * noise_normal(5, Stream.EVALUATION, 0, np.arange(30), 2)
    found = score_field_norm(BEST, {}, near)
    close(found, -np.linalg.norm(BEST.field({}, near), axis=1), 1e-14)
    assert auroc(found, score_field_norm(BEST, {}, away)) > 0.95
    quadratic, theta = QuadraticEnergy((2,)), {"mu": np.ones(2), "P": np.eye(2)}
    close(score_grad_norm(quadratic, theta, near), score_field_norm(Shifted(), {}, near), 1e-14)
    assert auroc(score_energy(quadratic, theta, near), score_energy(quadratic, theta, 9 + away)) == 1


class Shifted(Slope):
    """f(x) = x - 1."""

    def field(self, theta, x):
        return x - 1


# ------------------------------------------------- look-ahead, on E = x^2 / 2 with a = eta: what it gains, and what not


def factor(a, mu):
    """The larger root of z^2 - (1 - a (1 + mu)) z - mu a = 0."""
    return np.abs(np.roots([1, -(1 - a * (1 + mu)), -mu * a])).max()


def test_look_ahead__is_a_better_integrator_and_no_acceleration():
    """1 - a + mu a^2 + O(a^3): never faster than descent's 1 - a; at mu = 1/2 it is e^-a to second order."""
    for mu in (0.1, 0.3, 0.5, 0.9):
        for a in (0.01, 0.05, 0.1):
            assert factor(a, mu) > 1 - a and abs(factor(a, mu) - (1 - a + mu * a * a)) < 2 * a**3
    assert f"{factor(0.1, 0.5):.4f}" == "0.9052" and f"{exp(-0.1):.4f}" == "0.9048"
    x, _, info = descent_run(Bowl(), bowl_theta(1.0), np.ones((1, 1)), 120, LookAheadDescent(0.1, 0.5))
    assert info.grad_norm[-1, 0] / info.grad_norm[-2, 0] == pytest.approx(factor(0.1, 0.5), rel=1e-10)
    gaps = [abs(factor(a, 0.5) - exp(-a)) for a in (0.02, 0.01)]
    assert gaps[0] / gaps[1] == pytest.approx(8, rel=0.1) and gaps[0] < abs(0.98 - exp(-0.02)) / 10
