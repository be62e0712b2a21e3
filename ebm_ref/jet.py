"""Truncated Taylor series that behave like arrays.

A Jet holds y0, y1[, y2] of y(s) = y0 + y1 s + y2 s^2 + O(s^(order+1)): y1 = y'(0), y2 = y''(0)/2.

    jet_seed:   x(s) = x + s v
    product:    (a b)_k = sum_{i+j=k} a_i b_j                       (also for a @ b)
    quotient:   q = a/b:  q_k = (a_k - sum_{j=1..k} q_{k-j} b_j) / b_0
    chain:      f(a)_1 = f'(a0) a1,   f(a)_2 = f'(a0) a2 + f''(a0) a1^2 / 2

Run a backward pass on a Jet and every gradient comes with its derivatives along v, because d/dtheta
and d/ds commute:

    coefficient of          order 1                          order 2
    E(x + s v)              v . grad_x E                     (1/2) v' H v
    grad_x E(x + s v)       H v
    grad_theta E(x + s v)   grad_theta (v . grad_x E)        (1/2) grad_theta (v' H v)

Source: Griewank & Walther 2008, Evaluating Derivatives, chapter 13 (Taylor arithmetic).
Only the operations listed at the end of this file are known; any other raises `JetError` with its name.
Comparisons decide on order 0, so np.where and np.abs follow the branch of the point itself.
Twins: none; a fast energy writes its higher-order passes out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf as scalar_erf
from math import pi, sqrt
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .contracts import Array, JetError, check_array, check_count


class Jet(NDArrayOperatorsMixin):
    """y0 + y1 s [+ y2 s^2]: coefficients of one shape and dtype; order 1 or 2 (order 0 is a plain array)."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *coefficients: Any) -> None:
        self.coefficients: tuple[Array, ...] = tuple(np.asarray(c) for c in coefficients)
        if len(self.coefficients) not in (2, 3):
            raise JetError(f"Jet: expected 2 or 3 coefficients, found {len(self.coefficients)}")
        if len({(c.shape, c.dtype) for c in self.coefficients}) != 1:
            found = ", ".join(f"{c.dtype}{c.shape}" for c in self.coefficients)
            raise JetError(f"Jet: expected coefficients of one shape and dtype, found {found}")

    @property
    def order(self) -> int:
        return len(self.coefficients) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.coefficients[0].shape

    @property
    def ndim(self) -> int:
        return self.coefficients[0].ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.coefficients[0].dtype

    @property
    def T(self) -> Jet:
        return self.transpose()

    def __len__(self) -> int:
        return len(self.coefficients[0])

    def __repr__(self) -> str:
        return f"Jet(order {self.order}, {self.dtype}, shape {self.shape})"

    def __getitem__(self, key: Any) -> Jet:
        return Jet(*(c[key] for c in self.coefficients))

    def __setitem__(self, key: Any, value: Any) -> None:
        _same_order("__setitem__", self, value)
        for k, c in enumerate(self.coefficients):
            c[key] = _at(value, k)

    def __bool__(self) -> bool:
        return bool(self.coefficients[0])

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise JetError("np.asarray: a Jet is not an array; take jet_coefficient(y, k)")

    def reshape(self, *shape: Any) -> Jet:
        return Jet(*(c.reshape(*shape) for c in self.coefficients))

    def transpose(self, *axes: Any) -> Jet:
        return Jet(*(c.transpose(*axes) for c in self.coefficients))

    def sum(self, *args: Any, **kwargs: Any) -> Any:
        return np.sum(self, *args, **kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        return np.mean(self, *args, **kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if method != "__call__" or kwargs:
            raise JetError(f"{name}: this call has no Taylor series rule {sorted(kwargs) or ''}".rstrip())
        order = _same_order(name, *inputs, *(out or ()))
        if ufunc in COMPARISONS and out is None:
            return ufunc(*(_at(a, 0) for a in inputs))
        if ufunc in POINTWISE:
            y = _chain(inputs[0], POINTWISE[ufunc])
        elif ufunc in RULES:
            y = RULES[ufunc](*inputs)
        else:
            raise JetError(f"{name}: this operation has no Taylor series rule")
        if out is None:
            return y
        if not isinstance(out[0], Jet):
            raise JetError(f"{name}: a Jet of order {order} does not fit into a plain array")
        out[0][...] = y
        return out[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        unknown = sorted(set(kwargs) - {"axis", "keepdims", "shape"})
        if not unknown and func in LINEAR and isinstance(args[0], Jet):
            return Jet(*(func(c, *args[1:], **kwargs) for c in args[0].coefficients))
        if not unknown and func in FUNCTIONS:
            return FUNCTIONS[func](*args, **kwargs)
        raise JetError(f"{func.__name__}: this call has no Taylor series rule {unknown or ''}".rstrip())


# ------------------------------------------------------------------------------------------- seeds


def jet_seed(x: Array, v: Array, order: int) -> Jet:
    """x(s) = x + s v, to be known up to s^order; raises ShapeError, DTypeError, RangeError.

    x, v: one shape and dtype. order: 1 or 2.
    """
    check_count("order", order, low=1, high=2)
    check_array("x", x)
    check_array("v", v, shape=x.shape)
    return Jet(x, v) if order == 1 else Jet(x, v, np.zeros_like(x))


def jet_order(y: Any) -> int:
    """Order of the series: 0 for anything that is not a Jet."""
    return y.order if isinstance(y, Jet) else 0


def jet_coefficient(y: Any, k: int) -> Any:
    """y_k of y(s) = sum_k y_k s^k; an array is a constant series. Raises JetError above the known order."""
    if not isinstance(y, Jet):
        return y if k == 0 else np.zeros_like(y)
    if not 0 <= k <= y.order:
        raise JetError(f"jet_coefficient: a Jet of order {y.order} does not know the coefficient of s^{k}")
    return y.coefficients[k]


def erf(x: Any) -> Any:
    """erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt, element by element, for an array, a Jet or a Rounded."""
    if isinstance(x, Jet):
        return _chain(x, _erf_derivatives)
    if hasattr(x, "mapped"):  # an array of short numbers (rounded.py)
        return x.mapped("erf", erf)
    return np.asarray(np.frompyfunc(scalar_erf, 1, 1)(x), dtype=x.dtype)


# ------------------------------------------------------------------------------------------- rules


def _same_order(name: str, *values: Any) -> int:
    orders = {v.order for v in values if isinstance(v, Jet)}
    if len(orders) > 1:
        raise JetError(f"{name}: Jets of orders 1 and 2 meet; seed both at the same order")
    return orders.pop() if orders else 0


def _at(value: Any, k: int) -> Any:
    """Coefficient k of a Jet or of a constant; the zero of a Python number stays a (weak) Python number."""
    if isinstance(value, Jet):
        return value.coefficients[k]
    if k == 0:
        return value
    return 0.0 if type(value) in (int, float) else np.zeros_like(value)


def _each(op: Callable[..., Any], *values: Any) -> Jet:
    """y_k = op(a_k, b_k, ...) for a linear op; constants have zero coefficients from order 1 on."""
    return Jet(*(op(*(_at(v, k) for v in values)) for k in range(_same_order("series", *values) + 1)))


def _product(op: Callable[..., Any], a: Any, b: Any) -> Jet:
    """(a b)_k = sum_{i+j=k} a_i b_j for a bilinear op (times, matmul)."""
    if not isinstance(b, Jet):
        return Jet(*(op(c, b) for c in a.coefficients))
    if not isinstance(a, Jet):
        return Jet(*(op(a, c) for c in b.coefficients))
    terms = [[op(a.coefficients[i], b.coefficients[k - i]) for i in range(k + 1)] for k in range(a.order + 1)]
    return Jet(*(sum(row[1:], start=row[0]) for row in terms))


def _quotient(a: Any, b: Any) -> Jet:
    """q_k = (a_k - sum_{j=1..k} q_{k-j} b_j) / b_0."""
    if not isinstance(b, Jet):
        return Jet(*(c / b for c in a.coefficients))
    q: list[Any] = []
    for k in range(b.order + 1):
        known = sum((q[k - j] * b.coefficients[j] for j in range(1, k + 1)), start=0.0)
        q.append((_at(a, k) - known) / b.coefficients[0])
    return Jet(*q)


def _chain(a: Jet, derivatives: Callable[[Array], tuple[Array, Array, Array]]) -> Jet:
    """f(a)_1 = f'(a0) a1,  f(a)_2 = f'(a0) a2 + f''(a0) a1^2 / 2."""
    f, df, ddf = derivatives(a.coefficients[0])
    a1 = a.coefficients[1]
    if a.order == 1:
        return Jet(f, df * a1)
    return Jet(f, df * a1, df * a.coefficients[2] + 0.5 * ddf * a1 * a1)


def _power(a: Any, p: Any) -> Jet:
    """a^p for a constant Python number p; f' = p a^(p-1), f'' = p (p-1) a^(p-2), and 0 where the factor is 0."""
    if not isinstance(a, Jet) or type(p) not in (int, float):
        raise JetError("power: the exponent must be a plain number")

    def term(x: Array, factor: float, exponent: float) -> Array:
        return factor * x**exponent if factor else np.zeros_like(x)

    return _chain(a, lambda x: (x**p, term(x, p, p - 1), term(x, p * (p - 1), p - 2)))


def _exp_derivatives(x: Array) -> tuple[Array, Array, Array]:
    e = np.exp(x)
    return e, e, e


def _sqrt_derivatives(x: Array) -> tuple[Array, Array, Array]:
    r = np.sqrt(x)
    return r, 0.5 / r, -0.25 / (r * x)


def _tanh_derivatives(x: Array) -> tuple[Array, Array, Array]:
    t = np.tanh(x)
    return t, 1 - t * t, -2 * t * (1 - t * t)


def _erf_derivatives(x: Array) -> tuple[Array, Array, Array]:
    bell = 2 / sqrt(pi) * np.exp(-x * x)
    return erf(x), bell, -2 * x * bell


def _where(condition: Any, a: Any, b: Any) -> Jet:
    if isinstance(condition, Jet):
        raise JetError("where: the condition must be a plain boolean array, such as a comparison gives")
    return _each(lambda a_k, b_k: np.where(condition, a_k, b_k), a, b)


def _pad(x: Jet, pad_width: Any, mode: str = "constant") -> Jet:
    if mode != "constant":
        raise JetError(f"pad: the mode {mode} has no Taylor series rule; constant (zero) has")
    return Jet(*(np.pad(c, pad_width) for c in x.coefficients))


def _ones_like(x: Jet) -> Jet:
    return _each(np.add, np.zeros_like(x), 1.0)


def _stack(arrays: Any, axis: int = 0) -> Jet:
    return _each(lambda *parts: np.stack(parts, axis=axis), *arrays)


def _concatenate(arrays: Any, axis: int = 0) -> Jet:
    return _each(lambda *parts: np.concatenate(parts, axis=axis), *arrays)


# ------------------------------------------------------------------------ the operations that are known

COMPARISONS = {np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal}

POINTWISE: dict[Any, Callable[[Array], tuple[Array, Array, Array]]] = {
    np.exp: _exp_derivatives,
    np.log: lambda x: (np.log(x), 1 / x, -1 / (x * x)),
    np.log1p: lambda x: (np.log1p(x), 1 / (1 + x), -1 / ((1 + x) * (1 + x))),
    np.sqrt: _sqrt_derivatives,
    np.tanh: _tanh_derivatives,
}

RULES: dict[Any, Callable[..., Jet]] = {
    np.add: lambda a, b: _each(np.add, a, b),
    np.subtract: lambda a, b: _each(np.subtract, a, b),
    np.negative: lambda a: _each(np.negative, a),
    np.absolute: lambda a: _where(_at(a, 0) < 0, -a, a),
    np.maximum: lambda a, b: _where((_at(a, 0) >= _at(b, 0)) | (_at(a, 0) != _at(a, 0)), a, b),  # NaN stays
    np.multiply: lambda a, b: _product(np.multiply, a, b),
    np.matmul: lambda a, b: _product(np.matmul, a, b),
    np.divide: _quotient,
    np.power: _power,
}

LINEAR = {
    np.sum, np.mean, np.reshape, np.transpose, np.moveaxis, np.swapaxes, np.expand_dims, np.squeeze,
    np.broadcast_to, np.zeros_like,
}  # fmt: skip

FUNCTIONS: dict[Any, Callable[..., Jet]] = {
    np.where: _where,
    np.pad: _pad,
    np.ones_like: _ones_like,
    np.stack: _stack,
    np.concatenate: _concatenate,
}
