"""python -m bench.gpu.planted TOOL: launch the kernel of planted.cu whose fault this sanitizer must catch."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("planted.cu")
FAULTS = {
    "memcheck": "over_the_end",
    "racecheck": "no_barrier",
    "synccheck": "half_a_barrier",
    "initcheck": "unwritten",
}
THREADS = 256


def main(tool: str) -> int:
    cp = importlib.import_module("cupy")
    cp.cuda.set_allocator(None)  # from the driver: a pool would hide what lies beyond an array
    kernel = cp.RawModule(code=SOURCE.read_text()).get_function(FAULTS[tool])
    size = THREADS - 1 if tool == "memcheck" else THREADS
    x = cp.zeros(size, cp.float32)
    arguments = (x, cp.empty(THREADS, cp.float32)) if tool == "initcheck" else (x,)
    kernel((1,), (THREADS,), arguments)
    cp.cuda.runtime.deviceSynchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
