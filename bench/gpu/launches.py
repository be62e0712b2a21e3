"""python -m bench.gpu.launches BACKEND small|large plain|pool [profile]: every call of calls.py once.

The program that the sanitizers and the profiler are put around. Prints one JSON line: the calls, those that failed,
and the kernels that never ran. `plain` takes every allocation from the driver itself: out of a pool, a write beyond
an array lands in its neighbour and no sanitizer can see it. With `profile` the profiler is on during the first launch
of each kernel only.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from .calls import Call, Recorder, calls, refused
from .context import said


def kernels_of(backend: str) -> set[str]:
    """Every kernel of a GPU backend, as `kernel_label` names it."""
    if backend == "cupy_raw":
        source = importlib.import_module("ebm_fast.cupy_raw.source")
        return {f"{name} ({file})" for file in source.ORDERS for name in source.kernel_names(file)}
    importlib.import_module(f"ebm_fast.{backend}")
    return set(importlib.import_module(f"ebm_fast.{backend}.build").BODIES)


def launch_all(backend: str, device: Any, large: bool, around: Any = None) -> dict[str, Any]:
    """Run every call on `device`; what ran, what failed, and which kernels of the backend were never launched."""
    module, where = (
        importlib.import_module(f"ebm_fast.{backend}"),
        importlib.import_module(f"ebm_fast.{backend}.device"),
    )
    recorder, failed, declined = Recorder(device, around), {}, {}
    with where.on(recorder):
        made = calls(module, device.put, large)
        for label, call in made.items():
            try:
                call()
            except Exception as error:  # the other kernels must still run; the caller reports it
                (declined if refused(label, error) else failed)[label] = said(error)
    counts = {"calls": len(made), "launched": len(recorder.launched)}
    missed = sorted(kernels_of(backend) - recorder.launched)
    return counts | {"failed": failed, "declined": declined, "missed": missed}


def main(arguments: list[str]) -> int:
    backend, size, memory, *rest = arguments
    cp = importlib.import_module("cupy")
    if memory == "plain":
        cp.cuda.set_allocator(None)
    device = importlib.import_module(f"ebm_fast.{backend}.device").current()

    def profiled(call: Call) -> None:
        cp.cuda.runtime.profilerStart()
        call()
        cp.cuda.runtime.deviceSynchronize()
        cp.cuda.runtime.profilerStop()

    found = launch_all(backend, device, size == "large", profiled if rest else None)
    cp.cuda.runtime.deviceSynchronize()
    print(json.dumps(found))
    return int(bool(found["failed"] or (found["missed"] and size == "small")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
