"""nce, ranking_nce, conditional_nce, maximum_likelihood: derivatives, laws, steps, noise, devices, refusals."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from derivatives import check_theta_gradient, close, random_theta
from duck import Duck
from duck_backend import DUCK_BACKEND, Away, inside, outside
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import (
    ConvEnergy,
    DTypeError,
    EbmError,
    GaussianNoise,
    MLPEnergy,
    NonFiniteError,
    QuadraticEnergy,
    RangeError,
    RBMEnergy,
    ShapeError,
    Stream,
    UniformNoise,
    adam_init,
    adam_step,
    conditional_nce,
    conditional_nce_step,
    gaussian_noise_fit,
    maximum_likelihood,
    ml_step,
    nce,
    nce_split,
    nce_start,
    nce_step,
    noise_normal,
    noise_uniform,
    quadrature_grid,
    ranking_nce,
    ranking_nce_step,
)

ENERGIES = {
    "mlp": MLPEnergy((3,), (5, 4)),
    "conv": ConvEnergy((5, 4, 2), channels=(4, 6), strides=(2, 1), max_groups=2),
    "mlp-relu": MLPEnergy((3,), (4,), "relu"),  # level 1 is enough; no kink lies within 2 h of these points
    "rbm": RBMEnergy(4, 3),
}


def case(name, dtype=np.float64, N=5, K=3):
    """An energy and arguments for each objective; theta holds log_z for nce alone."""
    energy, rng = ENERGIES[name], np.random.default_rng(8)
    theta = random_theta(energy, rng, dtype)

    def draw(*size):
        return rng.normal(size=size).astype(dtype)

    x, far, many, near = draw(N, *energy.shape), draw(N + 2, *energy.shape), draw(N, K, *energy.shape), draw(N)
    return (
        energy,
        theta,
        {
            nce: (x, far, draw(N), draw(N + 2)),
            ranking_nce: (x, many, draw(N), draw(N, K)),
            conditional_nce: (x, x + 0.3 * draw(N, *energy.shape), near),
            maximum_likelihood: (x, far, np.abs(draw(N + 2)) + dtype(0.1)),
        },
    )


def theta_of(objective, theta):
    dtype = next(iter(theta.values())).dtype
    return theta | {"log_z": np.array([0.4], dtype)} if objective is nce else theta


OBJECTIVES = (nce, ranking_nce, conditional_nce, maximum_likelihood)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ENERGIES)
def test_objective__is_the_derivative(name, objective):
    energy, theta, args = case(name)
    theta = theta_of(objective, theta)
    _, grads, _ = objective(energy, theta, *args[objective])
    assert set(grads) == set(theta)
    rng = np.random.default_rng(9)
    check_theta_gradient(lambda t: objective(energy, t, *args[objective])[0], grads, theta, rng, 1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective__ignores_a_constant(objective):
    """0.3, 1: E + c moves no gradient, and that of the output bias is 0; in nce once log_z has taken c back."""
    energy, theta, args = case("mlp")
    theta = theta_of(objective, theta)
    moved = theta | {"out.b": theta["out.b"] + 3.0}
    if objective is nce:
        moved["log_z"] = theta["log_z"] - 3.0
    _, grads, _ = objective(energy, theta, *args[objective])
    _, again, _ = objective(energy, moved, *args[objective])
    for key in grads:
        close(again[key], grads[key], 1e-13)
    if objective is not nce:
        close(grads["out.b"], [0.0], 1e-14)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective__does_not_see_the_order_of_a_batch(objective):
    energy, theta, args = case("mlp")
    theta, rng = theta_of(objective, theta), np.random.default_rng(3)
    together = objective in (ranking_nce, conditional_nce)  # rows belong together there
    orders = {}
    mixed = []
    for a in args[objective]:
        key = 0 if together else len(a)
        order = orders.setdefault(key, rng.permutation(len(a)))
        mixed.append(a[order])
    loss, grads, _ = objective(energy, theta, *args[objective])
    other, again, _ = objective(energy, theta, *mixed)
    assert other == pytest.approx(loss, abs=1e-13)
    for key in grads:
        close(again[key], grads[key], 1e-13)


@pytest.mark.parametrize("objective", [ranking_nce, conditional_nce])
def test_objective__adds_up_over_parts_of_a_batch(objective):
    energy, theta, args = case("mlp", N=6)
    whole = objective(energy, theta, *args[objective])
    halves = [objective(energy, theta, *(a[part] for a in args[objective])) for part in (slice(0, 3), slice(3, 6))]
    assert whole[0] == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-13)
    for key in whole[1]:
        close((halves[0][1][key] + halves[1][1][key]) / 2, whole[1][key], 1e-13)


def test_nce__adds_up_over_parts_of_a_batch():
    energy, theta, args = case("mlp", N=6)
    x, _, a, _ = args[nce]
    theta = theta_of(nce, theta)
    whole = nce(energy, theta, x, -x, a, a + 1, 2.0)
    halves = [nce(energy, theta, x[s], -x[s], a[s], a[s] + 1, 2.0) for s in (slice(0, 3), slice(3, 6))]
    assert whole[0] == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-13)
    for key in whole[1]:
        close((halves[0][1][key] + halves[1][1][key]) / 2, whole[1][key], 1e-13)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_objective__keeps_float32(name, objective):
    energy, theta, args = case(name, np.float32)
    loss, grads, info = objective(energy, theta_of(objective, theta), *args[objective])
    assert loss.dtype == np.float32 and {g.dtype for g in grads.values()} == {np.dtype(np.float32)}
    wide = [np.asarray(a, np.float64) for a in args[objective]]
    theta64 = {key: value.astype(np.float64) for key, value in theta_of(objective, theta).items()}
    want, exact, _ = objective(energy, theta64, *wide)
    assert loss == pytest.approx(want, rel=1e-5)
    for key in grads:
        close(grads[key], exact[key], 1e-4)
    assert info["gap"] == info["energy_neg"] - info["energy_pos"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective__runs_on_any_array_that_answers_numpy(objective):
    energy, theta, args = case("mlp")
    theta = theta_of(objective, theta)
    want = objective(energy, theta, *args[objective])
    loss, grads, info = objective(Away(energy), outside(theta), *map(outside, args[objective]))
    assert isinstance(loss, Duck) and all(isinstance(value, Duck) for value in [*grads.values(), info["gap"]])
    close(loss.get(), want[0], 1e-15)
    for key in grads:
        close(grads[key].get(), want[1][key], 1e-14)


@pytest.mark.parametrize("method", ["nce", "ranking", "conditional", "ml"])
def test_step__with_the_energy_of_numba_cpu_is_the_oracle_s(method):
    numba_cpu = pytest.importorskip("ebm_fast.numba_cpu")
    x = noise_normal(1, Stream.TOY, 0, np.arange(6), 3)
    mine, own = numba_cpu.MLPEnergy((3,), (5, 4)), ENERGIES["mlp"]
    theta, noise = random_theta(own, np.random.default_rng(1)), gaussian_noise_fit(x)
    points, w = x * 2, np.ones(6)

    def run(backend, energy):
        if method == "nce":
            return nce_step(backend, energy, nce_start(energy, theta), x, noise, 3, 7, 2)
        if method == "ranking":
            return ranking_nce_step(backend, energy, theta, x, noise, 3, 7, 2)
        if method == "conditional":
            return conditional_nce_step(backend, energy, theta, x, 0.2, 3, 7)
        return ml_step(backend, energy, theta, x, points, w, 3, 7)

    (loss, grads, _), (want, wanted, _) = run(numba_cpu, mine), run(ebm_ref, own)
    assert loss == pytest.approx(want, rel=1e-12)
    for key in wanted:
        close(grads[key], wanted[key], 1e-12)


# --------------------------------------------------------------------------- theta, c and the steps


def test_nce_start__puts_the_mean_of_g_at_minus_log_nu_on_noise():
    energy, theta, args = case("mlp", np.float32)
    x_neg, log_neg = args[nce][1], args[nce][3]
    start = nce_start(energy, theta, x_neg, log_neg)
    assert start["log_z"].shape == (1,) and start["log_z"].dtype == np.float32
    G = -energy.energy(theta, x_neg) - start["log_z"] - log_neg - log(3)
    assert G.mean() == pytest.approx(-log(3), abs=1e-5)
    assert nce_start(energy, theta)["log_z"] == 0 and "log_z" not in theta
    own, c = nce_split(start)
    assert set(own) == set(theta) and c is start["log_z"]


def test_nce__learns_energy_and_log_z_with_the_optimisers_of_training():
    """Data N(1, 0.5^2), noise fitted wide: after 300 steps of Adam c is log Z of the energy that was learned."""
    energy = QuadraticEnergy((1,))
    x = 1 + 0.5 * noise_normal(4, Stream.TOY, 0, np.arange(1000), 1)
    noise = gaussian_noise_fit(x, floor=0.5)
    theta = nce_start(energy, {"mu": np.zeros(1), "P": np.eye(1)})
    state = adam_init(theta)
    for t in range(300):
        _, grads, _ = nce_step(ebm_ref, energy, theta, x, noise, 0, t, nu=2)
        theta, state = adam_step(theta, grads, state, 0.05 * 0.99**t)
    own, c = nce_split(theta)
    assert theta["mu"][0] == pytest.approx(x.mean(), abs=0.05)
    assert theta["P"][0, 0] == pytest.approx(1 / x.var(), abs=0.4)
    assert c[0] == pytest.approx(energy.log_z(own), abs=0.05)


def test_steps__are_their_parts_at_their_addresses():
    energy, theta, args = case("conv")
    x, noise, theta_z = args[nce][0], UniformNoise((5, 4, 2), (-6.0, 6.0)), theta_of(nce, theta)
    u = noise_uniform(5, Stream.CONTRAST_NOISE, 9, np.arange(10), 40)
    x_neg, flat = (-6 + 12 * u).reshape(10, 5, 4, 2), np.full(10, -40 * log(12))
    want = nce(energy, theta_z, x, x_neg, flat[:5], flat)
    loss, grads, _ = nce_step(ebm_ref, energy, theta_z, x, noise, 5, 9, 2)
    assert loss == want[0] and all((grads[key] == want[1][key]).all() for key in want[1])
    want = ranking_nce(energy, theta, x, x_neg.reshape(5, 2, 5, 4, 2), flat[:5], flat.reshape(5, 2))
    loss, grads, _ = ranking_nce_step(ebm_ref, energy, theta, x, noise, 5, 9, 2)
    assert loss == want[0] and all((grads[key] == want[1][key]).all() for key in want[1])
    xi = noise_normal(5, Stream.CONTRAST_NOISE, 9, np.arange(5), 40).reshape(x.shape)
    want = conditional_nce(energy, theta, x, x + 0.3 * xi)
    loss, grads, _ = conditional_nce_step(ebm_ref, energy, theta, x, 0.3, 5, 9)
    assert loss == want[0] and all((grads[key] == want[1][key]).all() for key in want[1])


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_nce_step__runs_on_any_array_that_answers_numpy(kind):
    energy, theta, args = case("mlp")
    x, theta = args[nce][0], theta_of(nce, theta)
    noise = gaussian_noise_fit(x) if kind == "gaussian" else UniformNoise((3,), (-9.0, 9.0))
    away = noise
    if kind == "gaussian":
        away = GaussianNoise((3,), *map(Duck.of, (noise.mean, noise.L, noise.inverse)))
    for run in (
        lambda backend, energy, theta, x, noise: nce_step(backend, energy, theta, x, noise, 1, 2, 2),
        lambda backend, energy, theta, x, noise: ranking_nce_step(backend, energy, nce_split(theta)[0], x, noise, 1, 2),
        lambda backend, energy, theta, x, noise: conditional_nce_step(
            backend, energy, nce_split(theta)[0], x, 0.2, 1, 2
        ),
    ):
        want = run(ebm_ref, energy, theta, x, noise)
        loss, grads, _ = run(DUCK_BACKEND, Away(energy), outside(theta), Duck.of(x), away)
        close(loss.get(), want[0], 1e-14)
        for key in grads:
            close(inside(grads[key]), want[1][key], 1e-13)


def test_nce__does_not_lose_data_where_the_noise_has_no_density():
    energy, theta, args = case("mlp")
    x, x_neg, log_pos, log_neg = args[nce]
    log_pos = log_pos.copy()
    log_pos[2] = -np.inf
    many = args[ranking_nce]
    for bad in (-np.inf, np.inf, np.nan):
        log_pos[2] = bad
        with pytest.raises(NonFiniteError, match="^log_noise_pos: .*1 NaN or inf of 5"):
            nce(energy, theta_of(nce, theta), x, x_neg, log_pos, log_neg)
        with pytest.raises(NonFiniteError, match="^log_noise_pos: .*1 NaN or inf of 5"):
            ranking_nce(energy, theta, x, many[1], log_pos, many[3])
    log_pos[2] = -np.inf  # on a device nothing is read back: the loss says it
    bowl, bowl_z = Bowl((3,)), bowl_theta(1.0, 1.0, 1.0) | {"log_z": np.zeros(1)}
    with np.errstate(invalid="ignore"):
        away = nce(bowl, outside(bowl_z), *map(outside, (x, x_neg, log_pos, log_neg)))
        assert np.isnan(inside(away[0]))
        del bowl_z["log_z"]
        away = ranking_nce(bowl, outside(bowl_z), *map(outside, (x, many[1], log_pos, many[3])))
        assert np.isnan(inside(away[0]))
    noise = UniformNoise((3,), (-0.1, 0.1))
    for step in (nce_step, ranking_nce_step):
        with pytest.raises(RangeError, match="noise: .* found none at 5 of 5"):
            step(ebm_ref, energy, theta_of(nce, theta) if step is nce_step else theta, x, noise, 0, 0)
    with pytest.raises(RangeError, match="^noise: expected a positive density wherever it draws, found none at 5 of 5"):
        ranking_nce_step(ebm_ref, energy, theta, x, Holes(), 0, 0)


def test_nce__stays_finite_where_the_logistic_saturates():
    """The density chasm: G of +-1000 gives a finite loss and the gradient's right limit."""
    energy, theta, args = case("mlp")
    x, x_neg, log_pos, log_neg = args[nce]
    with np.errstate(over="raise", invalid="raise"):
        loss, grads, info = nce(energy, theta_of(nce, theta), x, x_neg, log_pos - 1000, log_neg + 1000)
        assert loss < 1e-12 and all(np.abs(g).max() < 1e-12 for g in grads.values()) and info["accuracy"] == 1
        loss, grads, _ = nce(energy, theta_of(nce, theta), x, x_neg, log_pos + 1000, log_neg - 1000)
    assert 1900 < loss < 2900 and grads["log_z"][0] == pytest.approx(1 - 7 / 5, abs=1e-12)


X, F = np.zeros((2, 3)), np.zeros(2)
MLP, THETA = ENERGIES["mlp"], random_theta(ENERGIES["mlp"], np.random.default_rng(0))
WITH_Z = THETA | {"log_z": np.zeros(1)}
GAUSS = GaussianNoise((3,), np.zeros(3), np.eye(3), np.eye(3))
REFUSED = {
    "theta: .*log_z": (ShapeError, lambda: nce(MLP, THETA, X, X, F, F)),
    "theta: .*unknown log_z": (ShapeError, lambda: ranking_nce(MLP, WITH_Z, X, X[:, None], F, F[:, None])),
    r"theta\['log_z'\]: .*shape": (ShapeError, lambda: nce(MLP, THETA | {"log_z": np.zeros(2)}, X, X, F, F)),
    "found log_z": (ShapeError, lambda: nce_start(MLP, WITH_Z)),
    "x_pos": (ShapeError, lambda: nce(MLP, WITH_Z, X[:0], X, F[:0], F)),
    "x_neg: .*one sample": (ShapeError, lambda: nce(MLP, WITH_Z, X, X[:0], F, F[:0])),
    "x_neg: .*for each": (ShapeError, lambda: ranking_nce(MLP, THETA, X, X[:, None][:, :0], F, np.zeros((2, 0)))),
    "log_noise_pos: expected shape": (ShapeError, lambda: nce(MLP, WITH_Z, X, X, F[:1], F)),
    "log_noise_neg: .*float64": (DTypeError, lambda: nce(MLP, WITH_Z, X, X, F, F.astype(np.float32))),
    "nu": (RangeError, lambda: nce(MLP, WITH_Z, X, X, F, F, 0.0)),
    "nu: .*integer": (DTypeError, lambda: nce_step(ebm_ref, MLP, WITH_Z, X, GAUSS, 0, 0, 1.5)),
    "K": (RangeError, lambda: ranking_nce_step(ebm_ref, MLP, THETA, X, GAUSS, 0, 0, 0)),
    "sigma": (RangeError, lambda: conditional_nce_step(ebm_ref, MLP, THETA, X, 0.0, 0, 0)),
    "x_near": (ShapeError, lambda: conditional_nce(MLP, THETA, X, X[:1])),
    "log_ratio": (ShapeError, lambda: conditional_nce(MLP, THETA, X, X, F[:1])),
    "noise.sample": (ShapeError, lambda: nce_step(ebm_ref, MLP, WITH_Z, X, Wrong(), 0, 0)),
    "points": (DTypeError, lambda: maximum_likelihood(MLP, THETA, X, X.astype(np.float32))),
    "w: ": (ShapeError, lambda: maximum_likelihood(MLP, THETA, X, X, np.ones(3))),
    "D: ": (RangeError, lambda: quadrature_grid((0.0, 1.0), 4, 3)),
    r"n\^D": (RangeError, lambda: quadrature_grid((0.0, 1.0), 2**13, 2)),
    "box: .*found None": (RangeError, lambda: quadrature_grid(None, 4, 1)),
    "dtype": (RangeError, lambda: quadrature_grid((0.0, 1.0), 4, 1, np.int64)),
}


class Holes(UniformNoise):
    """A law that says of its own draws that they cannot be."""

    def __init__(self):
        super().__init__((3,), (-9.0, 9.0))

    def log_density(self, x):
        asked = getattr(self, "asked", 0)
        object.__setattr__(self, "asked", asked + 1)
        return np.full(len(x), np.nan if asked else 0.0)


class Wrong:
    def log_density(self, x):
        return np.zeros(len(x))

    def sample(self, backend, seed, step, chains, dtype):
        return np.zeros((len(chains), 4), dtype)


@pytest.mark.parametrize("said", REFUSED)
def test_nce__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    assert issubclass(error, EbmError)
    with pytest.raises(error, match=said):
        call()
