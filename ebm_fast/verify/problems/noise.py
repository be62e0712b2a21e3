"""Problems of the noise: addresses with both ends of every counter word among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Stream

from ..case import Case
from .draw import SIZES, Draw


def noise_address(draw: Draw) -> dict[str, Any]:
    """(seed, stream, step, chains, D) with the ends of every counter word among them."""
    N, D = draw.choice(SIZES), draw.choice((*SIZES, 131))
    seed = draw.choice((0, 1, 2**32 - 1, 2**32, 2**64 - 1)) if draw.flag() else draw.integer(0, 2**64 - 1)
    step, stream = draw.choice((0, 1, 59, 2**32 - 1)), draw.choice(tuple(Stream))
    draw.seed()
    N = N if D <= max(SIZES) else min(N, 3)  # scalar Python makes the longest rows
    chains = draw.words((N,)).astype(np.int64) if draw.flag() else np.arange(N)
    return {"seed": seed, "stream": int(stream), "step": step, "chains": chains, "D": D}


def noise_bits(draw: Draw) -> Case:
    return draw.case("noise_bits", noise_address(draw))


def noise_uniform(draw: Draw) -> Case:
    return draw.case("noise_uniform", noise_address(draw), dtype=draw.dtype)


def noise_normal(draw: Draw) -> Case:
    return draw.case("noise_normal", noise_address(draw), dtype=draw.dtype)
