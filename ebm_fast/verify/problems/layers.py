"""Problems of the layers: convolutions small enough for scalar Python, and group norms of every grouping."""

from __future__ import annotations

import numpy as np

from ebm_ref.contracts import Array
from ebm_ref.specs import PADDINGS

from ..case import Case
from .draw import SIZES, SMALL, Draw

WIDE = (33, 64, 65, 130)  # channels that fill a tile of columns, or need two or three; the pixels, likewise
LONG = (*((letter, SIZES) for letter in "HWCON"), *((letter, WIDE) for letter in "COCO"))
WORK = 16_000  # multiply-adds of one convolution: what scalar Python does in a tenth of a second


def conv2d(draw: Draw) -> tuple[dict[str, int], int, str, tuple[int, int]]:
    """Sizes with one long axis, a stride, a padding and the output's (P, Q)."""
    sizes = {letter: draw.choice(SMALL) for letter in "NHWCO"}
    long, lengths = draw.choice(LONG)
    sizes[long] = draw.choice(lengths)
    if lengths is WIDE:
        sizes["H"], sizes["W"] = draw.choice(((3, 5), (9, 9), (7, 13)))
    sizes |= {"R": draw.choice((1, 2, 3, 4, 5)), "S": draw.choice((1, 2, 3, 4, 5))}
    stride, padding = draw.choice((1, 2, 3)), draw.choice(PADDINGS)
    for letter in "NRSCOHW" if lengths is WIDE else "NCOHWRS":  # cut short axes until scalar Python can follow
        if np.prod([sizes[k] for k in "NHWCORS"]) > WORK * stride**2 and letter != long:
            sizes[letter] = 1
    if padding == "VALID":
        sizes["R"], sizes["S"] = min(sizes["R"], sizes["H"]), min(sizes["S"], sizes["W"])
    cut = (sizes["R"] - 1, sizes["S"] - 1) if padding == "VALID" else (0, 0)
    out = (-(-(sizes["H"] - cut[0]) // stride), -(-(sizes["W"] - cut[1]) // stride))
    return sizes, stride, padding, out


FACTORS = ("zeros", "normal", "ties", "tiny", "large", "spread")


def conv2d_arrays(draw: Draw, sizes: dict[str, int]) -> dict[str, Array]:
    x = draw.array("x", tuple(sizes[k] for k in "NHWC"), FACTORS)
    return {"x": x, "w": draw.array("w", tuple(sizes[k] for k in "RSCO"), FACTORS)}


def conv2d_forward(draw: Draw) -> Case:
    sizes, stride, padding, _ = conv2d(draw)
    draw.seed()
    args = conv2d_arrays(draw, sizes) | {"b": draw.array("b", (sizes["O"],), FACTORS)}
    return draw.case("conv2d_forward", args, stride=stride, padding=padding)


def conv2d_backward(draw: Draw) -> Case:
    sizes, stride, padding, out = conv2d(draw)
    draw.seed()
    args = conv2d_arrays(draw, sizes) | {"dy": draw.array("dy", (sizes["N"], *out, sizes["O"]), FACTORS)}
    return draw.case("conv2d_backward", args, stride=stride, padding=padding)


def group_norm(draw: Draw) -> tuple[Array, Array, int, float]:
    """(x, gamma, groups, eps); a group may be one number, one pixel, or all alike."""
    groups, each = draw.choice((1, 2, 3, 8)), draw.choice((1, 2, 3, 5, 8))
    spatial = draw.choice(((3,), (), (1, 1), (2, 3), (5, 5), (65,), (1, 7), (8, 8), (9, 9)))
    eps = draw.choice((1e-5, 1e-3, 1e-6))
    draw.seed()
    x = draw.array("x", (draw.choice(SMALL), *spatial, groups * each))
    return x, draw.array("gamma", (groups * each,), ("normal", "zeros", "ties", "large")), groups, eps


def group_norm_forward(draw: Draw) -> Case:
    x, gamma, groups, eps = group_norm(draw)
    beta = draw.array("beta", gamma.shape, ("normal", "zeros", "large"))
    return draw.case("group_norm_forward", {"x": x, "gamma": gamma, "beta": beta, "groups": groups}, eps=eps)


def group_norm_backward(draw: Draw) -> Case:
    x, gamma, groups, eps = group_norm(draw)
    dy = draw.array("dy", x.shape, FACTORS)
    return draw.case("group_norm_backward", {"x": x, "gamma": gamma, "dy": dy, "groups": groups}, eps=eps)
