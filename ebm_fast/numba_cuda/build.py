"""One body, three machines: how a kernel is written here, and how it is compiled.

A body is a plain Python function of a thread index i and arrays: what thread i does. It has no barrier and no
shared memory, so threads may run in any order, and it is compiled

    typed    by numba.njit inside a loop over i, for the CPU: Numba's types, every index checked
    card     by numba.cuda, as a device function inside a grid-stride kernel
    plain    not at all: what Numba's simulator runs

`link` makes the function that is compiled. A build has a real type (float32 or float64) and a jet order (0 or 1):
    real, ORDER       in a body are those of the build
    1.0, PI           every float, literal or global, is of the real type, so that float32 stays float32
    f(x)              every plain function that a body calls is linked and compiled likewise
    maths.exp         a function of `maths` becomes the machine's own
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

import numba
import numpy as np

real: Any = np.float64  # in a body: the real type of the build
ORDER = 0  # in a body: the order of its jets; arrays of activations are (..., ORDER + 1)
BODIES: dict[str, Any] = {}  # every body by its name


def body(function: Any) -> Any:
    """Mark `function`(i, ...) as what one thread does."""
    BODIES[function.__name__] = function
    return function


def identity(function: Any) -> Any:
    return function


@dataclass(frozen=True)
class Machine:
    """A compiler of functions that other functions call, and its own functions for those of `maths`."""

    compile: Callable[[Any], Any]
    maths: Callable[[np.dtype], dict[Any, Any]] = field(default=lambda dtype: {})


OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "boundscheck": True, "no_cfunc_wrapper": True}
TYPED = Machine(numba.njit(**OPTIONS, no_cpython_wrapper=True))
PLAIN = Machine(identity)


@cache
def compiled(function: Any, machine: Machine, dtype: np.dtype, order: int) -> Any:
    """`function` linked for one build and compiled by a machine."""
    return machine.compile(link(function, machine, dtype, order))


def link(function: Any, machine: Machine, dtype: np.dtype, order: int) -> Any:
    """`function` for one build: its floats of `dtype`, what it calls compiled, functions of `maths` the machine's."""
    scope, bound, own, code = function.__globals__, {}, machine.maths(dtype), function.__code__
    for name in {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}:
        value = scope.get(name)
        if name == "real":
            bound[name] = dtype.type
        elif name == "ORDER":
            bound[name] = order
        elif isinstance(value, FunctionType):
            bound[name] = own[value] if value in own else compiled(value, machine, dtype, order)
        elif isinstance(value, float):
            bound[name] = dtype.type(value)
    code = code.replace(co_consts=tuple(retyped(value, dtype) for value in code.co_consts))
    return FunctionType(code, scope | bound, function.__name__, function.__defaults__)


def retyped(value: Any, dtype: np.dtype) -> Any:
    """A constant with its floats in `dtype`."""
    if isinstance(value, tuple):
        return tuple(retyped(item, dtype) for item in value)
    return dtype.type(value) if isinstance(value, float) else value


@cache
def typed_loop(function: Any, dtype: np.dtype, order: int) -> Any:
    """loop(threads, args): the body for each i of `threads`, one after another."""
    thread = compiled(function, TYPED, dtype, order)

    @numba.njit(**OPTIONS)
    def loop(threads, args):
        for i in threads:
            thread(i, *args)

    return loop
