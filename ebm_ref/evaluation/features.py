"""Distances between two sets of feature vectors, and a score of predicted classes.

    frechet_gaussian       |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2)
    frechet_feature        the same with sample means and unbiased sample covariances
    rbf_kernel             k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2))
    mmd_rbf                mean k(a, a') + mean k(b, b') - 2 mean k(a, b);  biased: over all pairs, >= 0, 0 for equal
                           sets (V-statistic);  unbiased: without the pairs (i, i), may be negative (U-statistic)
    inception_style_score  exp(mean_n KL(p(y | x_n) | mean_m p(y | x_m))) of each split; 1 .. C
    feature_unit_norm      f / |f|_2
    feature_load           an (N, F) array from a .npy or .npz file

These are the formulas of FID, CMMD and IS, on features of your choice: only with Inception-v3 pool3 features (50,000
samples), unit-norm CLIP ViT-L/14-336 embeddings (bandwidth 10, times 1000), or Inception-v3 predictions are the
numbers comparable with published FID, CMMD or IS, and no network ships here. Frechet distances of n samples in F
dimensions are biased upwards by O(F / n): compare at equal n only. The matrix root is taken of a symmetric matrix, so
it has no complex part, for singular covariances too.

Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6; Gretton et al. 2012, A kernel two-sample test, eqs. 3 and 5;
Sutherland et al. 2017, arXiv:1611.04488 (its variance); Jayasumana et al. 2024, arXiv:2401.09603; Salimans et al.
2016, arXiv:1606.03498.
Level: none, these see numbers only. Twins: none.
"""

from __future__ import annotations

from math import exp, nan, sqrt
from os import PathLike
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from ..contracts import Array, DataError, EbmError, RangeError, ShapeError, check_array, check_count, check_number
from .classifier import check_probabilities
from .estimate import Estimate, estimate_mean


def frechet_gaussian(mu_1: Array, S_1: Array, mu_2: Array, S_2: Array) -> float:
    """|mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2), in float64; at least 0.

    mu: (F,)   S: (F, F), symmetric positive semidefinite. Raises ShapeError, NonFiniteError, RangeError.
    """
    check_array("mu_1", mu_1, ndim=1, finite=True)
    F = mu_1.shape[0]
    check_array("mu_2", mu_2, shape=(F,), finite=True)
    for name, S in (("S_1", S_1), ("S_2", S_2)):
        check_array(name, S, shape=(F, F), finite=True)
        if not np.allclose(S, S.T, rtol=1e-6, atol=1e-6 * float(np.abs(S).max(initial=0.0))):
            raise RangeError(f"{name}: expected a symmetric matrix")
    gap = mu_1.astype(np.float64) - mu_2.astype(np.float64)
    A, B = S_1.astype(np.float64), S_2.astype(np.float64)
    root = _symmetric_root(A)
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ B @ root), 0)).sum()  # tr of the root, by its eigenvalues
    distance = float(gap @ gap + np.trace(A) + np.trace(B) - 2 * overlap)
    return max(distance, 0.0)  # rounding alone brings it below


def frechet_feature(a: Array, b: Array) -> float:
    """`frechet_gaussian` of the sample means and covariances (divided by n - 1).

    a: (N, F)   b: (M, F), features of two sets, N, M >= 2. Raises ShapeError, NonFiniteError.
    """
    _check_features(a, b)
    (mu_1, S_1), (mu_2, S_2) = _moments(a), _moments(b)
    return frechet_gaussian(mu_1, S_1, mu_2, S_2)


def rbf_kernel(a: Array, b: Array, bandwidth: float) -> Array:
    """k(a_i, b_j) = exp(-|a_i - b_j|^2 / (2 bandwidth^2)), (N, M), float64.

    a: (N, F)   b: (M, F)   bandwidth > 0. Raises ShapeError, NonFiniteError, RangeError.
    """
    check_array("a", a, ndim=2, finite=True)
    check_array("b", b, shape=(None, a.shape[1]), finite=True)
    if a.shape[0] == 0:
        raise ShapeError("a: expected at least one sample, found none")
    check_number("bandwidth", bandwidth, low=0.0, open_low=True)
    middle = a.mean(axis=0, dtype=np.float64)  # taken out, so that the three squares below cancel less
    a, b = a.astype(np.float64) - middle, b.astype(np.float64) - middle
    square = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * (a @ b.T)  # (N, M)
    k: Array = np.exp(-np.maximum(square, 0) / (2 * float(bandwidth) ** 2))
    return k


def mmd_rbf(a: Array, b: Array, bandwidth: float, unbiased: bool = True) -> Estimate:
    """Squared maximum mean discrepancy under `rbf_kernel`, and its standard error of first order.

    a: (N, F)   b: (M, F), N, M >= 2   unbiased: False keeps the pairs (i, i), as CMMD's published code does
    The error comes from h(a_i) = 2 (mean_j k(a_i, a_j) - mean_j k(a_i, b_j)) and its like for b; for two sets of one
    law it vanishes to first order, and is then too small. Raises ShapeError, NonFiniteError, RangeError.
    """
    _check_features(a, b)
    N, M = len(a), len(b)
    aa, bb, ab = rbf_kernel(a, a, bandwidth), rbf_kernel(b, b, bandwidth), rbf_kernel(a, b, bandwidth)
    h_a = (aa.sum(axis=1) - np.diagonal(aa)) / (N - 1) - ab.mean(axis=1)  # (N,)
    h_b = (bb.sum(axis=1) - np.diagonal(bb)) / (M - 1) - ab.mean(axis=0)  # (M,)
    se = 2 * sqrt(float(h_a.var(ddof=1)) / N + float(h_b.var(ddof=1)) / M)
    value = float(h_a.mean() + h_b.mean()) if unbiased else float(aa.mean() + bb.mean() - 2 * ab.mean())
    return Estimate(value if unbiased else max(value, 0.0), se)


def inception_style_score(probabilities: Array, splits: int = 10) -> Estimate:
    """Mean over splits of exp(mean_n KL(p_n | p_mean)), and sd / sqrt(splits) (NaN for one split).

    probabilities: (N, C), rows p(y | x_n) that sum to 1; consecutive rows share a split, sizes differing by at most
    one. 1 when all rows are equal, C when they are one-hot and balanced. Raises ShapeError, NonFiniteError, RangeError.
    """
    check_probabilities("probabilities", probabilities)
    check_count("splits", splits, low=1, high=len(probabilities))
    scores = []
    for p in np.array_split(probabilities.astype(np.float64), splits):
        mean = p.mean(axis=0)  # (C,)
        ratio = np.log(np.where(p > 0, p, 1)) - np.log(np.where(mean > 0, mean, 1))  # p log p is 0 at 0
        scores.append(exp(float((p * ratio).sum(axis=1).mean())))
    if splits == 1:
        return Estimate(scores[0], nan)
    return estimate_mean(np.array(scores))


def feature_unit_norm(f: Array) -> Array:
    """f / |f|_2. f: (N, F), returns like f. Raises ShapeError, NonFiniteError, RangeError (a row of zeros)."""
    check_array("f", f, ndim=2, finite=True)
    norm = np.sqrt((f * f).sum(axis=1, keepdims=True))  # (N, 1)
    if not bool((norm > 0).all()):
        raise RangeError("f: expected rows of positive length, found a row of zeros")
    unit: Array = f / norm
    return unit


def feature_load(path: str | PathLike[str], key: str | None = None, F: int | None = None) -> Array:
    """The (N, F) float32 or float64 array of a .npy file, or of one name of a .npz file; nothing is unpickled.

    key: the name, when the .npz holds several arrays   F: the number of features that is expected
    Raises DataError: not such a file, pickled objects, wrong rank, size or dtype, or numbers that are not finite.
    """
    name = Path(path).name
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            names = loaded.files if isinstance(loaded, np.lib.npyio.NpzFile) else None
            features = loaded if names is None else loaded[_choose(name, names, key)]
    except DataError:
        raise
    except (OSError, EOFError, ValueError, MemoryError, BadZipFile, ZlibError) as error:
        raise DataError(f"{name}: expected a .npy or .npz file of numbers, found: {error}") from error
    try:
        check_array(name, features, shape=(None, F), finite=True)
    except EbmError as error:
        raise DataError(str(error)) from error
    array: Array = features
    return array


def _choose(name: str, names: list[str], key: str | None) -> str:
    """The name in the archive that `key` asks for, or its only one."""
    if key is None and len(names) != 1:
        raise DataError(f"{name}: expected a key, one of {', '.join(names)}")
    if key is not None and key not in names:
        raise DataError(f"{name}: expected one of {', '.join(names)}, found no {key!r}")
    return names[0] if key is None else key


def _symmetric_root(S: Array) -> Array:
    """S^1/2 of a symmetric positive semidefinite matrix, by its eigenvectors."""
    values, vectors = np.linalg.eigh((S + S.T) / 2)
    root: Array = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def _moments(f: Array) -> tuple[Array, Array]:
    f = f.astype(np.float64)
    mu = f.mean(axis=0)
    return mu, (f - mu).T @ (f - mu) / (len(f) - 1)


def _check_features(a: Array, b: Array) -> None:
    check_array("a", a, ndim=2, finite=True)
    check_array("b", b, shape=(None, a.shape[1]), finite=True)
    for name, f in (("a", a), ("b", b)):
        if len(f) < 2:
            raise ShapeError(f"{name}: expected at least two samples, found {len(f)}")
