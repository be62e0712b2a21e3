"""Every public function of a GPU backend, called so that every kernel is launched.

    calls(module, put, large)   label -> call; each returns arrays of the device
    Recorder(device)            a device that notes which kernels were launched on it

Small calls have odd sizes, for the sanitizers; large ones fill a card, for the profiler and for repeating.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import ebm_ref
from ebm_ref.contracts import Array, EbmError, Stream
from ebm_ref.descent_specs import AdamDescent, NesterovDescent
from ebm_ref.specs import SGLD, ULA

from .nets import SEED

DRAWN = 1024
Call = Callable[[], Any]
Put = Callable[[Array], Any]
SMALL_ENERGIES = {
    "ConvEnergy": {"shape": (9, 8, 3), "channels": (4, 6), "strides": (2, 1), "max_groups": 2, "residual": True},
    "ConvEnergy seed": {"shape": (12, 12, 1)},
    "MLPEnergy": {"shape": (2,), "hidden": (16, 24)},
    "MLPEnergy norm": {"shape": (3,), "hidden": (8, 12), "layer_norm": True, "activation": "gelu"},
    "DeepConvEnergy": {"shape": (9, 8, 3), "channels": (4, 6), "blocks": (1, 1), "max_groups": 2, "pool": "sum"},
}
LARGE_ENERGIES = {
    "ConvEnergy": {"shape": (28, 28, 1)},
    "MLPEnergy": {"shape": (2,)},
    "DeepConvEnergy": {"shape": (32, 32, 3)},
}

SMALL_FIELDS = {
    "MLPField": {"shape": (2,), "hidden": (16, 24)},
    "ConvField": {"shape": (4, 8, 3), "channels": (4, 6), "max_groups": 2},
}
LARGE_FIELDS = {"MLPField": {"shape": (2,)}, "ConvField": {"shape": (28, 28, 1)}}


def draw(shape: tuple[int, ...], stream: Stream = Stream.DATA_NOISE) -> Array:
    """Normals by address, float32."""
    size = int(np.prod(shape[1:]))
    return ebm_ref.noise_normal(SEED, stream, 0, np.arange(shape[0]), size, np.float32).reshape(shape)


def calls(module: Any, put: Put, large: bool = False) -> dict[str, Call]:
    """What `module` exports among the functions of this file, by a label that begins with the function's name."""
    made = noise_calls(module, put, large) | langevin_calls(module, put, large) | buffer_calls(module, put, large)
    made |= layer_calls(module, put, large) | flow_calls(module, put, large)
    for label, fields in (LARGE_ENERGIES if large else SMALL_ENERGIES).items():
        kind = label.partition(" ")[0]
        if hasattr(module, kind):
            made |= energy_calls(getattr(module, kind)(**fields), label, module, put, large)
    for label, fields in (LARGE_FIELDS if large else SMALL_FIELDS).items():
        if hasattr(module, label):
            made |= field_calls(getattr(module, label)(**fields), label, module, put, large)
    return {label: call for label, call in made.items() if hasattr(module, label.partition(" ")[0])}


def noise_calls(module: Any, put: Put, large: bool) -> dict[str, Call]:
    n, d = (1024, 784) if large else (5, 7)
    chains, bits = np.arange(n), ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), d)
    address = (SEED, Stream.CHAIN_NOISE, 3, chains, d)
    return {
        "noise_bits": lambda: module.noise_bits(*address),
        "noise_uniform": lambda: module.noise_uniform(*address, np.float32),
        "noise_normal": lambda: module.noise_normal(*address, np.float32),
        "noise_philox": lambda: module.noise_philox(put(bits[:, :4].copy()), put(bits[0, :2].copy())),
        "noise_index": lambda: module.noise_index(put(bits), 1000),
        "noise_permutation": lambda: module.noise_permutation(SEED, Stream.CHAIN_NOISE, 3, n),
    }


def langevin_calls(module: Any, put: Put, large: bool) -> dict[str, Call]:
    shape = (1024, 784) if large else (5, 7)
    streams = (Stream.DATA_NOISE, Stream.PROJECTION, Stream.CHAIN_NOISE)
    x, g, xi = (put(draw(shape, stream)) for stream in streams)
    return {
        "langevin_step": lambda: module.langevin_step(x, g, xi, 0.1, 0.03, clip=0.5, box=(-1.0, 1.0)),
        "langevin_step norm": lambda: module.langevin_step(x, g, xi, 0.1, 0.03, clip_norm=0.5),
        "langevin_jitter": lambda: module.langevin_jitter(x, xi, 0.03, (-1.0, 1.0)),
    }


def buffer_calls(module: Any, put: Put, large: bool) -> dict[str, Call]:
    m, n, d = (8192, 1024, 784) if large else (11, 5, 7)
    x, fresh = put(draw((n, d))), put(draw((n, d), Stream.BUFFER_FRESH))
    bits = ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0]
    u = put(ebm_ref.noise_uniform(SEED, Stream.BUFFER_MASK, 0, np.arange(n), 1)[:, 0])
    idx = put(ebm_ref.noise_index(bits, m))
    slots = draw((m, d))

    def push(policy: str, **places: Any) -> Call:
        def call() -> Any:
            held = put(slots)
            return held, module.buffer_push(held, m, m, x, policy, **places)

        return call

    return {
        "buffer_draw": lambda: module.buffer_draw(put(slots), m, put(bits), u, fresh, 0.3),
        "buffer_push in_place": push("in_place", idx=idx),
        "buffer_push fifo": push("fifo"),
        "buffer_push reservoir": push("reservoir", bits=put(bits)),
    }


def layer_calls(module: Any, put: Put, large: bool) -> dict[str, Call]:
    n, hw, c, o, groups = (256, 14, 32, 64, 32) if large else (3, 7, 5, 6, 5)
    x, w, b = put(draw((n, hw, hw, c))), put(draw((3, 3, c, o))), put(draw((o, 1))[:, 0].copy())
    out = -(-hw // 2)
    dy, gamma, dx = put(draw((n, out, out, o))), put(draw((c, 1))[:, 0].copy()), put(draw((n, hw, hw, c)))
    few, many = 4, 256  # channels: enough tiles of outputs, or of inputs, for the widest tile of a large card
    thin, thick = put(draw((4, 33, 33, few))), put(draw((4, 33, 33, many)))
    up, down, zero = put(draw((1, 1, few, many))), put(draw((1, 1, many, few))), put(np.zeros(many, np.float32))
    return {
        "conv2d_forward": lambda: module.conv2d_forward(x, w, b, stride=2),
        "conv2d_backward": lambda: module.conv2d_backward(x, w, dy, stride=2),
        "conv2d_forward wide": lambda: module.conv2d_forward(thin, up, zero),
        "conv2d_backward wide": lambda: module.conv2d_backward(thick, down, thin),
        "group_norm_forward": lambda: module.group_norm_forward(x, gamma, gamma, groups),
        "group_norm_backward": lambda: module.group_norm_backward(x, gamma, dx, groups),
    }


def flow_calls(module: Any, put: Put, large: bool) -> dict[str, Call]:
    """Costs of a coupling, and repulsion."""
    n, d, many = (256, 784, 1024) if large else (5, 7, 768)  # many: enough tiles for the widest one of a large card
    x0, x1, groups = put(draw((n, d))), put(draw((n, d), Stream.FLOW_NOISE)), put(draw((n, 3, d)))
    wide = put(draw((many, 2)))
    return {
        "coupling_cost": lambda: module.coupling_cost(x0, x1),
        "coupling_cost wide": lambda: module.coupling_cost(wide, wide),
        "repulsion": lambda: module.repulsion(groups, 0.1, 1.0),
    }


def energy_calls(energy: Any, label: str, module: Any, put: Put, large: bool) -> dict[str, Call]:
    """Levels 1 and 2 of one energy, and its chains by every update; a path of the chain where the backend has paths."""
    n = 128 if large else 3
    theta = {name: put(value) for name, value in ebm_ref.theta_init(energy, SEED, np.float32).items()}
    x, v = put(0.5 * draw((n, *energy.shape))), put(draw((n, *energy.shape), Stream.PROJECTION))
    weights = put(draw((n, 1))[:, 0].copy())
    steps = 4
    made: dict[str, Call] = {
        f"{label} energy": lambda: energy.energy(theta, x),
        f"{label} grad_x": lambda: energy.energy_and_grad_x(theta, x),
        f"{label} grad_theta": lambda: energy.grad_theta(theta, x, weights),
        f"{label} grad_theta_along": lambda: energy.grad_theta_along(theta, x, v),
        f"{label} hvp": lambda: energy.hvp(theta, x, v),
    }
    for name, update in {
        "sgld": SGLD(0.1, 0.03, clip=0.5, box=(-1.0, 1.0)),
        "noise first": SGLD(0.1, 0.03, clip_norm=0.5, order="noise_first"),
        "ula": ULA(0.01),
    }.items():
        for path in paths(module, label):
            made[f"langevin_run {label} {name} {' '.join(path.values())}".rstrip()] = (
                lambda update=update, path=path: module.langevin_run(energy, theta, x, steps, update, SEED, **path)
            )  # fmt: skip
    return made


def field_calls(field: Any, label: str, module: Any, put: Put, large: bool) -> dict[str, Call]:
    """The products and gradients of one field, the energy x . f on it, and descents on both."""
    n = 128 if large else 3
    theta = {name: put(value) for name, value in ebm_ref.theta_init(field, SEED, np.float32).items()}
    streams = (Stream.DATA_NOISE, Stream.PROJECTION, Stream.FLOW_NOISE, Stream.CHAIN_NOISE)
    x, v, g, h = (put(draw((n, *field.shape), stream)) for stream in streams)
    made: dict[str, Call] = {
        f"{label} field": lambda: field.field(theta, x),
        f"{label} jvp": lambda: field.field_jvp(theta, x, v),
        f"{label} vjp": lambda: field.field_vjp(theta, x, g),
        f"{label} grad_theta": lambda: field.field_grad_theta(theta, x, g),
        f"{label} grad_theta_along": lambda: field.field_grad_theta_along(theta, x, g, h, v),
        f"descent_run {label}": lambda: module.descent_run(field, theta, x, 4, NesterovDescent(0.1), 0.5),
    }
    if hasattr(module, "FieldEnergy"):
        energy = module.FieldEnergy(field, "dot")
        made[f"FieldEnergy {label} grad_x"] = lambda: energy.energy_and_grad_x(theta, x)
        made[f"FieldEnergy {label} hvp"] = lambda: energy.hvp(theta, x, v)
        made[f"descent_run FieldEnergy {label}"] = (
            lambda: module.descent_run(energy, theta, x, 4, AdamDescent(0.1), 0.5)
        )  # fmt: skip
    return made


def paths(module: Any, label: str) -> list[dict[str, str]]:
    """The ways in which this backend runs a chain: cupy_raw (and its host build) has two, but one for the deep net."""
    if module.__name__.endswith("numba_cuda"):
        return [{}]
    return [{"path": "layers"}] if label.startswith("DeepConvEnergy") else [{"path": "chain"}, {"path": "layers"}]


def draw_many(shape: tuple[int, ...], stream: Stream = Stream.DATA_NOISE) -> Array:
    """`draw`, its first DRAWN samples over and over: enough for a timing, and seconds sooner."""
    return np.resize(drawn(min(shape[0], DRAWN), shape[1:], stream), shape)


@cache
def drawn(n: int, shape: tuple[int, ...], stream: Stream) -> Array:
    return draw((n, *shape), stream)


def refused(label: str, error: BaseException) -> bool:
    """Whether a call is no failure but a net that the persistent chain does not take, and says so."""
    return isinstance(error, EbmError) and label.startswith("langevin_run") and label.endswith(" chain")


def arrays_of(value: Any) -> list[Any]:
    """The arrays in what a call returned, in a fixed order: tuples, dicts and info records are walked."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in arrays_of(item)]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return [value]
    return arrays_of(vars(value)) if hasattr(value, "__dict__") else []


class Recorder:
    """The device that it is given, which also notes every launch; `around` may wrap the first launch of a kernel."""

    def __init__(self, device: Any, around: Callable[[Call], None] | None = None) -> None:
        self._device, self._around = device, around
        self.launched: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(self, kernel: Any, *how: Any) -> None:
        def call() -> None:
            self._device.launch(kernel, *how)

        name = kernel_label(kernel)
        first = name not in self.launched
        self.launched.add(name)
        if first and self._around is not None:
            self._around(call)
        else:
            call()


def kernel_label(kernel: Any) -> str:
    """`conv2d_forward_wide (conv2d.cu)` of cupy_raw; of numba_cuda the name of the body."""
    return f"{kernel.name} ({kernel.file})" if hasattr(kernel, "file") else str(kernel.__name__)
