"""What the warps of each kernel ask of memory, on calls of ordinary sizes run by the host build.

    measure()                      {kernel: {"sectors", "sectors_ideal", "passes", "passes_ideal"}}
    problems(measured, written)    what is over the section "access" of budgets.json

sectors: 32-byte sectors that a request of a warp to global memory moves; passes: times that a request to shared memory
goes over the banks; both as means over all requests, beside the fewest possible. Float builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ebm_fast import cupy_raw as cuda
from ebm_fast.cupy_raw import source
from ebm_fast.cupy_raw.device import current
from ebm_ref.descent_specs import AdamDescent, NesterovDescent
from ebm_ref.specs import SGLD

from .host_build import access_lint

Access = dict[str, dict[str, float]]
FIGURES = ("sectors", "passes")
SLACK = 1.1  # an array that NumPy allocated (a copy, a sorted one) may start anywhere: 6% was the most that it moved


def put(x: np.ndarray) -> Any:
    """`x` where the device would allocate it: sectors depend on the address."""
    return current().put(x)


def numbers(seed: int, *shape: int, scale: float = 1.0) -> Any:
    return put(scale * np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def noise() -> None:
    """All draws, at 64 chains of 196 numbers."""
    chains = np.arange(64)
    for draw in (cuda.noise_bits, cuda.noise_uniform, cuda.noise_normal):
        draw(1, 2, 3, chains, 196, *(() if draw is cuda.noise_bits else (np.float32,)))
    cuda.noise_philox(put(np.zeros((256, 4), np.uint32)), put(np.zeros(2, np.uint32)))
    cuda.noise_index(put(np.arange(256, dtype=np.uint32)), 100)
    cuda.noise_permutation(1, 2, 3, 256)


def steps_and_buffer() -> None:
    """A step on 32 samples of 196 numbers, and their draw from and push into a buffer."""
    x, g, xi = (numbers(seed, 32, 196) for seed in range(3))
    cuda.langevin_step(x, g, xi, 0.1, 0.1, 1.0, 1.0, (-1.0, 1.0))
    cuda.langevin_jitter(x, xi, 0.1)
    slots, words = numbers(3, 64, 196), put(np.arange(32, dtype=np.uint32) << 26)
    _, idx, _ = cuda.buffer_draw(slots, 64, words, put(np.linspace(0, 1, 32)), x, 0.5)
    for policy, where in (("in_place", {"idx": idx}), ("fifo", {}), ("reservoir", {"bits": words})):
        cuda.buffer_push(slots, 64, 64, x, policy, **where)


def layers() -> None:
    """Convolutions and norms with few, some and many channels, forwards and back."""
    for H, C, O in ((14, 1, 32), (8, 32, 64), (7, 3, 16), (8, 16, 3), (8, 32, 32), (6, 64, 1)):
        x, w = numbers(4, 4, H, H, C), numbers(5, 3, 3, C, O)
        y = cuda.conv2d_forward(x, w, numbers(6, O), 2)
        cuda.conv2d_backward(x, w, y, 2)
    for C, O in ((4, 256), (256, 4)):  # enough tiles for a large card, forwards or back: the wide ones
        x, w = numbers(4, 4, 33, 33, C), numbers(5, 1, 1, C, O)
        cuda.conv2d_backward(x, w, cuda.conv2d_forward(x, w, numbers(6, O)))
    for H, C, G in ((14, 32, 8), (1, 256, 1)):
        x, gamma = numbers(7, 4, H, H, C), put(np.ones(C, np.float32))
        y = cuda.group_norm_forward(x, gamma, gamma, G)
        cuda.group_norm_backward(x, gamma, y, G)


def energies() -> None:
    """Each network's gradients in x, theta and along v, and a chain by either path."""
    for energy in (
        cuda.ConvEnergy(shape=(14, 14, 1), channels=(16, 32), strides=(2, 2)),
        cuda.ConvEnergy(shape=(8, 8, 3), channels=(16, 32), strides=(2, 2), residual=True),
        cuda.MLPEnergy(shape=(2,), hidden=(64, 64)),
    ):
        shapes = energy.theta_shapes()
        theta = {name: numbers(8 + i, *shape, scale=0.1) for i, (name, shape) in enumerate(shapes.items())}
        x, v = numbers(40, 4, *energy.shape), numbers(41, 4, *energy.shape)
        energy.energy_and_grad_x(theta, x)
        energy.grad_theta(theta, x, put(np.ones(4, np.float32)))
        energy.hvp(theta, x, v)
        energy.grad_theta_along(theta, x, v)
        for path, order in (("layers", "noise_first"), ("layers", "gradient_first"), ("chain", "gradient_first")):
            cuda.langevin_run(energy, theta, x, 2, SGLD(0.1, 0.1, order=order), 0, path=path)


def couplings() -> None:
    """Costs of few samples, and of as many as fill a large card; groups of copies that repel each other."""
    for B in (24, 768):
        cuda.coupling_cost(numbers(42, B, 20), numbers(43, B, 20))
    cuda.repulsion(numbers(44, 16, 6, 49), 0.1, 1.0)


def fields() -> None:
    """Each field's products and gradients, an energy on one, and descents by a velocity and by Adam."""
    for field in (cuda.MLPField(shape=(2,), hidden=(64,)), cuda.ConvField(shape=(8, 8, 3), channels=(16, 32))):
        shapes = field.theta_shapes()
        theta = {name: numbers(45 + i, *shape, scale=0.1) for i, (name, shape) in enumerate(shapes.items())}
        x, v, g, h = (numbers(70 + i, 4, *field.shape) for i in range(4))
        field.field(theta, x)
        field.field_jvp(theta, x, v)
        field.field_vjp(theta, x, g)
        field.field_grad_theta(theta, x, g)
        field.field_grad_theta_along(theta, x, g, h, v)
        energy = cuda.FieldEnergy(field, "dot")
        energy.energy_and_grad_x(theta, x)
        energy.hvp(theta, x, v)
        cuda.descent_run(field, theta, x, 2, NesterovDescent(0.1), 0.5)
        cuda.descent_run(energy, theta, x, 2, AdamDescent(0.1), 0.5)


CALLS: tuple[Callable[[], None], ...] = (noise, steps_and_buffer, layers, energies, couplings, fields)


def measure() -> Access:
    """The figures of every kernel that CALLS launch, by name, with two decimals."""

    def calls() -> None:
        for call in CALLS:
            call()

    found = access_lint(calls)
    return {
        name: {
            "sectors": round(figures["global"]["sectors"], 2),
            "sectors_ideal": round(figures["global"]["ideal"], 2),
            "passes": round(figures["shared"]["passes"], 2),
            "passes_ideal": round(figures["shared"]["ideal"], 2),
        }
        for name, figures in sorted(found.items())
    }


def problems(measured: Access, written: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Kernels that no call launches, that only one side has, or that ask for more than is written."""
    names = {name for file in source.ORDERS for name in source.kernel_names(file)}
    found = [f"access: no call launches {name}" for name in sorted(names - measured.keys())]
    found += [f"access: {name} is not in budgets.json" for name in sorted(measured.keys() - written.keys())]
    found += [
        f"access: {name} is in budgets.json, but not launched" for name in sorted(written.keys() - measured.keys())
    ]
    for name in sorted(measured.keys() & written.keys()):
        for figure in FIGURES:
            have, budget = measured[name][figure], written[name][figure]
            if have > SLACK * budget:
                found.append(f"access: {name} takes {have} {figure} a request, budget {budget}")
    return found


def table(measured: Access) -> str:
    """A line per kernel: sectors and passes a request, beside the fewest possible."""
    width = max((len(name) for name in measured), default=0)
    lines = [f"{'':{width}}  sectors a request (fewest)  passes a request (fewest)"]
    for name, f in measured.items():
        sectors, passes = (
            f"{f['sectors']:.2f} ({f['sectors_ideal']:.2f})",
            f"{f['passes']:.2f} ({f['passes_ideal']:.2f})",
        )
        lines.append(f"{name:{width}}  {sectors:>26}  {passes:>25}")
    return "\n".join(lines)
