"""score_matching, denoising: their gradients, invariants, addresses, dtypes, foreign arrays, twins and refusals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from derivatives import check_theta_gradient, close, random_theta
from duck import Duck
from score_cases import DUCK_BACKEND, NETWORKS, Level1, SmoothBowl, ducks, normals, same_on_ducks

import ebm_ref
from ebm_fast import backend, why_not
from ebm_ref import ConvEnergy, MLPEnergy, NoiseConditionalEnergy, QuadraticEnergy
from ebm_ref.contracts import BackendError, DTypeError, NonFiniteError, RangeError, ShapeError, SmoothnessError, Stream
from ebm_ref.objectives import (
    denoising,
    denoising_ladder,
    denoising_levels,
    dsm_step,
    hsm_step,
    multi_dsm_step,
    score_matching,
    score_matching_sliced,
    ssm_step,
)
from ebm_ref.objectives.score_matching import KINDS, draw_directions

SIGMAS = denoising_ladder(1.0, 0.1, 3)
TRUNKS = {
    "mlp": MLPEnergy((4,), (5, 4), "silu"),
    "conv": ConvEnergy((4, 3, 3), channels=(4, 6), strides=(2, 1), max_groups=2, activation="tanh"),
}


def objectives(x, dtype=np.float64):
    """Name -> (energy, theta) -> (loss, grads, info), all draws fixed."""
    v = np.stack([normals(21 + m, *x.shape, dtype=dtype) for m in range(2)])
    xi = normals(23, *x.shape, dtype=dtype)
    return {
        "exact": lambda energy, theta: score_matching(energy, theta, x),
        "sliced": lambda energy, theta: score_matching_sliced(energy, theta, x, v, False),
        "reduced": lambda energy, theta: score_matching_sliced(energy, theta, x, v),
        "denoising": lambda energy, theta: denoising(energy, theta, x, xi, 0.4),
    }


NAMES = ("exact", "sliced", "reduced", "denoising")


def case(network, N=4, dtype=np.float64):
    energy = NETWORKS[network]
    return energy, random_theta(energy, np.random.default_rng(7), dtype), normals(20, N, *energy.shape, dtype=dtype)


# ------------------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_score_objective__is_the_derivative(network, objective):
    energy, theta, x = case(network)
    run = objectives(x)[objective]
    grads = run(energy, theta)[1]
    assert list(grads) == list(theta)
    check_theta_gradient(lambda t: run(energy, t)[0], grads, theta, np.random.default_rng(8), 1e-8)


@pytest.mark.parametrize("weights", [None, (0.3, 2.0, 1.0)])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_denoising_levels__is_the_derivative(trunk, weights):
    energy = NoiseConditionalEnergy(TRUNKS[trunk], 0.1, 1.0)
    theta = random_theta(energy, np.random.default_rng(7))
    x, xi, idx = normals(20, 5, *energy.shape), normals(21, 5, *energy.shape), np.array([0, 2, 1, 2, 0])
    grads = denoising_levels(energy, theta, x, xi, idx, SIGMAS, weights)[1]
    check_theta_gradient(
        lambda t: denoising_levels(energy, t, x, xi, idx, SIGMAS, weights)[0],
        grads,
        theta,
        np.random.default_rng(8),
        1e-8,
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_score_matching__is_the_equation(network):
    """From grad_x and hvp alone: |g|^2/2 - sum_d (H e_d)_d."""
    energy, theta, x = case(network)
    g, D = energy.grad_x(theta, x), int(np.prod(energy.shape))
    unit = np.eye(D).reshape((D, *energy.shape))
    trace = sum((energy.hvp(theta, x, np.broadcast_to(e, x.shape)) * e).reshape(4, D).sum(axis=1) for e in unit)  # (N,)
    close(score_matching(energy, theta, x)[0], np.mean(0.5 * (g * g).reshape(4, D).sum(axis=1) - trace), 1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000, None])
def test_score_matching__does_not_depend_on_the_chunk(chunk):
    energy, theta, x = case("mlp_image")
    want, found = score_matching(energy, theta, x, 3), score_matching(energy, theta, x, chunk)
    close(found[0], want[0], 1e-13)
    for name in theta:
        close(found[1][name], want[1][name], 1e-13)


def test_score_matching__passes_hold_no_more_than_the_chunk():
    sizes = []

    class Counted(SmoothBowl):
        def curvature(self, theta, x, v):
            sizes.append(len(x))
            return super().curvature(theta, x, v)

    theta = {"lam": np.ones(5), "bias": np.zeros(1)}
    score_matching(Counted((5,)), theta, normals(1, 3, 5), chunk=2)
    assert sizes == [6, 6, 3]
    sizes.clear()
    score_matching(Counted((5,)), theta, normals(1, 700, 5))
    assert sizes == [700] * 5  # 1024 rows hold one direction of 700 samples


# -------------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_score_objective__ignores_a_constant_in_the_energy(network, objective):
    energy, theta, x = case(network)
    run = objectives(x)[objective]
    loss, grads, _ = run(energy, theta)
    shifted_loss, shifted, _ = run(energy, theta | {"out.b": theta["out.b"] + 3.0})
    assert grads["out.b"] == 0.0 and shifted_loss == loss
    for name in theta:
        np.testing.assert_array_equal(shifted[name], grads[name])


def on_part(network, objective, part):
    """The objective on some of six samples, with their own draws."""
    energy, theta, _ = case(network)
    x, xi = normals(20, 6, *energy.shape)[part], normals(21, 6, *energy.shape)[part]
    v = np.stack([normals(22 + m, 6, *energy.shape)[part] for m in range(2)])
    if objective == "exact":
        return score_matching(energy, theta, x)
    if objective == "denoising":
        return denoising(energy, theta, x, xi, 0.4)
    return score_matching_sliced(energy, theta, x, v, objective == "reduced")


@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_score_objective__does_not_see_the_order_and_adds_up_over_parts(network, objective):
    loss, grads, _ = on_part(network, objective, slice(None))
    turned_loss, turned, _ = on_part(network, objective, np.array([3, 0, 5, 1, 4, 2]))
    halves = [on_part(network, objective, part) for part in (slice(0, 2), slice(2, 6))]
    close(turned_loss, loss, 1e-12)
    close((halves[0][0] * 2 + halves[1][0] * 4) / 6, loss, 1e-12)
    for name, grad in grads.items():
        close(turned[name], grad, 1e-12)
        close((halves[0][1][name] * 2 + halves[1][1][name] * 4) / 6, grad, 1e-12)


@pytest.mark.parametrize("objective", NAMES)
def test_score_objective__value_does_not_depend_on_the_shape_of_x(objective):
    flat, image = MLPEnergy((6,), (6,), "softplus"), MLPEnergy((2, 3, 1), (6,), "softplus")
    theta, x = random_theta(flat, np.random.default_rng(7)), normals(20, 4, 6)
    want = objectives(x)[objective](flat, theta)
    found = objectives(x.reshape(4, 2, 3, 1))[objective](image, theta)
    close(found[0], want[0], 1e-13)
    for name in theta:
        close(found[1][name], want[1][name], 1e-13)


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_ssm_step__draws_the_same_for_flat_and_image(kind, reduced):
    theta, x = {"lam": np.arange(1.0, 7), "bias": np.zeros(1)}, normals(20, 4, 6)
    flat = ssm_step(ebm_ref, SmoothBowl((6,)), theta, x, 3, 2, 2, kind, reduced)
    image = ssm_step(ebm_ref, SmoothBowl((2, 3, 1)), theta, x.reshape(4, 2, 3, 1), 3, 2, 2, kind, reduced)
    assert image[0] == pytest.approx(flat[0], rel=1e-13)
    close(image[1]["lam"], flat[1]["lam"], 1e-13)


def test_score_steps__leave_their_arguments_alone():
    energy, theta, x = case("mlp")
    before = [value.copy() for value in (x, *theta.values())]
    hsm_step(ebm_ref, energy, theta, x, 0, 0)
    for kind in KINDS:
        ssm_step(ebm_ref, energy, theta, x, 0, 0, 2, kind)
    dsm_step(ebm_ref, energy, theta, x, 0.3, 0, 0)
    for value, was in zip((x, *theta.values()), before, strict=True):
        np.testing.assert_array_equal(value, was)


# --------------------------------------------------------------------------------------- addresses


def test_ssm_step__is_its_parts_at_their_addresses():
    energy, theta, x = case("mlp_image")
    N, D, seed, t, M = 4, 6, 9, 5, 3
    for kind in KINDS:
        v = []
        for m in range(M):
            at = (seed, Stream.PROJECTION, t * M + m, np.arange(N), D)
            if kind == "rademacher":
                v.append(np.where(ebm_ref.noise_uniform(*at) < 0.5, 1.0, -1.0))
            else:
                n = ebm_ref.noise_normal(*at)
                v.append(n if kind == "gaussian" else np.sqrt(D) * n / np.linalg.norm(n, axis=1, keepdims=True))
        v = np.stack(v).reshape((M, N, *energy.shape))
        want = score_matching_sliced(energy, theta, x, v, False)
        found = ssm_step(ebm_ref, energy, theta, x, seed, t, M, kind, False)
        close(found[0], want[0], 1e-13)
        for name in theta:
            close(found[1][name], want[1][name], 1e-13)
        np.testing.assert_allclose(draw_directions(ebm_ref, x, M, kind, seed, t), v, rtol=1e-14)


def test_score_steps__default_to_one_rademacher_direction_reduced():
    energy, theta, x = case("mlp")
    found = ssm_step(ebm_ref, energy, theta, x, 3, 2)
    assert found[0] == ssm_step(ebm_ref, energy, theta, x, 3, 2, 1, "rademacher", True)[0]
    assert hsm_step(ebm_ref, energy, theta, x, 3, 2)[0] == score_matching(energy, theta, x)[0]


def test_dsm_steps__are_their_parts_at_their_addresses():
    energy, theta, x = case("conv")
    xi = ebm_ref.noise_normal(9, Stream.LEVEL_NOISE, 5, np.arange(4), 24).reshape(x.shape)
    want = denoising(energy, theta, x, xi, 0.3)
    loss, grads, _ = dsm_step(ebm_ref, energy, theta, x, 0.3, 9, 5)
    assert loss == want[0] and all((grads[name] == want[1][name]).all() for name in theta)

    conditional = NoiseConditionalEnergy(TRUNKS["conv"], 0.1, 1.0)
    theta = random_theta(conditional, np.random.default_rng(7))
    bits = ebm_ref.noise_bits(9, Stream.NOISE_LEVEL, 5, np.arange(4), 1)[:, 0]
    idx = ebm_ref.noise_index(bits, 3)
    want = denoising_levels(conditional, theta, x, xi, idx, SIGMAS)
    loss, grads, info = multi_dsm_step(ebm_ref, conditional, theta, x, SIGMAS, 9, 5)
    assert loss == want[0] and (info["idx"] == idx).all()
    assert all((grads[name] == want[1][name]).all() for name in theta)


def test_denoising_ladder__is_geometric_with_exact_ends():
    ladder = denoising_ladder(1.0, 0.01, 10)
    assert ladder[0] == 1.0 and ladder[-1] == 0.01 and len(ladder) == 10
    np.testing.assert_allclose(np.diff(np.log(ladder)), np.log(0.01) / 9, rtol=1e-12)
    assert denoising_ladder(3, 2, 2) == (3.0, 2.0)


# ------------------------------------------------------- float32, arrays of another library, fast energies


@pytest.mark.parametrize("network", NETWORKS)
def test_score_steps__keep_float32(network):
    energy, theta, x = case(network, dtype=np.float32)
    runs = objectives(x, np.float32)
    results = [runs[name](energy, theta) for name in NAMES]
    results += [ssm_step(ebm_ref, energy, theta, x, 3, 1, 2, kind, False) for kind in KINDS]
    results += [dsm_step(ebm_ref, energy, theta, x, 0.3, 3, 1)]
    wide = {name: value.astype(np.float64) for name, value in theta.items()}
    for name, result in zip(NAMES, results, strict=False):
        want = objectives(x.astype(np.float64))[name](energy, wide)
        assert abs(result[0] - want[0]) < 1e-4 * max(1, abs(want[0]))
    for loss, grads, info in results:
        assert loss.dtype == np.float32 and all(value.dtype == np.float32 for value in info.values())
        assert all(grad.dtype == np.float32 for grad in grads.values())


def test_multi_dsm_step__keeps_float32():
    energy = NoiseConditionalEnergy(TRUNKS["mlp"], 0.1, 1.0)
    theta = random_theta(energy, np.random.default_rng(7), np.float32)
    loss, grads, info = multi_dsm_step(ebm_ref, energy, theta, normals(20, 5, 3, dtype=np.float32), SIGMAS, 3, 1)
    assert loss.dtype == np.float32 and info["losses"].dtype == info["centred"].dtype == np.float32
    assert all(grad.dtype == np.float32 for grad in grads.values())


def test_score_steps__run_on_any_array_that_answers_numpy():
    energy, theta, x = SmoothBowl((2, 3, 1)), {"lam": np.arange(1.0, 7), "bias": np.ones(1)}, normals(20, 4, 2, 3, 1)
    calls = [
        lambda backend, theta, x: hsm_step(backend, energy, theta, x, 3, 2),
        lambda backend, theta, x: hsm_step(backend, energy, theta, x, 3, 2, 4),
        lambda backend, theta, x: dsm_step(backend, energy, theta, x, 0.3, 3, 2),
    ]
    for kind in KINDS:
        for reduced in (True, False):
            calls.append(
                lambda backend, theta, x, k=kind, r=reduced: ssm_step(backend, energy, theta, x, 3, 2, 2, k, r)
            )
    conditional = NoiseConditionalEnergy(SmoothBowl((2, 3, 2)), 0.1, 1.0)
    for weights in (None, (1.0, 2.0, 0.5)):
        calls.append(
            lambda backend, theta, x, w=weights: multi_dsm_step(backend, conditional, theta, x, SIGMAS, 3, 2, w)
        )
    for call in calls[:-2]:
        same_on_ducks(call(ebm_ref, theta, x), call(DUCK_BACKEND, ducks(theta), Duck.of(x)))
    theta = {"lam": np.arange(1.0, 13), "bias": np.ones(1)}
    for call in calls[-2:]:
        same_on_ducks(call(ebm_ref, theta, x), call(DUCK_BACKEND, ducks(theta), Duck.of(x)))


FAST = {"MLPEnergy": ((5,), (16, 8)), "ConvEnergy": ((6, 5, 2), (4, 6), (2, 1), 3, "SAME", "silu", False, "mean", 2)}


@pytest.mark.parametrize("name", FAST)
def test_dsm_steps__agree_with_numba_cpu(name):
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    fast = backend("numba_cpu")
    ours, theirs = getattr(ebm_ref, name)(*FAST[name]), getattr(fast, name)(*FAST[name])
    theta, x = ebm_ref.theta_init(ours, 3, np.float64), normals(20, 9, *ours.shape)
    agree(dsm_step(ebm_ref, ours, theta, x, 0.3, 3, 2), dsm_step(fast, theirs, theta, x, 0.3, 3, 2))
    ours, theirs = NoiseConditionalEnergy(ours, 0.1, 1.0), NoiseConditionalEnergy(theirs, 0.1, 1.0)
    args = (theta, normals(21, 9, *ours.shape), SIGMAS, 3, 2)
    agree(multi_dsm_step(ebm_ref, ours, *args), multi_dsm_step(fast, theirs, *args))


def agree(want, found):
    close(found[0], want[0], 1e-11)
    for name, grad in want[1].items():
        close(found[1][name], grad, 1e-11)


def test_score_steps__say_where_level_3_exists():
    if why_not("numba_cpu"):
        pytest.skip(why_not("numba_cpu"))
    fast = backend("numba_cpu")
    energy = fast.MLPEnergy((3,), (4,))
    theta, x = ebm_ref.theta_init(ebm_ref.MLPEnergy((3,), (4,)), 0), normals(1, 2, 3, dtype=np.float32)
    said = r"needs curvature and grad_theta_curvature, which ebm_fast\.numba_cpu\..*MLPEnergy lacks; .*ebm_ref"
    with pytest.raises(BackendError, match=f"score_matching {said}"):
        hsm_step(fast, energy, theta, x, 0, 0)
    with pytest.raises(BackendError, match=f"ssm_step {said}"):
        ssm_step(fast, energy, theta, x, 0, 0)
    with pytest.raises(BackendError, match=f"score_matching {said}"):
        hsm_step(fast, NoiseConditionalEnergy(energy, 0.1, 1.0).at(0.5), theta, x[:, :2], 0, 0)


# ------------------------------------------------------------------------------------ what is refused

BOWL, BOWL_THETA = SmoothBowl((2,)), {"lam": np.ones(2), "bias": np.zeros(1)}
LEVELS = NoiseConditionalEnergy(SmoothBowl((3,)), 0.1, 1.0)
LEVELS_THETA = {"lam": np.ones(3), "bias": np.zeros(1)}
X, XI, IDX = np.ones((4, 2)), np.ones((4, 2)), np.zeros(4, np.int64)


def refuse_work(*args):
    raise AssertionError("work was done before the arguments were refused")


IDLE = SimpleNamespace(noise_bits=refuse_work, noise_normal=refuse_work, noise_index=refuse_work)


def sm(energy=BOWL, x=X, **more):
    return lambda: score_matching(energy, BOWL_THETA, x, **more)


def sliced(energy=BOWL, x=X, v=XI[None]):
    return lambda: score_matching_sliced(energy, BOWL_THETA, x, v)


def ssm(energy=BOWL, x=X, **more):
    return lambda: ssm_step(ebm_ref, energy, BOWL_THETA, x, **({"seed": 0, "step": 0} | more))


def dsm(energy=BOWL, x=X, xi=XI, sigma=0.5):
    return lambda: denoising(energy, BOWL_THETA, x, xi, sigma)


def levels(energy=LEVELS, x=X, xi=XI, idx=IDX, sigmas=SIGMAS, weights=None):
    return lambda: denoising_levels(energy, LEVELS_THETA, x, xi, idx, sigmas, weights)


RELU = MLPEnergy((2,), (3,), "relu")
REFUSED = {
    "hsm relu": (SmoothnessError, "score_matching needs.*relu", sm(RELU)),
    "ssm relu": (SmoothnessError, "ssm_step needs.*relu", ssm(RELU)),
    "sliced relu": (SmoothnessError, "score_matching_sliced needs.*relu", sliced(RELU)),
    "dsm relu": (SmoothnessError, "denoising needs.*relu", dsm(RELU)),
    "dsm step relu": (SmoothnessError, "dsm_step", lambda: dsm_step(IDLE, RELU, BOWL_THETA, X, 0.5, 0, 0)),
    "levels relu": (
        SmoothnessError,
        "denoising_levels needs.*leaky_relu",
        levels(NoiseConditionalEnergy(MLPEnergy((3,), (4,), "leaky_relu"), 0.1, 1.0)),
    ),
    "hsm level": (BackendError, "score_matching needs grad_theta_along and curvature .*Level1 lacks", sm(Level1((2,)))),
    "dsm level": (BackendError, "denoising needs grad_theta_along, which .*Level1 lacks", dsm(Level1((2,)))),
    "levels level": (BackendError, "Level1 lacks", levels(NoiseConditionalEnergy(Level1((3,)), 0.1, 1.0))),
    "x size": (ShapeError, r"x: expected shape \(any, 2\)", sm(x=np.ones((4, 3)))),
    "x rank": (ShapeError, "x: expected shape", ssm(x=np.ones(2))),
    "x none": (ShapeError, "x: expected at least one sample", sm(x=X[:0])),
    "x none, dsm": (ShapeError, "x: expected at least one sample", dsm(x=X[:0], xi=X[:0])),
    "x type": (DTypeError, "x: expected float32 or float64", sm(x=X.astype(int))),
    "x list": (DTypeError, "x: expected an array", dsm(x=X.tolist())),
    "chunk 0": (RangeError, "chunk", sm(chunk=0)),
    "chunk type": (DTypeError, "chunk", sm(chunk=1.5)),
    "v rank": (ShapeError, r"v: expected shape \(any, 4, 2\), found \(4, 2\)", sliced(v=XI)),
    "v batch": (ShapeError, "v: expected shape", sliced(v=np.ones((1, 3, 2)))),
    "v size": (ShapeError, "v: expected shape", sliced(v=np.ones((1, 4, 3)))),
    "v none": (ShapeError, "v: expected at least one direction", sliced(v=np.ones((0, 4, 2)))),
    "v type": (DTypeError, "v: expected x's float64", sliced(v=XI[None].astype(np.float32))),
    "projections": (RangeError, "projections", ssm(projections=0)),
    "projections type": (DTypeError, "projections", ssm(projections=2.0)),
    "kind": (RangeError, "kind: expected one of rademacher, gaussian, sphere, found 'unit'", ssm(kind="unit")),
    "step": (RangeError, "step", ssm(step=2**32)),
    "seed": (RangeError, "seed", ssm(seed=-1)),
    "sigma 0": (RangeError, r"sigma: expected a finite number in \(0.0", dsm(sigma=0.0)),
    "sigma < 0": (RangeError, "sigma", dsm(sigma=-0.1)),
    "sigma nan": (RangeError, "sigma", dsm(sigma=float("nan"))),
    "sigma type": (DTypeError, "sigma", dsm(sigma="0.1")),
    "sigma step": (RangeError, "sigma", lambda: dsm_step(IDLE, BOWL, BOWL_THETA, X, 0, 0, 0)),
    "xi shape": (ShapeError, "xi", dsm(xi=np.ones((4, 3)))),
    "xi type": (DTypeError, "xi: expected x's float64", dsm(xi=XI.astype(np.float32))),
    "not conditional": (DTypeError, "energy: expected a noise-conditional energy, found SmoothBowl", levels(BOWL)),
    "sigmas list": (DTypeError, "sigmas", levels(sigmas=[0.1, 1.0])),
    "sigmas none": (DTypeError, "sigmas: expected a non-empty tuple", levels(sigmas=())),
    "sigmas 0": (
        RangeError,
        r"sigmas\[1\]: expected a finite number in \(0",
        levels(NoiseConditionalEnergy(SmoothBowl((3,)), 0.0, 1.0, "linear"), sigmas=(0.5, 0.0)),
    ),
    "sigmas high": (RangeError, r"sigmas\[0\]: expected a finite number in \[0.1, 1.0\]", levels(sigmas=(1.5, 0.5))),
    "sigmas low": (RangeError, r"sigmas\[1\]", levels(sigmas=(0.5, 0.05))),
    "weights length": (ShapeError, "weights: expected a tuple of 3", levels(weights=(1.0,))),
    "weights < 0": (RangeError, r"weights\[2\]", levels(weights=(1.0, 1.0, -1.0))),
    "idx floats": (DTypeError, "idx: expected an array of integers", levels(idx=np.zeros(4))),
    "idx list": (DTypeError, "idx: expected an array of integers, found list", levels(idx=[0, 0, 0, 0])),
    "idx shape": (ShapeError, r"idx: expected shape \(4,\)", levels(idx=IDX[:3])),
    "idx high": (RangeError, r"idx: expected levels in \[0, 3\)", levels(idx=IDX + 3)),
    "idx low": (RangeError, "idx", levels(idx=IDX - 1)),
    "multi range": (
        RangeError,
        r"sigmas\[0\]",
        lambda: multi_dsm_step(IDLE, LEVELS, LEVELS_THETA, X, (2.0, 1.0), 0, 0),
    ),
    "multi x": (ShapeError, "x", lambda: multi_dsm_step(IDLE, LEVELS, LEVELS_THETA, np.ones((4, 3)), SIGMAS, 0, 0)),
    "ladder order": (RangeError, "high", lambda: denoising_ladder(0.01, 1.0, 4)),
    "ladder low": (RangeError, "low", lambda: denoising_ladder(1.0, 0.0, 4)),
    "ladder L": (RangeError, "L", lambda: denoising_ladder(1.0, 0.1, 1)),
    "nan": (
        NonFiniteError,
        "^x: expected finite numbers",
        lambda: score_matching(QuadraticEnergy((2,)), {"mu": X[0], "P": np.eye(2)}, X * np.nan),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_score_objective__refuses_bad_input_by_name(what):
    error, said, call = REFUSED[what]
    with pytest.raises(error, match=said):
        call()


def test_denoising__does_not_hide_what_is_not_finite():
    with np.errstate(over="ignore", invalid="ignore"):
        loss, _, info = denoising(BOWL, BOWL_THETA, np.array([[1e200, 0.0]]), np.ones((1, 2)), 0.5)
    assert loss == np.inf and info["centred"] == np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(score_matching(BOWL, BOWL_THETA, np.array([[1e200, 0.0]]))[0])
