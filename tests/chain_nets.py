"""Networks on which the chain is tried, and the oracle's states from which its steps are judged."""

import numpy as np

import ebm_ref
from ebm_fast import cupy_raw
from ebm_fast.cupy_raw.device import PROCESSORS, on
from ebm_fast.verify.host_build import host_device

NETS = {
    "cnn28": ("ConvEnergy", {"shape": (28, 28, 1)}),
    "cnn32x3": ("ConvEnergy", {"shape": (32, 32, 3)}),
    "odd": ("ConvEnergy", {"shape": (9, 7, 5), "channels": (6, 12), "strides": (3, 2), "kernel": 4, "max_groups": 3}),
    "residual": (
        "ConvEnergy",
        {"shape": (7, 6, 8), "channels": (8, 8, 20), "strides": (1, 1, 2), "residual": True, "max_groups": 4}
        | {"activation": "gelu"},
    ),
    "valid": (
        "ConvEnergy",
        {"shape": (11, 10, 2), "channels": (9, 5), "strides": (2, 1), "kernel": 2, "padding": "VALID", "max_groups": 1}
        | {"activation": "leaky_relu", "pool": "sum"},
    ),
    "strides": (
        "ConvEnergy",
        {"shape": (10, 13, 3), "channels": (4, 36), "strides": (5, 1), "residual": True, "activation": "softplus"}
        | {"max_groups": 2},
    ),
    "mlp": ("MLPEnergy", {"shape": (2,), "hidden": (128, 128)}),
    "mlp_norm": (
        "MLPEnergy",
        {"shape": (3, 4), "hidden": (40, 6, 33), "layer_norm": True, "activation": "tanh"},
    ),
    "mlp_relu": ("MLPEnergy", {"shape": (5,), "hidden": (3, 10), "activation": "relu"}),
}


def net(name, room=cupy_raw):
    """The energy `name` of NETS, of a backend."""
    kind, fields = NETS[name]
    return getattr(room, kind)(**fields)


def theta_of(energy, dtype=np.float64):
    """Start values with noise on every parameter, so that no bias is zero and no gamma is one."""
    rng = np.random.default_rng(3)
    theta = ebm_ref.theta_init(energy, 1, np.float64)
    return {name: (w + 0.1 * rng.standard_normal(w.shape)).astype(dtype) for name, w in theta.items()}


def start_of(energy, N, dtype=np.float64):
    return np.random.default_rng(4).standard_normal((N, *energy.shape)).astype(dtype)


def cast(theta, dtype):
    return {name: w.astype(dtype) for name, w in theta.items()}


def run(*args, build="fast", order="rotate", processors=PROCESSORS, **options):
    """cupy_raw.langevin_run on the host device."""
    with on(host_device(build, order, processors=processors)):
        return cupy_raw.langevin_run(*args, **options)


def worst(got, wanted):
    """The largest error, relative to the largest number."""
    return float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted)))
