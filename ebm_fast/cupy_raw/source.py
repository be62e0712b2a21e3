"""The CUDA sources of this backend: which files, which builds of each, which kernels.

The files are package data, read through importlib.resources, so that they may lie in a zip. A build is a file with
a set of defines; only the builds named here can be launched, so what compiles every build compiles all that runs.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from ebm_ref.contracts import DTypeError, RangeError

REALS = {"float32": "float", "float64": "double"}
ORDERS = {  # the .cu files and the jet orders in which each is built
    "noise.cu": (0,),
    "langevin.cu": (0,),
    "chain.cu": (0,),
    "buffer.cu": (0,),
    "layers.cu": (0, 1),
    "conv2d.cu": (0, 1),
    "conv2d_dw.cu": (0, 1),
    "group_norm.cu": (0, 1),
    "tree.cu": (0,),
    "coupling.cu": (0,),
    "repulsion.cu": (0,),
    "field.cu": (0, 1),
    "descent.cu": (0,),
}


@dataclass(frozen=True)
class Kernel:
    """One kernel of one build: `name` in `file`, compiled with `defines` (sorted pairs)."""

    file: str
    name: str
    defines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.file}, {' '.join(f'{key}={value}' for key, value in self.defines)})"


def kernel(file: str, name: str, dtype: Any, order: int = 0) -> Kernel:
    """The kernel `name` of `file` for arrays of `dtype` and jets of `order`.

    Raises RangeError where there is no such build or kernel, DTypeError where dtype is neither float32 nor float64.
    """
    return _kernel(file, name, np.dtype(dtype).name, order)


@cache
def _kernel(file: str, name: str, dtype: str, order: int) -> Kernel:
    if dtype not in REALS:
        raise DTypeError(f"dtype: expected float32 or float64, found {dtype}")
    if order not in ORDERS.get(file, ()) or name not in kernel_names(file):
        raise RangeError(f"kernel: {file} is not built with a kernel {name} of order {order}")
    return Kernel(file, name, build_defines(dtype, order))


def build_defines(dtype: str, order: int) -> tuple[tuple[str, str], ...]:
    """The defines of one build."""
    return (("EBM_ORDER", str(order)), ("EBM_REAL", REALS[dtype]))


def builds() -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every (file, defines) that can be launched."""
    return [(file, build_defines(dtype, order)) for file in ORDERS for dtype in REALS for order in ORDERS[file]]


def kernel_names(file: str) -> tuple[str, ...]:
    """The kernels that `file` exports, in its order."""
    return tuple(re.findall(r"^EBM_EXPORT\((\w+)\)", sources()[file], re.M))


@cache
def sources() -> dict[str, str]:
    """Every .cu and .cuh by its file name."""
    here = files(__package__)
    return {item.name: item.read_text("utf-8") for item in here.iterdir() if item.name.endswith((".cu", ".cuh"))}


@cache
def sources_digest() -> str:
    """SHA-256 over the names and contents of all sources: the name of whatever was compiled from them."""
    digest = hashlib.sha256()
    for name, text in sorted(sources().items()):
        digest.update(name.encode() + b"\0" + text.encode() + b"\0")
    return digest.hexdigest()
