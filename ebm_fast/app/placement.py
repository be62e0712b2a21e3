"""Where a backend's arrays live: on its card, or here.

    to_backend(backend, x)   host arrays, copied to where the backend's functions take them
    to_host(backend, x)      the inverse, to the bit

x: an array, or arrays in dicts, tuples and dataclasses. A backend on a card has a module `device` with put and get;
of any other backend the arrays are NumPy's, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np


def device_of(backend: ModuleType) -> Any:
    """The device in use of a backend on a card, else None. Raises BackendError where there is no card to use."""
    module = getattr(backend, "device", None)
    return None if module is None else module.current()


def to_backend(backend: ModuleType, x: Any) -> Any:
    device = device_of(backend)
    return x if device is None else _moved(x, lambda y: device.put(y) if isinstance(y, np.ndarray) else y)


def to_host(backend: ModuleType, x: Any) -> Any:
    device = device_of(backend)
    return x if device is None else _moved(x, lambda y: y if isinstance(y, np.ndarray) else device.get(y))


def _moved(x: Any, move: Callable[[Any], Any]) -> Any:
    if isinstance(x, tuple):
        return tuple(_moved(y, move) for y in x)
    if isinstance(x, dict):
        return {name: _moved(y, move) for name, y in x.items()}
    if is_dataclass(x) and not isinstance(x, type):
        return replace(x, **{field.name: _moved(getattr(x, field.name), move) for field in fields(x)})
    return move(x) if hasattr(x, "dtype") and not isinstance(x, np.generic) else x
