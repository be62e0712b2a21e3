"""How kernels are compiled: what is left out of Numba's way from a function to its machine code."""

import gc

import numpy as np
import pytest
from numba.core.errors import TypingError
from numba.extending import overload

from ebm_fast.numba_cpu import build, compiler
from ebm_fast.numba_cpu.registers import WHOLE, lanes_type

needs_compiler = pytest.mark.skipif(not build.JIT, reason="there is no compiler")


def double_and_quadruple():
    """A function and a kernel that calls it twice, compiled for an integer."""

    @build.inner
    def double(x):
        return 2 * x

    @build.kernel
    def quadruple(x):
        return double(double(x))

    assert quadruple(3) == 12
    return double, quadruple


def passes_of(kernel):
    """The names of what Numba did to it."""
    times = kernel.get_metadata(kernel.signatures[0])["pipeline_times"]["nopython"]
    return {name.split("_", 1)[1] for name in times}


@needs_compiler
def test_inner__has_machine_code_in_kernels_only():
    compiled = [next(iter(function.overloads.values())) for function in double_and_quadruple()]
    names = [one.fndesc.llvm_func_name for one in compiled]
    engine = compiled[0].library._codegen._engine
    assert [engine.is_symbol_defined(name) for name in names] == [False, True]
    assert names[0] not in compiled[1].library.get_asm_str()  # not even as something that is called


@needs_compiler
def test_kernel__skips_passes_that_no_kernel_needs(monkeypatch):
    some = [passes_of(kernel) for kernel in double_and_quadruple()]
    assert all("native_lowering" in passes and not passes & compiler.UNUSED for passes in some)
    unused = compiler.UNUSED
    monkeypatch.setattr(compiler, "UNUSED", set())
    assert passes_of(double_and_quadruple()[1]) >= unused  # Numba has them under these names


@needs_compiler
def test_kernel__is_compiled_without_the_collector():
    seen = []

    def probe(x):
        return x

    @overload(probe)
    def probe_by_type(x):
        seen.append(gc.isenabled())
        return lambda x: x

    @build.kernel
    def ask(x):
        return probe(x)

    assert ask(1) == 1 and gc.isenabled()
    assert seen and not any(seen)


@needs_compiler
def test_instruction__makes_no_array():
    @build.instruction
    def wasteful(row, T, W, S, G, A):
        S[0] = np.empty(3, S.dtype).shape[0]

    with pytest.raises(TypingError, match="Only accept returning of array passed into the function"):
        build.address(wasteful, lanes_type(np.float32, WHOLE))
