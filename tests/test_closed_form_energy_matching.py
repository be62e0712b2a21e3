"""Energy matching against closed forms: ULA's law, the population minimiser in one dimension, likelihood on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from derivatives import close
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref import BoltzmannEnergy, Stream, noise_normal
from ebm_ref.objectives import energy_contrast, flow_weight, maximum_likelihood, transport
from ebm_ref.samplers import heated_run

# ------------------------------------------------------------------- V = k x^2 / 2 at a fixed temperature: a recursion


def factors(scheme, k, dt):
    """Of x and of sigma xi in one step."""
    a = k * dt
    return (1 - a, 1.0) if scheme == "euler" else (1 - a + a * a / 2, 1 - a / 2)


@pytest.mark.parametrize("scheme", ["euler", "heun"])
def test_heated_run__is_the_linear_recursion_of_its_addressed_noise(scheme):
    """x_K = A^K x_0 + sum_j A^(K-1-j) B sqrt(2 dt tau) xi_j: the mean factor 1 - k dt and the noise, exactly."""
    k, tau, dt, K = 1.7, 0.3, 0.1, 25
    A, B = factors(scheme, k, dt)
    x0 = np.array([[2.0], [-0.5], [0.1]])
    x, info = heated_run(ebm_ref, Bowl(), bowl_theta(k), x0, K, dt, tau, 1.0, seed=5, step=9, hot=True, scheme=scheme)
    want = A**K * x0
    for j in range(K):
        want = want + A ** (K - 1 - j) * B * sqrt(2 * dt * tau) * noise_normal(5, Stream.CHAIN_NOISE, 9 + j, CHAINS, 1)
    close(x, want, 1e-13)
    assert info.extra["nfe"].tolist() == [K if scheme == "euler" else 2 * K] * 3


CHAINS = np.arange(3)


@pytest.mark.parametrize(("scheme", "want"), [("euler", 1 / (1 - 0.17 / 2)), ("heun", 0.915 / (0.915 + 0.17**2 / 4))])
def test_heated_run__stationary_variance(scheme, want):
    """k var / tau: 1 / (1 - a/2) = 1.0929, and (1 - a/2) / (1 - a/2 + a^2/4) = 0.9922, a = k dt = 0.17; and sampled."""
    k, tau, dt = 1.7, 0.3, 0.1
    A, B = factors(scheme, k, dt)
    assert 2 * dt * tau * B**2 / (1 - A**2) == pytest.approx(want * tau / k, rel=1e-14)
    assert want == pytest.approx({"euler": 1.0928962, "heun": 0.9921657}[scheme], abs=1e-7)
    N = 40_000
    x0 = np.zeros((N, 1))
    x, _ = heated_run(ebm_ref, Bowl(), bowl_theta(k), x0, 60, dt, tau, 1.0, seed=2, hot=True, scheme=scheme)
    variance = float((x**2).mean())
    assert abs(variance / (want * tau / k) - 1) < 5 * sqrt(2 / N)  # 0.035: euler without its bias is 0.085 off


def test_heated_run__descends_without_noise_below_the_ramp():
    """x_K = (1 - k dt)^K x_0 up to s_star, and not after it."""
    k, dt = 0.8, 0.05
    x0 = np.array([[3.0], [-1.0]])
    x, info = heated_run(ebm_ref, Bowl(), bowl_theta(k), x0, 12, dt, 0.2, 0.6, seed=1)
    close(x, (1 - k * dt) ** 12 * x0, 1e-14)
    close(info.energy[:, 0], k / 2 * (3.0 * (1 - k * dt) ** np.arange(12)) ** 2, 1e-14)
    more, _ = heated_run(ebm_ref, Bowl(), bowl_theta(k), x0, 14, dt, 0.2, 0.6, seed=1)
    assert (np.abs(more - (1 - k * dt) ** 14 * x0) > 1e-3).all()


# ------------------------------------- the population minimiser: data N(m, s^2), x1 = m + s x0 (optimal and monotone)

M, S, CUTOFF = 0.7, 0.4, 0.6


def panels(edges, n):
    """Gauss-Legendre nodes and weights on [edges[0], edges[-1]], whose integrand may bend at the edges."""
    z, w = np.polynomial.legendre.leggauss(n)
    parts = [((b - a) / 2 * z + (a + b) / 2, (b - a) / 2 * w) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


T, T_WEIGHT = panels((0.0, CUTOFF, 1.0), 24)
T_WEIGHT = T_WEIGHT * flow_weight(T, CUTOFF)


def best_field(x):
    """f*(x) = int w p_t(x) [m + (s - 1)(x - t m) / b] dt / int w p_t(x) dt, p_t = N(t m, b^2), b = 1 - t + s t."""
    spread = 1 + T * (S - 1)
    z = (x[..., None] - T * M) / spread
    p = T_WEIGHT * np.exp(-0.5 * z**2) / spread
    return (p * (M + (S - 1) * z)).sum(axis=-1) / p.sum(axis=-1)


@dataclass(frozen=True)
class Waves:
    """V'(x) = shift(x) + sum_j theta_j phi_j(x), phi_j = T_j(x / 5): Chebyshev's polynomials."""

    terms: int
    shift: object = None
    shape: tuple[int, ...] = (1,)

    def theta_shapes(self):
        return {"c": (self.terms,)}

    def phi(self, x):
        return np.polynomial.chebyshev.chebvander(x[:, 0] / 5, self.terms - 1)

    def grad_x(self, theta, x):
        g = self.phi(x) @ theta["c"]
        return (g if self.shift is None else g + self.shift(x[:, 0]))[:, None]

    def grad_theta_along(self, theta, x, v):
        return {"c": self.phi(x).T @ v[:, 0]}


def population():
    """Every x0 and t of a quadrature, as samples with weights whose mean is the expectation of w(t) mean r^2."""
    x0, p = panels(np.linspace(-8, 8, 17), 12)
    p = p * np.exp(-0.5 * x0**2)
    grid, times = (a.ravel() for a in np.meshgrid(x0, T, indexing="ij"))
    weights = np.outer(p / p.sum(), T_WEIGHT).ravel() * len(grid)
    return grid[:, None], M + S * grid[:, None], times, weights


def test_transport__gradient_vanishes_at_the_population_minimiser():
    """V*' = -f*: in one dimension every field is a gradient. Found 1e-13; 0.16 at -f* + 0.1."""
    x0, x1, t, w = population()
    for shift, small in ((lambda x: -best_field(x), True), (lambda x: 0.1 - best_field(x), False)):
        _, grads, _ = transport(Waves(8, shift), {"c": np.zeros(8)}, x0, x1, t, w)
        assert (np.abs(grads["c"]).max() < 1e-12) == small


def test_transport__trained_to_the_end_is_the_population_minimiser():
    """The minimum over 26 Chebyshev polynomials, from gradients alone, against f* where the path is: 6e-5."""
    x0, x1, t, w = population()
    energy, n = Waves(26), 26

    def slope(c):
        return transport(energy, {"c": c}, x0, x1, t, w)[1]["c"]

    start = slope(np.zeros(n))
    system = np.stack([slope(e) - start for e in np.eye(n)])
    c = np.linalg.lstsq(system, -start, rcond=1e-13)[0]
    x = np.linspace(-2.0, 2.0, 41)
    close(energy.grad_x({"c": c}, x[:, None])[:, 0], -best_field(x), 1e-4)
    assert np.ptp(best_field(x)) > 1.0


# -------------------------------------------------------- a finite world: V is a table, p = exp(-V / tau) is rational


@dataclass(frozen=True)
class Table:
    """V(x) = v[x], x in 0, 1, ..., n - 1."""

    n: int
    shape: tuple[int, ...] = (1,)

    def theta_shapes(self):
        return {"v": (self.n,)}

    def energy(self, theta, x):
        return theta["v"][x[:, 0].astype(int)]

    def grad_x(self, theta, x):
        return np.zeros_like(x)

    def grad_theta(self, theta, x, w):
        return {"v": np.bincount(x[:, 0].astype(int), w, self.n)}


def test_energy_contrast__with_exact_negatives_is_tau_times_the_likelihood():
    """grad L_CD = tau grad(-mean log p), p ~ exp(-V / tau): from the log-sum-exp itself, by hand, and as published."""
    tau, counts, data = 0.01, np.array([1, 4, 2, 5, 3]), np.array([0.0, 1, 1, 3, 3, 3, 4, 2])[:, None]
    theta = {"v": -tau * np.log(counts) + 0.7}
    x_neg = np.repeat(np.arange(5.0), counts)[:, None]  # the law of V, exactly
    loss, grads, _ = energy_contrast(Table(5), theta, data, x_neg, 1.0)
    p, q = counts / counts.sum(), np.bincount(data[:, 0].astype(int)) / len(data)
    close(grads["v"], q - p, 1e-15)

    world = np.arange(5.0)[:, None]
    nll, exact, _ = maximum_likelihood(BoltzmannEnergy(Table(5), tau), theta, data, world, np.ones(5))
    assert nll == pytest.approx(-(q * np.log(p)).sum(), rel=1e-12)
    close(grads["v"], tau * exact["v"], 1e-14)
    assert loss == pytest.approx(((q - p) * theta["v"]).sum(), rel=1e-12)


# ----------------------------------------------------------------------------------------------- trim and clamp


def linear(values):
    """x whose energies in a flat table are the values: V(x) = lam x^2 / 2 at lam = 2 is x^2."""
    return np.sqrt(np.asarray(values, float))[:, None]


@pytest.mark.parametrize(("gap", "held"), [(19.9, False), (20.1, True)])
def test_energy_contrast__clamp_acts_on_the_scaled_term(gap, held):
    """weight 1e-3 and clamp 0.02: at a raw gap of -20, and nowhere else; beyond it every gradient is 0."""
    x_pos, x_neg = linear([1.0, 3.0]), linear([2 + gap, 2 + gap])
    loss, grads, info = energy_contrast(Bowl(), bowl_theta(2.0), x_pos, x_neg, 1e-3, clamp=0.02)
    assert loss == (-0.02 if held else pytest.approx(-1e-3 * gap, rel=1e-12)) and info["clamped"] == held
    assert (grads["lam"] == 0).all() == held and info["gap"] == pytest.approx(gap)
    if not held:
        assert grads["lam"][0] == pytest.approx(-1e-3 * gap / 2, rel=1e-12)  # dV/dlam = V / lam


def test_energy_contrast__clamp_is_one_sided():
    """A positive term is never bounded."""
    loss, grads, _ = energy_contrast(Bowl(), bowl_theta(2.0), linear([50.0]), linear([1.0]), 1.0, clamp=0.02)
    assert loss == pytest.approx(49.0) and grads["lam"][0] == pytest.approx(49 / 2)


@pytest.mark.parametrize("trim", [0.0, 0.1, 0.29, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("B", [1, 10, 100])
def test_energy_contrast__trim_is_sort_and_drop(trim, B):
    values = np.random.default_rng(B).uniform(0, 9, B)
    x_pos, x_neg = linear([1.0, 2.0, 3.0]), linear(values)
    loss, grads, info = energy_contrast(Bowl(), bowl_theta(2.0), x_pos, x_neg, 0.5, trim=trim)
    dropped = (round(trim * 1000) * B) // 1000
    kept = np.sort(values)[: B - dropped]
    assert info["trimmed"] == dropped
    assert loss == pytest.approx(0.5 * (2 - kept.mean()), rel=1e-12)
    assert grads["lam"][0] == pytest.approx(0.5 * (2 - kept.mean()) / 2, rel=1e-12)


def test_energy_contrast__without_trim_or_clamp_is_contrastive_to_the_bit():
    energy, rng = ebm_ref.MLPEnergy((3,), (8,)), np.random.default_rng(1)
    theta, x_pos, x_neg = ebm_ref.theta_init(energy, 4, np.float64), rng.normal(size=(5, 3)), rng.normal(size=(9, 3))
    want, want_grads, want_info = ebm_ref.contrastive(energy, theta, x_pos, x_neg, 0.0)
    loss, grads, info = energy_contrast(energy, theta, x_pos, x_neg, 1.0)
    assert loss == want and all((grads[name] == want_grads[name]).all() for name in theta)
    assert all(info[name] == want_info[name] for name in want_info)
