"""Evaluations on float32, on arrays that are not NumPy's, and with the energies of numba_cpu."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from duck import Duck
from evaluation_parts import LinearLogits, normals, rbm_theta, uniforms
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import Stream
from ebm_ref.evaluation import (
    BernoulliBase,
    FlipTransition,
    GaussianBase,
    HMCTransition,
    MALATransition,
    NormalBase,
    TemperedEnergy,
    UniformBase,
    ais_backward,
    ais_forward,
    ais_reverse_run,
    ais_run,
    beta_ladder,
    bits_per_dim_run,
    mutate_run,
    pgd_run,
    score_energy,
    score_grad_norm,
    score_likelihood_ratio,
    score_max_softmax,
    score_typicality,
)

ROOT = np.array([[1.1, 0.0], [0.3, 0.8]])
BASES = [NormalBase(), GaussianBase(np.array([0.1, 0.2]), ROOT), UniformBase((-3.0, 3.0))]
DUCK_BASES = [NormalBase(), GaussianBase(Duck.of(np.array([0.1, 0.2])), Duck.of(ROOT)), UniformBase((-3.0, 3.0))]
NAMES = ["normal", "gaussian", "uniform"]


def ducks(theta):
    return {name: Duck.of(value) for name, value in theta.items()}


def on_device(name):
    def call(*args):
        return Duck.of(getattr(ebm_ref, name)(*(a.get() if isinstance(a, Duck) else a for a in args)))

    return call


DEVICE = SimpleNamespace(**{n: on_device(n) for n in ("noise_bits", "noise_uniform", "noise_normal", "noise_index")})


def host(value):
    return value.get() if isinstance(value, Duck) else np.asarray(value)


@pytest.mark.parametrize("move", [MALATransition(0.2), HMCTransition(0.3, L=2, steps=2)], ids=["mala", "hmc"])
@pytest.mark.parametrize(("base", "duck"), list(zip(BASES, DUCK_BASES, strict=True)), ids=NAMES)
def test_ais__runs_on_any_array_that_answers_numpy(move, base, duck):
    energy, theta, betas = Bowl((2,)), bowl_theta(2.0, 0.5), beta_ladder(4)
    x = base.draw(ebm_ref, 3, 6, (2,), np.float64)
    on = duck.draw(DEVICE, 3, 6, (2,), np.dtype(np.float64))
    for run in (ais_forward, ais_backward):
        want = run(ebm_ref, energy, theta, base, betas, x, move, 5)
        found = run(DEVICE, energy, ducks(theta), duck, betas, on, move, 5)
        for a, b in zip(found[:2], want[:2], strict=True):
            assert isinstance(a, Duck)
            np.testing.assert_array_equal(a.get(), b)
        np.testing.assert_array_equal([host(a) for a in found[2]], want[2])


class Bits(Bowl):
    """-0.3 sum x + (sum x)^2 / 10 on bits, in NumPy calls alone."""

    def energy(self, theta, x):
        return np.sum(x, axis=1) ** 2 / 10 - 0.3 * np.sum(x, axis=1)


def test_flip_transition__runs_on_any_array_that_answers_numpy():
    base = BernoulliBase(0.4)
    x, on = base.draw(ebm_ref, 3, 9, (4,), np.float64), base.draw(DEVICE, 3, 9, (4,), np.dtype(np.float64))
    want = FlipTransition(2)(ebm_ref, TemperedEnergy(Bits((4,)), base, 0.5), {}, x, 1, 5, 0)
    found = FlipTransition(2)(DEVICE, TemperedEnergy(Bits((4,)), base, 0.5), {}, on, 1, 5, 0)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a.get(), b)


class DuckLogits(LinearLogits):
    def logits(self, theta, x):
        return np.matmul(x, theta["W"]) + theta["c"]

    def logits_backward(self, theta, x, dy):
        return np.matmul(dy, np.transpose(theta["W"])), {}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_run__runs_on_any_array_that_answers_numpy(norm):
    theta, x, y = {"W": normals(5, 3), "c": normals(1, 3, 1)[0]}, uniforms(7, 5, 2), np.arange(7) % 3
    rest = (y, 0.4, 0.1, 4, 9, norm, (0.0, 1.0), 2)
    want = pgd_run(ebm_ref, LinearLogits((5,)), theta, x, *rest)
    found = pgd_run(DEVICE, DuckLogits((5,)), ducks(theta), Duck.of(x), *rest)
    for name in ("x", "loss", "right", "losses"):
        np.testing.assert_allclose(getattr(found, name).get(), getattr(want, name), rtol=1e-14, atol=1e-14)


def test_scores__run_on_any_array_that_answers_numpy():
    energy, theta, x = Bowl((3,)), bowl_theta(1.0, 2.0, 0.5), normals(6, 3)
    device, other = ducks(theta), bowl_theta(0.1, 0.2, 0.3)
    pairs = [
        (score_energy(energy, device, Duck.of(x)), score_energy(energy, theta, x)),
        (score_grad_norm(energy, device, Duck.of(x)), score_grad_norm(energy, theta, x)),
        (score_typicality(energy, device, Duck.of(x), 1.0), score_typicality(energy, theta, x, 1.0)),
        (
            score_likelihood_ratio(energy, device, energy, ducks(other), Duck.of(x)),
            score_likelihood_ratio(energy, theta, energy, other, x),
        ),
    ]
    weights = {"W": normals(3, 4, 3), "c": normals(1, 4, 4)[0]}
    logits = score_max_softmax(LinearLogits((3,)), weights, x)
    pairs.append((score_max_softmax(DuckLogits((3,)), ducks(weights), Duck.of(x)), logits))
    for found, want in pairs:
        np.testing.assert_allclose(found.get(), want, rtol=1e-14)
    v = (uniforms(4, 6) * 255).astype(np.uint8)
    np.testing.assert_array_equal(mutate_run(DEVICE, Duck.of(v), 0.5, 3).get(), mutate_run(ebm_ref, v, 0.5, 3))


def test_evaluation__keeps_float32():
    theta32 = bowl_theta(2.0, 0.5, dtype=np.float32)
    root = GaussianBase(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    for base in (NormalBase(), root, UniformBase((-3.0, 3.0))):
        args = (ebm_ref, Bowl((2,)), theta32, base, beta_ladder(3))
        forward = ais_run(*args, 5, HMCTransition(0.3, L=2), seed=1, dtype=np.float32)
        assert forward.x.dtype == np.float32 and forward.log_w.dtype == np.float64
        assert ais_reverse_run(*args, forward.x, MALATransition(0.1), seed=1).x.dtype == np.float32
        tempered = TemperedEnergy(Bowl((2,)), base, 0.5)
        E, g = tempered.energy_and_grad_x(theta32, forward.x)
        assert E.dtype == g.dtype == np.float32
    x, y = uniforms(6, 2).astype(np.float32), np.arange(6) % 2
    weights = {"W": normals(2, 2, 5).astype(np.float32), "c": np.zeros(2, np.float32)}
    for norm in ("linf", "l2"):
        attack = pgd_run(ebm_ref, LinearLogits((2,)), weights, x, y, 0.3, 0.1, 2, 1, norm, (0.0, 1.0))
        assert attack.x.dtype == attack.loss.dtype == np.float32
    assert score_grad_norm(Bowl((2,)), theta32, x).dtype == np.float32
    assert score_max_softmax(LinearLogits((2,)), weights, x).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_evaluation__with_the_energies_of_numba_cpu(dtype):
    numba_cpu = pytest.importorskip("ebm_fast.numba_cpu")
    spec = dict(shape=(2,), hidden=(8,))
    slow, fast = ebm_ref.MLPEnergy(**spec), numba_cpu.MLPEnergy(**spec)
    theta = ebm_ref.theta_init(slow, seed=3, dtype=dtype)
    tol = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    base, betas, move = UniformBase((-2.0, 2.0)), beta_ladder(3), MALATransition(0.02)
    a = ais_run(ebm_ref, slow, theta, base, betas, 16, move, seed=1, dtype=dtype)
    b = ais_run(numba_cpu, fast, theta, base, betas, 16, move, seed=1, dtype=dtype)
    np.testing.assert_allclose(b.log_w, a.log_w, **tol)
    x = normals(9, 2).astype(dtype)
    for score in (score_energy, score_grad_norm):
        np.testing.assert_allclose(score(fast, theta, x), score(slow, theta, x), **tol)
    v = (uniforms(9, 2) * 255).astype(np.uint8)
    rest = (theta, v, 0.7, (0.0, 1.0), 5, 2, 256, dtype)
    assert bits_per_dim_run(numba_cpu, fast, *rest) == pytest.approx(bits_per_dim_run(ebm_ref, slow, *rest), rel=1e-5)
    long = ebm_ref.log_z_quadrature(fast, theta, (-2.0, 2.0), panels=8)
    assert long.log_z == pytest.approx(ebm_ref.log_z_quadrature(slow, theta, (-2.0, 2.0), panels=8).log_z, abs=1e-5)


def test_ais__addresses_of_a_run_are_its_own():
    """A batch of chains is the same in any company; forward and reverse share no draw of a move."""
    energy = ebm_ref.RBMEnergy(4, 2)
    theta = rbm_theta(energy)
    args = (ebm_ref, energy, theta, BernoulliBase(), beta_ladder(5))
    few, many = ais_run(*args, 3, FlipTransition(), seed=2), ais_run(*args, 8, FlipTransition(), seed=2)
    np.testing.assert_array_equal(few.log_w, many.log_w[:3])
    seeds = []

    def spy(backend, energy, theta, x, k, seed, step):
        seeds.append((seed, step))
        return FlipTransition()(backend, energy, theta, x, k, seed, step)

    forward = ais_run(*args, 4, spy, seed=2)
    ais_reverse_run(*args, forward.x, spy, seed=2)
    assert len(set(seeds)) == 10 and [step for _, step in seeds] == [0, 1, 2, 3, 4] * 2
    assert 2 not in {seed for seed, _ in seeds}
    assert Stream.ANNEALING not in (Stream.CHAIN_NOISE, Stream.MOMENTUM, Stream.MH_UNIFORM)
