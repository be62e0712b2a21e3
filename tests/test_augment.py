"""augment: its three moves, their laws and addresses, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from derivatives import close

import ebm_ref
from ebm_ref import (
    Augmentation,
    DTypeError,
    RangeError,
    ShapeError,
    Stream,
    augment,
    augment_run,
    noise_normal,
    noise_uniform,
)


def test_augment__is_shift_then_flip_then_noise():
    x = np.arange(2 * 4 * 5 * 1, dtype=float).reshape(2, 4, 5, 1)
    xi = np.random.default_rng(0).normal(size=x.shape)
    u = np.array([[0.1, 0.9, 0.3], [0.5, 0.5, 0.7]])  # shifts (-1, 1) and (0, 0); flip the first
    y = augment(x, u, xi, Augmentation(shift=1, flip=True, sigma=0.1))
    rows, columns = [1, 2, 3, 3], [0, 0, 1, 2, 3]
    want = x[0][rows][:, columns][:, ::-1]
    close(y[0], want + 0.1 * xi[0], 1e-15)
    close(y[1], x[1] + 0.1 * xi[1], 1e-15)
    assert augment(x, u, xi, Augmentation(sigma=9.0), (-1.0, 1.0)).max() == 1


def test_augment__moves_every_way_equally_often():
    """25 displacements of shift 2 and the flip: counts within chi-square, by the place of one lit pixel."""
    N = 5000
    x = np.zeros((N, 7, 7, 1))
    x[:, 3, 2] = 1  # columns 2 - 2 .. 2 + 2, flipped 6 - c
    y = augment_run(ebm_ref, x, Augmentation(shift=2, flip=True), 3, 0)
    np.testing.assert_array_equal(y.sum(axis=(1, 2, 3)), 1)
    place = np.argmax(y.reshape(N, 49), axis=1)
    rows = np.bincount(place // 7, minlength=7)
    assert (rows[[0, 6]] == 0).all() and ((rows[1:6] - N / 5) ** 2 / (N / 5)).sum() < 4 + 5 * np.sqrt(8)
    wanted = N / 10 * (np.array([1, 1, 1, 1, 1, 0, 0]) + np.array([0, 0, 1, 1, 1, 1, 1]))
    columns = np.bincount(place % 7, minlength=7)
    assert ((columns - wanted) ** 2 / wanted).sum() < 6 + 5 * np.sqrt(12)


def test_augment_run__draws_by_address_alone():
    x = np.random.default_rng(1).normal(size=(6, 4, 4, 2))
    move, chains = Augmentation(1, True, 0.3), np.array([5, 0, 3, 1, 4, 2])
    y = augment_run(ebm_ref, x, move, 3, 7)
    np.testing.assert_array_equal(augment_run(ebm_ref, x[chains], move, 3, 7, chains=chains), y[chains])
    u = noise_uniform(3, Stream.AUGMENTATION, 7, np.arange(6), 3)
    xi = noise_normal(3, Stream.AUGMENTATION, 7, np.arange(6), 36)[:, 4:].reshape(x.shape)
    np.testing.assert_array_equal(augment(x, u, xi, move), y)
    flat = x.reshape(6, 32)
    np.testing.assert_array_equal(
        augment_run(ebm_ref, flat, Augmentation(sigma=0.3), 3, 7), flat + 0.3 * xi.reshape(6, 32)
    )


X, IMAGES, U = np.zeros((2, 3)), np.zeros((2, 4, 4, 1)), np.full((2, 3), 0.5)

REFUSED = {
    "shift: ": (RangeError, lambda: Augmentation(shift=-1)),
    "flip": (DTypeError, lambda: Augmentation(flip=1)),
    "sigma": (RangeError, lambda: Augmentation(sigma=-1.0)),
    "x: .*images": (ShapeError, lambda: augment(X[:2], U, X[:2], Augmentation(flip=True))),
    "x: .*shift of 4": (ShapeError, lambda: augment(IMAGES, U, IMAGES, Augmentation(shift=4))),
    "u: .*float64": (DTypeError, lambda: augment(IMAGES, U.astype(np.float32), IMAGES, Augmentation())),
    "u: ": (ShapeError, lambda: augment(IMAGES, U[:, :2], IMAGES, Augmentation())),
    "xi": (ShapeError, lambda: augment(IMAGES, U, IMAGES[:1], Augmentation())),
}


@pytest.mark.parametrize("said", REFUSED)
def test_augment__refuses_bad_input_by_name(said):
    error, call = REFUSED[said]
    with pytest.raises(error, match=said):
        call()
