"""Stage 0: the machine, the libraries, the tools, and one launch each way.

Rows: machine, card, versions (one a library), tools (ncu, compute-sanitizer), launch (CuPy, Numba, a captured graph).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from ebm_fast.app.doctor import cpu_name, library_version
from ebm_fast.driver import find_driver

from .ceilings import SOURCE
from .context import SKIP, Context, Skip

LIBRARIES = (("numpy", "numpy"), ("numba", "numba"), ("cupy", "cupy"), ("torch", "torch"), ("jax", "jax"))
DISTRIBUTIONS = ("numba-cuda", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "hypothesis")
TOOLS = ("ncu", "compute-sanitizer", "nvcc", "g++")


def probe(context: Context) -> None:
    context.row(
        "machine",
        python=platform.python_version(),
        kernel=platform.platform(),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
    )
    driver = find_driver()
    if driver.why is None:
        context.row("card", cuda=driver.cuda, **asdict(driver.cards[0]))
    else:
        context.row("card", SKIP, driver.why)
    for name, module in LIBRARIES:
        context.row("version", library=name, version=library_version(name, module))
    for name in DISTRIBUTIONS:
        context.row("version", library=name, version=distribution_version(name))
    for name in TOOLS:
        context.part(f"tool {name}", tool, context, name)
    context.part("numba import", numba_import, context)
    for name, launch in (("cupy launch", cupy_launch), ("graph launch", graph_launch), ("numba launch", numba_launch)):
        context.part(name, launch, context)


def distribution_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def tool(context: Context, name: str) -> None:
    """Where a tool is and what it calls itself; whether it can attach to a card is seen when it is used."""
    path = find_tool(name)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        raise Skip(f"{path} --version ends with {done.returncode}: {' '.join(lines[-1:])}")
    context.row(
        f"tool {name}", path=path, version=next((line for line in reversed(lines) if "ersion" in line), lines[0])
    )


def find_tool(name: str) -> str:
    """The tool's path, on PATH or in the toolkit's usual place. Raises Skip."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    if path is None:
        raise Skip(f"{name} is not installed")
    return path


def numba_import(context: Context) -> None:
    """Numba refuses a NumPy that it does not know when it is imported, not before."""
    numba = context.need("numba")
    context.row("numba import", numba=numba.__version__, numpy=np.__version__)


def cupy_launch(context: Context) -> None:
    context.need_card()
    cp = context.need("cupy")
    touch = cp.RawModule(code=SOURCE.read_text()).get_function("touch")
    x = cp.arange(32, dtype=cp.float32)
    touch((1,), (32,), (x,))
    expect(cp.asnumpy(x), np.arange(32) + 1)
    device = cp.cuda.Device()
    context.row(
        "cupy launch",
        processors=device.attributes["MultiProcessorCount"],
        l2_bytes=device.attributes["L2CacheSize"],
        memory_bytes=device.mem_info[1],
        driver=cp.cuda.runtime.driverGetVersion(),
        runtime=cp.cuda.runtime.runtimeGetVersion(),
    )


def graph_launch(context: Context) -> None:
    """One kernel captured once and replayed three times."""
    context.need_card()
    cp = context.need("cupy")
    touch = cp.RawModule(code=SOURCE.read_text()).get_function("touch")
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.zeros(32, cp.float32)
        touch((1,), (32,), (x,))  # loads the module: nothing may be loaded while capturing
        stream.synchronize()
        stream.begin_capture()
        touch((1,), (32,), (x,))
        graph = stream.end_capture()
        for _ in range(3):
            graph.launch(stream=stream)
    stream.synchronize()
    expect(cp.asnumpy(x), np.full(32, 4))
    context.row("graph launch")


def numba_launch(context: Context) -> None:
    context.need_card()
    cuda = context.need("numba.cuda")
    context.need("ebm_fast.numba_cuda.card")  # mends what a newer NumPy lacks

    @cuda.jit
    def twice(x):
        i = cuda.grid(1)
        if i < x.size:
            x[i] *= 2

    x = cuda.to_device(np.arange(32, dtype=np.float32))
    twice[1, 32](x)
    expect(x.copy_to_host(), 2 * np.arange(32))
    context.row("numba launch")


def expect(found: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(found, expected):
        raise AssertionError(f"launch: expected {expected[:4]}..., found {found[:4]}...")
