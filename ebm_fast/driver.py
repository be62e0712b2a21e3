"""The NVIDIA driver, asked directly: is it here, for which CUDA, and which cards does it find?

No CUDA library and no nvidia-smi is needed, and no context is made: nothing is left behind on a card.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NO_DEVICE = 100
NO_CARD = "the NVIDIA driver finds no card"
COMPUTE_CAPABILITY = (75, 76)  # the attributes of major and minor


@dataclass(frozen=True)
class Card:
    """One card: its name and its compute capability, as in (9, 0)."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Driver:
    """What the driver says: the newest CUDA it runs, its cards, and why it has none, in words."""

    cuda: tuple[int, int] | None
    cards: tuple[Card, ...]
    why: str | None


def find_driver() -> Driver:
    """The driver of this machine."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return Driver(None, (), f"no NVIDIA driver: {LIBRARY} is not on this machine")
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    newest = number.value // 1000, number.value % 1000 // 10
    status = cuda.cuInit(0)
    if status not in (0, NO_DEVICE):
        return Driver(newest, (), f"the NVIDIA driver does not start: cuInit gave {status}")
    count = ctypes.c_int()
    cards = ()
    if status == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
        cards = tuple(_card(cuda, ordinal) for ordinal in range(count.value))
    return Driver(newest, cards, None if cards else NO_CARD)


def _card(cuda: ctypes.CDLL, ordinal: int) -> Card:
    device, name, value = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in COMPUTE_CAPABILITY:
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Card(name.value.decode(errors="replace"), (capability[0], capability[1]))
