"""The PTX of every kernel, compiled without a card: what the compiler made of a body, to be read and held to rules.

builds()       every build that the public functions launch: body, real type, jet order, types of the arguments
ptx(build)     its PTX for a compute capability
misuse(build)  what of it no kernel should hold: double precision in a float32 build, a local stack, an atomic
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from numba import cuda, types

from ebm_ref.descent_specs import AdamDescent, NesterovDescent
from ebm_ref.specs import SGLD

from .buffer import buffer_draw, buffer_push
from .build import BODIES, Machine, compiled
from .card import grid_stride
from .conv2d import conv2d_backward, conv2d_forward
from .conv_energy import ConvEnergy
from .conv_field import ConvField
from .coupling import coupling_cost
from .descent import descent_run
from .device import Typed, on
from .field_energy import FieldEnergy
from .group_norm import group_norm_backward, group_norm_forward
from .langevin import langevin_jitter, langevin_run, langevin_step
from .maths import on_a_card
from .mlp_energy import MLPEnergy
from .noise import noise_bits, noise_index, noise_normal, noise_philox, noise_uniform
from .repulsion import repulsion

DOUBLE = {"draw_choose"}  # compares u < rho in float64, as every backend does


@dataclass(frozen=True)
class Build:
    """One kernel: `body` compiled for `dtype` and jets of `order`, launched with arguments of these types."""

    body: str
    dtype: str
    order: int
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.body}-{self.dtype}-{self.order}"


class Listing(Typed):
    """Writes down what is launched, and launches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.builds: dict[Build, None] = {}

    def launch(self, body: Any, dtype: np.dtype, order: int, n: int, args: Sequence[Any]) -> None:
        self.builds[Build(body.__name__, dtype.name, order, tuple(map(numba.typeof, args)))] = None


@cache
def builds() -> tuple[Build, ...]:
    """Every build, in the order of the first launch."""
    listing = Listing()
    with on(listing):
        for dtype in (np.float32, np.float64):
            every_function(dtype)
    return tuple(listing.builds)


def every_function(dtype: Any) -> None:
    """One call of each public function and each of its ways."""
    chains, bits, x = np.arange(2), np.zeros(2, np.uint32), np.zeros((2, 4, 4, 2), dtype)
    noise_philox(np.zeros((1, 4), np.uint32), bits)
    noise_bits(0, 0, 0, chains, 5)
    noise_index(bits, 3)
    for draw in (noise_uniform, noise_normal):
        draw(0, 0, 0, chains, 5, dtype)
    langevin_step(x, x, x, 0.1, 0.1)
    langevin_jitter(x, x, 0.1)
    buffer_draw(x, 2, bits, np.zeros(2), x, 0.5)
    for policy, given in (("in_place", {"idx": chains}), ("fifo", {}), ("reservoir", {"bits": bits})):
        buffer_push(x, 2, 2, x, policy, **given)
    w, channel = np.zeros((3, 3, 2, 2), dtype), np.zeros(2, dtype)
    conv2d_forward(x, w, channel)
    conv2d_backward(x, w, x)
    group_norm_forward(x, channel, channel, 1)
    group_norm_backward(x, channel, x, 1)
    coupling_cost(x, x)
    repulsion(x, 0.1, 1.0)
    image = ConvEnergy((4, 4, 2), channels=(2, 4), strides=(1, 1), residual=True)
    field = ConvField((4, 4, 2), channels=(2, 4))
    for energy in (image, MLPEnergy((4, 4, 2), hidden=(3,), layer_norm=True), FieldEnergy(field)):
        theta = {name: np.zeros(shape, dtype) for name, shape in energy.theta_shapes().items()}
        energy.grad_theta(theta, x, channel)
        energy.grad_theta_along(theta, x, x)
        energy.hvp(theta, x, x)
        langevin_run(energy, theta, x, 1, SGLD(0.1, 0.1, order="noise_first"), 0)
    field.field_jvp(theta, x, x)
    field.field_vjp(theta, x, x)
    field.field_grad_theta(theta, x, x)
    field.field_grad_theta_along(theta, x, x, x, x)
    for rule in (NesterovDescent(0.1), AdamDescent(0.1)):
        descent_run(field, theta, x, 1, rule)


# ------------------------------------------------------------------------------------- compilation


@cache
def machine(capability: tuple[int, int]) -> Machine:
    """The card's compiler, with device functions of its own for each capability."""
    return Machine(cuda.jit(device=True), lambda dtype: on_a_card(cuda.libdevice, dtype))


@contextmanager
def pretended_card(capability: tuple[int, int]) -> Iterator[None]:
    """Inside a kernel, Numba asks the current device for its capability when it meets a device function."""
    dispatcher = import_module("numba.cuda.dispatcher")
    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before


@cache
def ptx(build: Build, capability: tuple[int, int] = (9, 0)) -> str:
    """The PTX of one build."""
    dtype = np.dtype(build.dtype)
    signature = types.void(types.int64, types.Tuple(build.args))
    with pretended_card(capability):
        kernel = grid_stride(compiled(BODIES[build.body], machine(capability), dtype, build.order))
        text, _ = cuda.compile(kernel, signature, cc=capability, output="ptx", device=False, abi="numba")
    return text


def misuse(build: Build) -> list[str]:
    """Lines of the PTX that no kernel should hold; empty where all is well."""
    text, wrong = ptx(build), []
    if build.dtype == "float32" and build.body not in DOUBLE:
        wrong += re.findall(r"^.*\.f64.*$", text, re.M)
    wrong += re.findall(r"^.*(?:__local_depot|\.local\b|\batom\.|\bred\.).*$", text, re.M)
    return [line.strip() for line in wrong]
