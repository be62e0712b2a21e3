"""The GPU backends behind arrays that are not NumPy's: a card, as far as Python can tell, without one.

    with on(StrictDevice()): ...     functions of cupy_raw take and give StrictArray, and nothing else
    with on(StrictTyped()): ...      the same of numba_cuda, with its own `on`

A StrictArray does what CuPy's array does and no more: NumPy's functions dispatch to it, a scalar may meet it, a NumPy
array may index it, a single number of it may be read; a NumPy array may not meet it in arithmetic, be written into it,
or be made of it. `put`, `get` and `np.asarray(x, like=...)` are the only ways in and out.
"""

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ebm_fast.numba_cuda.device import Typed
from ebm_fast.verify.host_device import HostDevice
from ebm_ref.contracts import DTypeError

# what this project asks of a device array: NumPy's functions that CuPy has, and the ufuncs, under the same names
FUNCTIONS = (
    "argsort", "asarray", "clip", "copy", "count_nonzero", "mean", "ones_like", "sort", "sum", "where", "zeros",
    "zeros_like",
)  # fmt: skip
UFUNCS = (
    "add", "subtract", "multiply", "true_divide", "divide", "power", "square", "sqrt", "negative", "isfinite",
    "right_shift", "less", "greater",
)  # fmt: skip
METHODS = ("all", "any", "astype", "copy", "max", "min", "reshape")


class SilentConversion(TypeError):
    """An array left its device, or one of the host met it, without being asked to."""


class StrictArray(NDArrayOperatorsMixin):
    """A NumPy array inside, which only this file looks at."""

    def __init__(self, inside):
        self._inside = inside

    shape = property(lambda self: self._inside.shape)
    ndim = property(lambda self: self._inside.ndim)
    size = property(lambda self: self._inside.size)
    dtype = property(lambda self: self._inside.dtype)
    flags = property(lambda self: self._inside.flags)
    __hash__ = None

    @property
    def __cuda_array_interface__(self):
        return {"version": 3, "data": (self._inside.ctypes.data, False)}

    def __array__(self, *args, **options):
        raise SilentConversion("conversion of a device array to NumPy's")

    def __iter__(self):
        raise SilentConversion("iteration over a device array")

    def __bool__(self):
        return bool(self._inside)

    def __int__(self):
        return int(self._inside)

    def __float__(self):
        return float(self._inside)

    def __len__(self):
        return len(self._inside)

    def __getitem__(self, key):
        return outer(self._inside[inner(key, index=True)])

    def __setitem__(self, key, value):
        self._inside[inner(key, index=True)] = inner(value)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc.__name__ not in UFUNCS or method != "__call__":
            raise SilentConversion(f"{ufunc.__name__}.{method} is not among the calls that CuPy is known to answer")
        return outer(ufunc(*inner(inputs), **inner(options)))

    def __array_function__(self, function, types, args, options):
        if function.__name__ not in FUNCTIONS:
            raise SilentConversion(f"{function.__name__} is not among the calls that CuPy is known to answer")
        if function is np.asarray:  # with like=: asked for
            return args[0] if isinstance(args[0], StrictArray) else StrictArray(np.array(args[0], order="C"))
        return outer(function(*inner(args), **inner(options)))


for name in METHODS:
    setattr(
        StrictArray,
        name,
        lambda self, *args, _name=name, **options: outer(getattr(self._inside, _name)(*args, **options)),
    )


def inner(value, index=False):
    if isinstance(value, StrictArray):
        return value._inside
    if isinstance(value, tuple):
        return tuple(inner(item, index) for item in value)
    if isinstance(value, dict):
        return {name: inner(item) for name, item in value.items()}
    if isinstance(value, np.ndarray) and not index:
        raise SilentConversion("a NumPy array met a device array")
    return value


def outer(value):
    return StrictArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


class Strict:
    """A device on NumPy arrays, whose arrays only it can read. copies: how often one was copied to the host."""

    copies = 0

    def adopt(self, name, x):
        if not isinstance(x, StrictArray):
            raise DTypeError(f"{name}: expected an array on the device, found {type(x).__name__}")
        return x

    def array(self, name, x):
        given = self.adopt(name, x)._inside
        return x if given.flags.c_contiguous else StrictArray(np.ascontiguousarray(given))

    def empty(self, shape, dtype):
        return StrictArray(super().empty(shape, dtype))

    def put(self, x):
        assert isinstance(x, np.ndarray)
        return StrictArray(super().put(x))

    def put_as_it_is(self, x):
        """`x` without a copy: its gaps and its address are kept."""
        return StrictArray(x)

    def get(self, x):
        assert isinstance(x, StrictArray)
        self.copies += 1
        return super().get(x._inside)


class StrictDevice(Strict, HostDevice):
    """Of cupy_raw: its kernels, compiled for the CPU."""

    def address(self, x):
        return super().address(x._inside)

    def launch(self, kernel, grid, block, args, shared):
        super().launch(kernel, grid, block, inner(tuple(args)), shared)


class StrictTyped(Strict, Typed):
    """Of numba_cuda: its threads, in Numba's types, one after another."""

    def launch(self, body, dtype, order, n, args):
        super().launch(body, dtype, order, n, inner(tuple(args)))
