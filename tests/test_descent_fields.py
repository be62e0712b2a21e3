"""Descent on fields: what it shares with descent on energies, and the early stop's rules."""

from __future__ import annotations

from dataclasses import dataclass

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
    FieldEnergy,
    GradientDescent,
    LabelField,
    LookAheadDescent,
    MLPField,
    NesterovDescent,
    Stream,
    TimeField,
    descent_point,
    descent_run,
    descent_start,
    descent_step,
    noise_normal,
)
from ebm_ref.contracts import DTypeError, ShapeError

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
