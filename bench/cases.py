"""What is timed: one case per public function and size, the same arguments for every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, Stream
from ebm_ref.descent_specs import GradientDescent
from ebm_ref.specs import SGLD

Call = Callable[[], Any]
SEED = 7
ROUNDING = 1e-7  # of the float32 inputs: what only moves numbers adds nothing


@dataclass(frozen=True)
class Case:
    """`make(backend, dtype)` returns the call to time; `budget` bounds its error relative to the float64 oracle."""

    bench: str
    case: str
    make: Callable[[ModuleType, Any], Call]
    budget: float


def normal(shape: tuple[int, ...], dtype: Any, stream: Stream = Stream.DATA_NOISE) -> Array:
    """The same normals for every backend and dtype: drawn by the oracle in float64, then rounded."""
    size = int(np.prod(shape[1:]))
    return ebm_ref.noise_normal(SEED, stream, 0, np.arange(shape[0]), size).reshape(shape).astype(dtype)


def noise_case(n: int, d: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        return lambda: backend.noise_normal(SEED, Stream.CHAIN_NOISE, 3, np.arange(n), d, dtype)

    return Case("noise_normal", f"N{n}-D{d}", make, 1e-5)


def step_case(n: int, d: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        x, g, xi = (normal((n, d), dtype, s) for s in (Stream.DATA_NOISE, Stream.PROJECTION, Stream.CHAIN_NOISE))
        return lambda: backend.langevin_step(x, g, xi, 0.1, 0.03, clip=0.5, box=(-1.0, 1.0))

    return Case("langevin_step", f"N{n}-D{d}", make, 1e-6)


def run_case(name: str, energy_name: str, fields: dict[str, Any], n: int, K: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        energy = getattr(backend, energy_name)(**fields)
        theta = ebm_ref.theta_init(energy, SEED, dtype)
        x0 = normal((n, *energy.shape), dtype)
        update = SGLD(eta=0.1, sigma=0.03, box=(-1.0, 1.0))
        return lambda: backend.langevin_run(energy, theta, x0, K, update, SEED)[0]

    return Case("langevin_run", f"{name}-N{n}-K{K}", make, 1e-4)


def grad_case(bench: str, energy_name: str, fields: dict[str, Any], n: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        energy = getattr(backend, energy_name)(**fields)
        theta = ebm_ref.theta_init(energy, SEED, dtype)
        x = normal((n, *energy.shape), dtype)
        return lambda: energy.grad_x(theta, x)

    size = "x".join(str(s) for s in fields["shape"])
    return Case(bench, f"grad_x-{size}-N{n}", make, 1e-4)


def buffer_draw_case(m: int, d: int, n: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        slots, fresh = normal((m, d), dtype), normal((n, d), dtype, Stream.BUFFER_FRESH)
        bits = ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0]
        u = ebm_ref.noise_uniform(SEED, Stream.BUFFER_MASK, 0, np.arange(n), 1)[:, 0]
        return lambda: backend.buffer_draw(slots, m, bits, u, fresh, 0.05)[0]

    return Case("buffer_draw", f"M{m}-D{d}-N{n}", make, ROUNDING)


def buffer_push_case(m: int, d: int, n: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        slots, x = normal((m, d), dtype), normal((n, d), dtype, Stream.BUFFER_FRESH)
        idx = ebm_ref.noise_index(ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0], m)

        def call() -> Array:
            backend.buffer_push(slots, m, 0, x, "in_place", idx=idx)
            return slots

        return call

    return Case("buffer_push", f"M{m}-D{d}-N{n}", make, ROUNDING)


def conv_cases(n: int, hw: int, c: int, o: int, stride: int) -> list[Case]:
    label = f"{hw}x{hw}x{c}-O{o}-s{stride}-N{n}"

    def forward(backend: ModuleType, dtype: Any) -> Call:
        x, w, b = normal((n, hw, hw, c), dtype), normal((3, 3, c, o), dtype), normal((o, 1), dtype)[:, 0]
        return lambda: backend.conv2d_forward(x, w, b, stride=stride)

    def backward(backend: ModuleType, dtype: Any) -> Call:
        x, w = normal((n, hw, hw, c), dtype), normal((3, 3, c, o), dtype)
        dy = normal(ebm_ref.conv2d_forward(x, w, w[0, 0, 0], stride=stride).shape, dtype)
        return lambda: backend.conv2d_backward(x, w, dy, stride=stride)

    return [Case("conv2d_forward", label, forward, 1e-5), Case("conv2d_backward", label, backward, 1e-5)]


def group_norm_cases(n: int, hw: int, c: int, groups: int) -> list[Case]:
    label = f"{hw}x{hw}x{c}-G{groups}-N{n}"

    def forward(backend: ModuleType, dtype: Any) -> Call:
        x, gamma = normal((n, hw, hw, c), dtype), normal((c, 1), dtype)[:, 0]
        return lambda: backend.group_norm_forward(x, gamma, gamma, groups)

    def backward(backend: ModuleType, dtype: Any) -> Call:
        x, gamma = normal((n, hw, hw, c), dtype), normal((c, 1), dtype)[:, 0]
        dy = normal(x.shape, dtype, Stream.PROJECTION)
        return lambda: backend.group_norm_backward(x, gamma, dy, groups)

    return [Case("group_norm_forward", label, forward, 1e-5), Case("group_norm_backward", label, backward, 1e-4)]


def field_case(bench: str, field_name: str, fields: dict[str, Any], n: int) -> Case:
    """J_f v, and f with it."""

    def make(backend: ModuleType, dtype: Any) -> Call:
        field = getattr(backend, field_name)(**fields)
        theta = ebm_ref.theta_init(field, SEED, dtype)
        x, v = normal((n, *field.shape), dtype), normal((n, *field.shape), dtype, Stream.PROJECTION)
        return lambda: field.field_jvp(theta, x, v)[1]

    size = "x".join(str(s) for s in fields["shape"])
    return Case(bench, f"jvp-{size}-N{n}", make, 1e-4)


def field_energy_case(n: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        energy = backend.FieldEnergy(backend.ConvField(**IMAGE_FIELD), "dot")
        theta = ebm_ref.theta_init(energy, SEED, dtype)
        x = normal((n, *energy.shape), dtype)
        return lambda: energy.grad_x(theta, x)

    return Case("field_energy", f"grad_x-8x8x1-N{n}", make, 1e-4)


def descent_case(n: int, K: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        field = backend.ConvField(**IMAGE_FIELD)
        theta = ebm_ref.theta_init(field, SEED, dtype)
        x0 = normal((n, *field.shape), dtype)
        return lambda: backend.descent_run(field, theta, x0, K, GradientDescent(0.02))[0]

    return Case("descent_run", f"8x8x1-N{n}-K{K}", make, 1e-4)


def coupling_case(n: int, d: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        x0, x1 = normal((n, d), dtype), normal((n, d), dtype, Stream.FLOW_NOISE)
        return lambda: backend.coupling_cost(x0, x1)

    return Case("coupling_cost", f"N{n}-D{d}", make, 1e-5)


def assign_case(n: int, d: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        x0, x1 = normal((n, d), dtype), normal((n, d), dtype, Stream.FLOW_NOISE)
        cost = ebm_ref.coupling_cost(x0, x1)
        return lambda: x1[backend.coupling_assign(cost)]

    return Case("coupling_assign", f"N{n}-D{d}", make, ROUNDING)


def repulsion_case(n: int, d: int) -> Case:
    def make(backend: ModuleType, dtype: Any) -> Call:
        x = normal((n // 8, 8, d), dtype)
        return lambda: backend.repulsion(x, 0.1, 1.0)

    return Case("repulsion", f"C8-D{d}-N{n // 8}", make, 1e-5)


IMAGE_FIELD = {"shape": (8, 8, 1), "channels": (32, 64)}
DIGITS = {"shape": (8, 8, 1), "strides": (1, 2, 2)}
MNIST = {"shape": (28, 28, 1)}
TOY = {"shape": (2,), "hidden": (128, 128)}

CASES = [
    noise_case(128, 784),
    step_case(128, 784),
    run_case("digits", "ConvEnergy", DIGITS, 128, 10),
    run_case("mnist", "ConvEnergy", MNIST, 128, 10),
    run_case("toy2d", "MLPEnergy", TOY, 1024, 10),
    grad_case("conv_energy", "ConvEnergy", DIGITS, 128),
    grad_case("mlp_energy", "MLPEnergy", TOY, 1024),
    buffer_draw_case(8192, 784, 128),
    buffer_push_case(8192, 784, 128),
    *conv_cases(64, 14, 32, 64, 2),
    *group_norm_cases(64, 14, 32, 32),
    field_case("mlp_field", "MLPField", TOY, 1024),
    field_case("conv_field", "ConvField", IMAGE_FIELD, 128),
    field_energy_case(128),
    descent_case(128, 10),
    coupling_case(256, 784),
    assign_case(128, 64),
    repulsion_case(128, 784),
]
