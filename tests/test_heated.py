"""heated_run: the ramp, its stretches and addresses, resuming, chains that stop, and arrays and energies of others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import close
from duck import Duck
from duck_backend import DUCK_BACKEND
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import SGLD, InteractionEnergy, MLPEnergy, Stream, noise_normal, theta_init
from ebm_ref.contracts import DTypeError, RangeError
from ebm_ref.samplers import heated_run, heated_temperature, langevin_run

NET = MLPEnergy((3,), (6, 5))
THETA = theta_init(NET, 3, np.float64)
X0 = noise_normal(1, Stream.SAMPLE_START, 0, np.arange(5), 3)
each_scheme = pytest.mark.parametrize("scheme", ["euler", "heun"])


@pytest.mark.parametrize(
    ("s_star", "table"),
    [
        (0.8, {0.0: 0, 0.799999: 0, 0.8: 0, 0.9: 0.5, 0.999999: 0.999995, 1.0: 1, 2.0: 1}),
        (1.0, {0.0: 0, 0.999999: 0, 1.0: 1, 2.0: 1}),
        (0.25, {0.0: 0, 0.25: 0, 0.625: 0.5, 1.0: 1, 7.5: 1}),
    ],
)
def test_heated_temperature__is_the_table(s_star, table):
    for s, part in table.items():
        assert heated_temperature(s, 0.15, s_star) == pytest.approx(0.15 * part, abs=1e-15)


@pytest.mark.parametrize(("s_star", "rise"), [(0.999, 1e-3), (0.8, 5e-6), (1.0, 1.0)])
def test_heated_temperature__is_continuous_iff_s_star_is_below_1(s_star, rise):
    """The largest rise over 1e-6, about both ends of the ramp: 1e-6 / (1 - s_star), and all of tau at s_star = 1."""
    s = np.concatenate([end + 1e-6 * np.arange(-20, 21) for end in (s_star, 1.0)])
    tau = np.array([heated_temperature(float(at), 1.0, s_star) for at in s]).reshape(2, -1)
    assert np.diff(tau).max() == pytest.approx(rise, rel=1e-6) and (np.diff(tau) >= 0).all()


def logged(calls):
    """ebm_ref, whose langevin_run keeps a list of (K, sigma, step)."""

    def run(energy, theta, x0, K, update, seed, step=0, **rest):
        calls.append((K, update.sigma, step))
        return langevin_run(energy, theta, x0, K, update, seed, step, **rest)

    return SimpleNamespace(noise_normal=noise_normal, langevin_run=run)


def test_heated_run__is_one_langevin_run_for_each_stretch_of_one_temperature():
    """tau = 0.2, s_star = 0.75, dt = 1/8: 7 cold steps, of which s = 0.75 is the last, one on the ramp, 5 hot."""
    calls = []
    x, info = heated_run(logged(calls), NET, THETA, X0, 13, 0.125, 0.2, 0.75, seed=4, step=100)
    assert [(K, step) for K, _, step in calls] == [(7, 100), (1, 107), (5, 108)]
    np.testing.assert_allclose([s**2 / 0.25 for _, s, _ in calls], [0, 0.1, 0.2], rtol=0, atol=1e-15)
    np.testing.assert_allclose(info.extra["tau"], [0] * 7 + [0.1] + [0.2] * 5, rtol=0, atol=1e-15)
    want = X0
    for k in range(13):
        sigma = float(np.sqrt(2 * 0.125 * info.extra["tau"][k]))
        want, one = langevin_run(NET, THETA, want, 1, SGLD(0.125, sigma), 4, 100 + k)
        np.testing.assert_array_equal(info.energy[k], one.energy[0])
        np.testing.assert_array_equal(info.grad_norm[k], one.grad_norm[0])
    close(x, want, 1e-13)


def test_heated_run__hot_is_one_stretch():
    calls = []
    x, _ = heated_run(logged(calls), NET, THETA, X0, 9, 0.1, 0.2, 0.8, seed=4, hot=True)
    assert calls == [(9, np.sqrt(2 * 0.1 * 0.2), 0)]
    np.testing.assert_array_equal(x, langevin_run(NET, THETA, X0, 9, SGLD(0.1, np.sqrt(0.04)), 4)[0])


def test_heated_run__heun_is_the_equation():
    """Predictor, mean gradient, mean of the two noise scales: one step on the ramp."""
    dt, tau, s_star, done = 0.1, 0.3, 0.5, 7
    x, info = heated_run(ebm_ref, NET, THETA, X0, 1, dt, tau, s_star, seed=4, step=2, scheme="heun", done=done)
    xi = noise_normal(4, Stream.CHAIN_NOISE, 2, np.arange(5), 3)
    sigma, after = (np.sqrt(2 * dt * tau * (s - 0.5) / 0.5) for s in (0.7, 0.8))
    E, g = NET.energy_and_grad_x(THETA, X0)
    ahead = X0 - dt * g + sigma * xi
    close(x, X0 - dt / 2 * (g + NET.grad_x(THETA, ahead)) + (sigma + after) / 2 * xi, 1e-14)
    np.testing.assert_array_equal(info.energy[0], E)


def test_heated_run__heun_descends_to_second_order():
    """Without noise: the error at time 0.5 falls by 4 for half the step, and by 2 with euler."""
    x0, lam = np.array([[1.0]]), bowl_theta(2.0)
    for scheme, order in (("euler", 1), ("heun", 2)):
        errors = []
        for K in (20, 40):
            x, _ = heated_run(ebm_ref, Bowl(), lam, x0, K, 0.5 / K, 0.1, 1.0, seed=1, scheme=scheme)
            errors.append(abs(x[0, 0] - np.exp(-1.0)))
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.06)


@each_scheme
@pytest.mark.parametrize("first", [0, 3, 9, 12])
def test_heated_run__goes_on_where_it_stopped(scheme, first):
    args = {"dt": 0.1, "tau": 0.2, "s_star": 0.6, "seed": 4, "scheme": scheme}
    x, info = heated_run(ebm_ref, NET, THETA, X0, 12, step=5, **args)
    half, start = heated_run(ebm_ref, NET, THETA, X0, first, step=5, **args)
    rest, end = heated_run(ebm_ref, NET, THETA, half, 12 - first, step=5 + first, done=first, **args)
    np.testing.assert_array_equal(rest, x)
    for name in ("energy", "grad_norm"):
        np.testing.assert_array_equal(np.concatenate([getattr(start, name), getattr(end, name)]), getattr(info, name))


@each_scheme
def test_heated_run__a_chain_depends_on_its_address_alone(scheme):
    args = (9, 0.1, 0.2, 0.4)
    x, _ = heated_run(ebm_ref, NET, THETA, X0, *args, seed=4, chains=np.arange(10, 15), scheme=scheme)
    order = np.array([3, 0, 4])
    part, _ = heated_run(ebm_ref, NET, THETA, X0[order], *args, seed=4, chains=10 + order, scheme=scheme)
    close(part, x[order], 1e-13)


@each_scheme
def test_heated_run__keeps_the_box_and_its_start(scheme):
    before = X0.copy()
    x, _ = heated_run(ebm_ref, NET, THETA, X0, 9, 0.3, 4.0, 0.2, seed=4, box=(-0.5, 0.75), scheme=scheme)
    assert x.min() == -0.5 and x.max() == 0.75
    np.testing.assert_array_equal(X0, before)


class Cliff(Bowl):
    """A bowl whose gradient is NaN where x > 2."""

    def energy_and_grad_x(self, theta, x):
        assert np.isfinite(x).all()  # like the library's energies
        E, g = super().energy_and_grad_x(theta, x)
        return E, np.where(x > 2, np.nan, g)


@each_scheme
def test_heated_run__a_chain_that_stops_stays_through_every_stretch(scheme):
    """The first is over the cliff from the start; the second is pushed over it in the cold, the third moves on."""
    x0 = np.array([[3.0], [1.5], [0.5]])
    x, info = heated_run(ebm_ref, Cliff(), bowl_theta(-1.0), x0, 12, 0.1, 0.01, 0.6, seed=1, scheme=scheme)
    assert info.alive.tolist() == [False, False, True] and info.nonfinite == 2
    assert x[0] == 3.0 and 1.8 < x[1] < 2.3 and x[2] > 0.5
    kept, _ = heated_run(ebm_ref, Cliff(), bowl_theta(-1.0), x0, 5, 0.1, 0.01, 0.6, seed=1, scheme=scheme)
    assert x[1] == kept[1]


@each_scheme
def test_heated_run__an_energy_that_is_not_finite_stops_a_chain(scheme):
    """Even where the gradient and the next state are finite."""

    class Wall(Bowl):
        def energy_and_grad_x(self, theta, x):
            E, g = super().energy_and_grad_x(theta, x)
            return np.where(x[:, 0] > 2, np.inf, E), g

    x0 = np.array([[3.0], [1.0]])
    x, info = heated_run(ebm_ref, Wall(), bowl_theta(1.0), x0, 4, 0.1, 0.01, 0.6, seed=1, scheme=scheme)
    assert x[0] == 3.0 and x[1] != 1.0 and info.alive.tolist() == [False, True]


class Thaw(Bowl):
    """A bowl that has no gradient where x > 2 in the cold."""

    cold = False

    def heated(self, tau):
        other = Thaw()
        object.__setattr__(other, "cold", tau == 0)
        return other

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        return E, np.where((x > 2) & self.cold, np.nan, g)


@each_scheme
def test_heated_run__a_chain_that_stopped_in_the_cold_does_not_revive(scheme):
    x0 = np.array([[3.0], [1.0]])
    x, info = heated_run(ebm_ref, Thaw(), bowl_theta(1.0), x0, 12, 0.1, 0.01, 0.6, seed=1, scheme=scheme)
    assert x[0] == 3.0 and x[1] != 1.0 and info.alive.tolist() == [False, True] and info.nonfinite == 1


@each_scheme
def test_heated_run__overflow_stops_a_chain_and_is_counted(scheme):
    x0 = np.array([[1e30], [1.0]], np.float32)
    theta = bowl_theta(1e10, dtype=np.float32)
    x, info = heated_run(ebm_ref, Bowl(), theta, x0, 3, 1e-12, 0.01, 0.6, seed=1, scheme=scheme)
    assert info.alive.tolist() == [False, True] and x[0] == x0[0] and x.dtype == np.float32
    assert info.energy.dtype == info.extra["tau"].dtype == np.float32


@each_scheme
def test_heated_run__runs_on_any_array_that_answers_numpy(scheme):
    theta, x0 = bowl_theta(1.0, 0.5), X0[:, :2].copy()
    args = {"K": 9, "dt": 0.1, "tau": 0.2, "s_star": 0.4, "seed": 4, "scheme": scheme, "box": (-2.0, 2.0)}
    x, info = heated_run(ebm_ref, Bowl((2,)), theta, x0, **args)
    lam = {name: Duck.of(value) for name, value in theta.items()}
    y, found = heated_run(DUCK_BACKEND, Bowl((2,)), lam, Duck.of(x0), **args)
    close(y.get(), x, 1e-15)
    close(found.energy.get(), info.energy, 1e-15)
    assert found.alive.get().all() and (found.extra["tau"].get() == info.extra["tau"]).all()


@each_scheme
def test_heated_run__on_numba_cpu_is_the_oracle_s(scheme, dtype=np.float32, tol=1e-5):
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    fast = backend("numba_cpu")
    theta, x0 = theta_init(NET, 3, dtype), X0.astype(dtype)
    args = {"K": 12, "dt": 0.1, "tau": 0.2, "s_star": 0.6, "seed": 4, "scheme": scheme}
    x, info = heated_run(ebm_ref, NET, theta, x0, **args)
    y, found = heated_run(fast, fast.MLPEnergy((3,), (6, 5)), theta, x0, **args)
    assert y.dtype == dtype
    close(y, x, tol)
    close(found.energy, info.energy, tol)


# ------------------------------------------------------------------------------------ with a repulsion between copies


def test_heated_run__repulsion_is_as_strong_as_the_noise():
    """Below s_star the copies do not see each other; on the plateau the repulsion has tau's strength."""
    group = InteractionEnergy(NET, 5, 2.0, 0.2)
    cold, info = heated_run(ebm_ref, group, THETA, X0[None], 5, 0.1, 0.2, 0.6, seed=4)
    alone, of_each = heated_run(ebm_ref, NET, THETA, X0, 5, 0.1, 0.2, 0.6, seed=4)
    close(cold[0], alone, 1e-14)
    close(info.energy[:, 0], of_each.energy.sum(axis=1), 1e-13)
    hot, _ = heated_run(ebm_ref, group, THETA, X0[None], 3, 0.1, 0.2, 0.6, seed=4, done=10)
    want, _ = langevin_run(group, THETA, X0[None], 3, SGLD(0.1, np.sqrt(2 * 0.1 * 0.2)), 4)
    close(hot, want, 1e-14)


def test_heated_run__refuses_a_step_at_which_copies_fly_apart():
    """2 tau C dt / sigma^2 = 1 at dt = 2."""
    group = InteractionEnergy(NET, 5, 2.0, 0.2)
    heated_run(ebm_ref, group, THETA, X0[None], 1, 1.99, 0.2, 0.6, seed=4)
    with pytest.raises(RangeError, match=r"^dt: expected 2 tau C dt / sigma\^2 < 1"):
        heated_run(ebm_ref, group, THETA, X0[None], 1, 2.0, 0.2, 0.6, seed=4)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tau": 0.0}, RangeError),
        ({"tau": -0.1}, RangeError),
        ({"s_star": 0.0}, RangeError),
        ({"s_star": 1.0001}, RangeError),
        ({"dt": 0.0}, RangeError),
        ({"scheme": "rk4"}, RangeError),
        ({"hot": 1}, DTypeError),
        ({"done": -1}, RangeError),
    ],
)
def test_heated_run__refuses_by_name(change, error):
    args = {"K": 2, "dt": 0.1, "tau": 0.2, "s_star": 0.6, "seed": 4} | change
    with pytest.raises(error, match=rf"^{next(iter(change))}: expected"):
        heated_run(ebm_ref, NET, THETA, X0, **args)
