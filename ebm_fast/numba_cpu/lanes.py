"""`Lanes`: one vector register as a Numba type, so that a kernel says itself what is in a register.

A kernel holds the same element of several samples in the lanes of a register: there is no
cross-lane operation in any network, so every channel count, group size and image width uses all
lanes. +, -, *, / and unary - work between two Lanes, or Lanes and a number (cast to the lanes'
type); per-element formulas written for numbers therefore compile for Lanes as they stand.

    vload(a, i)  vstore(a, i, x)      x = a[i : i + count] of a flat array; no bounds or wraparound checks
    vstore4(a, i, x, y, z, w)         a[i + 4 l : i + 4 l + 4] = lane l of x, y, z, w
    vstore_first(a, i, x, n)          the first n lanes of x, all or none where n is more or less than that
    vsplat(a, i)                      every lane = a[i]
    vcount(a)                         lanes of a register of a's elements
    vwords(a)                         room for four times so many uint64, on the stack: gone when the function ends
    vlike(x, number)                  every lane = number
    vfma(x, y, z) = x y + z           vmax vmin vsqrt vabs vround (to the nearest integer, ties to even)
    vwhere(x, y, z)                   y where x > 0, else z; vmax, vmin give y where x or y is NaN
    vpow2(x) = 2^x for integral x     vsplit(x) -> m in [1/sqrt2, sqrt2), e with x = m 2^e  (float32, x normal)
    vlibm(name, x)                    the C library's `name`, lane by lane

A `HalfArray` is read in half registers: tiles of few samples, at half the cost. Arrays may also be read one number at a
time (`lanes_type`), by instructions that take a tile of one sample.

With NUMBA_DISABLE_JIT=1 the same names act on NumPy slices of `count` elements.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model, typeof_impl
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from .build import JIT, VECTOR_BYTES

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
    """One vector register of `element` (float32 or float64), or a part of one."""

    def __init__(self, element: types.Float, part: str) -> None:
        self.element = element
        self.count = lane_count(element.name, part)
        super().__init__(name=f"Lanes({element} x {self.count})")


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


def register_operator(op: Any, emit: str) -> None:
    """Teach Numba `op` between Lanes, or Lanes and a number."""

    @infer_global(op)
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kind = lanes_among(args) if len(args) == 2 else None
            return None if kind is None else signature(kind, *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x, y = (as_lanes(context, builder, sig.return_type, t, v) for t, v in zip(sig.args, args, strict=True))
        return getattr(builder, emit)(x, y)

    lower_builtin(op, Lanes, Lanes)(lower)
    lower_builtin(op, Lanes, types.Number)(lower)
    lower_builtin(op, types.Number, Lanes)(lower)


for _op, _emit in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"),
):
    register_operator(_op, _emit)


@infer_global(operator.neg)
class NegTemplate(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Lanes) else None


@lower_builtin(operator.neg, Lanes)
def lower_neg(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


# ------------------------------------------------------------------------------------ intrinsics


def element_pointer(context: Any, builder: Any, kind: Any, array: Any, index_type: Any, index: Any) -> Any:
    """Address of element `index` of a flat array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, index, index_type, types.intp)])


def lanes_in(kind: Any) -> Lanes:
    """The lanes that an array of type `kind` is read in."""
    return Lanes(kind.dtype, ONE if kind.layout == "F" else (WHOLE if kind.aligned else HALF))


def vector_pointer(context: Any, builder: Any, kind: Any, array: Any, index_type: Any, index: Any) -> Any:
    """Address of the vector that starts there."""
    vector = ir.VectorType(context.get_value_type(kind.dtype), lanes_in(kind).count)
    return builder.bitcast(element_pointer(context, builder, kind, array, index_type, index), vector.as_pointer())


def elementwise(typingctx: Any, args: Any, emit: Any) -> Any:
    """Signature and code of an intrinsic whose operands become lanes of one type."""
    kind = lanes_among(args)
    if kind is None:
        return None

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        lanes = [as_lanes(context, builder, kind, t, v) for t, v in zip(sig.args, values, strict=True)]
        return emit(builder, lanes)

    return signature(kind, *args), codegen


def llvm_call(name: str) -> Any:
    """Emitter of the LLVM intrinsic `name` on vectors."""

    def emit(builder: Any, lanes: Any) -> Any:
        vector = lanes[0].type
        suffix = f"v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * len(lanes)), f"llvm.{name}.{suffix}"
        )
        return builder.call(function, lanes)

    return emit


def select_by(comparison: str) -> Any:
    """Emitter of: x where x `comparison` y, else y."""
    return lambda builder, lanes: builder.select(builder.fcmp_ordered(comparison, *lanes), *lanes)


def emit_where(builder: Any, lanes: Any) -> Any:
    zero = ir.Constant(lanes[0].type, None)
    return builder.select(builder.fcmp_ordered(">", lanes[0], zero), lanes[1], lanes[2])


def constant(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def join_lanes(builder: Any, x: Any, y: Any, order: Any) -> Any:
    """The vector of the lanes `order` of x and y, those of y counted on from x's."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return builder.shuffle_vector(x, y, mask)


def emit_pow2(builder: Any, lanes: Any) -> Any:
    """Write the integer x + bias into the exponent bits."""
    bits, fraction = (32, 23) if isinstance(lanes[0].type.element, ir.FloatType) else (64, 52)
    integer = ir.VectorType(ir.IntType(bits), lanes[0].type.count)
    bias = constant(integer, 127 if bits == 32 else 1023)
    exponent = builder.add(builder.fptosi(lanes[0], integer), bias)
    return builder.bitcast(builder.shl(exponent, constant(integer, fraction)), lanes[0].type)


def split_bits(builder: Any, x: Any) -> tuple[Any, Any]:
    """(mantissa in [1/sqrt2, sqrt2), exponent as integers) of float32 lanes."""
    integer = ir.VectorType(ir.IntType(32), x.type.count)
    shifted = builder.sub(builder.bitcast(x, integer), constant(integer, 0x3F3504F3))  # bits of 1/sqrt2
    exponent = builder.ashr(shifted, constant(integer, 23))
    fraction = builder.and_(shifted, constant(integer, 0x007FFFFF))
    mantissa = builder.bitcast(builder.add(fraction, constant(integer, 0x3F3504F3)), x.type)
    return mantissa, exponent


if JIT:

    @intrinsic
    def vload(typingctx, array, index):
        def codegen(context, builder, sig, args):
            pointer = vector_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
            return builder.load(pointer, align=sig.args[0].dtype.bitwidth // 8)

        return signature(lanes_in(array), array, index), codegen

    @intrinsic
    def vstore(typingctx, array, index, value):
        def codegen(context, builder, sig, args):
            pointer = vector_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
            builder.store(args[2], pointer, align=sig.args[0].dtype.bitwidth // 8)
            return context.get_dummy_value()

        return signature(types.void, array, index, value), codegen

    @intrinsic
    def vstore4(typingctx, array, index, x, y, z, w):
        def codegen(context, builder, sig, args):
            count = args[2].type.count
            place = element_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
            halves = [join_lanes(builder, *args[k : k + 2], range(2 * count)) for k in (2, 4)]
            turned = join_lanes(builder, *halves, [k * count + l for l in range(count) for k in range(4)])
            pointer = builder.bitcast(place, turned.type.as_pointer())
            builder.store(turned, pointer, align=sig.args[0].dtype.bitwidth // 8)
            return context.get_dummy_value()

        return signature(types.void, array, index, x, y, z, w), codegen

    @intrinsic
    def vstore_first(typingctx, array, index, value, number):
        def codegen(context, builder, sig, args):
            vector, word = args[2].type, ir.IntType(64)
            lanes = ir.Constant(ir.VectorType(word, vector.count), list(range(vector.count)))
            number = broadcast(builder, context.cast(builder, args[3], sig.args[3], types.int64), vector.count)
            mask = builder.icmp_signed("<", lanes, number)
            pointer = vector_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
            align = ir.Constant(ir.IntType(32), sig.args[0].dtype.bitwidth // 8)
            kind = ir.FunctionType(ir.VoidType(), [vector, pointer.type, align.type, mask.type])
            name = f"llvm.masked.store.v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}.p0"
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [args[2], pointer, align, mask])
            return context.get_dummy_value()

        return signature(types.void, array, index, value, number), codegen

    @intrinsic
    def vsplat(typingctx, array, index):
        kind = lanes_in(array)

        def codegen(context, builder, sig, args):
            pointer = element_pointer(context, builder, sig.args[0], args[0], sig.args[1], args[1])
            return broadcast(builder, builder.load(pointer), kind.count)

        return signature(kind, array, index), codegen

    @intrinsic
    def vcount(typingctx, array):
        count = lanes_in(array).count
        return signature(types.intp, array), lambda context, builder, sig, args: context.get_constant(types.intp, count)

    @intrinsic
    def vwords(typingctx, array):
        words, count = types.Array(types.uint64, 1, "C"), 4 * lanes_in(array).count

        def codegen(context, builder, sig, args):
            place = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), count))
            data = builder.bitcast(place, ir.IntType(64).as_pointer())
            size, step = (context.get_constant(types.intp, number) for number in (count, 8))
            room = context.make_array(words)(context, builder)
            populate_array(room, data, [size], [step], step, None)
            return room._getvalue()

        return signature(words, array), codegen

    @intrinsic
    def vlike(typingctx, x, number):
        def codegen(context, builder, sig, args):
            return as_lanes(context, builder, sig.args[0], sig.args[1], args[1])

        return signature(x, x, number), codegen

    @intrinsic
    def vfma(typingctx, x, y, z):
        return elementwise(typingctx, (x, y, z), llvm_call("fmuladd"))

    @intrinsic
    def vmax(typingctx, x, y):
        return elementwise(typingctx, (x, y), select_by(">"))

    @intrinsic
    def vmin(typingctx, x, y):
        return elementwise(typingctx, (x, y), select_by("<"))

    @intrinsic
    def vsqrt(typingctx, x):
        return elementwise(typingctx, (x,), llvm_call("sqrt"))

    @intrinsic
    def vabs(typingctx, x):
        return elementwise(typingctx, (x,), llvm_call("fabs"))

    @intrinsic
    def vround(typingctx, x):
        return elementwise(typingctx, (x,), llvm_call("rint"))

    @intrinsic
    def vwhere(typingctx, x, y, z):
        return elementwise(typingctx, (x, y, z), emit_where)

    @intrinsic
    def vpow2(typingctx, x):
        return elementwise(typingctx, (x,), emit_pow2)

    @intrinsic
    def vsplit(typingctx, x):
        def codegen(context, builder, sig, args):
            mantissa, exponent = split_bits(builder, args[0])
            pair = (mantissa, builder.sitofp(exponent, args[0].type))
            return context.make_tuple(builder, sig.return_type, pair)

        return signature(types.UniTuple(x, 2), x), codegen

    @intrinsic(prefer_literal=True)
    def vlibm(typingctx, name, x):
        if not isinstance(name, types.StringLiteral):
            return None
        symbol = name.literal_value + ("f" if x.element.bitwidth == 32 else "")

        def codegen(context, builder, sig, args):
            vector = args[1].type
            kind = ir.FunctionType(vector.element, [vector.element])
            function = cgutils.get_or_insert_function(builder.module, kind, symbol)
            out = ir.Constant(vector, ir.Undefined)
            for i in range(vector.count):
                place = ir.Constant(ir.IntType(32), i)
                lane = builder.call(function, [builder.extract_element(args[1], place)])
                out = builder.insert_element(out, lane, place)
            return out

        return signature(x, name, x), codegen

else:
    vmax, vmin, vsqrt, vabs, vround = np.maximum, np.minimum, np.sqrt, np.abs, np.rint

    def vload(array, index):
        return array[index : index + vcount(array)].copy()

    def vstore(array, index, value):
        array[index : index + vcount(array)] = value

    def vstore4(array, index, *rows):
        array.reshape(-1)[index : index + 4 * len(rows[0])] = np.stack(rows, axis=1).ravel()

    def vstore_first(array, index, value, number):
        number = min(max(number, 0), len(value))
        array[index : index + number] = value[:number]

    def vsplat(array, index):
        return np.full(vcount(array), array[index])

    def vcount(array):
        part = ONE if isinstance(array, OneArray) else (HALF if isinstance(array, HalfArray) else WHOLE)
        return lane_count(array.dtype, part)

    def vwords(array):
        return np.empty(4 * vcount(array), np.uint64)

    def vlike(x, number):
        return np.full_like(x, number)

    def vfma(x, y, z):
        with np.errstate(invalid="ignore"):
            return x * y + z

    def vwhere(x, y, z):
        return np.where(x > 0, y, z).astype(x.dtype)

    def vpow2(x):
        return np.ldexp(np.ones_like(x), x.astype(np.int32))

    def vsplit(x):
        mantissa, exponent = np.frexp(x)
        low = mantissa < np.float32(math.sqrt(0.5))
        return np.where(low, 2 * mantissa, mantissa), (exponent - low).astype(x.dtype)

    def vlibm(name, x):
        return np.array([getattr(math, name)(lane) for lane in x], dtype=x.dtype)
