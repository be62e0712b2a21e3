"""The card, asked of the driver itself: no library needs to be installed for the answer."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

ATTRIBUTES = {  # numbers of cuDeviceGetAttribute, from the driver's own header cuda.h
    "processors": 16,
    "l2_bytes": 38,
    "major": 75,
    "minor": 76,
    "shared_bytes": 97,
}


@dataclass(frozen=True)
class Card:
    """The first CUDA card: name, bytes of memory and of L2, multiprocessors, shared memory a block may have."""

    name: str
    capability: tuple[int, int]
    driver: str
    memory_bytes: int
    l2_bytes: int
    processors: int
    shared_bytes: int


@cache
def find_card() -> Card | str:
    """The card, or why there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no CUDA card: the driver's library libcuda.so.1 is not here"
    code = cuda.cuInit(0)
    if code:
        return f"no CUDA card: the driver's cuInit says {code}"
    count, device, version, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    if cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "no CUDA card: the driver counts none"
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    found = {}
    for key, number in ATTRIBUTES.items():
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        found[key] = value.value
    capability = found.pop("major"), found.pop("minor")
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Card(name.value.decode(), capability, driver, memory.value, **found)


def no_card() -> str | None:
    """Why no card can be used; None where one can."""
    found = find_card()
    return found if isinstance(found, str) else None
