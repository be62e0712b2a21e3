"""Who is timed: numba_cpu, and every variant of every peer; a worker of each is a process of its own.

A peer is what a row is against; the fastest of its variants counts. `--against` names libraries: torch brings the
peers torch (the best of one process and one Python thread) and torch half batches, numpy brings NumPy, ebm_ref in
float32 and lists.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import ebm_ref
from ebm_fast import backend
from ebm_ref.contracts import BackendError, check_choice

from .backends import Prepared
from .backends import prepare as prepare_backend
from .cases import Case

AGAINST = ("torch", "torchebm", "jax", "numpy")
NEEDS = {"torch": ("torch",), "torchebm": ("torch", "torchebm"), "jax": ("jax",), "numpy": ()}
OURS, SGEMM = "numba_cpu", "sgemm"
KEEP = (  # glibc hands no big block back to the kernel; the first is the most that it takes
    ("MALLOC_MMAP_THRESHOLD_", str(1 << 25)),
    ("MALLOC_TRIM_THRESHOLD_", str(1 << 30)),
    ("MALLOC_TOP_PAD_", str(1 << 26)),
)


@dataclass(frozen=True)
class Stack:
    """One variant of one peer.

    module: of this package, whose prepare(how, case) does it; "" for a backend of the project, which `how` names
    env: of its process   may_fail: where it cannot be prepared it is left out, with a word.
    """

    library: str
    peer: str
    variant: str
    module: str
    how: str
    benches: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    may_fail: bool = False

    @property
    def name(self) -> str:
        return f"{self.peer} {self.variant}".strip()

    def fits(self, case: Case) -> bool:
        """Whether it can do the case."""
        kind = case.net.kind if case.net else ""
        return (
            case.bench in self.benches
            and not (case.threads == 1 and self.how == "threads")
            and not ("halves" in self.how and (case.n < 2 or case.threads == 1))
            and not ("manual" in self.how and (kind != "MLPEnergy" or case.bench != "chain"))
        )


def torch_variant(peer: str, variant: str, how: str, *benches: str, keep: bool = True, may_fail: bool = False) -> Stack:
    return Stack("torch", peer, variant, "torch_stack", how, benches, KEEP if keep else (), may_fail)


HALVES = "torch half batches"
STACKS = (
    Stack("", OURS, "", "", OURS, ("chain", "pcd", "noise", "buffer", "start", "functions")),
    torch_variant("torch", "eager", "eager", "chain", "pcd", "start", keep=False),
    torch_variant("torch", "eager, malloc", "eager", "chain", "pcd"),
    torch_variant("torch", "by hand, malloc", "manual", "chain"),
    torch_variant("torch", "compiled, malloc", "compile", "chain", may_fail=True),
    torch_variant("torch", "randn", "eager", "noise", keep=False),
    torch_variant("torch", "normal_", "in_place", "noise", keep=False),
    torch_variant(HALVES, "eager", "eager halves", "chain", "pcd", "noise", keep=False),
    torch_variant(HALVES, "eager, malloc", "eager halves", "chain", "pcd"),
    torch_variant(HALVES, "by hand, malloc", "manual halves", "chain"),
    Stack("torchebm", "torchebm", "malloc", "torch_stack", "torchebm", ("chain",), KEEP),
    Stack("jax", "jax", "jit and scan", "jax_stack", "", ("chain", "pcd", "noise", "start")),
    Stack("numpy", "numpy", "ebm_ref, float32", "", "ebm_ref", ("chain", "pcd", "start", "functions")),
    Stack("numpy", "numpy", "PCG64", "numpy_stack", "pcg64", ("noise",)),
    Stack("numpy", "numpy", "PCG64, two threads", "numpy_stack", "threads", ("noise",)),
    Stack("numpy", "numpy", "fancy indexing", "numpy_stack", "fancy", ("buffer",)),
    Stack("numpy", "python list", "", "numpy_stack", "list", ("buffer",)),
    Stack("", SGEMM, "", "numpy_stack", "sgemm", ("chain", "pcd")),
)


def missing(library: str) -> tuple[str, ...]:
    """Modules of a library of AGAINST that are not installed."""
    return tuple(module for module in NEEDS[library] if find_spec(module) is None)


def libraries(against: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The libraries to be compared with, and those of AGAINST that are missing. against: "torch,jax"; None: installed.

    Raises RangeError for an unknown one, BackendError for one that is named and not installed.
    """
    if against is None:
        absent = tuple(name for name in AGAINST if missing(name))
        return tuple(name for name in AGAINST if name not in absent), absent
    names = tuple(dict.fromkeys(name.strip() for name in against.split(",")))
    for name in names:
        check_choice("--against", name, AGAINST)
        if missing(name):
            raise BackendError(
                f"--against {name}: needs {', '.join(missing(name))}, not installed here; pip install it"
            )
    return names, ()


def stacks_of(case: Case, names: Sequence[str]) -> list[Stack]:
    """Who takes part in a case: ours first, sgemm last."""
    taking = [stack for stack in STACKS if stack.library in ("", *names) and stack.fits(case)]
    compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))
    return [stack for stack in taking if compiler or stack.how != "compile"]


def stack_named(name: str) -> Stack:
    return next(stack for stack in STACKS if stack.name == name)


def prepare(stack: Stack, case: Case) -> Prepared:
    """A case on a stack, in this process. Raises BackendError where a backend cannot run."""
    if stack.module:
        made: Prepared = import_module(f"{__package__}.{stack.module}").prepare(stack.how, case)
        return made
    return prepare_backend(ebm_ref if stack.how == "ebm_ref" else backend(stack.how), case)


def environment(stack: Stack, case: Case) -> dict[str, str]:
    """What a worker's environment has beside this one's: as many threads for each library, whatever the shell says."""
    names = ("EBM_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict(stack.env) | dict.fromkeys(names, str(case.threads or processors()))


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
