"""Spectral normalisation: a weight divided by an estimate of its largest singular value.

With W the weight as a matrix (fan_in, O), all its axes but the last in one:

    spectral_norm_start     u = n / |n|, n ~ N(0, I), one u (O,) for each named weight
    spectral_norm_iterate   v = W u / |W u|,  u' = W' v / |W' v|                         one power iteration
    spectral_norm_forward   y = w / s,  s = |W u|
    spectral_norm_backward  dw = dy / s - (sum dy w) v u' / s^2,  v = W u / |W u|
    spectral_norm_theta     theta with each named weight w replaced by y
    spectral_norm_grads     and the way back: d/dtheta from d/dy

u is a state, carried beside theta and moved by spectral_norm_iterate alone, once a training step: a sampler that moved
it would change the energy under its own chains. For a u that stands still, y is an exact function of w and the backward
its exact derivative; s <= the largest singular value, and reaches it as the iterations converge. A weight for which
W u = 0 gives a non-finite y; nothing is added to s to hide it.

Any energy takes spectral_norm_theta(theta, state) for its parameters; the gradients that come back are those in y.

Source: Miyato, Kataoka, Koyama & Yoshida 2018, arXiv:1802.05957, eqs. 8 and 11, algorithm 1.
Level: serves 1, 2 and 3. Twins: none; it works on any array that answers NumPy's calls.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..contracts import Array, Params, ShapeError, Stream, check_array, check_count
from ..noise import noise_normal


def spectral_norm_start(theta: Params, names: tuple[str, ...], seed: int) -> Params:
    """u = n / |n| for each of `names`; the i-th draws at chain i, step 1 of Stream.PARAMS_INIT.

    theta: holds each name, (..., O)   returns {name: u (O,)}, arrays like theta's. Raises ShapeError, RangeError.
    """
    state: Params = {}
    for i, name in enumerate(names):
        if name not in theta:
            raise ShapeError(f"names: expected names of theta, found {name}; theta has {', '.join(theta)}")
        w = theta[name]
        _matrix(name, w)
        n = noise_normal(seed, Stream.PARAMS_INIT, 1, np.array([i]), w.shape[-1])[0]  # (O,)
        state[name] = np.asarray((n / np.sqrt(n @ n)).astype(w.dtype), like=w)
    return state


def spectral_norm_iterate(theta: Params, state: Params, iterations: int = 1) -> Params:
    """v = W u / |W u|,  u' = W' v / |W' v|, `iterations` times for each weight of `state`; returns the next state."""
    check_count("iterations", iterations, low=0)
    after: Params = {}
    for name, u in state.items():
        W = _matrix(name, theta[name])  # (fan_in, O)
        for _ in range(iterations):
            v = _unit(_times(W, u))  # (fan_in,)
            u = _unit(np.sum(W * v[:, None], axis=0))  # (O,)
        after[name] = u
    return after


def spectral_norm_forward(w: Array, u: Array) -> Array:
    """y = w / s,  s = |W u|.

    w: (..., O)   u: (O,), of length 1   returns y like w. Raises ShapeError, DTypeError.
    """
    Wu = _times(_matrix("w", w, u), u)  # (fan_in,)
    y: Array = w / np.sqrt(np.sum(Wu * Wu))
    return y


def spectral_norm_backward(w: Array, u: Array, dy: Array) -> Array:
    """dw = dy / s - (sum dy w) v u' / s^2,  s = |W u|,  v = W u / s.

    w, dy: (..., O)   u: (O,)   returns dw like w. Raises ShapeError, DTypeError.
    """
    check_array("dy", dy, shape=w.shape)
    Wu = _times(_matrix("w", w, u), u)  # (fan_in,)
    s = np.sqrt(np.sum(Wu * Wu))  # ()
    slope = (Wu / s)[:, None] * u  # (fan_in, O) ds/dW
    dw: Array = dy / s - (np.sum(dy * w) / (s * s)) * slope.reshape(w.shape)
    return dw


def spectral_norm_theta(theta: Params, state: Params) -> Params:
    """theta with y = w / |W u| in place of each weight of `state`. Raises ShapeError, DTypeError."""
    return theta | {name: spectral_norm_forward(theta[name], u) for name, u in state.items()}


def spectral_norm_grads(theta: Params, state: Params, grads: Params) -> Params:
    """Gradients in theta from those in spectral_norm_theta(theta, state). Raises ShapeError, DTypeError."""
    return grads | {name: spectral_norm_backward(theta[name], u, grads[name]) for name, u in state.items()}


def _matrix(name: str, w: Array, u: Array | None = None) -> Array:
    """w as (fan_in, O)."""
    check_array(name, w)
    if w.ndim < 2:
        raise ShapeError(f"{name}: expected a weight (..., O) of two axes or more, found shape {tuple(w.shape)}")
    if u is not None:
        check_array("u", u, shape=(w.shape[-1],))
    return w.reshape((prod(w.shape[:-1]), w.shape[-1]))  # (fan_in, O)


def _times(W: Array, u: Array) -> Array:
    """W u, (fan_in,): a sum, for a product of matrices asks a card for cuBLAS, and a host for its threads' order."""
    Wu: Array = np.sum(W * u, axis=1)
    return Wu


def _unit(v: Array) -> Array:
    """v / |v|."""
    unit: Array = v / np.sqrt(np.sum(v * v))
    return unit
