"""One vector register as a Numba type, `Lanes`, with its operators, and the arrays read in registers or their parts.

With NUMBA_DISABLE_JIT=1 registers are NumPy slices and only the arrays and counts are used.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, register_model, typeof_impl
from numba.np.numpy_support import from_dtype

from .build import VECTOR_BYTES

WHOLE, HALF, ONE = "whole", "half", "one"  # of a register's lanes


def lane_count(dtype: Any, part: str = WHOLE) -> int:
    """Lanes of one register, or of a part of one."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return {WHOLE: lanes, HALF: lanes // 2, ONE: 1}[part]


def lanes_type(dtype: Any, part: str) -> types.Array:
    """The type of an array of numbers that kernels read in a part of a register; Numba is not told what part that is:

    half is an array that is not aligned, one an array in Fortran's order.
    """
    return types.Array(from_dtype(np.dtype(dtype)), 1, "F" if part == ONE else "C", aligned=part != HALF)


class HalfArray(np.ndarray):
    """Numbers that kernels read in half registers; a view of any flat array. In Numba's types: not aligned."""

    __numba_array_subtype_dispatch__ = True


@typeof_impl.register(HalfArray)
def typeof_half(array: HalfArray, context: Any) -> types.Array:
    return lanes_type(array.dtype, HALF)


class OneArray(np.ndarray):
    """Numbers that kernels read one by one, without the compiler."""


class Lanes(types.Type):
    """`count` lanes of `element`: floats, a register or a part of one; or uint64, words for as many floats."""

    def __init__(self, element: types.Number, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Lanes({element} x {count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        element = dmm.lookup(fe_type.element).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.count))


def broadcast(builder: Any, scalar: Any, count: int) -> Any:
    """A vector whose lanes all hold `scalar`."""
    vector = ir.VectorType(scalar.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def as_lanes(context: Any, builder: Any, kind: Lanes, have: types.Type, value: Any) -> Any:
    """`value` as lanes of `kind`: numbers are cast and broadcast."""
    if isinstance(have, Lanes):
        return value
    return broadcast(builder, context.cast(builder, value, have, kind.element), kind.count)


# ------------------------------------------------------------------------------------- operators


def lanes_among(args: Any) -> Lanes | None:
    """The Lanes type among operands that are Lanes or numbers, or None."""
    kinds = {arg for arg in args if isinstance(arg, Lanes)}
    if len(kinds) == 1 and all(isinstance(arg, (Lanes, types.Number)) for arg in args):
        return kinds.pop()
    return None


def register_operator(op: Any, emit: dict[type, Any]) -> None:
    """Teach Numba `op` between Lanes, or Lanes and a number: what to emit by the kind of the elements."""

    @infer_global(op)
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kind = lanes_among(args) if len(args) == 2 else None
            return signature(kind, *args) if kind is not None and type(kind.element) in emit else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x, y = (as_lanes(context, builder, sig.return_type, t, v) for t, v in zip(sig.args, args, strict=True))
        return emit[type(sig.return_type.element)](builder, x, y)

    lower_builtin(op, Lanes, Lanes)(lower)
    lower_builtin(op, Lanes, types.Number)(lower)
    lower_builtin(op, types.Number, Lanes)(lower)


def word_product(builder: Any, x: Any, y: Any) -> Any:
    """x y of 32-bit factors: one instruction, once the compiler sees that there are no other bits."""
    mask = ir.Constant(x.type, [0xFFFFFFFF] * x.type.count)
    return builder.mul(builder.and_(x, mask), builder.and_(y, mask))


BUILDER = ir.IRBuilder
ON_FLOATS = {
    operator.add: BUILDER.fadd,
    operator.iadd: BUILDER.fadd,
    operator.sub: BUILDER.fsub,
    operator.mul: BUILDER.fmul,
    operator.truediv: BUILDER.fdiv,
}
ON_WORDS = {
    operator.mul: word_product,
    operator.xor: BUILDER.xor,
    operator.and_: BUILDER.and_,
    operator.rshift: BUILDER.lshr,
}
BY_KIND = ((types.Float, ON_FLOATS), (types.Integer, ON_WORDS))
for _op in ON_FLOATS | ON_WORDS:
    register_operator(_op, {kind: emitters[_op] for kind, emitters in BY_KIND if _op in emitters})


@infer_global(operator.neg)
class NegTemplate(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Lanes) else None


@lower_builtin(operator.neg, Lanes)
def lower_neg(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])
