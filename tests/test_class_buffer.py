"""Class blocks of a buffer, Gaussian starts, and the sampler with a frozen gradient: input and edges."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import close
from gaussian import Bowl, bowl_theta

import ebm_ref
from ebm_ref.contracts import DataError, DTypeError, NonFiniteError, RangeError, ShapeError, Stream
from ebm_ref.noise import noise_bits, noise_normal, noise_uniform
from ebm_ref.samplers import (
    ClassGaussians,
    class_block,
    class_buffer_draw,
    class_buffer_index,
    class_buffer_start,
    class_gaussian_draw,
    class_gaussians,
    jempp_run,
)
from ebm_ref.specs import SGLD, ULA

BOX = (-1.0, 1.0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 2, 2)), np.arange(30) % 3
FIT = class_gaussians(X, Y, 3)


def test_class_buffer_index__stays_in_the_block_and_reaches_all_of_it():
    y = RNG.integers(0, 3, 4000)
    bits = noise_bits(1, Stream.BUFFER_INDEX, 0, np.arange(4000), 1)[:, 0]
    idx = class_buffer_index(bits, y, 24, 3)
    assert idx.dtype == np.int64 and (idx // 8 == y).all() and set(idx.tolist()) == set(range(24))
    assert class_buffer_index(np.array([0, 2**32 - 1], np.uint32), np.array([1, 1]), 24, 3).tolist() == [8, 15]


def test_class_buffer_draw__is_the_equation():
    slots, idx, fresh = RNG.normal(size=(6, 2)), np.array([5, 0, 3]), RNG.normal(size=(3, 2))
    x0, restart = class_buffer_draw(slots, idx, np.array([0.1, 0.5, 0.9]), fresh, 0.5)
    assert restart.tolist() == [True, False, False]
    assert (x0 == np.stack([fresh[0], slots[0], slots[3]])).all()


def test_class_gaussian_draw__is_the_equation():
    y, xi = np.array([2, 0]), RNG.normal(size=(2, 4))
    for n in range(2):
        flat = X[y[n] == Y].reshape(-1, 4)
        cov = np.cov(flat.T, bias=True) + 1e-4 * np.eye(4)
        want = flat.mean(axis=0) + np.linalg.cholesky(cov) @ xi[n]
        close(class_gaussian_draw(FIT, y, xi)[n].ravel(), want, 1e-12)
        close(class_gaussian_draw(FIT, y, xi, BOX)[n].ravel(), np.clip(want, *BOX), 1e-12)


def test_class_gaussians__of_one_sample_is_a_point_and_the_ridge():
    fit = class_gaussians(X[:3], Y[:3], 3, ridge=0.04)
    close(fit.mean, X[:3].reshape(3, 4), 1e-14)
    close(fit.factor[1], 0.2 * np.eye(4), 1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_class_buffer_start__holds_a_block_of_draws_a_class(dtype):
    fit = class_gaussians((X + 4 * Y[:, None, None]).astype(dtype), Y, 3)
    buffer = class_buffer_start(600, fit, seed=5, box=None)
    xi = noise_normal(5, Stream.SAMPLE_START, 0, np.array([417]), 4, dtype)
    close(buffer.slots[417], class_gaussian_draw(fit, np.array([2]), xi)[0], 1e-6 if dtype == np.float32 else 1e-12)
    assert buffer.slots.dtype == dtype and buffer.filled == 600 and buffer.ptr == 0
    for c in range(3):
        assert abs(buffer.slots[200 * c : 200 * c + 200].mean() - fit.mean[c].mean()) < 0.3
    boxed = class_buffer_start(6, fit, seed=5, box=BOX).slots
    assert boxed.min() == -1 or boxed.max() == 1


def test_jempp_run__stops_and_counts_a_chain_that_is_not_finite():
    x = np.array([[0.1], [1e300]])
    with np.errstate(over="ignore"):
        found, info = jempp_run(ebm_ref, Bowl(), bowl_theta(1e10), x, 2, 3, SGLD(1e-11, 0.0), 0)
    assert info.alive.tolist() == [True, False] and info.nonfinite == 1 and found[1] == 1e300 and found[0] < 0.1


def test_jempp_run__stops_where_a_clip_hides_an_infinite_gradient():
    x, update = np.array([[0.1], [1e300]]), SGLD(1e-11, 0.0, clip=1.0)
    _, info = jempp_run(ebm_ref, Bowl(), bowl_theta(1e10), x, 2, 3, update, 0)
    _, also = ebm_ref.langevin_run(Bowl(), bowl_theta(1e10), x, 2, update, 0)
    assert info.alive.tolist() == also.alive.tolist() == [True, False]


def test_jempp_run__draws_noise_at_its_addresses():
    x, theta = np.zeros((4, 1)), bowl_theta(0.0)
    chains = np.array([3, 1, 9, 0])
    found, _ = jempp_run(ebm_ref, Bowl(), theta, x, 2, 3, SGLD(0.1, 0.5), 7, 10, chains)
    want = sum(noise_normal(7, Stream.CHAIN_NOISE, 10 + k, chains, 1) for k in range(6))
    close(found, 0.5 * want, 1e-14)
    same, info = jempp_run(ebm_ref, Bowl(), theta, x, 0, 3, SGLD(0.1, 0.5), 7)
    assert (same == x).all() and info.energy.shape == (0, 4)


def test_jempp_run__keeps_float32_and_its_arguments():
    x = np.ones((2, 1), np.float32)
    found, _ = jempp_run(ebm_ref, Bowl(), bowl_theta(1.0, dtype=np.float32), x, 2, 2, ULA(0.1), 0)
    assert found.dtype == np.float32 and (x == 1).all() and (found != 1).all()


U, FRESH, SLOTS, IDX = (
    noise_uniform(0, 5, 0, np.arange(2), 1)[:, 0],
    np.zeros((2, 2)),
    np.zeros((6, 2)),
    np.zeros(2, int),
)
BITS = np.zeros(2, np.uint32)
REFUSED = {
    "M: expected a multiple of the 4 classes, found 10": (RangeError, lambda: class_block(10, 4)),
    "classes: .*>= 1": (RangeError, lambda: class_block(10, 0)),
    "y: .*found 0 to 3": (RangeError, lambda: class_buffer_index(BITS, np.array([0, 3]), 6, 3)),
    r"y: expected shape \(2,\)": (ShapeError, lambda: class_buffer_index(BITS, np.array([0]), 6, 3)),
    "bits: .*int64": (DTypeError, lambda: class_buffer_index(IDX, np.array([0, 1]), 6, 3)),
    "u: expected float64": (DTypeError, lambda: class_buffer_draw(SLOTS, IDX, U.astype(np.float32), FRESH, 0.1)),
    "u: expected shape": (ShapeError, lambda: class_buffer_draw(SLOTS, IDX, U[:1], FRESH, 0.1)),
    "fresh: expected shape": (ShapeError, lambda: class_buffer_draw(SLOTS, IDX, U, FRESH[:1], 0.1)),
    "fresh: expected the slots' float64": (
        DTypeError,
        lambda: class_buffer_draw(SLOTS, IDX, U, FRESH.astype(np.float32), 0.1),
    ),
    r"rho: .*\[0.0, 1.0\]": (RangeError, lambda: class_buffer_draw(SLOTS, IDX, U, FRESH, 1.5)),
    "y: .*none of 3, 4": (DataError, lambda: class_gaussians(X, Y, 5)),
    "y: .*found 0 to 2": (RangeError, lambda: class_gaussians(X, Y, 2)),
    "y: .*float64": (DTypeError, lambda: class_gaussians(X, Y.astype(float), 3)),
    "x: .*NaN": (NonFiniteError, lambda: class_gaussians(X * np.nan, Y, 3)),
    "x: .*int64": (DTypeError, lambda: class_gaussians(X.astype(int), Y, 3)),
    r"x: expected \(n, .shape\) with n >= 1": (ShapeError, lambda: class_gaussians(X[:, 0, 0], Y, 3)),
    "ridge": (RangeError, lambda: class_gaussians(X, Y, 3, ridge=0.0)),
    "xi: expected shape": (ShapeError, lambda: class_gaussian_draw(FIT, Y[:2], np.zeros((2, 3)))),
    "xi: expected the Gaussians' float64": (
        DTypeError,
        lambda: class_gaussian_draw(FIT, Y[:2], np.zeros((2, 4), np.float32)),
    ),
    "y: .*found 7 to 7": (RangeError, lambda: class_gaussian_draw(FIT, np.array([7]), np.zeros((1, 4)))),
    "box": (RangeError, lambda: class_gaussian_draw(FIT, Y[:1], np.zeros((1, 4)), (1.0, 1.0))),
    "factor: expected shape": (ShapeError, lambda: ClassGaussians(FIT.mean, FIT.factor[:2], (2, 2))),
    "M: .*found 7": (RangeError, lambda: class_buffer_start(7, FIT, seed=0)),
}
RUN = {"backend": ebm_ref, "energy": Bowl(), "theta": bowl_theta(1.0), "x0": np.zeros((2, 1)), "M": 1, "N": 1}
RUN |= {"update": SGLD(0.1, 0.1), "seed": 0}
BAD_RUNS = [
    ({"M": -1}, RangeError, "M"),
    ({"N": 0}, RangeError, "N"),
    ({"N": 1.5}, DTypeError, "N"),
    ({"step": 2**32 - 1, "N": 3}, RangeError, "step"),
    ({"update": SGLD(0.1, 0.1, order="noise_first")}, RangeError, "gradient_first"),
    ({"update": 0.1}, DTypeError, "update"),
    ({"x0": np.zeros((2, 3))}, ShapeError, "x0"),
    ({"x0": np.full((2, 1), np.inf)}, NonFiniteError, "x0"),
    ({"chains": np.arange(3)}, ShapeError, "chains"),
    ({"chains": np.zeros(2)}, DTypeError, "chains"),
]


@pytest.mark.parametrize("said", REFUSED)
def test_class_buffer__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize(("change", "error", "said"), BAD_RUNS)
def test_jempp_run__refuses_bad_input_by_name(change, error, said):
    with pytest.raises(error, match=said):
        jempp_run(**(RUN | change))
