"""Arrays of short numbers: every operation's result is rounded to one format.

    Rounded     y = round(op(a, b)), op carried out in float32 or float64
    sums, @     added up in that wide format, rounded once
    int8        a @ b -> (n_a @ n_b) scale_a scale_b, integers by precision_quantise; every other result stays wide
    moves       reshape, transpose, where, pad, maximum, a comparison, ... round nothing

Written under NumPy's own protocols, as Jet is, so a network's layers run on it unchanged. A layer that adds in a
Python loop (conv2d's taps) rounds at each turn, as a kernel with a short accumulator would. A plain array that meets a
Rounded is rounded first; a Python number is not.

A result that is not finite, though every operand is, raises NonFiniteError with the operation's name, unless
overflow = "inf". An operation of unknown rule raises DTypeError with its name: none is carried out silently in full
precision.

Source: Micikevicius et al. 2018, arXiv:1710.03740 (short storage, wide sums; overflow of fp16).
Level: none. Twins: none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .contracts import Array, DTypeError, NonFiniteError, check_array, check_choice
from .precision import FORMATS, PASSES, precision_quantise, precision_round


class Rounded(NDArrayOperatorsMixin):
    """Numbers of the format `form`, held in `values`; made by `rounded_array`.

    values: float32 or float64 array of numbers of the format   form: "float32", "fp16", "bf16", "int8"
    overflow: "raise" or "inf". Raises DTypeError, RangeError; operations NonFiniteError, DTypeError.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Array, form: str, overflow: str = "raise") -> None:
        check_array("values", values)
        check_choice("form", form, PASSES)
        check_choice("overflow", overflow, ("raise", "inf"))
        self.values, self.form, self.overflow = values, form, overflow

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    dtype = property(lambda self: self.values.dtype)
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Rounded({self.form} in {self.dtype}, shape {self.shape})"

    def __getitem__(self, key: Any) -> Rounded:
        return self._like(self.values[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.values[key] = self._inside("__setitem__", value)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DTypeError("np.asarray: a Rounded is not an array; take its values")

    def reshape(self, *shape: Any) -> Rounded:
        return self._like(self.values.reshape(*shape))

    def transpose(self, *axes: Any) -> Rounded:
        return self._like(self.values.transpose(*axes))

    def squeeze(self, axis: Any = None) -> Rounded:
        return self._like(self.values.squeeze(axis))

    def max(self, *args: Any, **kwargs: Any) -> Any:
        return np.max(self, *args, **kwargs)

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        return np.sum(self, *args, **kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        return np.mean(self, *args, **kwargs)

    def mapped(self, name: str, function: Callable[[Array], Array]) -> Rounded:
        """round(function(values)), element by element: for a function that is none of NumPy's."""
        return self._result(name, function(self.values), self.values)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if method != "__call__" or kwargs or ufunc.nout != 1:
            raise DTypeError(f"{name}: this call has no rounding rule {sorted(kwargs) or ''}".rstrip())
        first = next(value for value in (*inputs, *(out or ())) if isinstance(value, Rounded))
        values = [first._inside(name, value) for value in inputs]
        with np.errstate(all="ignore"):  # what is not finite is reported below, by name
            y = first._matmul(*values) if ufunc is np.matmul else ufunc(*values)
        y = y if y.dtype == bool else first._result(name, y, *values)
        if out is None:
            return y
        if not isinstance(out[0], Rounded):
            raise DTypeError(f"{name}: a Rounded does not fit into a plain array")
        out[0][...] = y
        return out[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in SUMS and func not in MOVES:
            raise DTypeError(f"{func.__name__}: this operation has no rounding rule")
        inside = [_deep(lambda value: self._inside(func.__name__, value), value) for value in args]
        y = np.asarray(func(*inside, **kwargs))
        return self._like(y) if func in MOVES else self._result(func.__name__, y, inside[0])

    def _like(self, values: Any) -> Rounded:
        return Rounded(np.asarray(values), self.form, self.overflow)

    def _inside(self, name: str, value: Any) -> Any:
        """The numbers of an operand: of this format."""
        if isinstance(value, Rounded):
            if (value.form, value.dtype) != (self.form, self.dtype):
                raise DTypeError(f"{name}: {self!r} and {value!r} meet; round both to one format")
            return value.values
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f":
            return _round(np.asarray(value, self.dtype), self.form)
        return value

    def _result(self, name: str, y: Any, *operands: Any) -> Rounded:
        y = _round(np.asarray(y, self.dtype), self.form)
        if self.overflow == "raise":
            self._check_finite(name, y, *operands)
        return self._like(y)

    def _check_finite(self, name: str, y: Array, *operands: Any) -> None:
        """Raise if y is not finite though every operand is: an overflow, or a division by 0."""
        if not np.isfinite(y).all() and all(np.isfinite(a).all() for a in operands):
            bad = y.size - np.count_nonzero(np.isfinite(y))
            top = "" if self.form == "int8" else f" (largest {FORMATS[self.form].largest:g})"
            raise NonFiniteError(f"{name}: expected finite numbers of {self.form}{top}, found {bad} others of {y.size}")

    def _matmul(self, a: Any, b: Any) -> Any:
        """a @ b; of int8 (n_a @ n_b) scale_a scale_b, the product of integers exact."""
        if self.form != "int8":
            return a @ b
        (n_a, scale_a), (n_b, scale_b) = precision_quantise(a), precision_quantise(b)
        return n_a.astype(np.float64) @ n_b.astype(np.float64) * (scale_a * scale_b)


def rounded_array(x: Array, form: str, overflow: str = "raise", name: str = "x") -> Rounded:
    """x, each number rounded to the format (int8: as it is, since a product alone is of integers).

    x: any shape, finite   form, overflow: as of Rounded   name: what errors call x.
    Raises DTypeError, RangeError, NonFiniteError.
    """
    check_array(name, x, finite=True)
    check_choice("form", form, PASSES)
    y = Rounded(_round(x, form), form, overflow)
    if overflow == "raise":
        y._check_finite(name, y.values, x)
    return y


def _round(x: Array, form: str) -> Array:
    return precision_round(x, "float32" if form == "int8" else form)


def _deep(change: Callable[[Any], Any], value: Any) -> Any:
    """Through the lists that stack and concatenate take."""
    return type(value)(map(change, value)) if isinstance(value, (list, tuple)) else change(value)


SUMS = {np.sum, np.mean}
MOVES = {
    np.reshape, np.transpose, np.moveaxis, np.swapaxes, np.expand_dims, np.squeeze, np.broadcast_to, np.zeros_like,
    np.ones_like, np.where, np.pad, np.stack, np.concatenate, np.copy, np.max, np.min,
}  # fmt: skip
