"""The GPU backend in CUDA C++: kernels in .cu files, launched through CuPy.

A twin takes the oracle's parameters under the oracle's names; its arrays are arrays on a CUDA card, of CuPy or of any
library that speaks DLPack or `__cuda_array_interface__`. Not yet measured on a GPU: every kernel is proven on the
CPU by the verification kit's host build, and compiled for each supported architecture.
"""

from typing import Any

from ..checks import missing
from .buffer import buffer_draw, buffer_push
from .conv2d import conv2d_backward, conv2d_forward
from .conv_energy import ConvEnergy
from .conv_field import ConvField
from .coupling import coupling_cost
from .deep_conv_energy import DeepConvEnergy
from .descent_run import descent_run
from .field_energy import FieldEnergy
from .group_norm import group_norm_backward, group_norm_forward
from .langevin import langevin_jitter, langevin_step
from .langevin_run import langevin_run
from .mlp_energy import MLPEnergy
from .mlp_field import MLPField
from .noise import noise_bits, noise_index, noise_normal, noise_permutation, noise_philox, noise_uniform
from .repulsion import repulsion

__all__ = [
    "ConvEnergy",
    "ConvField",
    "DeepConvEnergy",
    "FieldEnergy",
    "MLPEnergy",
    "MLPField",
    "buffer_draw",
    "buffer_push",
    "conv2d_backward",
    "conv2d_forward",
    "coupling_cost",
    "descent_run",
    "group_norm_backward",
    "group_norm_forward",
    "langevin_jitter",
    "langevin_run",
    "langevin_step",
    "noise_bits",
    "noise_index",
    "noise_normal",
    "noise_permutation",
    "noise_philox",
    "noise_uniform",
    "repulsion",
]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"{__name__} has no {name}")
    raise missing(name, __name__)
