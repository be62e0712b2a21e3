"""The CUDA backend on the CPU, as a twin: every name of cupy_raw, run by the host build of its kernels.

    host_device(build, order, seed)   a device to put under the backend's launchers: `with on(host_device()): ...`
    set_build(name)                   the build in which this module's functions run; EBM_HOST_BUILD at the start
    access_lint(fn)                   what the warps of fn's launches ask of memory, kernel by kernel
    run_in_asan(argv)                 a Python of its own, in which the build asan can run
    launched()                        which kernels ran, so that a test can ask for all of them

The launchers, the launch sizes and the .cu files are those of the card; the compiler is the host's, and threads are
fibers. Three builds: fast; race, which reports races, unwritten reads and accesses out of bounds; asan.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from ebm_fast import cupy_raw
from ebm_fast.checks import missing
from ebm_fast.cupy_raw.device import PROCESSORS, Device, in_use, on
from ebm_ref.contracts import BackendError

from .host_arguments import LaunchError as LaunchError
from .host_asan import inside as inside_asan  # noqa: F401 - part of what this module offers
from .host_asan import run_in_asan as run_in_asan
from .host_compile import compiler
from .host_device import HostDevice
from .host_device import launched as launched
from .host_report import Lint

__all__ = list(cupy_raw.__all__)
CARDS = (1, PROCESSORS)  # call by call: on one processor small problems get the large tiles and the full blocks
_device: HostDevice | None = None


def host_device(
    build: str = "fast",
    order: str = "rotate",
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
    processors: int = PROCESSORS,
    part: slice | None = None,
) -> Device:
    """A device on NumPy arrays that runs the kernels compiled for the CPU.

    build: fast, race or asan. order: of threads and blocks: forward, reverse, random (seed), or rotate through the
    three, launch by launch. sources: CUDA files beside the backend's own. processors: of the card that launchers plan
    for. part: the blocks of each launch that run, so that the last block of a grid too large for a CPU can be looked
    at alone: slice(-1, None). Raises RangeError.
    """
    return HostDevice(build, order, seed, sources or {}, processors=processors, part=part or slice(None))


def set_build(name: str) -> None:
    """Run this module's functions in build `name`. Raises RangeError."""
    global _device
    _device = HostDevice(name, in_turn=CARDS)


def build() -> str:
    """The build in which this module's functions run."""
    return default_device().build


def why_not() -> str | None:
    """Why CUDA sources cannot be compiled for this CPU, in words; None when they can."""
    try:
        compiler()
    except BackendError as error:
        return str(error)
    return None


def access_lint(fn: Callable[[], Any], sources: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """What each kernel that `fn()` launches asks of memory, per request of a warp.

    Returns kernel -> {"global": {requests, sectors, ideal}, "shared": {requests, passes, ideal}, "lines": [...]}:
    the mean of 32-byte sectors a global request moves and of passes over the banks a shared one takes, and the fewest
    possible; in "lines" the same for each line of the source that loads or stores.
    """
    lint = Lint()
    with on(HostDevice("race", "forward", 0, sources or {}, lint=lint)):
        fn()
    return lint.result()


def default_device() -> HostDevice:
    """The device of this module's functions."""
    global _device
    if _device is None:
        _device = HostDevice(os.environ.get("EBM_HOST_BUILD", "fast"), in_turn=CARDS)
    return _device


def run_here(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, run on this module's device."""

    @wraps(fn)
    def call(*args: Any, **options: Any) -> Any:
        device = default_device()
        if in_use() is device:  # called by another function of this module
            return fn(*args, **options)
        device.begin_call()
        with on(device):
            return fn(*args, **options)

    return call


def twin_of(x: Any) -> Any:
    """A function run here; a class whose methods run here; anything else as it is."""
    if not isinstance(x, type):
        return run_here(x) if callable(x) else x
    names = {name for base in x.__mro__ if base is not object for name in vars(base) if not name.startswith("_")}
    space: dict[str, Any] = {"__doc__": x.__doc__, "__module__": __name__, "__qualname__": x.__qualname__}
    for name in sorted(names):
        raw = next(vars(base)[name] for base in x.__mro__ if name in vars(base))
        if callable(raw) and not isinstance(raw, type):
            space[name] = run_here(raw)
    return type(x)(x.__name__, (x,), space)


for _name in cupy_raw.__all__:
    globals()[_name] = twin_of(getattr(cupy_raw, _name))


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"{__name__} has no {name}")
    raise missing(name, __name__)
