"""Score matching: fit grad_x E to the slope of the data's density, with no samples of the model and no Z.

    score_matching          J = mean_n [ |g_n|^2 / 2 - tr H_n ],   g = grad_x E,  H = grad_x grad_x' E   (Hyvarinen)
    score_matching_sliced   variance reduced:  J = mean_n mean_m [ |g_n|^2 / 2         - v_mn' H_n v_mn ]
                            else:              J = mean_n mean_m [ (v_mn . g_n)^2 / 2  - v_mn' H_n v_mn ]
    gradients               grad_theta |g|^2 / 2 = grad_theta (a . g) at a = g held,  (v . g)^2 / 2: a = (v . g) v,
                            less the sum over directions of grad_theta v' H v
    hsm_step                score_matching on x
    ssm_step                score_matching_sliced, v drawn: rademacher (signs), gaussian, or sphere (|v|^2 = D)

With E_data |grad log p + grad_x E|^2 / 2 = J + E_data |grad log p|^2 / 2, J is the Fisher divergence less a number
that theta does not change (where p grad_x E vanishes far out). Every kind of v has E[v v'] = I, so both sliced
losses have mean J: they are not divided by D, as a unit v would have it. tr H, by D unit directions, has no variance;
v' H v has 2 (|H|_F^2 - sum_d H_dd^2) for signs, 2 |H|_F^2 for normals, (2 D |H|_F^2 - 2 (tr H)^2) / (D + 2) on the
sphere. The reduced loss takes the variance of (v . g)^2 out, and is as a rule the quieter one; it is no theorem,
since (v . g)^2 and v' H v may rise and fall together.

Source: Hyvarinen 2005, Estimation of Non-Normalized Statistical Models by Score Matching, theorem 1;
Song, Garg, Shi & Ermon 2019, arXiv:1905.07088, eq. 8 (sliced) and section 4 (variance reduced).
Level: 3. Twins: none; it takes the module to draw with, and works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..contracts import (
    Array,
    DTypeError,
    Energy3,
    Params,
    ShapeError,
    Stream,
    check_array,
    check_choice,
    check_count,
    check_derivatives,
    flat_size,
)

Info = dict[str, Any]
KINDS = ("rademacher", "gaussian", "sphere")
ROWS = 1024  # samples times directions of one pass, where that is at least one direction


def score_matching(energy: Energy3, theta: Params, x: Array, chunk: int | None = None) -> tuple[Array, Params, Info]:
    """J = mean_n [ |g_n|^2 / 2 - sum_d e_d' H_n e_d ] and its gradient in theta.

    x: (N, *shape) data   chunk: unit directions of one pass; more is faster on small batches and takes chunk times
    the memory of one; the result is the same but for rounding. D passes in all: for small D.
    returns loss (), grads like theta, info: square = mean |g|^2 / 2, trace = mean tr H.
    Raises ShapeError, DTypeError, RangeError, BackendError (no level 3), SmoothnessError (relu).
    """
    _check(energy, x, "score_matching")
    N, D = x.shape[0], flat_size(energy.shape)
    chunk = max(1, ROWS // N) if chunk is None else chunk
    check_count("chunk", chunk, low=1)
    trace: Any = 0.0
    bent: Params = {}
    for d in range(0, D, chunk):
        n = min(chunk, D - d)
        e = np.eye(n, D, d, dtype=x.dtype, like=x)  # (n, D): unit vectors d ... d + n - 1
        v = np.broadcast_to(e[:, None], (n, N, D)).reshape((n * N, *energy.shape))  # (n N, *shape)
        x_n = np.broadcast_to(x, (n, *x.shape)).reshape((n * N, *energy.shape))  # (n N, *shape)
        vhv, grads = _curvature(energy, theta, x_n, v, 1 / N)  # (n N,)
        trace = trace + np.sum(vhv.reshape((n, N)), axis=0)  # (N,)
        bent = _plus(bent, grads)
    g = energy.grad_x(theta, x)  # (N, *shape)
    return _finish(energy, theta, x, g / N, 0.5 * _dot(g, g), trace, bent)


def score_matching_sliced(
    energy: Energy3, theta: Params, x: Array, v: Array, variance_reduced: bool = True
) -> tuple[Array, Params, Info]:
    """J = mean_n mean_m [ |g_n|^2 / 2 - v_mn' H_n v_mn ] and its gradient; (v_mn . g_n)^2 for |g_n|^2 if not reduced.

    x: (N, *shape) data   v: (M, N, *shape) directions with mean v v' = I
    returns loss (), grads like theta, info: square = mean of the first term, trace = mean of the second.
    Raises ShapeError, DTypeError, BackendError (no level 3), SmoothnessError (relu).
    """
    _check(energy, x, "score_matching_sliced")
    check_array("v", v, shape=(None, *x.shape))
    if v.shape[0] == 0:
        raise ShapeError("v: expected at least one direction of each sample, found none")
    if v.dtype != x.dtype:
        raise DTypeError(f"v: expected x's {x.dtype}, found {v.dtype}")
    N, M = x.shape[0], v.shape[0]
    trace: Any = 0.0
    bent: Params = {}
    for m in range(M):
        vhv, grads = _curvature(energy, theta, x, v[m], 1 / (N * M))  # (N,)
        trace = trace + vhv / M
        bent = _plus(bent, grads)
    g = energy.grad_x(theta, x)  # (N, *shape)
    if variance_reduced:
        return _finish(energy, theta, x, g / N, 0.5 * _dot(g, g), trace, bent)
    a: Any = 0.0
    square: Any = 0.0
    for m in range(M):
        slope = _dot(v[m], g)  # (N,)
        a = a + slope.reshape((N,) + (1,) * (x.ndim - 1)) * v[m] / (N * M)  # (N, *shape)
        square = square + 0.5 * slope * slope / M  # (N,)
    return _finish(energy, theta, x, a, square, trace, bent)


def hsm_step(
    backend: ModuleType, energy: Energy3, theta: Params, x: Array, seed: int, step: int, chunk: int | None = None
) -> tuple[Array, Params, Info]:
    """`score_matching` on x. It draws nothing: backend, seed and step are there because every step has them."""
    return score_matching(energy, theta, x, chunk)


def ssm_step(
    backend: ModuleType,
    energy: Energy3,
    theta: Params,
    x: Array,
    seed: int,
    step: int,
    projections: int = 1,
    kind: str = "rademacher",
    variance_reduced: bool = True,
) -> tuple[Array, Params, Info]:
    """`score_matching_sliced` with `projections` directions of each sample, drawn at Stream.PROJECTION.

    backend: module with noise_bits, noise_normal   x: (N, *shape) data   step: training step
    kind: rademacher, gaussian or sphere   direction m of training step t draws at counter t projections + m.
    Raises as score_matching_sliced, and RangeError.
    """
    _check(energy, x, "ssm_step")
    v = draw_directions(backend, x, projections, kind, seed, step)  # (M, N, *shape)
    return score_matching_sliced(energy, theta, x, v, variance_reduced)


def draw_directions(backend: ModuleType, x: Array, projections: int, kind: str, seed: int, step: int) -> Array:
    """Directions with mean v v' = I, (projections, *x.shape); direction m draws at counter step projections + m.

    rademacher: -1 or 1 by the word's highest bit   gaussian: n   sphere: sqrt(D) n / |n|.
    """
    check_count("projections", projections, low=1)
    check_count("step", step, low=0, high=2**32 - 1)
    check_choice("kind", kind, KINDS)
    N, D = x.shape[0], flat_size(x.shape[1:])
    chains = np.arange(N)
    directions = []
    for at in range(step * projections, (step + 1) * projections):
        if kind == "rademacher":
            bits = backend.noise_bits(seed, Stream.PROJECTION, at, chains, D).reshape(x.shape)  # (N, *shape)
            one = np.ones_like(x)
            v = np.where(bits < 2**31, one, -one)
        elif kind == "gaussian":
            v = backend.noise_normal(seed, Stream.PROJECTION, at, chains, D, x.dtype).reshape(x.shape)  # (N, *shape)
        else:  # in float64 a vector of normals is never 0
            n = backend.noise_normal(seed, Stream.PROJECTION, at, chains, D, np.float64)  # (N, D)
            n = n * (float(D) / np.sum(n * n, axis=1, keepdims=True)) ** 0.5
            v = np.asarray(n, dtype=x.dtype, like=x).reshape(x.shape)  # (N, *shape)
        directions.append(v)
    return np.stack(directions)  # (M, N, *shape)


def _finish(
    energy: Energy3, theta: Params, x: Array, a: Array, square: Array, trace: Array, bent: Params
) -> tuple[Array, Params, Info]:
    """loss = mean square - mean trace,  grads = grad_theta sum_n a_n . g_n - bent."""
    along = energy.grad_theta_along(theta, x, a)
    grads = {name: along[name] - bent[name] for name in along}
    mean_square: Any = np.mean(square)  # ()
    mean_trace: Any = np.mean(trace)  # ()
    return mean_square - mean_trace, grads, {"square": mean_square, "trace": mean_trace}


def _curvature(energy: Any, theta: Params, x: Array, v: Array, w: float) -> tuple[Array, Params]:
    """v_n' H_n v_n, (N,), and w grad_theta of their sum; in one pass where the energy offers it, else in two."""
    weights = np.full((x.shape[0],), w, dtype=x.dtype, like=x)  # (N,)
    if hasattr(energy, "curvature_and_grad_theta"):
        vhv, grads = energy.curvature_and_grad_theta(theta, x, v, weights)
        return vhv, grads
    return energy.curvature(theta, x, v), energy.grad_theta_curvature(theta, x, v, weights)


def _dot(a: Array, b: Array) -> Array:
    """a_n . b_n, (N,)."""
    dot: Array = np.sum((a * b).reshape((a.shape[0], flat_size(a.shape[1:]))), axis=1)
    return dot


def _plus(total: Params, grads: Params) -> Params:
    return {name: total[name] + grads[name] for name in grads} if total else grads


def _check(energy: Energy3, x: Array, what: str) -> None:
    check_derivatives(what, energy, "grad_theta_along", "curvature", "grad_theta_curvature")
    check_array("x", x, shape=(None, *energy.shape), finite=isinstance(x, np.ndarray))
    if x.shape[0] == 0:
        raise ShapeError("x: expected at least one sample, found none")
