"""Problems of one Langevin step, of its jitter, and of a few steps on a small energy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebm_ref.contracts import Stream
from ebm_ref.specs import SGLD, ULA

from ..case import Case, EnergyOf
from .draw import KINDS, SIZES, Draw
from .energies import SPECS, conv_fields, draw_theta, mlp_fields

BOXES = (None, (-1.0, 1.0), (0.0, 1.0), (-0.3, 0.7))


def langevin_step(draw: Draw) -> Case:
    eta, sigma = draw.choice((1.0, 0.0, 0.01, 10.0)), draw.choice((0.0, 1.0, 0.005))
    clip, clip_norm, box = draw.choice((None, 1.0, 0.03)), draw.choice((None, 1.0, 0.1)), draw.choice(BOXES)
    shape = (draw.choice(SIZES), *draw.sample_shape((*SIZES, 131, 1030)))  # the longest: more than a warp shares
    shape = shape if shape[1] <= max(SIZES) else (min(shape[0], 3), *shape[1:])
    draw.seed()
    x = draw.array("x", shape, ("zeros", "normal", "ties", "large"))
    g, xi = draw.array("g", shape, (*KINDS, "huge")), draw.array("xi", shape, ("zeros", "normal"))
    args = {"x": x, "g": g, "xi": xi, "eta": eta, "sigma": sigma}
    return draw.case("langevin_step", args, clip=clip, clip_norm=clip_norm, box=box)


def langevin_jitter(draw: Draw) -> Case:
    sigma, box = draw.choice((0.0, 1.0, 0.005)), draw.choice(BOXES)
    shape = (draw.choice(SIZES), *draw.sample_shape())
    draw.seed()
    args = {"x": draw.array("x", shape), "xi": draw.array("xi", shape, ("zeros", "normal")), "sigma": sigma}
    return draw.case("langevin_jitter", args, box=box)


def langevin_run(draw: Draw) -> Case:
    """A few steps on a small energy, so that no trajectory has the time to diverge."""
    kind = draw.choice(("mlp_energy", "conv_energy"))
    fields = (mlp_fields if kind == "mlp_energy" else conv_fields)(draw)
    N, K = draw.choice((1, 2, 3, 5, 17)), draw.choice((1, 2, 3, 2, 0))
    if draw.choice((ULA, SGLD, SGLD, SGLD)) is ULA:
        update: Any = ULA(draw.choice((0.01, 0.1, 0.0)))
    else:
        update = SGLD(
            eta=draw.choice((0.01, 0.1, 0.1, 0.0)),
            sigma=draw.choice((0.0, 0.005, 0.1)),
            clip=draw.choice((None, 0.03)),
            clip_norm=draw.choice((None, 0.1)),
            box=draw.choice((None, (-1.0, 1.0))),
            order=draw.choice(("gradient_first", "noise_first")),
        )
    seed, step = draw.integer(0, 2**64 - 1), draw.choice((0, 60, 2**32 - 4))
    draw.seed()
    theta = draw_theta(draw, SPECS[kind](**fields))
    x0 = draw.array("x0", (N, *fields["shape"]), ("normal", "zeros", "ties"))
    chains = draw.rng.permutation(2**16)[:N].astype(np.int64) if draw.flag() else None
    args = {"energy": EnergyOf(kind, fields), "theta": theta, "x0": x0, "K": K, "update": update, "seed": seed}
    stream = draw.choice((Stream.CHAIN_NOISE, Stream.EVALUATION))
    return draw.case("langevin_run", args, step=step, chains=chains, stream=int(stream))
