"""An array that answers NumPy's calls as CuPy's does, and refuses to become a NumPy array behind your back.

It stands in for a GPU: what runs on `Duck` arrays runs on any array with `__array_ufunc__` and
`__array_function__`. Like CuPy it accepts Python scalars and its own kind only; unlike CuPy it also refuses
`bool`, `float` and `int` of an array, each of which would stall a GPU.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

SCALARS = (bool, int, float, complex, str, type(None), type, np.dtype, slice, type(Ellipsis))


class SilentConversion(TypeError):
    """An array left its device without being asked to."""


def _refuse(how):
    def method(self, *args, **kwargs):
        raise SilentConversion(f"{how} of a device array")

    return method


class Duck(NDArrayOperatorsMixin):
    """A NumPy array inside; `Duck.of(x)` and `.get()` are the only ways in and out."""

    def __init__(self, inside):
        self._inside = inside

    @classmethod
    def of(cls, x):
        return cls(np.array(x))

    def get(self):
        return self._inside.copy()

    __array__ = _refuse("conversion")
    __bool__ = _refuse("the truth")
    __float__ = _refuse("a Python float")
    __int__ = _refuse("a Python int")
    __index__ = _refuse("an index")
    __iter__ = _refuse("iteration")
    __hash__ = None

    shape = property(lambda self: self._inside.shape)
    ndim = property(lambda self: self._inside.ndim)
    size = property(lambda self: self._inside.size)
    dtype = property(lambda self: self._inside.dtype)

    def __len__(self):
        return len(self._inside)

    def reshape(self, *shape):
        return Duck(self._inside.reshape(*shape))

    def astype(self, dtype):
        return Duck(self._inside.astype(dtype))

    def sum(self, axis=None, **kwargs):
        return np.sum(self, axis=axis, **kwargs)

    def __getitem__(self, key):
        return Duck(self._inside[_inner(key)])

    def __setitem__(self, key, value):
        self._inside[_inner(key)] = _inner(value)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return _outer(getattr(ufunc, method)(*_inner(inputs), **_inner(kwargs)))

    def __array_function__(self, function, types, args, kwargs):
        if function is np.asarray:  # with like=: a move that was asked for
            return args[0] if isinstance(args[0], Duck) else Duck.of(args[0])
        return _outer(function(*_inner(args), **_inner(kwargs)))


def _inner(value):
    if isinstance(value, Duck):
        return value._inside
    if isinstance(value, tuple | list):
        return type(value)(_inner(item) for item in value)
    if isinstance(value, dict):
        return {key: _inner(item) for key, item in value.items()}
    if isinstance(value, SCALARS):
        return value
    raise SilentConversion(f"a device array met {type(value).__name__}")


def _outer(value):
    if isinstance(value, tuple):
        return tuple(_outer(item) for item in value)
    return Duck(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value
