"""What one element does: plain, undecorated Python that each compiler compiles for its own machine.

Formulas only: no array, no loop over elements, no library function. A formula that needs exp, tanh or
erf takes their value as an argument, because each machine has its own fast way to compute them. The
types are whatever the caller hands in: a number, a register full of numbers, a NumPy array.

philox_round      one of the ten rounds of Philox4x32-10. Salmon, Moraes, Dror & Shaw 2011, section 3.3
index_of          (bits * n) >> 32
silu gelu softplus tanh relu leaky_relu     NAME (f), NAME_slope (f'), NAME_bend (f''; smooth ones only)
langevin_move     x - eta g + sigma xi
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

HALF, MASK = np.uint64(32), np.uint64(0xFFFFFFFF)  # 32-bit words travel in 64-bit integers: products stay exact
PHILOX_M0, PHILOX_M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
PHILOX_W0, PHILOX_W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # key steps: golden ratio, sqrt(3) - 1
INV_SQRT_2 = 1 / sqrt(2)
INV_SQRT_2PI = 1 / sqrt(2 * pi)
LEAK = 0.2


def philox_round(c0, c1, c2, c3, k0, k1):
    """(hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))."""
    p0 = PHILOX_M0 * c0
    p1 = PHILOX_M1 * c2
    return (p1 >> HALF) ^ c1 ^ k0, p1 & MASK, (p0 >> HALF) ^ c3 ^ k1, p0 & MASK


def philox_next_key(k0, k1):
    """(k0 + W0, k1 + W1) mod 2^32: the key of the next round."""
    return (k0 + PHILOX_W0) & MASK, (k1 + PHILOX_W1) & MASK


def index_of(bits, n):
    """(bits n) >> 32: an index in [0, n) from 32 random bits."""
    return (bits * n) >> HALF


# -------------------------------------------------------------------- activations and derivatives


def silu(x, s):
    """x s, with s = 1 / (1 + exp(-x))."""
    return x * s


def silu_slope(x, s):
    """s + x s (1 - s)."""
    return s + x * s * (1.0 - s)


def silu_bend(x, s):
    """s (1 - s) (2 + x (1 - 2 s))."""
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))


def gelu(x, c):
    """x c, with c = Phi(x) = (1 + erf(x / sqrt 2)) / 2."""
    return x * c


def gelu_slope(x, c, p):
    """c + x p, with p = phi(x) = exp(-x^2 / 2) / sqrt(2 pi)."""
    return c + x * p


def gelu_bend(x, p):
    """p (2 - x^2)."""
    return p * (2.0 - x * x)


def softplus_bend(s):
    """s (1 - s); softplus' itself is s = 1 / (1 + exp(-x))."""
    return s * (1.0 - s)


def tanh_slope(t):
    """1 - t^2, with t = tanh x."""
    return 1.0 - t * t


def tanh_bend(t):
    """-2 t (1 - t^2)."""
    return -2.0 * t * (1.0 - t * t)


# -------------------------------------------------------------------------------------- Langevin


def langevin_move(x, g, xi, eta, sigma):
    """x - eta g + sigma xi."""
    return x - eta * g + sigma * xi
