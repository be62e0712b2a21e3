"""Noise in CUDA C++, on the CPU: what the kit's cases do not reach. Equality with the oracle is the kit's."""

from pathlib import Path

import numpy as np
import pytest
from cupy_host import DTYPES, host, moved

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw import device
from ebm_fast.cupy_raw.device import on
from ebm_fast.cupy_raw.noise import chain_ids, quad_grid
from ebm_fast.cupy_raw.source import kernel
from ebm_fast.verify.host_build import host_device
from ebm_ref.contracts import DTypeError, RangeError, ShapeError

ANSWERS = [line.split() for line in (Path(__file__).parent / "known_answers_philox4x32.txt").read_text().splitlines()]
ANSWERS = [[int(word, 16) for word in line] for line in ANSWERS if line and line[0] != "#"]


@pytest.mark.parametrize("words", ANSWERS, ids=[f"{words[0]:08x}" for words in ANSWERS])
def test_noise_philox__is_the_known_answer(words):
    counter, key, answer = (np.array(part, np.uint32) for part in (words[:4], words[4:6], words[6:]))
    with host():
        assert np.array_equal(cupy_raw.noise_philox(counter, key), answer)
        many = cupy_raw.noise_philox(np.broadcast_to(counter, (3, 67, 4)), key)
    assert np.array_equal(many, np.broadcast_to(answer, (3, 67, 4)))


def test_noise_philox__is_the_same_in_memory_that_is_not_aligned():
    counter = np.random.default_rng(0).integers(0, 2**32, (70, 4), np.uint32)
    key, want = np.array([7, 8], np.uint32), ebm_ref.noise_philox(counter, np.array([7, 8], np.uint32))
    for by in range(4):
        out = [moved(np.zeros_like(counter), to) for to in range(4)]
        with host():
            for where in out:
                args = (where, moved(counter, by), key, np.int64(70))
                device.launch(kernel("noise.cu", "noise_philox", np.float32), 1, 96, args)
        assert all(np.array_equal(where, want) for where in out)


def test_noise_philox__refuses_what_the_oracle_refuses():
    good = np.zeros((2, 4), np.uint32), np.zeros(2, np.uint32)
    for bad in (
        (good[0].astype(int), good[1]),
        (good[0][:, :3], good[1]),
        (good[0], good[1][:1]),
        (list(good[0]), good[1]),
    ):
        with host(), pytest.raises((DTypeError, ShapeError)) as found:
            cupy_raw.noise_philox(*bad)
        with pytest.raises(found.type):
            ebm_ref.noise_philox(*bad)


@pytest.mark.parametrize("n", [1, 2, 60000, 2**31, 2**32 - 1, 2**32])
def test_noise_index__is_exact_up_to_every_word(n):
    bits = np.concatenate([np.arange(5), 2**32 - 1 - np.arange(5), np.arange(300) * 14_316_557]).astype(np.uint32)
    with host():
        idx = cupy_raw.noise_index(bits.reshape(2, -1), n)
    assert idx.dtype == np.int64 and idx.shape == (2, 155)
    assert idx.reshape(-1).tolist() == [int(word) * n >> 32 for word in bits]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 257, 5000])
def test_noise_permutation__is_the_oracles(n):
    with host():
        order = cupy_raw.noise_permutation(2**40 + 1, 3, 9, n)
    want = ebm_ref.noise_permutation(2**40 + 1, 3, 9, n)
    assert order.dtype == want.dtype and np.array_equal(order, want)


def test_noise_permutation__keeps_the_order_of_equal_words(monkeypatch):
    words = np.array([[7, 3, 7, 3, 2**32 - 1, 3, 0, 2**32 - 1]], np.uint32)
    monkeypatch.setattr("ebm_fast.cupy_raw.noise.noise_bits", lambda *address: words)
    with host():
        assert np.array_equal(cupy_raw.noise_permutation(0, 0, 0, 8), np.argsort(words[0], kind="stable"))


@pytest.mark.parametrize("name", ["noise_bits", "noise_uniform", "noise_normal"])
@pytest.mark.parametrize("D", [0, 1, 3, 4, 5, 8, 1021, 1024, 2052])
def test_noise__fills_every_tail(name, D):
    chains = np.array([0, 2**32 - 1, 5])
    with host():
        found = getattr(cupy_raw, name)(2**63, 7, 2**32 - 1, chains, D)
    want = getattr(ebm_ref, name)(2**63, 7, 2**32 - 1, chains, D)
    assert found.shape == want.shape and found.dtype == want.dtype
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["noise_bits", "noise_uniform", "noise_normal"])
def test_noise__is_the_same_in_memory_that_is_not_aligned(name, dtype):
    N, D = 5, 12
    out = [moved(np.zeros((N, D), np.uint32 if name == "noise_bits" else dtype), by) for by in range(4)]
    with host():
        ids = chain_ids(np.arange(N))
        for where in out:
            sizes = (np.int64(N), np.int64(D), *(np.uint32(word) for word in (1, 2, 3, 4)))
            device.launch(kernel("noise.cu", name, dtype), *quad_grid(N, D), (where, ids, *sizes))
    assert out[0].all() and all(where.tobytes() == out[0].tobytes() for where in out)


@pytest.mark.parametrize("D", [3, 1024])
def test_noise__reaches_more_chains_than_a_grid_has_rows(D, monkeypatch):
    monkeypatch.setattr("ebm_fast.cupy_raw.noise.GRID", (2**31 - 1, 3, 3))  # the card's own 65,535 take 268 MB
    N = 7 * (256 // min(256, -(-D // 4))) + 1
    with host():
        found = cupy_raw.noise_bits(1, 2, 3, np.arange(N), D)
    assert quad_grid(N, D)[0][1] == 3
    assert np.array_equal(found, ebm_ref.noise_bits(1, 2, 3, np.arange(N), D))


def test_quad_grid__keeps_to_the_cards_limits():
    for N in (0, 1, 255, 65_536, 2**31, 2**33):
        for D in (0, 1, 4, 1023, 3072, 2**31, 2**34):
            (across, down), (lanes, rows) = quad_grid(N, D)
            assert across <= 2**31 - 1 and down <= 65_535 and lanes * rows == 256
            assert across * lanes * 4 >= D and (N == 0) == (down == 0)


class OnCard:
    """An array that is not the host's."""

    def __init__(self, x):
        self.x = x


class Card:
    """A device whose own arrays are OnCard's."""

    def __init__(self, under):
        self.under = under

    def array(self, name, x):
        return self.under.array(name, x.x)

    def __getattr__(self, name):
        return getattr(self.under, name)


@pytest.mark.parametrize("place", [np.asarray, OnCard])
def test_chain_ids__are_words_wherever_they_lie(place):
    with on(Card(host_device())):
        for dtype in (np.uint32, np.int64, np.uint64):
            ids = chain_ids(place(np.array([3, 2**32 - 1], dtype)), 2)
            assert ids.dtype == np.uint32 and ids.tolist() == [3, 2**32 - 1]
        for bad, error in (
            (np.array([-1]), RangeError),
            (np.array([2**32]), RangeError),
            (np.array([0.5]), DTypeError),
            (np.zeros((1, 1), int), ShapeError),
            (np.zeros((1, 1), np.uint32), ShapeError),
        ):
            with pytest.raises(error):
                chain_ids(place(bad))
        for dtype in (np.uint32, np.int64):
            with pytest.raises(ShapeError):
                chain_ids(place(np.arange(3, dtype=dtype)), 2)
