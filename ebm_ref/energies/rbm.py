"""Restricted Boltzmann machine on visible bits, with everything that enumeration makes exact.

    forward:          E(x) = -a . x - sum_j softplus(b_j + x . w_j)         -log sum_h exp(a . x + b . h + x' w h)
    backward:         with p_nj = sigma(b_j + x_n . w_j) = P(h_j = 1 | x_n):
                      dx = -dy (a + w p),  da = -sum_n dy_n x_n,  db = -sum_n dy_n p_n,  dw = -sum_n dy_n x_n p_n'
    log_z:            log sum_{x in {0,1}^D} exp(-E(x)), summed over the layer with fewer bits:
                      = log sum_{h in {0,1}^H} exp(b . h + sum_i softplus(a_i + w_i . h))
    probabilities:    p(x) = exp(-E(x)) / Z for each of the 2^D states, in the order of binary_states
    sample_exact:     the state whose interval of the cumulated p holds u
    gibbs_matrix:     T[x, x'] = sum_h P(h | x) P(x' | h);  p T = p
    rbm_gibbs_step:   h_j = [u_j < sigma(b_j + x . w_j)],  x'_i = [u'_i < sigma(a_i + w_i . h)]
    rbm_gibbs_run:    K such steps; step k draws u, then u', at (seed, CHAIN_NOISE, step + k, chains[n], 0 .. H + D - 1)
    binary_states:    row s holds the bits of s: x_i = floor(s / 2^i) mod 2;   binary_index: s = sum_i x_i 2^i

E is a smooth function of every real x, so the energy has all its derivatives; as a model of bits it lives on {0,1}^D.

Source: Smolensky 1986 (harmonium); Hinton 2002, Training products of experts by minimizing contrastive divergence,
section 4 (block Gibbs, the free energy). Level: provides 1, 2 and 3. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..contracts import (
    Array,
    DTypeError,
    Energy,
    Params,
    RangeError,
    ShapeError,
    Shapes,
    Stream,
    check_array,
    check_choice,
    check_count,
    theta_check,
)
from ..layers import linear_backward, linear_forward, logsumexp_forward, sigmoid, softplus_backward, softplus_forward
from .base import EnergyBase, Tape

MOST_BITS = 16  # 2^16 states
MOST_MATRIX_BITS = 12  # a transition matrix of 4096 x 4096


@dataclass(frozen=True)
class RBMEnergy(EnergyBase):
    """E(x) = -a . x - sum_j softplus(b_j + x . w_j), x of shape (visible,).

    theta: `visible.b` a (visible,), `hidden.b` b (hidden,), `w` (visible, hidden).
    """

    visible: int
    hidden: int

    def __post_init__(self) -> None:
        check_count("visible", self.visible, low=1)
        check_count("hidden", self.hidden, low=1)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.visible,)

    def theta_shapes(self) -> Shapes:
        return {"visible.b": (self.visible,), "hidden.b": (self.hidden,), "w": (self.visible, self.hidden)}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        h = linear_forward(x, theta["w"], theta["hidden.b"])  # (N, hidden)
        return -(x * theta["visible.b"]).sum(axis=1) - softplus_forward(h).sum(axis=1), [x, h]  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        h, x = tape.pop(), tape.pop()
        dh = softplus_backward(h, np.broadcast_to(-dy[:, None], h.shape))  # (N, hidden)
        dx, dw, db = linear_backward(x, theta["w"], dh)  # (N, visible), (visible, hidden), (hidden,)
        pull = -dy[:, None]  # (N, 1)
        return dx + pull * theta["visible.b"], {"visible.b": (pull * x).sum(axis=0), "hidden.b": db, "w": dw}

    def log_z(self, theta: Params) -> float:
        """log sum_x exp(-E(x)) over {0,1}^visible. Raises RangeError unless one layer has at most 16 bits."""
        a, b, w = self._numbers(theta)
        if self.hidden < self.visible:
            a, b, w = b, a, w.T
        states = binary_states(len(a))  # (2^n, n)
        logs = states @ a + softplus_forward(states @ w + b).sum(axis=1)  # (2^n,)
        return float(logsumexp_forward(logs[None, :])[0])

    def probabilities(self, theta: Params) -> Array:
        """p(x) = exp(-E(x)) / Z, (2^visible,), float64, in the order of binary_states. Raises RangeError as it does."""
        a, b, w = self._numbers(theta)
        x = binary_states(self.visible)  # (2^visible, visible)
        logs = x @ a + softplus_forward(x @ w + b).sum(axis=1)  # (2^visible,)
        p: Array = np.exp(logs - logsumexp_forward(logs[None, :]))
        return p

    def sample_exact(self, theta: Params, u: Array) -> Array:
        """x = the state whose interval of the cumulated p holds u: exact draws from exp(-E)/Z.

        u: (N, 1), uniforms in (0, 1]   returns x: (N, visible). Raises ShapeError, DTypeError, RangeError.
        """
        check_array("u", u, shape=(None, 1))
        if not ((u > 0) & (u <= 1)).all():
            raise RangeError("u: expected numbers in (0, 1]")
        p = self.probabilities(theta)
        last = int(np.flatnonzero(p)[-1])  # rounding may leave the cumulated p below a u near 1
        s = np.minimum(np.searchsorted(np.cumsum(p), u[:, 0]), last)  # (N,)
        return binary_states(self.visible, u.dtype)[s]  # (N, visible)

    def gibbs_matrix(self, theta: Params) -> Array:
        """T[x, x'] = sum_h P(h | x) P(x' | h), (2^visible, 2^visible), float64; its rows sum to 1 and p T = p.

        Raises RangeError unless both layers have at most 12 bits.
        """
        a, b, w = self._numbers(theta)
        for name, n in (("visible", self.visible), ("hidden", self.hidden)):
            check_count(name, n, low=1, high=MOST_MATRIX_BITS)
        x, h = binary_states(self.visible), binary_states(self.hidden)
        return _given(x @ w + b, h) @ _given(h @ w.T + a, x)

    def _numbers(self, theta: Params) -> tuple[Array, Array, Array]:
        """a, b and w in float64."""
        theta_check(self, theta)
        return tuple(theta[name].astype(np.float64) for name in self.theta_shapes())  # type: ignore[return-value]


def rbm_gibbs_step(theta: Params, x: Array, u_hidden: Array, u_visible: Array) -> Array:
    """h_j = [u_hidden_j < sigma(b_j + x . w_j)],  x'_i = [u_visible_i < sigma(a_i + w_i . h)].

    x: (N, D)   u_hidden: (N, H)   u_visible: (N, D), uniforms in float64, so that u < p is decided alike everywhere
    returns x' in {0, 1}, like x. Raises ShapeError, DTypeError. A probability that is NaN gives the bit 0.
    """
    w = theta["w"]  # (D, H)
    check_array("x", x, shape=(None, w.shape[0]))
    for name, u, n in (("u_hidden", u_hidden, w.shape[1]), ("u_visible", u_visible, w.shape[0])):
        check_array(name, u, shape=(x.shape[0], n))
        if u.dtype != np.float64:
            raise DTypeError(f"{name}: expected float64, found {u.dtype}")
    h = _below(u_hidden, sigmoid(linear_forward(x, w, theta["hidden.b"])))  # (N, H)
    return _below(u_visible, sigmoid(linear_forward(h, np.transpose(w), theta["visible.b"])))  # (N, D)


def rbm_gibbs_run(
    backend: ModuleType,
    energy: Energy,
    theta: Params,
    x0: Array,
    K: int,
    seed: int,
    step: int = 0,
    chains: Array | None = None,
) -> Array:
    """K block-Gibbs steps from x0; step k draws at (seed, CHAIN_NOISE, step + k, chains[n], element).

    backend: module with noise_uniform   energy: an RBMEnergy   x0: (N, D), untouched   chains: (N,), None = 0..N-1
    returns x_K like x0. Raises ShapeError, DTypeError, RangeError, NonFiniteError (x0).
    """
    if not isinstance(energy, RBMEnergy):
        raise DTypeError(f"energy: expected an RBMEnergy, found {type(energy).__name__}")
    theta_check(energy, theta)
    check_array("x0", x0, shape=(None, energy.visible), finite=True)
    check_count("K", K, low=0)
    check_count("step", step, low=0, high=2**32 - max(int(K), 1))
    N, H = x0.shape[0], energy.hidden
    chains = np.arange(N) if chains is None else chains
    if chains.shape != (N,):
        raise ShapeError(f"chains: expected shape ({N},), found {chains.shape}")
    x = x0.copy()
    for k in range(K):
        u = backend.noise_uniform(seed, Stream.CHAIN_NOISE, int(step) + k, chains, H + energy.visible)  # (N, H + D)
        x = rbm_gibbs_step(theta, x, u[:, :H], u[:, H:])
    return x


def binary_states(n: int, dtype: DTypeLike = np.float64) -> Array:
    """x_i = floor(s / 2^i) mod 2 in row s: all 2^n states of n bits, (2^n, n). Raises RangeError beyond 16 bits."""
    check_count("n", n, low=1, high=MOST_BITS)
    check_choice("dtype", np.dtype(dtype).name, ("float32", "float64"))
    states: Array = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(dtype)
    return states


def binary_index(x: Array) -> Array:
    """s = sum_i x_i 2^i, the row of each state in binary_states. x: (N, n) of 0 and 1, returns (N,) int64."""
    check_array("x", x, ndim=2)
    check_count("n", x.shape[1], low=1, high=MOST_BITS)
    if not ((x == 0) | (x == 1)).all():
        raise RangeError("x: expected bits, 0 or 1")
    index: Array = x.astype(np.int64) @ (1 << np.arange(x.shape[1]))
    return index


def _given(field: Array, states: Array) -> Array:
    """P(states_s | field_n) = exp(sum_i states_si field_ni - softplus(field_ni)), (N, S)."""
    law: Array = np.exp(field @ states.T - softplus_forward(field).sum(axis=1)[:, None])
    return law


def _below(u: Array, p: Array) -> Array:
    """[u < p] as 0 or 1 in p's dtype."""
    return np.where(u < p, np.ones_like(p), np.zeros_like(p))
