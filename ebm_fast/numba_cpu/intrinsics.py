"""The vocabulary of `lanes` for the compiler: each name an intrinsic that emits one or a few vector instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .build import VECTOR_BYTES
from .registers import HALF, ONE, WHOLE, Lanes, as_lanes, broadcast, lane_count, lanes_among


def element_pointer(context: Any, builder: Any, kind: Any, array: Any, index_type: Any, index: Any) -> Any:
    """Address of element `index` of a flat array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, index, index_type, types.intp)])


def lanes_in(kind: Any) -> Lanes:
    """The lanes that an array of type `kind` is read in."""
    part = ONE if kind.layout == "F" else (WHOLE if kind.aligned else HALF)
    return Lanes(kind.dtype, lane_count(kind.dtype.name, part))


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
    """Shift the last bits of the mantissa, n + 127, into the exponent."""
    integer = ir.VectorType(ir.IntType(32), lanes[0].type.count)
    return builder.bitcast(builder.shl(builder.bitcast(lanes[0], integer), constant(integer, 23)), lanes[0].type)


def emit_reciprocal(builder: Any, lanes: Any) -> Any:
    """Division, or where that is slower an estimate of 14 bits and two of Newton's steps."""
    x = lanes[0]
    one = ir.Constant(x.type, [1.0] * x.type.count)
    if VECTOR_BYTES < 64 or x.type.count < 4:
        return builder.fdiv(one, x)
    mask = ir.IntType(max(8, x.type.count))
    kind = ir.FunctionType(x.type, [x.type, x.type, mask])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.rcp14.ps.{32 * x.type.count}")
    y = builder.call(function, [x, ir.Constant(x.type, None), mask(-1)])
    fma = llvm_call("fma")
    for _ in range(2):
        y = fma(builder, [fma(builder, [builder.fneg(x), y, one]), y, y])
    return y


def split_bits(builder: Any, x: Any) -> tuple[Any, Any]:
    """(mantissa in [1/sqrt2, sqrt2), exponent as integers) of float32 lanes."""
    integer = ir.VectorType(ir.IntType(32), x.type.count)
    shifted = builder.sub(builder.bitcast(x, integer), constant(integer, 0x3F3504F3))  # bits of 1/sqrt2
    exponent = builder.ashr(shifted, constant(integer, 23))
    fraction = builder.and_(shifted, constant(integer, 0x007FFFFF))
    mantissa = builder.bitcast(builder.add(fraction, constant(integer, 0x3F3504F3)), x.type)
    return mantissa, exponent


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
        if isinstance(sig.args[2].element, types.Integer):
            turned = builder.trunc(turned, ir.VectorType(place.type.pointee, turned.type.count))
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
def vwhere(typingctx, x, y, z):
    return elementwise(typingctx, (x, y, z), emit_where)


@intrinsic
def vpow2(typingctx, t):
    return elementwise(typingctx, (t,), emit_pow2)


@intrinsic
def vreciprocal(typingctx, x):
    return elementwise(typingctx, (x,), emit_reciprocal)


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


@intrinsic
def vouter(typingctx, acc, x, array, index, step):
    def codegen(context, builder, sig, args):
        fma, count = llvm_call("fmuladd"), acc.dtype.count
        rows = [cgutils.unpack_tuple(builder, row) for row in cgutils.unpack_tuple(builder, args[0])]
        registers = cgutils.unpack_tuple(builder, args[1])
        index, step = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (3, 4))
        for j in range(count):
            pointer = element_pointer(context, builder, sig.args[2], args[2], types.intp, index)
            v = broadcast(builder, builder.load(pointer), x.dtype.count)
            for row, register in zip(rows, registers, strict=True):
                row[j] = fma(builder, [v, register, row[j]])
            index = builder.add(index, step)
        made = [context.make_tuple(builder, acc.dtype, row) for row in rows]
        return context.make_tuple(builder, acc, made)

    return signature(acc, acc, x, array, index, step), codegen
