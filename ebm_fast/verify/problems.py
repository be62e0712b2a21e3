"""One Hypothesis strategy per public function, named by the function: `strategy("conv2d_backward", dtype)`.

A strategy draws sizes, switches and a seed, and NumPy builds the arrays from the seed: quick to draw, and
it shrinks towards one sample, one pixel, zeros and contiguous memory. Sizes are awkward on purpose: ones,
primes, and both sides of every power of two that a tile might have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ebm_ref.contracts import Array, RangeError, Stream
from ebm_ref.specs import ACTIVATIONS, PADDINGS, POOLS, SGLD, ULA, ConvSpec, DeepConvSpec, MLPSpec

from ..extras import require
from .case import LAYOUTS, Case, EnergyOf, lay

SIZES = (1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 33, 63, 65)
SMALL = (1, 2, 3, 5)
KINDS = ("zeros", "normal", "ties", "tiny", "large", "offset", "spread")
WORK = 16_000  # multiply-adds of one convolution: what scalar Python does in a tenth of a second


class Draw:
    """What a problem draws: choices (the simplest first), then arrays from one seed."""

    def __init__(self, draw: Callable[[Any], Any], st: Any, dtype: Any) -> None:
        self._draw, self._st, self.dtype = draw, st, np.dtype(dtype)
        self.rng = np.random.default_rng(0)
        self.story: list[str] = []

    def choice(self, options: Sequence[Any]) -> Any:
        return self._draw(self._st.sampled_from(options))

    def flag(self) -> bool:
        return bool(self._draw(self._st.booleans()))

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(self._st.integers(low, high)))

    def seed(self) -> None:
        """Draw the seed of every array that follows."""
        seed = self.integer(0, 9999)
        self.rng = np.random.default_rng(seed)
        self.story.append(f"arrays from seed {seed}")

    def sample_shape(self, long: Sequence[int] = SIZES) -> tuple[int, ...]:
        """One long axis, or up to three short ones."""
        axes = self.choice((1, 2, 3))
        return tuple(self.choice(long if axes == 1 else SMALL) for _ in range(axes))

    def array(self, name: str, shape: tuple[int, ...], kinds: Sequence[str] = KINDS, scale: float = 1.0) -> Array:
        """A real array of one of the kinds of values, in one of the layouts."""
        kind, layout = self.choice(kinds), self.choice(LAYOUTS)
        self.story.append(f"{name}: {kind}, {layout}")
        return lay((scale * values(self.rng, shape, kind)).astype(self.dtype), layout)

    def words(self, shape: tuple[int, ...]) -> Array:
        """32-bit words, the extremes among them."""
        bits = self.rng.integers(0, 2**32, shape, dtype=np.uint32)
        edges = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
        return np.where(self.rng.random(shape) < 0.2, self.rng.choice(edges, shape), bits)

    def case(self, function: str, args: dict[str, Any], **options: Any) -> Case:
        return Case(function, args, options, "; ".join(self.story))


def values(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    """Real numbers of one kind; "spread" covers ten orders of magnitude, "offset" hides a small variance."""
    normal = rng.standard_normal(shape)
    if kind == "spread":
        return normal * 10.0 ** rng.uniform(-6, 4, shape)
    if kind == "ties":
        return rng.integers(-1, 2, shape).astype(float)
    if kind == "offset":
        return 100.0 + normal
    return normal * {"zeros": 0.0, "normal": 1.0, "tiny": 1e-12, "large": 1e4, "huge": 1e25}[kind]


# ----------------------------------------------------------------------------------------- noise


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


# -------------------------------------------------------------------------------------- langevin

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
    theta, x0 = draw_theta(draw, kind, fields), draw.array("x0", (N, *fields["shape"]), ("normal", "zeros", "ties"))
    chains = draw.rng.permutation(2**16)[:N].astype(np.int64) if draw.flag() else None
    args = {"energy": EnergyOf(kind, fields), "theta": theta, "x0": x0, "K": K, "update": update, "seed": seed}
    stream = draw.choice((Stream.CHAIN_NOISE, Stream.EVALUATION))
    return draw.case("langevin_run", args, step=step, chains=chains, stream=int(stream))


# ---------------------------------------------------------------------------------------- buffer


def buffer_draw(draw: Draw) -> Case:
    """Slots beyond `filled` hold NaN: whoever draws one of them, or leaves out a stored one, is seen."""
    M, N, shape = draw.choice(SIZES), draw.choice(SIZES), draw.sample_shape()
    filled = draw.choice((M, 1, M - 1, M // 2, 0))
    rho = draw.choice((0.0, 1.0, 0.05, 0.5))
    draw.seed()
    slots, fresh = draw.array("slots", (M, *shape), ("normal", "zeros")), draw.array("fresh", (N, *shape), ("normal",))
    slots[filled:] = np.nan
    bits, u = draw.words((N,)), (draw.words((N,)) + 0.5) / 2**32
    u = np.where(draw.rng.random(N) < 0.2, max(rho, 2.0**-33), u)  # a tie: u = rho does not restart
    args = {"slots": slots, "filled": filled, "bits": bits, "u": u, "fresh": fresh, "rho": rho}
    return draw.case("buffer_draw", args)


def buffer_push(draw: Draw) -> Case:
    """Batches longer than the buffer and repeated indices: the last in batch order stays."""
    M, N, shape = draw.choice(SIZES), draw.choice(SIZES), draw.sample_shape()
    policy = draw.choice(("in_place", "fifo", "reservoir"))
    filled, ptr = draw.choice(((M, M), (M, 3 * M + 1), (0, 0), (M // 2, M // 2), (M, 2**31)))
    draw.seed()
    slots, x = draw.array("slots", (M, *shape), ("normal", "zeros")), draw.array("x", (N, *shape), ("normal", "ties"))
    options: dict[str, Any] = {}
    if policy == "in_place":
        filled, ptr = M, draw.choice((0, ptr))
        options["idx"] = draw.rng.integers(0, M, N) if draw.flag() else np.zeros(N, np.int64)
    if policy == "reservoir":
        options["bits"] = draw.words((N,))
    args = {"slots": slots, "filled": filled, "ptr": ptr, "x": x, "policy": policy}
    return draw.case("buffer_push", args, **options)


# ---------------------------------------------------------------------------------------- layers


def conv2d(draw: Draw) -> tuple[dict[str, int], int, str, tuple[int, int]]:
    """Sizes with one long axis, a stride, a padding and the output's (P, Q)."""
    sizes = {letter: draw.choice(SMALL) for letter in "NHWCO"}
    long = draw.choice("HWCON")
    sizes[long] = draw.choice(SIZES)
    sizes |= {"R": draw.choice((1, 2, 3, 4, 5)), "S": draw.choice((1, 2, 3, 4, 5))}
    stride, padding = draw.choice((1, 2, 3)), draw.choice(PADDINGS)
    for letter in "NCOHWRS":  # cut short axes until scalar Python can follow
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


# --------------------------------------------------------------------------------------- energies


def conv_fields(draw: Draw) -> dict[str, Any]:
    """Fields of a ConvSpec; where VALID leaves no map to convolve, the padding is SAME."""
    max_groups, channels = draw_channels(draw, draw.choice((1, 2, 3)))
    shape = (draw.choice((4, 1, 7, 8, 13)), draw.choice((4, 3, 5, 8)), draw.choice((1, 2, 3)))
    fields = {
        "shape": shape,
        "channels": channels,
        "strides": tuple(draw.choice((1, 2, 1, 3)) for _ in channels),
        "kernel": draw.choice((3, 1, 2, 5)),
        "padding": draw.choice(PADDINGS),
        "activation": draw.choice(ACTIVATIONS),
        "residual": draw.flag(),
        "pool": draw.choice(POOLS),
        "max_groups": max_groups,
    }
    try:
        ConvSpec(**fields)
    except RangeError:
        fields["padding"] = "SAME"
    return fields


def draw_channels(draw: Draw, count: int) -> tuple[int, tuple[int, ...]]:
    """(max_groups, so many channel counts that its groups divide)."""
    max_groups = draw.choice((32, 1, 2, 4))
    channels = [draw.choice((4, 1, 2, 3, 6, 8, 17)) for _ in range(count)]
    return max_groups, tuple(size if size <= max_groups else size - size % max_groups for size in channels)


def deep_conv_fields(draw: Draw) -> dict[str, Any]:
    """Fields of a DeepConvSpec: skips that are the input, and skips that convolve for stride or channels.

    At most 3 blocks, 7 norms: where all maps are flat each magnifies by eps^-1/2 = 316, and float32 has to hold it.
    """
    blocks = draw.choice(((1,), (2,), (1, 1), (1, 2), (2, 1), (1, 1, 1)))
    max_groups, channels = draw_channels(draw, len(blocks))
    return {
        "shape": (draw.choice((4, 1, 5, 7)), draw.choice((4, 3, 6)), draw.choice((1, 2, 3))),
        "channels": channels,
        "blocks": blocks,
        "stem_stride": draw.choice((1, 2, 3)),
        "activation": draw.choice(ACTIVATIONS),
        "pool": draw.choice(POOLS),
        "max_groups": max_groups,
    }


def mlp_fields(draw: Draw) -> dict[str, Any]:
    """Fields of an MLPSpec."""
    return {
        "shape": draw.sample_shape(),
        "hidden": tuple(draw.choice(SIZES) for _ in range(draw.choice((1, 2, 3)))),
        "activation": draw.choice(ACTIVATIONS),
        "layer_norm": draw.flag(),
    }


SPECS = {"conv_energy": ConvSpec, "mlp_energy": MLPSpec, "deep_conv_energy": DeepConvSpec}


def draw_theta(draw: Draw, kind: str, fields: dict[str, Any]) -> dict[str, Array]:
    """Weights of the size that an initialisation gives; gains around 1, biases around 0, or exactly so."""
    spec = SPECS[kind](**fields)
    spread, layout = draw.choice((0.3, 0.0)), draw.choice(LAYOUTS)
    theta = {}
    for name, shape in spec.theta_shapes().items():
        normal = draw.rng.standard_normal(shape)
        if name.endswith(".w"):
            normal *= np.prod(shape[:-1]) ** -0.5
        else:
            normal = normal * spread + name.endswith(".gamma")
        theta[name] = lay(normal.astype(draw.dtype), layout)
    return theta


# N beyond 8, the samples of one partial sum of a gradient; as few as that for images, whose cost grows with them.
BATCHES = {"conv_energy": (1, 2, 3, 5, 9), "mlp_energy": (1, 2, 3, 5, 17, 67), "deep_conv_energy": (1, 2, 3, 9)}


def energy_case(draw: Draw, kind: str, fields: dict[str, Any]) -> Case:
    shape = (draw.choice(BATCHES[kind]), *fields["shape"])
    draw.seed()
    args: dict[str, Any] = {"theta": draw_theta(draw, kind, fields)}
    args["x"] = draw.array(
        "x", shape, ("normal", "ties", "normal", "zeros", "normal", "tiny"), draw.choice((1.0, 0.1, 10.0))
    )
    args["v"] = draw.array("v", shape, ("normal", "zeros", "ties"))
    args["w"] = draw.array("w", shape[:1], ("normal", "zeros", "ties"))
    return draw.case(kind, args, **fields)


def conv_energy(draw: Draw) -> Case:
    return energy_case(draw, "conv_energy", conv_fields(draw))


def mlp_energy(draw: Draw) -> Case:
    return energy_case(draw, "mlp_energy", mlp_fields(draw))


def deep_conv_energy(draw: Draw) -> Case:
    return energy_case(draw, "deep_conv_energy", deep_conv_fields(draw))


# -------------------------------------------------------------------------------------- the table

PROBLEMS: dict[str, Callable[[Draw], Case]] = {
    problem.__name__: problem
    for problem in (
        noise_bits,
        noise_uniform,
        noise_normal,
        langevin_step,
        langevin_jitter,
        langevin_run,
        buffer_draw,
        buffer_push,
        conv2d_forward,
        conv2d_backward,
        group_norm_forward,
        group_norm_backward,
        conv_energy,
        mlp_energy,
        deep_conv_energy,
    )
}


def strategy(function: str, dtype: Any = np.float64) -> Any:
    """The Hypothesis strategy of a function's cases."""
    st = require("hypothesis.strategies", "verify")

    @st.composite
    def cases(draw: Callable[[Any], Any]) -> Case:
        return PROBLEMS[function](Draw(draw, st, dtype))

    return cases()
