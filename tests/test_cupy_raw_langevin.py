"""Langevin steps in CUDA C++, on the CPU: the launches of a chain step by step, and what the kit's cases leave out."""

import numpy as np
import pytest
from cupy_host import DTYPES, host, moved, normals

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw import langevin, limits
from ebm_fast.cupy_raw.device import current
from ebm_fast.cupy_raw.noise import chain_ids
from ebm_ref.contracts import RangeError, ShapeError
from ebm_ref.specs import SGLD, ULA

SEED, STREAM = 2**40 + 3, 7
ORDERS = ("gradient_first", "noise_first")
NEAR = {np.float32: 2e-5, np.float64: 1e-12}


class Quartic:
    """E(x) = sum_d x_d^4 / 4: a slope that overflows where x is large."""

    def __init__(self, shape):
        self.shape = shape

    def energy_and_grad_x(self, theta, x):
        rows = x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
        with np.errstate(all="ignore"):
            return (rows**4 / 4).sum(axis=1, dtype=x.dtype), x**3


class Steep(Quartic):
    """The slope of Quartic, and an energy that stays finite."""

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        return np.zeros_like(E), g


class Chain:
    """The chain of any energy, made of this backend's launches, one step at a time."""

    def __init__(self, energy, x0, K, update, step=0, chains=None):
        dev, dtype = current(), x0.dtype
        self.energy, self.update = energy, update
        self.x, N = dev.put(x0), x0.shape[0]
        self.t = dev.empty(x0.shape, dtype) if update.order == "noise_first" else self.x
        self.ids = chain_ids(np.arange(N) if chains is None else chains, N)
        self.alive, self.counter = dev.empty((N,), np.bool_), dev.empty((2,), np.uint32)
        self.energies, self.norms = dev.empty((K, N), dtype), dev.empty((K, N), dtype)
        langevin.begin_launch(self.alive, self.counter, step, dtype)

    def one(self):
        dev = current()
        if self.update.order == "noise_first":
            langevin.noise_first_launch(self.x, self.t, self.ids, self.alive, self.counter, self.update, SEED, STREAM)
        E, g = (dev.put(a) for a in self.energy.energy_and_grad_x({}, dev.get(self.t)))
        records = (self.energies, self.norms, self.counter)
        langevin.update_launch(self.x, self.t, g, E, self.ids, self.alive, *records, self.update, SEED, STREAM)
        langevin.tick_launch(self.counter, self.x.dtype)


def follow(x0, K, update, kind=Quartic, **options):
    """The chain of launches beside the oracle's: after each step from the same state, states and records agree."""
    energy, dtype, step = kind(x0.shape[1:]), x0.dtype, options.get("step", 0)
    with host():
        chain = Chain(energy, x0, K, update, **options)
        living = np.ones(len(x0), bool)
        for k in range(K):
            before = chain.x.copy()
            chain.one()
            at = {"step": step + k, "stream": STREAM, "chains": options.get("chains")}
            want, info = ebm_ref.langevin_run(energy, {}, before, 1, update, SEED, **at)
            want[~living] = before[~living]  # the oracle's own chain would not move one that has stopped before
            still = living.copy()
            living &= info.alive
            near = {"rtol": NEAR[dtype.type], "atol": NEAR[dtype.type]}
            np.testing.assert_allclose(chain.x, want, **near)
            assert np.array_equal(chain.alive, living)
            assert np.array_equal(chain.x[~living], before[~living])
            np.testing.assert_allclose(chain.energies[k][still], info.energy[0][still], **near)
            np.testing.assert_allclose(chain.norms[k][still], info.grad_norm[0][still], **near)
            assert chain.counter.tolist() == [k + 1, (step + k + 1) % 2**32]
    return chain


UPDATES = [
    ULA(0.01),
    SGLD(0.05, 0.02),
    SGLD(0.05, 0.0),
    SGLD(0.05, 0.3, clip=0.4),
    SGLD(0.5, 0.1, clip_norm=0.5),
    SGLD(0.5, 0.1, clip=0.3, clip_norm=0.7, box=(-0.6, 0.9)),
    SGLD(0.05, 0.2, order="noise_first"),
    SGLD(0.5, 0.5, clip=0.3, clip_norm=0.7, box=(-0.6, 0.9), order="noise_first"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("update", UPDATES, ids=[str(update) for update in UPDATES])
def test_langevin_update__is_the_oracles_step(update, dtype):
    x0 = normals(1, (5, 3, 2), dtype)
    follow(x0, 4, update, step=2**32 - 4, chains=np.array([7, 0, 2**32 - 1, 7, 1]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("D", [1, 2, 3, 4, 5, 31, 128, 129, 132, 1000, 1028, 4096, 4100, 8195])
def test_langevin_update__holds_for_every_size_of_a_sample(D, order):
    """One lane to 1,024 of them, tails, and rows with more quads than threads, where quads are computed twice."""
    follow(normals(2, (3, D), np.float32, 0.5), 2, SGLD(0.05, 0.1, clip=0.5, clip_norm=1.5, order=order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("N", [1, 2, 255, 256, 257, 1025])
def test_langevin_update__holds_for_every_number_of_chains(N, order):
    follow(normals(3, (N, 2), np.float64), 2, SGLD(0.05, 0.1, order=order))


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (4, 0)])
@pytest.mark.parametrize("order", ORDERS)
def test_langevin_update__takes_nothing(shape, order):
    follow(np.zeros(shape, np.float32), 2, SGLD(0.05, 0.1, order=order))


@pytest.mark.parametrize("D", [3, 64, 4100])
@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize(
    ("sick", "order"),
    [(sick, order) for sick in ("E", "g", "next", "jitter") for order in ORDERS][:-2] + [("jitter", "noise_first")],
)
def test_langevin_update__stops_a_sick_chain_where_it_is(sick, order, D, place):
    """One element makes energy, slope, next state or jitter overflow; the chain keeps its state, is recorded, and
    its neighbours do not notice."""
    x0 = normals(4, (4, D), np.float32, 0.3)
    big, eta, sigma = {"E": (1e10, 0.0, 0.1), "g": (1e13, 0.0, 0.1), "next": (1e8, 1e20, 0.0)}.get(sick, (0.3, 0.1, 0))
    x0[2, place] = big
    update = SGLD(eta, sigma, order=order)
    if sick == "jitter":
        x0[2] = 3e38
        update = SGLD(0.0, 3e38, order=order)
    chain = follow(x0, 1, update, Steep if sick == "g" else Quartic)
    assert not chain.alive[2] and np.array_equal(chain.x[2], x0[2])
    if sick != "jitter":
        assert chain.alive.tolist() == [True, True, False, True]
        assert not np.array_equal(chain.x[1], x0[1])


@pytest.mark.parametrize("order", ORDERS)
def test_langevin_update__stops_a_chain_whose_infinite_slope_a_clip_hides(order):
    x0 = normals(5, (3, 6), np.float32)
    x0[1, 2] = 1e13  # its cube is no float32
    chain = follow(x0, 1, SGLD(0.1, 0.01, clip=0.5, box=(-1e14, 1e14), order=order), Steep)
    assert chain.alive.tolist() == [True, False, True]


class OnceSick(Quartic):
    """An energy that is NaN for chain 1 the second time it is asked."""

    asked = 0

    def energy_and_grad_x(self, theta, x):
        E, g = super().energy_and_grad_x(theta, x)
        self.asked += 1
        E[1] = np.nan if self.asked == 2 else E[1]
        return E, g


@pytest.mark.parametrize("order", ORDERS)
def test_langevin_update__leaves_a_stopped_chain_alone_for_good(order):
    """It neither moves nor lives again when all about it is finite again, and is still evaluated where it is."""
    x0, update = normals(5, (3, 6), np.float64), SGLD(1e-3, 0.01, order=order)
    with host():
        chain = Chain(OnceSick((6,)), x0, 5, update)
        states = []
        for _ in range(5):
            chain.one()
            states.append(chain.x.copy())
    want, info = ebm_ref.langevin_run(OnceSick((6,)), {}, x0, 5, update, SEED, stream=STREAM)
    assert chain.alive.tolist() == info.alive.tolist() == [True, False, True]
    np.testing.assert_allclose(states[-1], want, rtol=1e-12)
    np.testing.assert_allclose(chain.energies, info.energy, rtol=1e-12)
    np.testing.assert_allclose(chain.norms, info.grad_norm, rtol=1e-12)
    assert all(np.array_equal(state[1], states[0][1]) for state in states)
    assert not np.array_equal(states[4][0], states[3][0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_langevin_update__is_the_same_in_memory_that_is_not_aligned(order, dtype):
    x0, g, E = normals(6, (6, 8), dtype), normals(7, (6, 8), dtype), normals(8, (6,), dtype)
    update = SGLD(0.1, 0.2, clip=0.5, clip_norm=0.9, box=(-1.0, 1.0), order=order)
    results = set()
    for by in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (2, 3, 1)):
        x, t, slope = (moved(a, shift) for a, shift in zip((x0, x0, g), by, strict=True))
        with host():
            chain = Chain(Quartic((8,)), x0, 1, update)
            if order == "noise_first":
                langevin.noise_first_launch(x, t, chain.ids, chain.alive, chain.counter, update, SEED, STREAM)
            records = (chain.energies, chain.norms, chain.counter)
            langevin.update_launch(x, t, slope, E, chain.ids, chain.alive, *records, update, SEED, STREAM)
        results.add(x.tobytes() + t.tobytes() + chain.norms.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(3, 4), (3, 5), (70, 2), (2, 300)])
def test_langevin_step__is_the_same_in_memory_that_is_not_aligned(size, dtype):
    x, g, xi = (normals(seed, size, dtype) for seed in (9, 10, 11))
    with host():
        for options in ({}, {"clip": 0.5, "clip_norm": 0.9, "box": (-1.0, 1.0)}):
            whole = cupy_raw.langevin_step(x, g, xi, 0.1, 0.2, **options)
            jitter = cupy_raw.langevin_jitter(x, xi, 0.2)
            for by in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 1)):
                at = [moved(a, shift) for a, shift in zip((x, g, xi), by, strict=True)]
                assert np.array_equal(cupy_raw.langevin_step(*at, 0.1, 0.2, **options), whole)
                assert np.array_equal(cupy_raw.langevin_jitter(at[0], at[2], 0.2), jitter)


def test_langevin_step__sums_a_sample_alike_in_any_batch():
    g = normals(12, (70, 36), np.float32)
    zero = np.zeros_like(g)
    with host():
        whole = cupy_raw.langevin_step(zero, g, zero, 1.0, 0.0, clip_norm=0.3)
        for n in range(0, 70, 2):
            part = slice(n, n + 2)
            assert np.array_equal(
                cupy_raw.langevin_step(zero[part], g[part], zero[part], 1.0, 0.0, clip_norm=0.3), whole[part]
            )


def every_scale(dtype):
    """(81, 5) slopes from the smallest number to the largest, alone and mixed, and their exact norms."""
    info = np.finfo(dtype)
    scales = [info.smallest_subnormal, info.tiny, 1e-30, 1e-14, 1.0, 1e14, 1e15, 1e30, info.max / 4]
    g = np.array([[a, b, 0, -a, b] for a in scales for b in scales], dtype)
    return g, np.sqrt((g.astype(np.longdouble) ** 2).sum(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_langevin_update__records_norms_whose_squares_are_no_numbers(dtype):
    g, exact = every_scale(dtype)
    info = np.finfo(dtype)
    with host():
        chain = Chain(Quartic((5,)), np.zeros_like(g), 1, ULA(0.0))
        records = (chain.energies, chain.norms, chain.counter)
        E = np.zeros(len(g), dtype)
        langevin.update_launch(chain.x, chain.t, g, E, chain.ids, chain.alive, *records, ULA(0.0), SEED, STREAM)
    error = np.abs(chain.norms[0].astype(np.longdouble) - exact)
    assert (error <= 4 * info.eps * exact + info.smallest_subnormal).all() and chain.alive.all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_langevin_step__cuts_norms_whose_squares_are_no_numbers(dtype):
    g, exact = every_scale(dtype)
    zero = np.zeros_like(g)
    for clip_norm in (1e-6, 1.0, 1e20):
        with host():
            found = cupy_raw.langevin_step(zero, g, zero, 1.0, 0.0, clip_norm=clip_norm)
        factor = clip_norm / np.maximum(exact, np.longdouble(clip_norm))
        whole = factor >= np.finfo(dtype).tiny  # a smaller factor has lost digits
        want = g * factor[:, None]
        error = np.abs(found + want) / np.maximum(np.abs(want), np.finfo(dtype).tiny)
        assert whole.mean() > 0.7 and error[whole].max() < 4 * np.finfo(dtype).eps


def test_langevin_step__off_is_off():
    """Without clip_norm an infinity or NaN stays in its own element; with it NaN reaches the whole sample."""
    x = np.zeros((1, 4), np.float32)
    g = np.array([[np.inf, np.nan, 1, 2]], np.float32)
    with host():
        off = cupy_raw.langevin_step(x, g, x, 1.0, 1.0)
        on = cupy_raw.langevin_step(x, g, x, 1.0, 1.0, clip_norm=1.0)
    assert np.isneginf(off[0, 0]) and np.isnan(off[0, 1]) and off[0, 2:].tolist() == [-1, -2] and np.isnan(on).all()


def test_row_grid__has_whole_warps_and_a_thread_for_every_sample():
    for dtype in DTYPES:
        for D in (0, 1, 4, 5, 100, 128, 129, 784, 1024, 3072, 4096, 10**6):
            for N in (0, 1, 255, 10**6, limits.SAMPLES):
                grid, (lanes, samples) = langevin.row_grid(N, D, dtype)
                assert lanes * samples % 32 == 0 and lanes * samples <= max(256, langevin.LANES[np.dtype(dtype)])
                assert grid * samples >= N and grid <= 2**31 - 1
                assert lanes & (lanes - 1) == 0 if lanes <= 32 else lanes % 32 == 0
                assert lanes * 4 >= min(D, 4 * langevin.LANES[np.dtype(dtype)])


def test_langevin_step__refuses_more_samples_than_a_launch_holds():
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**31, 1), (0, 0))
    with host(), pytest.raises(RangeError, match="x: expected at most 2147483392 samples, found 2147483648"):
        langevin.adopted("x", huge)
    with pytest.raises(ShapeError):
        langevin.check_rows("x", np.float32(1).reshape(()))
