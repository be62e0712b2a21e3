"""The draws of the backend "naive": words, uniforms, normals, indices and permutations, one number at a time.

In Python's integers and its own float64. Source of the equations: Salmon, Moraes, Dror & Shaw 2011, section 3.3.
"""

from __future__ import annotations

from math import cos, log, pi, sin, sqrt
from typing import Any

import numpy as np

from ebm_ref.contracts import Array

WORD = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32 (Salmon, Moraes, Dror, Shaw 2011), in Python integers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & WORD, (a >> 32) ^ c3 ^ k1, a & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def noise_philox(counter: Array, key: Array) -> Array:
    """words[i] = philox(counter[i], key), one counter after another."""
    words = np.empty(counter.shape, np.uint32)
    for place in np.ndindex(*counter.shape[:-1]):
        c0, c1, c2, c3 = (int(word) for word in counter[place])
        words[place] = philox((c0, c1, c2, c3), (int(key[0]), int(key[1])))
    return words


def noise_bits(seed: int, stream: int, step: int, chains: Array, D: int) -> Array:
    """r[n, d] = word d mod 4 of philox((d div 4, chains[n], step, stream), (seed low, seed high))."""
    r = np.empty((len(chains), D), np.uint32)
    for n in range(len(chains)):
        for d in range(D):
            counter = (d // 4, int(chains[n]), int(step), int(stream))
            r[n, d] = philox(counter, (int(seed) & WORD, int(seed) >> 32))[d % 4]
    return r


def noise_uniform(seed: int, stream: int, step: int, chains: Array, D: int, dtype: Any = np.float64) -> Array:
    """u = (r + 1/2) / 2^32, rounded to dtype."""
    r = noise_bits(seed, stream, step, chains, D)
    u = np.empty(r.shape, dtype)
    for place in np.ndindex(*r.shape):
        u[place] = (int(r[place]) + 0.5) / 2**32
    return u


def noise_normal(seed: int, stream: int, step: int, chains: Array, D: int, dtype: Any = np.float64) -> Array:
    """n[2j], n[2j+1] = sqrt(-2 log u) cos(a), sqrt(-2 log u) sin(a), u from word 2j, a = 2 pi r[2j+1] / 2^32."""
    r = noise_bits(seed, stream, step, chains, D + D % 2)
    out = np.empty((len(chains), D), dtype)
    for n in range(len(chains)):
        for d in range(D):
            even = d - d % 2
            radius = sqrt(-2 * log((int(r[n, even]) + 0.5) / 2**32))
            angle = 2 * pi * (int(r[n, even + 1]) / 2**32)
            out[n, d] = radius * (cos(angle) if d == even else sin(angle))
    return out


def noise_index(bits: Array, n: int) -> Array:
    """The i for which bits / 2^32 lies in [i / n, (i + 1) / n): the words are cut into n shares of almost one size."""
    idx = np.empty(bits.shape, np.int64)
    for place in np.ndindex(*bits.shape):
        idx[place] = int(bits[place]) * n // 2**32
    return idx


def noise_permutation(seed: int, stream: int, step: int, n: int) -> Array:
    """Number i stands after every smaller word, and after the equal words before it."""
    words = [int(word) for word in noise_bits(seed, stream, step, np.array([0]), n)[0]]
    order = np.empty(n, np.int64)
    for i in range(n):
        order[sum(words[j] < words[i] or (words[j] == words[i] and j < i) for j in range(n))] = i
    return order
