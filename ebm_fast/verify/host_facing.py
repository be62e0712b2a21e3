"""A GPU backend behind host arrays, so that the kit's cases and laws, which are NumPy, can judge it on a card.

    host_facing(cupy_raw).conv2d_forward(x, w, b)     x, w, b copied to the card, the twin called, y copied back

Only the kit copies: a GPU twin itself refuses host arrays. Every call checks that the arrays on the card are what
they were, and writes back what a function is meant to write (the slots of `buffer_push`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from .close import Failure

WRITTEN = {"buffer_push": ("slots",)}
HOST_LABELS = ("chains",)  # ids, which a twin takes from the host as well


def host_facing(module: ModuleType) -> ModuleType:
    """A module of the same names whose functions take and give NumPy arrays. module: has a `device` with current()."""
    facing = _HostFacing(module.__name__)
    facing.inner = module
    facing.__all__ = list(module.__all__)
    return facing


class _HostFacing(ModuleType):
    inner: ModuleType

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if name.startswith("__") or not callable(value):
            return value
        device = import_module(f"{self.inner.__name__}.device")
        made = _energy_class(value, device) if inspect.isclass(value) else _function(value, device)
        setattr(self, name, made)
        return made


def _function(fn: Callable[..., Any], device: ModuleType) -> Callable[..., Any]:
    names = list(inspect.signature(fn).parameters)

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        card = device.current()
        given = dict(zip(names, args, strict=False)) | kwargs
        moved = {name: _to_card(value, card, name) for name, value in given.items()}
        result = _to_host(fn(**moved), card)
        for name, value in given.items():
            if name in WRITTEN.get(fn.__name__, ()) and isinstance(value, np.ndarray):
                value[...] = card.get(moved[name])
            else:
                _check_unchanged(name, value, moved[name], card)
        return result

    return call


def _energy_class(cls: type, device: ModuleType) -> Callable[..., Any]:
    """The class with each public method taking and giving host arrays; `inner` is the energy itself."""

    class Facing:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.inner = cls(*map(_inner, args), **{name: _inner(value) for name, value in kwargs.items()})

        def __getattr__(self, name: str) -> Any:
            value = getattr(self.inner, name)
            return _function(value, device) if inspect.ismethod(value) else value

    Facing.__name__ = Facing.__qualname__ = cls.__name__
    return Facing


def _inner(value: Any) -> Any:
    """The energy or field behind one of these classes: what an energy on it takes."""
    return getattr(value, "inner", value)


class _OnCard:
    """An energy written for host arrays, for a chain on the card: the kit's own sick energies."""

    def __init__(self, energy: Any, card: Any) -> None:
        self.shape, self._energy, self._card = energy.shape, energy, card

    def energy_and_grad_x(self, theta: Any, x: Any) -> tuple[Any, Any]:
        E, g = self._energy.energy_and_grad_x(_to_host(theta, self._card), self._card.get(x))
        return self._card.put(np.ascontiguousarray(E)), self._card.put(np.ascontiguousarray(g))


class _FieldOnCard:
    """A field written for host arrays, for a descent on the card."""

    def __init__(self, field: Any, card: Any) -> None:
        self.shape, self.out_shape, self._field, self._card = field.shape, field.out_shape, field, card

    def field(self, theta: Any, x: Any) -> Any:
        return self._card.put(np.ascontiguousarray(self._field.field(_to_host(theta, self._card), self._card.get(x))))


def _to_card(value: Any, card: Any, name: str = "") -> Any:
    if isinstance(value, np.ndarray):
        return value if name in HOST_LABELS else card.put(value)
    if isinstance(value, dict):
        return {key: _to_card(item, card) for key, item in value.items()}
    if name == "energy":
        kind = _OnCard if hasattr(value, "energy_and_grad_x") else _FieldOnCard
        return value.inner if hasattr(value, "inner") else kind(value, card)
    return value


def _to_host(value: Any, card: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_host(item, card) for item in value)
    if isinstance(value, dict):
        return {key: _to_host(item, card) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _to_host(getattr(value, f.name), card) for f in fields(value)})
    is_number = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)  # of the host
    return card.get(value) if hasattr(value, "shape") and not is_number else value


def _check_unchanged(name: str, given: Any, moved: Any, card: Any) -> None:
    if isinstance(given, dict):
        for key, item in given.items():
            _check_unchanged(f"{name}[{key!r}]", item, moved[key], card)
    elif isinstance(given, np.ndarray) and given is not moved and card.get(moved).tobytes() != given.tobytes():
        raise Failure(f"changes its input {name}")
