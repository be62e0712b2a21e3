"""Problems of the noise: addresses with both ends of every counter word among them, and words that tie."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Stream

from ..case import LAYOUTS, Case, lay
from .draw import SIZES, Draw

# seeds at which, in chain 0 of stream DATA_INDEX at step 0, two of the first TIED words are equal: found by search
TIES = (204958, 286342, 598211, 1724351, 2343402, 2695006, 3164969, 3489273, 3560379, 3616333, 3652132, 3863096)
TIED = 132


def noise_address(draw: Draw) -> dict[str, Any]:
    """(seed, stream, step, chains, D) with the ends of every counter word among them."""
    N, D = draw.choice(SIZES), draw.choice((*SIZES, 131))
    seed = draw.choice((0, 1, 2**32 - 1, 2**32, 2**64 - 1)) if draw.flag() else draw.integer(0, 2**64 - 1)
    step, stream = draw.choice((0, 1, 59, 2**32 - 1)), draw.choice(tuple(Stream))
    draw.seed()
    N = N if D <= max(SIZES) else min(N, 3)  # scalar Python makes the longest rows
    chains = draw.words((N,)).astype(np.int64) if draw.flag() else np.arange(N)
    return {"seed": seed, "stream": int(stream), "step": step, "chains": chains, "D": D}


def noise_philox(draw: Draw) -> Case:
    """One counter, a row of them or a table, in any layout; none at all now and then."""
    N = draw.choice((*SIZES, 0))
    shape = draw.choice(((N, 4), (4,), (1, N, 4), (3, 2, 4)))
    draw.seed()
    counter, key = (lay(draw.words(size), draw.choice(LAYOUTS)) for size in (shape, (2,)))
    return draw.case("noise_philox", {"counter": counter, "key": key})


def noise_bits(draw: Draw) -> Case:
    return draw.case("noise_bits", noise_address(draw))


def noise_uniform(draw: Draw) -> Case:
    return draw.case("noise_uniform", noise_address(draw), dtype=draw.dtype)


def noise_normal(draw: Draw) -> Case:
    return draw.case("noise_normal", noise_address(draw), dtype=draw.dtype)


def noise_index(draw: Draw) -> Case:
    """Among the words of an odd n the one before a multiple of 2^32 / n by a single unit: bits n = -1 modulo 2^32."""
    N, axes = draw.choice((*SIZES, 0)), draw.choice((1, 2))
    n = draw.choice((*SIZES, 2**16 + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 0))
    n = n or draw.integer(1, 2**32)
    draw.seed()
    bits = draw.words((N,) if axes == 1 else (3, N))
    if n % 2:
        bits = np.where(draw.rng.random(bits.shape) < 0.2, np.uint32(pow(-n, -1, 2**32)), bits)
    return draw.case("noise_index", {"bits": lay(bits, draw.choice(LAYOUTS)), "n": n})


def noise_permutation(draw: Draw) -> Case:
    """Half of them at an address where two words are equal, which by chance is one of 2^33 / n^2."""
    if draw.flag():
        draw.story.append("two words are equal")
        address = {"seed": draw.choice(TIES), "stream": int(Stream.DATA_INDEX), "step": 0}
        return draw.case("noise_permutation", address | {"n": TIED})
    address, n = noise_address(draw), draw.choice((*SIZES, 0, 1031))
    return draw.case("noise_permutation", {k: address[k] for k in ("seed", "stream", "step")} | {"n": n})
