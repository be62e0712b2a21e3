"""The words of `lanes` for the compiler: 32-bit numbers in 64-bit lanes, as many as a register of floats has."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .intrinsics import constant, element_pointer, lanes_in
from .registers import Lanes, as_lanes


def words_of(array: Any) -> Lanes:
    """Lanes of words, as many as a register of the elements of an array of type `array` has."""
    return Lanes(types.uint64, lanes_in(array).count)


@intrinsic
def vwords(typingctx, array, words, index):
    kind = words_of(array)

    def codegen(context, builder, sig, args):
        place = element_pointer(context, builder, sig.args[1], args[1], sig.args[2], args[2])
        vector = ir.VectorType(ir.IntType(64), kind.count)
        return builder.load(builder.bitcast(place, vector.as_pointer()), align=8)

    return signature(kind, array, words, index), codegen


@intrinsic
def vword(typingctx, array, word):
    kind = words_of(array)

    def codegen(context, builder, sig, args):
        return as_lanes(context, builder, kind, sig.args[1], args[1])

    return signature(kind, array, word), codegen


@intrinsic
def vcounting(typingctx, array, word):
    kind = words_of(array)

    def codegen(context, builder, sig, args):
        first = as_lanes(context, builder, kind, sig.args[1], args[1])
        return builder.add(first, ir.Constant(first.type, list(range(kind.count))))

    return signature(kind, array, word), codegen


@intrinsic
def vnumbers(typingctx, array, words):
    kind = lanes_in(array)

    def codegen(context, builder, sig, args):
        word = builder.trunc(args[1], ir.VectorType(ir.IntType(32), kind.count))
        return builder.uitofp(word, ir.VectorType(context.get_value_type(kind.element), kind.count))

    return signature(kind, array, words), codegen


@intrinsic
def vangle(typingctx, array, words):
    kind = lanes_in(array)

    def codegen(context, builder, sig, args):
        integer = ir.VectorType(ir.IntType(32), kind.count)
        rest = builder.shl(builder.trunc(args[1], integer), constant(integer, 2))  # modulo 2^32, a whole quarter turn
        rest = builder.sitofp(rest, ir.VectorType(context.get_value_type(kind.element), kind.count))
        return builder.fmul(rest, ir.Constant(rest.type, [2.0**-32] * kind.count))

    return signature(kind, array, words), codegen


@intrinsic
def vturn(typingctx, words, sine, cosine):
    def codegen(context, builder, sig, args):
        bits = sine.element.bitwidth
        integer = ir.VectorType(ir.IntType(bits), sine.count)
        word, *pair = args
        word = builder.trunc(word, integer) if bits < 64 else word
        turns = builder.add(word, constant(integer, 1 << 29))  # the quarter turns are bits 30 and 31
        odd = builder.icmp_unsigned("!=", builder.and_(turns, constant(integer, 1 << 30)), constant(integer, 0))
        pair = [builder.select(odd, *pair[::-1]), builder.select(odd, *pair)]
        for i, first in enumerate((turns, builder.add(turns, constant(integer, 1 << 30)))):
            sign = builder.and_(first, constant(integer, 1 << 31))
            sign = builder.shl(sign, constant(integer, bits - 32))
            flipped = builder.xor(builder.bitcast(pair[i], integer), sign)
            pair[i] = builder.bitcast(flipped, args[1].type)
        return context.make_tuple(builder, sig.return_type, pair)

    return signature(types.UniTuple(sine, 2), words, sine, cosine), codegen
