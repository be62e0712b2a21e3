"""The nets, the sizes and their arithmetic: what is timed, what it must cost, and the oracle's answer.

    Net        an energy by its spec, K and the N at which its chain is timed
    fixture    theta, x and the float64 oracle's E and grad_x E, computed once and kept

The counts are of multiply-adds in dense and convolutional layers, forward and backward in x (2 FLOP each, and the
backward in x does as many as the forward), so a floor leaves out normalisation, activations and noise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Params, Stream
from ebm_ref.layers.conv2d import conv2d_extent
from ebm_ref.specs import SGLD, ConvSpec, DeepConvSpec, MLPSpec

SEED = 7
CHECKED = 16  # chains of a fixture
GRAD_BUDGET = 1e-5  # gradient of any float32 implementation, ||g - g64|| / ||g64||
UPDATE = SGLD(eta=0.01, sigma=0.005, box=(-1.0, 1.0))


@dataclass(frozen=True)
class Net:
    """One energy: the class's name and its fields, and the (N, K) at which chains are timed."""

    name: str
    kind: str
    fields: tuple[tuple[str, Any], ...]
    sizes: tuple[tuple[int, int], ...]

    def energy(self, backend: Any) -> Any:
        return getattr(backend, self.kind)(**dict(self.fields))


NETS = (
    Net("CNN28", "ConvEnergy", (("shape", (28, 28, 1)),), ((128, 60), (1024, 60), (8192, 60))),
    Net("CNN32", "ConvEnergy", (("shape", (32, 32, 3)),), ((128, 60), (1024, 60), (8192, 60))),
    Net("MLP", "MLPEnergy", (("shape", (2,)),), ((4096, 60), (65536, 60))),
    Net("DEEP", "DeepConvEnergy", (("shape", (32, 32, 3)),), ((128, 60), (1024, 10))),
)


def nets(quick: bool) -> list[tuple[Net, int, int]]:
    """(net, N, K), the smaller N of every net first; one size a net where quick."""
    depth = 1 if quick else max(len(net.sizes) for net in NETS)
    return [(net, *net.sizes[i]) for i in range(depth) for net in NETS if i < len(net.sizes)]


@lru_cache(2)
def starts_of(net: Net, n: int) -> Array:
    """x0, (n, *shape) float32, uniform in (-1/2, 1/2), the inner half of the box, by address: N only adds chains."""
    spec = net.energy(ebm_ref)
    u = ebm_ref.noise_uniform(SEED, Stream.SAMPLE_START, 0, np.arange(n), prod(spec.shape), np.float32)
    return (u - np.float32(0.5)).reshape(n, *spec.shape)


def theta(net: Net) -> Params:
    """Random parameters, float32."""
    return ebm_ref.theta_init(net.energy(ebm_ref), SEED, np.float32)


def fixture(net: Net, folder: Path) -> dict[str, Array]:
    """x (CHECKED, *shape) float32, E and g of the float64 oracle at it; kept in `folder`."""
    path = folder / f"fixture_{net.name}.npz"
    if path.exists():
        with np.load(path) as kept:
            return dict(kept)
    spec, x = net.energy(ebm_ref), starts_of(net, CHECKED)
    exact = {name: value.astype(np.float64) for name, value in theta(net).items()}
    E, g = spec.energy_and_grad_x(exact, x.astype(np.float64))
    made = {"x": x, "E": E, "g": g}
    part = folder / f"fixture_{net.name}.{os.getpid()}.part.npz"
    np.savez(part, **made)
    part.replace(path)
    return made


def step_of(exact: dict[str, Array]) -> float:
    """A step that moves no element of the fixture by more than 0.4: inside the box, and far above rounding."""
    return 0.4 / float(np.abs(exact["g"]).max())


def relative_error(value: Array, exact: Array) -> float:
    """||value - exact|| / ||exact||, in float64; NaN where anything is not finite."""
    exact = np.asarray(exact, np.float64)
    return float(np.linalg.norm(np.asarray(value, np.float64) - exact) / np.linalg.norm(exact))


def forward_flops(spec: Any) -> int:
    """FLOP of E(x) for one sample, dense and convolutional layers only."""
    if isinstance(spec, MLPSpec):
        sizes = (prod(spec.shape), *spec.hidden, 1)
        return sum(2 * a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    if isinstance(spec, ConvSpec):
        shape, flops = spec.shape, head_flops(spec.channels[-1])
        for i, (a, b, stride) in enumerate(
            zip((spec.shape[2], *spec.channels), spec.channels, spec.strides, strict=False)
        ):
            flops += conv_flops(shape, [(spec.kernel, a, b, stride)], spec.padding)
            flops += conv_flops(shape, [(1, a, b, stride)], "SAME") if spec.has_skip_conv(i) else 0
            shape = out_shape(shape, spec.kernel, stride, spec.padding)
        return flops
    if isinstance(spec, DeepConvSpec):
        shape, flops = spec.shape, 0
        layers = [(3, spec.shape[2], spec.channels[0], spec.stem_stride)]
        flops += conv_flops(shape, layers, "SAME")
        shape = out_shape(shape, 3, spec.stem_stride, "SAME")
        for a, b, stride in spec.block_sizes():
            flops += conv_flops(shape, [(3, a, b, stride), (3, b, b, 1)], "SAME")
            flops += conv_flops(shape, [(1, a, b, stride)], "SAME") if a != b or stride != 1 else 0
            shape = out_shape(shape, 3, stride, "SAME")
        return flops + head_flops(spec.channels[-1])
    raise TypeError(f"spec: expected MLPSpec, ConvSpec or DeepConvSpec, found {type(spec).__name__}")


def conv_flops(shape: tuple[int, ...], layers: list[tuple[int, int, int, int]], padding: str) -> int:
    """FLOP of convolutions (kernel, C, O, stride) one after another."""
    flops = 0
    for kernel, a, b, stride in layers:
        shape = out_shape(shape, kernel, stride, padding)
        flops += 2 * prod(shape[:2]) * kernel * kernel * a * b
    return flops


def out_shape(shape: tuple[int, ...], kernel: int, stride: int, padding: str) -> tuple[int, ...]:
    return tuple(conv2d_extent(size, kernel, stride, padding)[0] for size in shape[:2])


def head_flops(size: int) -> int:
    return 2 * size * (size // 2) + 2 * (size // 2)


def chain_work(net: Net, n: int, k: int) -> tuple[int, int]:
    """(FLOP, bytes) of K steps on N chains: x read once and written once, theta read once."""
    spec = net.energy(ebm_ref)
    values = 2 * n * prod(spec.shape) + sum(prod(shape) for shape in spec.theta_shapes().values())
    return 2 * n * k * forward_flops(spec), 4 * values
