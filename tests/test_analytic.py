"""The analytic energies: derivatives, log Z against quadrature, exact samplers, and Gaussian closed forms."""

import numpy as np
import pytest
from derivatives import check_level_1, check_level_2, check_level_3, close, random_theta
from scipy.special import iv

from ebm_ref.contracts import DTypeError, RangeError, ShapeError
from ebm_ref.energies import (
    DoubleWellEnergy,
    GaussianMixtureEnergy,
    MLPEnergy,
    QuadraticEnergy,
    RBMEnergy,
    RingEnergy,
    SumEnergy,
)

ENERGIES = {
    "quadratic": QuadraticEnergy((2, 2)),
    "gaussian_mixture": GaussianMixtureEnergy((2, 1), 3),
    "double_well": DoubleWellEnergy((3,)),
    "ring": RingEnergy(),
    "rbm": RBMEnergy(3, 4),
    "sum": SumEnergy((QuadraticEnergy((2,)), RingEnergy(), MLPEnergy((2,), (3,))), (0.5, -1.0, 2)),
}
LOPSIDED = {
    "quadratic": (QuadraticEnergy((2,)), {"mu": [0.5, -1.0], "P": [[2.0, 0.6], [0.6, 0.5]]}),
    "gaussian_mixture": (
        GaussianMixtureEnergy((2,), 2),
        {"logit": [0.3, 1.5], "mu": [[-1.0, 0.0], [2.0, 1.0]], "log_sigma": [0.2, -0.7]},
    ),
    "double_well": (DoubleWellEnergy((2,)), {"height": [2.0, 0.4], "tilt": [0.7, -0.3]}),
    "ring": (RingEnergy(), {"radius": [0.8], "stiffness": [3.0]}),
}


def lopsided(name):
    energy, theta = LOPSIDED[name]
    return energy, {key: np.array(value) for key, value in theta.items()}


def grid(end=16.0, n=801):
    axis = np.linspace(-end, end, n)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return x, (axis[1] - axis[0]) ** 2


@pytest.mark.parametrize("name", ENERGIES)
def test_analytic__levels_1_to_3_are_the_derivatives(name):
    energy, rng = ENERGIES[name], np.random.default_rng(1)
    theta, x = random_theta(energy, rng), rng.normal(size=(4, *energy.shape))
    check_level_1(energy, theta, x, rng)
    check_level_2(energy, theta, x, rng)
    check_level_3(energy, theta, x, rng)


@pytest.mark.parametrize("name", ENERGIES)
def test_analytic__keeps_float32(name):
    energy, rng = ENERGIES[name], np.random.default_rng(1)
    theta = random_theta(energy, rng, np.float32)
    x, w = rng.normal(size=(4, *energy.shape)).astype(np.float32), np.ones(4, np.float32)
    found = [*energy.energy_and_grad_x(theta, x), *energy.grad_theta(theta, x, w).values()]
    found += [energy.hvp(theta, x, x), *energy.grad_theta_curvature(theta, x, x, w).values()]
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", LOPSIDED)
def test_log_z__is_the_integral(name):
    energy, theta = lopsided(name)
    x, cell = grid()
    assert energy.log_z(theta) == pytest.approx(np.log((np.exp(-energy.energy(theta, x)) * cell).sum()), abs=1e-10)


@pytest.mark.parametrize("name", LOPSIDED)
def test_log_z__derivative_is_minus_the_mean_of_grad_theta(name):
    """grad_theta log Z = -E_p[grad_theta E]: the identity under every likelihood gradient."""
    energy, theta = lopsided(name)
    x, cell = grid()
    p = np.exp(-energy.energy(theta, x) - energy.log_z(theta)) * cell
    grads, rng, h = energy.grad_theta(theta, x, p), np.random.default_rng(2), 1e-4
    for key, value in theta.items():
        u = rng.normal(size=value.shape)
        u = u + u.T if key == "P" else u
        slope = (energy.log_z(theta | {key: value + h * u}) - energy.log_z(theta | {key: value - h * u})) / (2 * h)
        assert slope == pytest.approx(-(grads[key] * u).sum(), abs=1e-6)


@pytest.mark.parametrize("h", [1e-3, 0.3, 5.0, 300.0])
def test_double_well_log_z__is_the_bessel_form_without_tilt(h):
    """int exp(-h (x^2 - 1)^2) dx = (pi / 2) e^(-h/2) (I_(-1/4)(h/2) + I_(1/4)(h/2))."""
    energy = DoubleWellEnergy((1,))
    wanted = np.log(np.pi / 2 * np.exp(-h / 2) * (iv(-0.25, h / 2) + iv(0.25, h / 2)))
    assert energy.log_z({"height": np.array([h]), "tilt": np.array([0.0])}) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("h, t", [(1e6, 1.0), (1e-4, 30.0), (1.0, 1e4)])
def test_double_well_log_z__resolves_narrow_and_wide_wells(h, t):
    energy = DoubleWellEnergy((1,))
    found = energy.log_z({"height": np.array([h]), "tilt": np.array([t])})
    x = np.linspace(-60, 60, 4_000_001)
    logs = -h * (x * x - 1) ** 2 - t * x
    wanted = logs.max() + np.log(np.exp(logs - logs.max()).sum() * (x[1] - x[0]))
    assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", ["quadratic", "gaussian_mixture", "ring"])
def test_sample_exact__has_the_moments_of_the_density(name):
    """Means of lopsided functions of x, within 4 standard errors of their integrals."""
    energy, theta = lopsided(name)
    n, rng = 40_000, np.random.default_rng(3)
    normals, uniforms = rng.normal(size=(n, 2)), rng.uniform(size=(n, 2))
    draws = {"quadratic": (normals,), "gaussian_mixture": (uniforms[:, 0], normals), "ring": (uniforms,)}[name]
    samples = energy.sample_exact(theta, *draws)
    assert samples.shape == (n, 2)
    x, cell = grid()
    p = np.exp(-energy.energy(theta, x) - energy.log_z(theta)) * cell
    tests = {
        "x0": lambda x: x[:, 0],
        "x1": lambda x: x[:, 1],
        "x0^2": lambda x: x[:, 0] ** 2,
        "x1^2": lambda x: x[:, 1] ** 2,
        "x0 x1": lambda x: x[:, 0] * x[:, 1],
        "E": lambda x: energy.energy(theta, x),
    }
    for what, f in tests.items():
        values, wanted = f(samples), p @ f(x)
        assert abs(values.mean() - wanted) < 4 * values.std() / np.sqrt(n), what


def test_gaussian_mixture_sample_exact__picks_components_by_mass():
    energy = GaussianMixtureEnergy((1,), 3)
    theta = {"logit": np.log([1.0, 2.0, 1.0]), "mu": np.array([[0.0], [1.0], [2.0]]), "log_sigma": np.zeros(3)}
    u = np.array([1e-9, 0.2499, 0.2501, 0.7499, 0.7501, 1.0])
    np.testing.assert_array_equal(energy.sample_exact(theta, u, np.zeros((6, 1)))[:, 0], [0, 0, 1, 1, 2, 2])


# ------------------------------------------------------- closed forms of score matching on a Gaussian


def gaussian_case():
    rng, D = np.random.default_rng(4), 3
    A = rng.normal(size=(D, D))
    theta = {"mu": rng.normal(size=D), "P": A @ A.T + np.eye(D)}
    x = rng.normal(size=(7, D)) @ rng.normal(size=(D, D)) + 1.0
    m, S = x.mean(axis=0), np.cov(x.T, bias=True)
    return QuadraticEnergy((D,)), theta, x, m, S, m - theta["mu"]


def test_quadratic_energy__score_matching_is_the_closed_form():
    """J = (1/2) tr PSP + (1/2) d'P^2 d - tr P with d = m - mu, and its gradient, from levels 1 to 3."""
    energy, theta, x, m, S, d = gaussian_case()
    P, N, w = theta["P"], len(x), np.full(len(x), 1 / len(x))
    g = energy.grad_x(theta, x)
    axes = [np.broadcast_to(e, x.shape) for e in np.eye(3)]
    J = 0.5 * (g * g).sum() / N - sum(w @ energy.curvature(theta, x, e) for e in axes)
    assert J == pytest.approx(0.5 * np.trace(P @ S @ P) + 0.5 * d @ P @ P @ d - np.trace(P), rel=1e-12)
    grads = energy.grad_theta_along(theta, x, g / N)
    for e in axes:
        bent = energy.grad_theta_curvature(theta, x, e, w)
        grads = {name: grads[name] - bent[name] for name in grads}
    close(grads["mu"], -P @ P @ d, 1e-12)
    wanted = 0.5 * (S @ P + P @ S) + 0.5 * (P @ np.outer(d, d) + np.outer(d, d) @ P) - np.eye(3)
    close(0.5 * (grads["P"] + grads["P"].T), wanted, 1e-12)


def test_quadratic_energy__denoising_score_matching_is_the_closed_form():
    """J_dsm = (1/2) [tr P (S + s^2 I) P + d'P^2 d - 2 tr P + D/s^2], with noise whose covariance is I exactly."""
    energy, theta, x, m, S, d = gaussian_case()
    P, D, sigma = theta["P"], 3, 0.6
    xi = np.sqrt(D) * np.concatenate([np.eye(D), -np.eye(D)])
    noisy = (x[:, None] + sigma * xi).reshape(-1, D)
    residual = np.tile(xi, (len(x), 1)) / sigma - energy.grad_x(theta, noisy)
    J = 0.5 * (residual**2).sum() / len(noisy)
    blurred = S + sigma**2 * np.eye(D)
    wanted = 0.5 * (np.trace(P @ blurred @ P) + d @ P @ P @ d - 2 * np.trace(P) + D / sigma**2)
    assert J == pytest.approx(wanted, rel=1e-12)
    grads = energy.grad_theta_along(theta, noisy, -residual / len(noisy))
    close(grads["mu"], -P @ P @ d, 1e-12)


# ------------------------------------------------------------------------------------ what is refused


def test_sum_energy__is_the_weighted_sum_and_prefixes_names():
    energy, rng = ENERGIES["sum"], np.random.default_rng(5)
    theta, x = random_theta(energy, rng), rng.normal(size=(4, 2))
    assert list(theta)[:4] == ["0.mu", "0.P", "1.radius", "1.stiffness"]
    parts = [
        term.energy({k.split(".", 1)[1]: p for k, p in theta.items() if k.startswith(f"{i}.")}, x)
        for i, term in enumerate(energy.terms)
    ]
    close(energy.energy(theta, x), 0.5 * parts[0] - parts[1] + 2 * parts[2], 1e-14)


REFUSED = {
    "weights": (ShapeError, lambda: SumEnergy((RingEnergy(),), (1.0, 2.0))),
    r"terms\[1\]": (ShapeError, lambda: SumEnergy((RingEnergy(), QuadraticEnergy((3,))), (1.0, 2.0))),
    r"terms\[0\]": (DTypeError, lambda: SumEnergy(("ring",), (1.0,))),
    r"weights\[0\]": (RangeError, lambda: SumEnergy((RingEnergy(),), (float("nan"),))),
    "components": (RangeError, lambda: GaussianMixtureEnergy((2,), 0)),
    "P": (RangeError, lambda: QuadraticEnergy((2,)).log_z({"mu": np.zeros(2), "P": np.diag([1.0, -1.0])})),
    "height": (RangeError, lambda: DoubleWellEnergy((1,)).log_z({"height": -np.ones(1), "tilt": np.zeros(1)})),
    "stiffness": (RangeError, lambda: RingEnergy().log_z({"radius": np.ones(1), "stiffness": np.zeros(1)})),
    "xi": (ShapeError, lambda: lopsided("quadratic")[0].sample_exact(lopsided("quadratic")[1], np.ones((4, 3)))),
    r"u: .*\(0, 1\)": (RangeError, lambda: RingEnergy().sample_exact(lopsided("ring")[1], np.ones((4, 2)))),
}


@pytest.mark.parametrize("said", REFUSED)
def test_analytic__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
