"""score_matching and score_matching_sliced against closed forms: Gaussians, enumeration of signs, T4."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from derivatives import close, random_theta
from score_cases import NETWORKS, SmoothBowl, all_signs, normals, signs

import ebm_ref
from ebm_ref import DoubleWellEnergy, MLPEnergy, QuadraticEnergy, SumEnergy, theta_init
from ebm_ref.objectives import hsm_step, score_matching, score_matching_sliced, ssm_step
from ebm_ref.objectives.score_matching import KINDS, draw_directions

# ------------------------------------------------------------------------------ E = (x - mu)' P (x - mu) / 2


def gaussian_case(D=3, N=7):
    """A quadratic energy, data, and the data's exact moments: theta, x, S, d = m - mu."""
    A, B = normals(1, D, D), normals(2, D, D)
    theta = {"mu": normals(3, 1, D)[0], "P": A @ A.T + np.eye(D)}
    x = normals(4, N, D) @ B + 1.0
    return theta, x, np.cov(x.T, bias=True), x.mean(axis=0) - theta["mu"]


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1)])
def test_score_matching__gaussian_loss_and_gradient(shape):
    """J = tr(PSP)/2 + d'P^2 d/2 - tr P; dJ/dmu = -P^2 d; dJ/dP = (SP + PS)/2 + (P d d' + d d' P)/2 - I."""
    theta, x, S, d = gaussian_case()
    loss, grads, info = score_matching(QuadraticEnergy(shape), theta, x.reshape((7, *shape)))
    P = theta["P"]
    assert loss == pytest.approx(0.5 * np.trace(P @ S @ P) + 0.5 * d @ P @ P @ d - np.trace(P), rel=1e-13)
    assert info["trace"] == pytest.approx(np.trace(P), rel=1e-13)
    close(grads["mu"], -P @ P @ d, 1e-13)
    outer = np.outer(d, d)
    wanted = 0.5 * (S @ P + P @ S) + 0.5 * (P @ outer + outer @ P) - np.eye(3)
    close(0.5 * (grads["P"] + grads["P"].T), wanted, 1e-13)


def test_score_matching__gaussian_minimum_is_the_inverse_covariance():
    """At P = S^-1, mu = m the gradient is 0 and J = -tr(S^-1)/2; J is convex in P, so it rises on every side."""
    _, x, S, _ = gaussian_case()
    best = {"mu": x.mean(axis=0), "P": np.linalg.inv(S)}
    energy = QuadraticEnergy((3,))
    loss, grads, _ = score_matching(energy, best, x)
    assert loss == pytest.approx(-0.5 * np.trace(best["P"]), rel=1e-12)
    for grad in grads.values():
        close(grad, np.zeros_like(grad), 1e-11)
    for i in range(5):
        nudge = normals(10 + i, 3, 3)
        assert score_matching(energy, best | {"P": best["P"] + 0.05 * (nudge + nudge.T)}, x)[0] > loss
        assert score_matching(energy, best | {"mu": best["mu"] + 0.05 * nudge[0]}, x)[0] > loss


def test_score_matching__quartic_on_a_normal_is_minus_three_tenths():
    """E = .4 x^2 + .05 x^4 on N(0, 1): J = (.64 + .32 * 3 + .04 * 15) / 2 - (.8 + .6) = -.3, by Gauss-Hermite nodes."""
    energy = SumEnergy((DoubleWellEnergy((1,)), QuadraticEnergy((1,))), (1.0, 1.0))
    theta = {"0.height": np.array([0.05]), "0.tilt": np.zeros(1), "1.mu": np.zeros(1), "1.P": np.ones((1, 1))}
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    assert np.allclose(energy.energy(theta, nodes[:, None]) - 0.05, 0.4 * nodes**2 + 0.05 * nodes**4)
    p = weights / weights.sum()
    J = sum(w * score_matching(energy, theta, np.array([[node]]))[0] for node, w in zip(nodes, p, strict=True))
    assert J == pytest.approx(-0.3, abs=1e-13)


def test_score_matching__is_the_fisher_divergence_less_a_constant():
    """E_p |grad log p + grad E|^2 / 2 = J + E_p |grad log p|^2 / 2, on p = N(m, s^2), by Gauss-Hermite nodes."""
    energy, m, s = DoubleWellEnergy((1,)), 0.3, 0.8
    theta = {"height": np.array([0.4]), "tilt": np.array([-0.7])}
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    p, x = weights / weights.sum(), (m + s * nodes)[:, None]
    J = sum(w * score_matching(energy, theta, x_i[None])[0] for x_i, w in zip(x, p, strict=True))
    slope = -(x - m)[:, 0] / s**2
    fisher = p @ (slope + energy.grad_x(theta, x)[:, 0]) ** 2 / 2
    assert fisher == pytest.approx(J + p @ slope**2 / 2, rel=1e-12)


# --------------------------------------------------------------------------------------- directions


@pytest.mark.parametrize("name", NETWORKS)
def test_score_matching_sliced__all_signs_give_the_exact_trace(name):
    """Over all 2^D vectors of signs the mean of v v' is I and that of v' H v is tr H: loss and gradient."""
    energy = NETWORKS[name]
    D = int(np.prod(energy.shape))
    if D > 6:
        energy, D = type(energy)((2, 2, 1), channels=(4,), strides=(1,), max_groups=2), 4
    theta, x = random_theta(energy, np.random.default_rng(1)), normals(5, 3, *energy.shape)
    want = score_matching(energy, theta, x)
    for reduced in (True, False):
        loss, grads, info = score_matching_sliced(energy, theta, x, all_signs(x), reduced)
        close(loss, want[0], 1e-12)
        close(info["trace"], want[2]["trace"], 1e-12)
        close(info["square"], want[2]["square"], 1e-12)
        for key, grad in want[1].items():
            close(grads[key], grad, 1e-12)


def hutchinson_variance(kind, H):
    square, D = (H * H).sum(), len(H)
    return {
        "rademacher": 2 * (square - (np.diag(H) ** 2).sum()),
        "gaussian": 2 * square,
        "sphere": (2 * D * square - 2 * np.trace(H) ** 2) / (D + 2),
    }[kind]


def test_hutchinson__variance_of_all_signs_is_the_formula():
    """Var v' H v = 2 (|H|_F^2 - sum_d H_dd^2) over all signs; 0 for a diagonal H."""
    H = normals(6, 5, 5)
    H = H + H.T
    for A in (H, np.diag(np.diag(H))):
        v = signs(5)
        vhv = QuadraticEnergy((5,)).curvature({"mu": np.zeros(5), "P": A}, v, v)
        assert vhv.mean() == pytest.approx(np.trace(A), rel=1e-12)
        assert vhv.var() == pytest.approx(hutchinson_variance("rademacher", A), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_draw_directions__have_the_moments_of_their_kind(kind):
    """Mean v v' = I, and v' H v has the mean and the variance of the closed form."""
    D, N = 4, 20_000
    H = normals(6, D, D)
    H = H + H.T
    v = draw_directions(ebm_ref, np.zeros((N, D)), 1, kind, 7, 2)[0]
    vhv = np.einsum("nd,de,ne->n", v, H, v)
    moments = v[:, :, None] * v[:, None, :]
    error = moments.std(axis=0) / sqrt(N)
    assert (np.abs(moments.mean(axis=0) - np.eye(D)) <= 5 * error + 1e-12).all()
    assert abs(vhv.mean() - np.trace(H)) < 5 * vhv.std() / sqrt(N)
    spread = np.std((vhv - vhv.mean()) ** 2) / sqrt(N)
    assert abs(vhv.var() - hutchinson_variance(kind, H)) < 5 * spread
    if kind == "rademacher":
        assert set(np.unique(v)) == {-1.0, 1.0}
    if kind == "sphere":
        assert np.allclose((v**2).sum(axis=1), D, rtol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduced", [True, False])
def test_ssm_step__has_the_exact_loss_and_gradient_as_means(kind, reduced):
    energy, N, steps = MLPEnergy((3,), (6,)), 200, 60
    theta, x = theta_init(energy, 4, np.float64), normals(5, N, 3)
    want_loss, want, _ = score_matching(energy, theta, x)
    draws = [ssm_step(ebm_ref, energy, theta, x, 3, t, 2, kind, reduced) for t in range(steps)]
    losses = np.array([loss for loss, _, _ in draws])
    assert abs(losses.mean() - want_loss) < 5 * losses.std(ddof=1) / sqrt(steps)
    for key, grad in want.items():
        found = np.array([grads[key] for _, grads, _ in draws])
        error = found.std(axis=0, ddof=1) / sqrt(steps)
        assert (np.abs(found.mean(axis=0) - grad) <= 5 * error + 1e-12).all(), key


def variances(H, g):
    """Of the two sliced losses at one point over all signs: reduced, not reduced."""
    energy, v = QuadraticEnergy((len(g),)), signs(len(g))
    theta, x = {"mu": np.zeros(len(g)), "P": H}, np.linalg.solve(H, g)[None]
    return [
        np.var([score_matching_sliced(energy, theta, x, v_m[None, None], reduced)[0] for v_m in v])
        for reduced in (True, False)
    ]


def test_score_matching_sliced__reduced_is_the_quieter_on_ordinary_points():
    for i in range(6):
        A = normals(20 + i, 4, 4)
        reduced, plain = variances(A @ A.T + np.eye(4), 3 * normals(30 + i, 1, 4)[0])
        assert reduced <= plain
    reduced, plain = variances(np.diag([1.0, 2.0, 3.0, 4.0]), np.ones(4))
    assert reduced < 1e-28 and plain > 1  # signs take all variance out of a diagonal H


def test_score_matching_sliced__reduced_is_not_always_the_quieter():
    """H = g g'/2 + c I: (v.g)^2/2 - v'Hv = -c D has no variance at all; the reduced loss keeps that of v'Hv."""
    g = np.array([1.0, -2.0, 0.5])
    reduced, plain = variances(0.5 * np.outer(g, g) + np.eye(3), g)
    assert plain < 1e-25 and reduced > 0.1


# ------------------------------------------------------- E = a |x|^2 / 2 on N(0, s^2 I) has its minimum at a = 1/s^2


def minimiser(gradient):
    """a where dJ/da = 0, J a parabola: the gradient is a line."""
    at_0, at_1 = gradient(0.0), gradient(1.0)
    return -at_0 / (at_1 - at_0)


def slope(step, shape):
    """a -> dJ/da of E = a |x|^2 / 2 under `step(energy, theta)`."""
    energy, D = SmoothBowl(shape), int(np.prod(shape))
    return lambda a: step(energy, {"lam": np.full(D, a), "bias": np.zeros(1)})[1]["lam"].sum()


def whitened(seed, N, shape, s):
    """N samples whose mean square is s^2 D exactly."""
    x = normals(seed, N, *shape)
    return s * x * sqrt(x.size / (x**2).sum())


SHAPES = [(1,), (2,), (8,), (2, 4, 1), (2, 4, 8)]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("N", [2, 16, 256])
@pytest.mark.parametrize("shape", SHAPES)
def test_hsm_step__minimiser_is_the_inverse_variance(shape, N, seed):
    """For every D, batch, shape and seed: kills a trace divided by D and a sum over the last axis only."""
    x = whitened(seed, N, shape, 0.7)
    a = minimiser(slope(lambda energy, theta: hsm_step(ebm_ref, energy, theta, x, seed, 0), shape))
    assert a == pytest.approx(1 / 0.49, rel=1e-12)


@pytest.mark.parametrize("kind", ["rademacher", "sphere"])
@pytest.mark.parametrize("N", [2, 64])
@pytest.mark.parametrize("shape", SHAPES)
def test_ssm_step__reduced_minimiser_is_the_inverse_variance(shape, N, kind):
    """|v|^2 = D, so v' H v = a D is exact."""
    x = whitened(3, N, shape, 0.7)
    a = minimiser(slope(lambda energy, theta: ssm_step(ebm_ref, energy, theta, x, 5, 1, 1, kind), shape))
    assert a == pytest.approx(1 / 0.49, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1,), (8,), (2, 4, 1)])
def test_ssm_step__plain_minimiser_is_the_inverse_variance(shape, kind):
    """a = sum |v|^2 / sum (v . x)^2, within 5 standard errors of that ratio."""
    N, D, s = 4000, int(np.prod(shape)), 0.7
    x = s * normals(4, N, *shape)
    a = minimiser(slope(lambda energy, theta: ssm_step(ebm_ref, energy, theta, x, 5, 2, 1, kind, False), shape))
    v = draw_directions(ebm_ref, x, 1, kind, 5, 2)[0].reshape(N, D)
    above, below = (v * v).sum(axis=1), (v * x.reshape(N, D)).sum(axis=1) ** 2
    error = np.std(above - a * below) / below.mean() / sqrt(N)
    assert abs(a - 1 / s**2) < 5 * error


class TraceOverD(SmoothBowl):
    """The mistake of a Hessian trace divided by D."""

    def curvature(self, theta, x, v):
        return super().curvature(theta, x, v) / int(np.prod(self.shape))

    def grad_theta_curvature(self, theta, x, v, w):
        grads = super().grad_theta_curvature(theta, x, v, w)
        return {name: grad / int(np.prod(self.shape)) for name, grad in grads.items()}


def test_minimiser__sees_a_trace_divided_by_the_dimension():
    x = whitened(6, 64, (8,), 1.0)

    def gradient(a):
        theta = {"lam": np.full(8, a), "bias": np.zeros(1)}
        return score_matching(TraceOverD((8,)), theta, x)[1]["lam"].sum()

    assert minimiser(gradient) == pytest.approx(1 / 8, rel=1e-12)


def test_score_matching_sliced__value_does_not_depend_on_the_shape_of_x():
    """E = |x|^2/2 on whitened data: J = D/2 - D, flat or as an image; summed over the last axis alone it is not."""
    x = whitened(6, 64, (64,), 1.0)
    v = draw_directions(ebm_ref, x, 1, "rademacher", 1, 0)
    losses = []
    for shape in ((64,), (2, 4, 8)):
        theta = {"lam": np.ones(64), "bias": np.zeros(1)}
        args = (SmoothBowl(shape), theta, x.reshape((64, *shape)), v.reshape((1, 64, *shape)))
        assert score_matching_sliced(*args)[0] == pytest.approx(-32, rel=1e-12)
        losses.append(score_matching_sliced(*args, False)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)
    image, v = x.reshape((64, 2, 4, 8)), v.reshape((64, 2, 4, 8))
    last_axis_only = (0.5 * (v * image).sum(axis=-1) ** 2 - (v * v).sum(axis=-1)).mean()
    assert abs(last_axis_only - losses[0]) > 20
