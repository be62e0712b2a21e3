"""How kernels are compiled: one decorator, safe flags, and a cache that cannot be stale.

`kernel` is an entry point: compiled on first call, without the interpreter lock, cached on disk.
`inner` is a function that only kernels call: it is inlined into them, so it has no cache of its own.
`instruction` is a kernel that `machine` calls by address.
No parallel=True (its thread layers abort on two Python threads or on fork), no global random state,
and only the fast-math flags that keep NaN and infinity meaning what they mean.

Numba's cache knows a function by its own file. A kernel here is linked from many files, so an edit
of a helper would bring back the old machine code. Hence a cached kernel is stamped with a digest of
all sources that can be part of it, and of the vector width; and its file is named after what it
holds, so two processes that save different variants at once cannot mix them up.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import caching, cgutils, types
from numba.extending import intrinsic

from ebm_ref.contracts import check_choice

from .compiler import InnerCompiler, KernelCompiler

FASTMATH = {"contract", "nsz"}  # sums keep their order and divisions are exact, whatever the width; NaN is kept
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # never called from Python: quicker to compile
NO_NEW_ARRAYS = {"_nrt": False}  # no counting of references, which only a function that makes arrays needs: the same
JIT = not numba.config.DISABLE_JIT
PART, IDS = 4, 6  # where A holds which part of the threads on a tile this is and of how many, and the chain ids
YIELD = os.name == "posix"  # there is a sched_yield
COLUMNS = 12  # of a program of `machine`: what to do, and its operands


def vector_bytes() -> int:
    """Bytes of one vector register: 64 (AVX-512), 32 (AVX2), else 16, or fewer where EBM_VECTOR_BYTES says so."""
    features = llvm.get_host_cpu_features()
    widest = 32 if features.get("avx2") else 16
    if features.get("avx512f") and features.get("avx512dq"):
        widest = 64
    wanted = os.environ.get("EBM_VECTOR_BYTES", "") or str(widest)
    choices = [str(size) for size in (16, 32, 64) if size <= widest]
    check_choice("EBM_VECTOR_BYTES", wanted, choices)
    return int(wanted)


VECTOR_BYTES = vector_bytes()


def sources_digest(files: list[Path]) -> str:
    """SHA-256 over the names and contents of `files` and the vector width."""
    digest = hashlib.sha256(f"{VECTOR_BYTES}".encode())
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


HERE = Path(__file__).resolve().parent
SOURCES = [*HERE.glob("*.py"), HERE.parent / "scalar.py"]
DIGEST = sources_digest(SOURCES)


class KernelIndex(caching.IndexDataCacheFile):
    """Numba's index, with each variant's file named after key and digest instead of the next free number."""

    def save(self, key: Any, data: Any) -> None:
        overloads = self._load_index()
        number = int(hashlib.sha256(f"{key!r} {DIGEST}".encode()).hexdigest()[:16], 16)
        name = overloads[key] = self._data_name(number)
        self._save_data(name, data)
        self._save_index(overloads)


class KernelCache(caching.FunctionCache):
    """Numba's cache of one function, stamped with the digest of every kernel source."""

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        base = f"{self._impl.filename_base}.{VECTOR_BYTES}"  # each width keeps its own
        self._cache_file = KernelIndex(self._cache_path, base, DIGEST)

    def holds(self, signature: Any, context: Any) -> bool:
        """Whether the machine code for `signature` is on disk."""
        return self._index_key(signature, context.codegen()) in self._cache_file._load_index()


def kernel(function: Any, **options: Any) -> Any:
    """Compile `function` on first call; keep the machine code on disk where Numba would keep it."""
    dispatcher = numba.njit(**OPTIONS, no_cfunc_wrapper=True, pipeline_class=KernelCompiler, **options)(function)
    if JIT:
        try:
            dispatcher._cache = KernelCache(function)
        except RuntimeError:  # no writable place for a cache (say, a zip or a read-only install): compile per process
            return dispatcher
    return dispatcher


def inner(function: Any) -> Any:
    """Compile `function`, which makes no array, into the kernels that call it."""
    options = OPTIONS | NO_WRAPPERS | NO_NEW_ARRAYS
    return numba.njit(**options, forceinline=True, pipeline_class=InnerCompiler)(function)


def instruction(function: Any) -> Any:
    """Compile `function`(row, T, W, S, G, A), which makes no array, on first use as an instruction of `machine`.

    It is cached like a kernel. The machine calls it by address, so that it is compiled once and not again into every
    program runner.
    """
    return kernel(function, no_cpython_wrapper=True, **NO_NEW_ARRAYS)


@inner
def tile_width(A):
    """Samples of a tile: A holds four words of the noise's address, part and parts, then a chain id for each sample."""
    return A.shape[0] - IDS


@inner
def span(A, rows, lanes):
    """The numbers of `rows` rows that this part does, whole registers: from the first to before the second."""
    begin, end = share(A, (rows * tile_width(A) + lanes - 1) // lanes)
    return begin * lanes, end * lanes


@inner
def share(A, count):
    """The numbers below `count` that this part of the threads on a tile does: from the first to before the second."""
    part, parts = np.int64(A[PART]), np.int64(A[PART + 1])
    return count * part // parts, count * (part + 1) // parts


def instruction_signature(number: Any) -> Any:
    """row: COLUMNS integers; T: int64; W, S, G: arrays of type `number`; A: uint64; all flat."""
    row = types.UniTuple(types.int64, COLUMNS)
    index = types.Array(types.int64, 1, "C")
    return types.void(row, index, number, number, number, types.Array(types.uint64, 1, "C"))


def held(dispatcher: Any, number: Any) -> bool:
    """Whether an instruction need not be compiled in a way that other processes notice: it is on disk, or cannot be."""
    cache = dispatcher._cache
    return not isinstance(cache, KernelCache) or cache.holds(instruction_signature(number), dispatcher.targetctx)


def address(dispatcher: Any, number: Any) -> int:
    """Where the machine code of an instruction on arrays of type `number` lies; compiles it, or takes the cached."""
    signature = instruction_signature(number)
    dispatcher.compile(signature)
    compiled = dispatcher.overloads[signature.args]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


@intrinsic
def row_of(typingctx, P, i):
    """The first COLUMNS numbers of row i of P, which has two more."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        start = builder.mul(args[1], args[1].type(COLUMNS + 2))
        places = [builder.gep(data, [builder.add(start, start.type(j))]) for j in range(COLUMNS)]
        return context.make_tuple(builder, sig.return_type, [builder.load(place) for place in places])

    return types.UniTuple(types.int64, COLUMNS)(P, types.intp), codegen


SPINS = 1 << 12  # looks of a waiting thread before it lets others have the processor


@intrinsic
def meet(typingctx, arrived, count):
    """Add 1 to arrived[0], then wait until it is `count`: what threads wrote before is seen by all after."""

    def codegen(context, builder, sig, args):
        word = ir.IntType(64)
        place = context.make_array(sig.args[0])(context, builder, args[0]).data
        builder.atomic_rmw("add", place, word(1), "seq_cst")
        look, wait, rest, done = (builder.append_basic_block(name) for name in ("look", "wait", "rest", "done"))
        start = builder.block
        builder.branch(look)
        builder.position_at_end(look)
        turn = builder.phi(word)
        turn.add_incoming(word(0), start)
        now = builder.load_atomic(place, "acquire", 8)
        builder.cbranch(builder.icmp_signed("<", now, args[1]), wait, done)
        builder.position_at_end(wait)
        following = builder.add(turn, word(1))
        turn.add_incoming(following, wait)
        if YIELD:
            turn.add_incoming(following, rest)
            builder.cbranch(builder.icmp_signed("<", following, word(SPINS)), look, rest)
            builder.position_at_end(rest)
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        builder.branch(look)
        if not YIELD:
            builder.position_at_end(rest)
            builder.unreachable()
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(arrived, types.int64), codegen


@intrinsic
def call_address(typingctx, where, row, T, W, S, G, A):
    """Call the instruction at `where`."""
    args = (row, T, W, S, G, A)

    def codegen(context, builder, sig, values):
        kind = context.call_conv.get_function_type(types.void, args)
        function = builder.inttoptr(values[0], kind.as_pointer())
        status, _ = context.call_conv.call_function(builder, function, types.void, args, values[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(where, *args), codegen
