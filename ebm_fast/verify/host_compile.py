"""CUDA sources through the host's own C++ compiler: one shared library for each file, set of defines and build.

fast    -O3 for this machine's vector registers
race    every access of a kernel calls a hook of race.cpp (the thread sanitiser's calls, without its runtime)
asan    AddressSanitizer and UndefinedBehaviorSanitizer; loads only into a process that began with their libraries

Libraries are kept in the user's cache under the digest of all that went into them, written aside and moved into
place, so that two processes may compile one at a time. Nothing else is written, and the sources may lie in a zip.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from ebm_ref.contracts import BackendError, RangeError

from .host_report import plain_environment

COMPILERS = ("c++", "g++", "clang++")
COMMON = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-g1", "-Wall", "-Wno-unknown-pragmas", "-DEBM_HOST")
FAST = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
VECTORS = ("avx2", "fma", "bmi1", "bmi2", "f16c")  # what x86-64-v3 adds, in the words of /proc/cpuinfo
ASAN = ("-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
BUILDS = {  # flags for the kernel's file, for the runtime's files and for the link
    "fast": (FAST, FAST, ()),
    "race": (("-O1", "-fsanitize=thread", "-DEBM_HOST_RACE"), ("-O2", "-DEBM_HOST_RACE"), ()),
    "asan": (ASAN, ASAN, ("-fsanitize=address,undefined",)),
}
RUNTIME = {"fast": ("runtime.cpp",), "race": ("runtime.cpp", "race.cpp", "lint.cpp"), "asan": ("runtime.cpp",)}


def compile_library(file: str, defines: tuple[tuple[str, str], ...], build: str, sources: Mapping[str, str]) -> Path:
    """The shared library of `file` with `defines`; compiled where the cache has none.

    sources: file name -> text, of every .cu and .cuh that `file` may include. build: fast, race or asan.
    Raises RangeError (build, file), BackendError (no compiler, or the compiler's own message).
    """
    if build not in BUILDS:
        raise RangeError(f"build: expected one of {', '.join(BUILDS)}, found {build!r}")
    if file not in sources:
        raise RangeError(f"file: no CUDA source is called {file}")
    texts = {name: sources[name] for name in closure(file, sources)} | host_sources()
    kernel_flags, runtime_flags, link_flags = BUILDS[build]
    defined = tuple(f"-D{name}={value}" for name, value in defines)
    kernel_line = (*COMMON, *vectors(), *kernel_flags, *defined, "-x", "c++", "-c", file)
    runtime_line = (*COMMON, *vectors(), *runtime_flags, "-c")
    runtime = RUNTIME[build]
    name = digest(compiler_version(), *kernel_line, *runtime_line, *link_flags, *(x for p in texts.items() for x in p))
    target = cache_folder() / f"{Path(file).stem}-{build}-{name}.so"
    if target.exists():
        return target
    parts = [runtime_object(part, runtime_line, build) for part in runtime]
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        for text_name, text in texts.items():
            Path(folder, text_name).write_text(text, "utf-8")
        here = f"-ffile-prefix-map={folder}=."
        call(folder, *kernel_line, here, "-o", "kernel.o")
        call(folder, "-shared", *link_flags, "kernel.o", *map(str, parts), "-o", "library.so")
        os.replace(Path(folder, "library.so"), target)
    return target


def runtime_object(part: str, line: tuple[str, ...], build: str) -> Path:
    """One compiled file of the runtime: the same for all kernels of a build."""
    texts = host_sources()
    name = digest(compiler_version(), *line, part, *(x for p in texts.items() for x in p))
    target = cache_folder() / f"{Path(part).stem}-{build}-{name}.o"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            for text_name, text in texts.items():
                Path(folder, text_name).write_text(text, "utf-8")
            call(folder, *line, f"-ffile-prefix-map={folder}=.", part, "-o", "runtime.o")
            os.replace(Path(folder, "runtime.o"), target)
    return target


def call(folder: str, *arguments: str) -> None:
    done = subprocess.run([compiler(), *arguments], cwd=folder, capture_output=True, text=True, env=plain_environment())
    if done.returncode:
        raise BackendError(f"{compiler()} {' '.join(arguments)}\n{done.stderr}")


def closure(file: str, sources: Mapping[str, str]) -> list[str]:
    """`file` and all that it includes of `sources`, sorted."""
    found, todo = set(), [file]
    while todo:
        name = todo.pop()
        if name in sources and name not in found:
            found.add(name)
            todo += re.findall(r'^\s*#\s*include\s+"([^"]+)"', sources[name], re.M)
    return sorted(found)


@cache
def host_sources() -> dict[str, str]:
    """The runtime's files by name."""
    here = files(__package__) / "host"
    names = sorted(item.name for item in here.iterdir() if item.name.endswith((".h", ".cpp")))
    return {name: (here / name).read_text("utf-8") for name in names}


@cache
def compiler() -> str:
    """The path of the C++ compiler: CXX where it is set, else the first of COMPILERS. Raises BackendError."""
    chosen = os.environ.get("CXX")
    for name in (chosen,) if chosen else COMPILERS:
        path = shutil.which(name)
        if path:
            return path
    raise BackendError(f"no C++ compiler: {chosen or ', '.join(COMPILERS)} not found on PATH; set CXX to one")


@cache
def compiler_version() -> str:
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True, env=plain_environment())
    return compiler() + done.stdout


@cache
def vectors() -> tuple[str, ...]:
    """The flags of x86-64-v3 where this machine has it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    have = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    return ("-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c") if have.issuperset(VECTORS) else ()


@cache
def cache_folder() -> Path:
    """Where libraries are kept: XDG_CACHE_HOME or ~/.cache; a new one where that cannot be written."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "ebm-oracle" / "host"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    own = tempfile.mkdtemp(prefix="ebm-oracle-")
    return Path(own)


def digest(*parts: str) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() + b"\0")
    return found.hexdigest()[:24]
