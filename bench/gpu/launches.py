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
from contextlib import ExitStack
from typing import Any

from ebm_fast.cupy_raw.device import current, on
from ebm_fast.cupy_raw.source import ORDERS, kernel_names

from .calls import Call, Recorder, calls, refused
from .context import said


def launch_all(module: Any, device: Any, large: bool, around: Any = None) -> dict[str, Any]:
    """Run every call on `device`; what ran, what failed, and which kernels of cupy_raw were never launched."""
    recorder, failed, declined = Recorder(device, around), {}, {}
    with on(recorder):
        made = calls(module, device.put, large)
        for label, call in made.items():
            try:
                call()
            except Exception as error:  # the other kernels must still run; the caller reports it
                (declined if refused(label, error) else failed)[label] = said(error)
    every = {(file, name) for file in ORDERS for name in kernel_names(file)}
    missed = sorted(f"{name} ({file})" for file, name in every - recorder.launched)
    counts = {"calls": len(made), "launched": len(recorder.launched)}
    return counts | {"failed": failed, "declined": declined, "missed": missed}


def main(arguments: list[str]) -> int:
    backend, size, memory, *rest = arguments
    module, cp = importlib.import_module(f"ebm_fast.{backend}"), importlib.import_module("cupy")
    if memory == "plain":
        cp.cuda.set_allocator(None)

    def profiled(call: Call) -> None:
        cp.cuda.runtime.profilerStart()
        call()
        cp.cuda.runtime.deviceSynchronize()
        cp.cuda.runtime.profilerStop()

    with ExitStack() as stack:
        if rest and backend != "cupy_raw":  # its launches do not go through the device: all of them are profiled
            cp.cuda.runtime.profilerStart()
            stack.callback(cp.cuda.runtime.profilerStop)
        found = launch_all(module, current(), size == "large", profiled if rest else None)
        cp.cuda.runtime.deviceSynchronize()
    if backend != "cupy_raw":
        found.pop("missed")
    print(json.dumps(found))
    return int(bool(found["failed"] or found.get("missed")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
