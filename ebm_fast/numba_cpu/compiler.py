"""What Numba does on the way from a kernel to its machine code, without what our kernels do not need.

Numba makes machine code of every function, though of one that is only inlined nobody calls it; it makes each small
before and again after what it calls is inlined; it looks for closures, array expressions and overloads to inline, of
which kernels have none. Left out, the first step of a network comes a quarter sooner; the code is as fast, and its
results are the same to the bit.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import codegen, compiler

UNUSED = {"inline_closure_likes", "inline_overloads", "nopython_rewrites"}  # passes, by name


class KernelLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """LLVM's code of a kernel, made small after the functions that it calls are inlined and not before as well."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout


class InnerLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """LLVM's code of a function that is only inlined: made small by itself, and never machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """0: there is none."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, env: Any) -> None:
        """What a codegen does with the Python objects of machine code."""


class KernelCompiler(compiler.Compiler):  # type: ignore[misc]
    """Numba's compiler without the passes of UNUSED, and without the garbage collector's visits."""

    library: type[codegen.JITCodeLibrary] = KernelLibrary

    def define_pipelines(self) -> list[Any]:
        self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        pipelines: list[Any] = super().define_pipelines()
        for pipeline in pipelines:
            pipeline.passes = [step for step in pipeline.passes if step[0].name() not in UNUSED]
        return pipelines

    def compile_extra(self, function: Any) -> Any:
        with no_collector():
            return super().compile_extra(function)


class InnerCompiler(KernelCompiler):
    """Up to LLVM's code."""

    library = InnerLibrary


@contextmanager
def no_collector() -> Iterator[None]:
    """Compiling makes many objects and little garbage: without the collector's visits it is a tenth quicker."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
