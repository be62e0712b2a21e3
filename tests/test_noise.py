"""noise: Random123's known answers, the addresses, and the laws of the draws."""

from __future__ import annotations

from itertools import combinations
from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest

from ebm_ref.contracts import DTypeError, RangeError, ShapeError, Stream
from ebm_ref.noise import noise_bits, noise_index, noise_normal, noise_permutation, noise_philox, noise_uniform

ANSWERS = [
    np.array([int(word, 16) for word in line.split()], np.uint32)
    for line in (Path(__file__).parent / "known_answers_philox4x32.txt").read_text().splitlines()
    if not line.startswith("#")
]
CHAINS = np.arange(64)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer[0]:08x}")
def test_noise_philox__gives_the_known_answers(answer):
    assert noise_philox(answer[:4], answer[4:6]).tolist() == answer[6:].tolist()


def test_noise_philox__treats_every_counter_alone():
    counters, answers = np.stack([a[:4] for a in ANSWERS[:1]] * 3), ANSWERS[0][6:]
    assert (noise_philox(counters.reshape(3, 1, 4), ANSWERS[0][4:6]) == answers).all()
    assert noise_philox(counters[:0], ANSWERS[0][4:6]).shape == (0, 4)


def test_noise_bits__is_the_addressed_word():
    seed, stream, step, chains = 0xFEDCBA9876543210, Stream.CHAIN_NOISE, 2**32 - 1, np.array([7, 2**32 - 1, 0])
    bits = noise_bits(seed, stream, step, chains, 9)
    key = np.array([0x76543210, 0xFEDCBA98], np.uint32)
    for n, d in np.ndindex(3, 9):
        counter = np.array([d // 4, chains[n], step, stream], np.uint32)
        assert bits[n, d] == noise_philox(counter, key)[d % 4]


@pytest.mark.parametrize("draw", [noise_bits, noise_uniform, noise_normal])
@pytest.mark.parametrize("D", [1, 2, 3, 4, 5, 6, 7, 8, 13])
def test_noise__does_not_depend_on_batch_or_length(draw, D):
    whole = draw(3, Stream.TOY, 5, CHAINS, 16)
    some = CHAINS[[40, 3, 3, 63]]
    assert (draw(3, Stream.TOY, 5, some, D) == whole[some, :D]).all()


def test_noise_bits__changes_with_every_part_of_the_address():
    base = {"seed": 1, "stream": 2, "step": 3, "chains": np.array([4]), "D": 64}
    others = [
        base,
        base | {"seed": 2},
        base | {"seed": 1 + 2**32},
        base | {"stream": 3},
        base | {"step": 4},
        base | {"chains": np.array([5])},
    ]
    draws = [noise_bits(**other)[0] for other in others]
    for a, b in combinations(draws, 2):
        assert (a == b).sum() <= 1  # 64 words, each equal by chance 2^-32


def test_stream__values_are_unique_words():
    values = [int(stream) for stream in Stream.__members__.values()]  # aliases included
    assert len(set(values)) == len(values)
    assert all(0 < value < 2**32 for value in values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_uniform__is_never_zero(dtype, monkeypatch):
    ends = np.array([[0, 1, 2**31, 2**32 - 1]], np.uint32)
    monkeypatch.setattr("ebm_ref.noise.noise_bits", lambda *address: ends[:, : address[-1]])
    u = noise_uniform(0, 1, 0, CHAINS[:1], 4, dtype)
    assert u.dtype == dtype
    assert (u > 0).all() and (u <= 1).all()
    assert u[0, 0] == 2.0**-33
    if dtype == np.float64:  # exact, symmetric about 1/2
        assert u[0].tolist() == [2.0**-33, 3 * 2.0**-33, 0.5 + 2.0**-33, 1 - 2.0**-33]
    n = noise_normal(0, 1, 0, CHAINS[:1], 4, dtype)
    assert np.isfinite(n).all()
    assert np.isclose(n[0, 0], sqrt(-2 * np.log(2.0**-33)), rtol=1e-6)  # largest normal, angle about 0


def test_noise_normal__is_box_muller_in_float64():
    r = noise_bits(5, Stream.TOY, 6, CHAINS, 8).astype(object)  # exact integers
    n = noise_normal(5, Stream.TOY, 6, CHAINS, 8)
    for i, d in np.ndindex(64, 8):
        even = d - d % 2
        u, angle = (int(r[i, even]) + 0.5) / 2**32, 2 * np.pi * (int(r[i, even + 1]) / 2**32)
        wanted = sqrt(-2 * np.log(u)) * (np.sin(angle) if d % 2 else np.cos(angle))
        assert abs(n[i, d] - wanted) <= 1e-15 * 8


def test_noise_normal__float32_is_rounded_once():
    r = noise_bits(5, Stream.TOY, 6, CHAINS, 8)
    n = noise_normal(5, Stream.TOY, 6, CHAINS, 8, np.float32)
    assert n.dtype == np.float32
    for i, d in np.ndindex(64, 8):
        even = d - d % 2
        u = float(np.float32(r[i, even]) * np.float32(2.0**-32) + np.float32(2.0**-33))
        angle = np.pi * float(np.float32(r[i, even + 1]) * np.float32(2.0**-31))
        wanted = sqrt(-2 * np.log(u)) * (np.sin(angle) if d % 2 else np.cos(angle))
        assert abs(float(n[i, d]) - wanted) <= 0.5001 * np.spacing(np.abs(n[i, d]))


def test_noise_normal__float32_is_close_to_float64():
    n64 = noise_normal(8, Stream.CHAIN_NOISE, 0, np.arange(1000), 64)
    n32 = noise_normal(8, Stream.CHAIN_NOISE, 0, np.arange(1000), 64, np.float32)
    assert n32.dtype == np.float32
    assert np.abs(n32 - n64).max() < 5e-4  # near u = 1 the float32 radius has few digits


def test_noise_uniform__is_uniform():
    u = noise_uniform(11, Stream.MH_UNIFORM, 3, np.arange(500), 400).ravel()
    n = u.size
    gap = np.abs(np.sort(u) - (np.arange(n) + 0.5) / n).max() + 0.5 / n
    assert gap < 1.95 / sqrt(n)  # Kolmogorov: exceeded with probability 0.001
    assert abs(u.mean() - 0.5) < 4 * sqrt(1 / 12 / n)


def test_noise_normal__has_normal_moments_and_distribution():
    x = noise_normal(12, Stream.CHAIN_NOISE, 9, np.arange(500), 400)
    n = x.size
    flat = np.sort(x.ravel())
    cdf = np.array([(1 + erf(value / sqrt(2))) / 2 for value in flat])
    gap = np.abs(cdf - (np.arange(n) + 0.5) / n).max() + 0.5 / n
    assert gap < 1.95 / sqrt(n)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((flat**power).mean() - mean) < 4 * sqrt(variance / n)
    for lag in (1, 2, 3, 4, 5):  # neighbours within a block and across blocks
        assert abs((x[:, lag:] * x[:, :-lag]).mean()) < 4 / sqrt(x[:, lag:].size)
    assert abs((x[1:] * x[:-1]).mean()) < 4 / sqrt(x[1:].size)
    squares = x**2 - 1  # cos^2 and sin^2 of one angle: uncorrelated only if the radius is right
    assert abs((squares[:, 0::2] * squares[:, 1::2]).mean()) < 4 * 2 / sqrt(n / 2)


def test_noise_index__is_exact_and_in_range():
    bits = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    for n in (1, 2, 3, 8192, 2**31, 2**32 - 1, 2**32):
        idx = noise_index(bits, n)
        assert idx.dtype == np.int64
        assert idx.tolist() == [(int(b) * n) >> 32 for b in bits]


def test_noise_permutation__is_a_uniform_permutation():
    perms = np.array([noise_permutation(4, Stream.DATA_INDEX, epoch, 4) for epoch in range(4800)])
    assert (np.sort(perms, axis=1) == np.arange(4)).all()
    codes = perms @ np.array([64, 16, 4, 1])
    _, counts = np.unique(codes, return_counts=True)
    assert counts.size == 24
    chi2 = ((counts - 200) ** 2 / 200).sum()
    assert chi2 < 49.73  # 23 degrees of freedom, probability 0.001


def test_noise_permutation__keeps_order_of_equal_words(monkeypatch):
    monkeypatch.setattr("ebm_ref.noise.noise_bits", lambda *address: np.array([[7, 3] * 20], np.uint32))
    assert noise_permutation(0, 1, 0, 40).tolist() == [*range(1, 40, 2), *range(0, 40, 2)]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"seed": -1}, RangeError),
        ({"seed": 2**64}, RangeError),
        ({"seed": 1.0}, DTypeError),
        ({"stream": 2**32}, RangeError),
        ({"step": -1}, RangeError),
        ({"step": 2**32}, RangeError),
        ({"chains": np.array([-1])}, RangeError),
        ({"chains": np.array([2**32])}, RangeError),
        ({"chains": np.array([0.0])}, DTypeError),
        ({"chains": 3}, DTypeError),
        ({"chains": np.zeros((1, 1), int)}, ShapeError),
        ({"D": -1}, RangeError),
    ],
)
@pytest.mark.parametrize("draw", [noise_bits, noise_uniform, noise_normal])
def test_noise__refuses_a_wrong_address(draw, change, error):
    address = {"seed": 0, "stream": 1, "step": 0, "chains": np.arange(2), "D": 4}
    with pytest.raises(error, match=next(iter(change))):
        draw(**(address | change))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint32, np.uint64])
@pytest.mark.parametrize("draw", [noise_bits, noise_uniform, noise_normal])
def test_noise__takes_any_integers(draw, kind):
    found = draw(kind(3), kind(1), kind(2), np.arange(2), kind(127))
    np.testing.assert_array_equal(found, draw(3, 1, 2, np.arange(2), 127))


def test_noise__refuses_wrong_types():
    with pytest.raises(DTypeError, match="dtype"):
        noise_normal(0, 1, 0, CHAINS, 4, np.float16)
    with pytest.raises(DTypeError, match="counter"):
        noise_philox(np.zeros(4, np.int64), np.zeros(2, np.uint32))
    with pytest.raises(ShapeError, match="counter"):
        noise_philox(np.zeros(3, np.uint32), np.zeros(2, np.uint32))
    with pytest.raises(RangeError, match="n:"):
        noise_index(np.zeros(1, np.uint32), 0)
