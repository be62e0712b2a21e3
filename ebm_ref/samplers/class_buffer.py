"""A replay buffer in class blocks, and starts that know the data.

    class_buffer_index   idx_n = y_n (M / C) + floor(bits_n (M / C) / 2^32): slots are C contiguous blocks, one a class
    class_buffer_draw    restart = [u < rho],  x0 = restart ? fresh : slots[idx]
    class_gaussians      per class c: mean mu_c, covariance S_c = (1/n_c) sum (x - mu_c)(x - mu_c)' over its samples,
                         L_c L_c' = S_c + ridge I   (Cholesky)
    class_gaussian_draw  x = box(mu_y + L_y xi)
    class_buffer_start   slot m holds a draw of class floor(m C / M); for the informative start of a buffer

A chain of class y that starts in block y and goes back in place stays in its block: block y then holds samples of
p(x | y), and the whole buffer samples of p(x) with balanced classes. M must be a multiple of C.

Source: Grathwohl et al. 2020, arXiv:1912.03263 (blocks, in the code); Yang & Ji 2021, JEM++, arXiv:2109.09032,
section 3.2 (informative initialisation), ridge 1e-4 in their code.
Level: none. Twins: none; indices are the host's, equal to the bit everywhere; the push is `buffer_push` in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts import (
    Array,
    Buffer,
    DataError,
    DTypeError,
    RangeError,
    ShapeError,
    Stream,
    check_array,
    check_count,
    check_labels,
    check_number,
    check_sizes,
    flat_size,
)
from ..noise import noise_index, noise_normal
from ..specs import Box, check_box


@dataclass(frozen=True, eq=False)
class ClassGaussians:
    """One Gaussian a class: mean (C, D), factor (C, D, D) lower triangular, of samples of `shape`."""

    mean: Array
    factor: Array
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        D = flat_size(self.shape)
        check_array("mean", self.mean, shape=(None, D), finite=True)
        check_array("factor", self.factor, shape=(self.classes, D, D), finite=True)

    @property
    def classes(self) -> int:
        """C."""
        return int(self.mean.shape[0])


def class_block(M: int, classes: int) -> int:
    """M / C, the slots of one class. Raises RangeError unless C divides M."""
    check_count("M", M, low=1)
    check_count("classes", classes, low=1)
    if M % classes:
        raise RangeError(f"M: expected a multiple of the {classes} classes, found {M}")
    return M // classes


def class_buffer_index(bits: Array, y: Array, M: int, classes: int) -> Array:
    """idx_n = y_n (M / C) + floor(bits_n (M / C) / 2^32), a slot of class y_n.

    bits: (N,) uint32   y: (N,) integers in [0, C), both NumPy's   returns idx (N,) int64.
    Raises DTypeError, ShapeError, RangeError (C does not divide M, a label outside).
    """
    block = class_block(M, classes)
    if not hasattr(bits, "dtype") or bits.dtype != np.uint32:
        raise DTypeError(f"bits: expected a uint32 array, found {getattr(bits, 'dtype', type(bits).__name__)}")
    if bits.ndim != 1:
        raise ShapeError(f"bits: expected shape (N,), found {bits.shape}")
    check_labels("y", y, classes, bits.shape[0])
    idx: Array = y.astype(np.int64) * block + noise_index(bits, block)  # (N,)
    return idx


def class_buffer_draw(slots: Array, idx: Array, u: Array, fresh: Array, rho: float) -> tuple[Array, Array]:
    """restart = [u < rho],  x0 = restart ? fresh : slots[idx].

    slots: (M, *shape), all in use   idx: (N,) places, an array like the slots   u: (N,) float64   fresh: (N, *shape)
    returns x0 (N, *shape), restart (N,) bool. Raises ShapeError, DTypeError, RangeError.
    """
    check_array("slots", slots)
    N = _check_places(idx, slots.shape[0])
    check_array("u", u, shape=(N,))
    check_array("fresh", fresh, shape=(N, *slots.shape[1:]))
    check_number("rho", rho, low=0.0, high=1.0)
    if u.dtype != np.float64:
        raise DTypeError(f"u: expected float64, so that u < rho is decided alike everywhere, found {u.dtype}")
    if fresh.dtype != slots.dtype:
        raise DTypeError(f"fresh: expected the slots' {slots.dtype}, found {fresh.dtype}")
    restart = u < float(rho)  # (N,)
    x0 = np.where(restart.reshape((N,) + (1,) * (slots.ndim - 1)), fresh, slots[idx])  # (N, *shape)
    return x0, restart


def class_gaussians(x: Array, y: Array, classes: int, ridge: float = 1e-4) -> ClassGaussians:
    """mu_c and the Cholesky factor of (1/n_c) sum (x - mu_c)(x - mu_c)' + ridge I, for every class.

    x: (n, *shape) NumPy, finite   y: (n,) NumPy integers   ridge > 0: what keeps a constant pixel's factor real
    returns ClassGaussians in x's dtype, computed in float64.
    Raises DTypeError, ShapeError, RangeError, NonFiniteError; DataError names the classes without a sample.
    """
    check_array("x", x, finite=True)
    if x.ndim < 2 or x.shape[0] == 0:
        raise ShapeError(f"x: expected (n, *shape) with n >= 1, found {x.shape}")
    check_count("classes", classes, low=1)
    check_labels("y", y, classes, x.shape[0])
    check_number("ridge", ridge, low=0.0, open_low=True)
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if missing:
        raise DataError(f"y: expected samples of all {classes} classes, found none of {', '.join(map(str, missing))}")
    D = flat_size(x.shape[1:])
    flat = x.reshape(x.shape[0], D).astype(np.float64)  # (n, D)
    mean, factor = np.empty((classes, D)), np.empty((classes, D, D))
    for c in range(classes):
        mean[c] = flat[y == c].mean(axis=0)
        off = flat[y == c] - mean[c]  # (n_c, D)
        factor[c] = np.linalg.cholesky(off.T @ off / off.shape[0] + float(ridge) * np.eye(D))
    return ClassGaussians(mean.astype(x.dtype), factor.astype(x.dtype), x.shape[1:])


def class_gaussian_draw(gaussians: ClassGaussians, y: Array, xi: Array, box: Box | None = None) -> Array:
    """x_n = box(mu_{y_n} + L_{y_n} xi_n).

    y: (N,) NumPy integers in [0, C)   xi: (N, D), in the Gaussians' dtype   returns (N, *shape), like xi.
    Raises DTypeError, ShapeError, RangeError.
    """
    check_labels("y", y, gaussians.classes)
    check_array("xi", xi, shape=(y.shape[0], flat_size(gaussians.shape)))
    if xi.dtype != gaussians.mean.dtype:
        raise DTypeError(f"xi: expected the Gaussians' {gaussians.mean.dtype}, found {xi.dtype}")
    check_box(box)
    mean = np.asarray(gaussians.mean[y], like=xi)  # (N, D)
    factor = np.asarray(gaussians.factor[y], like=xi)  # (N, D, D)
    x: Array = (mean + np.sum(factor * xi[:, None, :], axis=2)).reshape((y.shape[0], *gaussians.shape))  # (N, *shape)
    return x if box is None else np.clip(x, float(box[0]), float(box[1]))


def class_buffer_start(M: int, gaussians: ClassGaussians, *, seed: int, box: Box | None = (-1.0, 1.0)) -> Buffer:
    """A buffer of M slots in C blocks, slot m a draw of class floor(m C / M) at chain m of Stream.SAMPLE_START.

    Raises RangeError unless C divides M, DTypeError.
    """
    block = class_block(M, gaussians.classes)
    y = np.arange(M) // block  # (M,)
    D, dtype = flat_size(gaussians.shape), gaussians.mean.dtype
    xi = noise_normal(seed, Stream.SAMPLE_START, 0, np.arange(M), D, dtype)  # (M, D)
    parts = range(0, M, CHUNK)  # a draw gathers D^2 numbers a sample
    slots = [class_gaussian_draw(gaussians, y[i : i + CHUNK], xi[i : i + CHUNK], box) for i in parts]
    return Buffer(np.concatenate(slots), filled=M)


def _check_places(idx: Array, M: int) -> int:
    """N of (N,) integers in [0, M); an array on a device is not read back to check its range."""
    kind = getattr(getattr(idx, "dtype", None), "kind", None)
    if kind is None or kind not in "iu":
        raise DTypeError(f"idx: expected an array of integers, found {getattr(idx, 'dtype', type(idx).__name__)}")
    if idx.ndim != 1:
        raise ShapeError(f"idx: expected shape (N,), found {tuple(idx.shape)}")
    if isinstance(idx, np.ndarray) and idx.size and (int(idx.min()) < 0 or int(idx.max()) >= M):
        raise RangeError(f"idx: expected places in [0, {M}), found {int(idx.min())} to {int(idx.max())}")
    return int(idx.shape[0])


CHUNK = 256
