"""From a .cu file to the machine code of a card, by NVRTC: no driver, no toolkit, no include path.

    cubin_path(file, defines, arch)    the cubin on disk, compiled where it is not there yet
    compile(file, defines, arch)       its bytes
    arch_of(capability)                the build that a card of this compute capability runs

What is verified is what runs: the same call makes the code whose registers and instructions the compile gate
holds to a budget and the code that a card loads. Denormals are kept and no fast maths is on (CuPy's own RawModule
adds -ftz=true), as on the host. Compiled files lie under $XDG_CACHE_HOME/ebm-oracle/cubin, each named by a digest of
all that went into it: nothing there is ever stale, and deleting the folder is safe.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ebm_ref.contracts import BackendError, MissingExtraError

from ..extras import require
from .source import sources

ARCHS = ("sm_80", "sm_90a", "sm_100")  # what every kernel is compiled and budgeted for
OLDEST = (8, 0)  # the oldest compute capability: cp.async and 164 KB of shared memory
OPTIONS = ("--std=c++17", "--generate-line-info", "--no-source-include")
ELF = b"\x7fELF"

Defines = tuple[tuple[str, str], ...]


class CompileError(BackendError):
    """NVRTC refused a source; the message holds its log, with the file and line of each error."""


def arch_of(capability: tuple[int, int]) -> str:
    """The build for a card: sm_80 runs on every 8.x and sm_100 on every 10.x, sm_90a on 9.0 alone.

    Raises BackendError for a card older than 8.0.
    """
    major, minor = capability
    if capability < OLDEST:
        raise BackendError(f"card: expected compute capability 8.0 or newer, found {major}.{minor}")
    return {8: "sm_80", 9: "sm_90a", 10: "sm_100"}.get(major, f"sm_{major}{minor}")


def compile(file: str, defines: Defines, arch: str) -> bytes:
    """The cubin of `file` built with `defines` for `arch`. Raises CompileError, or BackendError without NVRTC."""
    return cubin_path(file, defines, arch).read_bytes()


def cubin_path(file: str, defines: Defines, arch: str) -> Path:
    """Where that cubin lies; it is compiled where it is not there. Raises as `compile` does."""
    name = f"{_digest(file, defines, arch)}.cubin"
    cached = cache_folder() / name
    if _is_cubin(cached):
        return cached
    cubin = build(file, sources()[file], sources(), defines, arch)
    try:
        return _write(cached, cubin)
    except OSError:  # a home that cannot be written: this process keeps its own
        return _write(Path(_own_folder().name) / name, cubin)


def build(file: str, text: str, headers: Mapping[str, str], defines: Defines, arch: str) -> bytes:
    """The cubin of `text`, not cached; `headers` are found by the names that `#include "..."` says."""
    with compiled(file, text, headers, defines, arch) as (nvrtc, program):
        return _result(nvrtc, program, "CUBIN")


def ptx(file: str, text: str, headers: Mapping[str, str], defines: Defines, arch: str) -> str:
    """The same as PTX, from which the cubin is made."""
    with compiled(file, text, headers, defines, arch) as (nvrtc, program):
        return _result(nvrtc, program, "PTX").rstrip(b"\0").decode()


@contextmanager
def compiled(file: str, text: str, headers: Mapping[str, str], defines: Defines, arch: str) -> Iterator[Any]:
    """(NVRTC, a program that it has compiled). Raises CompileError."""
    nvrtc = load()
    names = [name for name in headers if name.endswith(".cuh")]
    title = f"ebm_fast/cupy_raw/{file}"  # what an error, a profiler and a sanitizer call this source
    program = _call(
        nvrtc,
        nvrtc.nvrtcCreateProgram,
        text.encode(),
        title.encode(),
        len(names),
        [headers[name].encode() for name in names],
        [name.encode() for name in names],
    )
    try:
        options = [*OPTIONS, f"--gpu-architecture={arch}", *(f"-D{key}={value}" for key, value in defines)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            what = f"{file} ({' '.join(f'{key}={value}' for key, value in defines)}) for {arch}"
            raise CompileError(f"{what}: {status.name}\n{_log(nvrtc, program)}")
        yield nvrtc, program
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _result(nvrtc: ModuleType, program: Any, kind: str) -> bytes:
    """What the program became: CUBIN or PTX."""
    made = bytes(_call(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}Size"), program))
    _call(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}"), program, made)
    return made


@cache
def load() -> ModuleType:
    """The NVRTC bindings, ready to compile. Raises BackendError, saying what to install, where they are not."""
    try:
        nvrtc = require("cuda.bindings.nvrtc", "cuda13")
    except MissingExtraError as error:
        raise BackendError(
            "NVRTC, which compiles the CUDA kernels, is reached through cuda-bindings, which is not installed: "
            'pip install "ebm-oracle[cuda13]", or without a card "ebm-oracle[gate]"'
        ) from error
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # cuda-bindings looks for the library at the first call
        raise BackendError(
            "NVRTC, which compiles the CUDA kernels, is not there: pip install nvidia-cuda-nvrtc "
            "(nvidia-cuda-nvrtc-cu12 for CUDA 12)"
        ) from error
    return nvrtc


@cache
def version() -> str:
    """The version of NVRTC, as in 13.0. Raises BackendError without it."""
    _, major, minor = load().nvrtcVersion()
    return f"{major}.{minor}"


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/ebm-oracle/cubin, ~/.cache where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "ebm-oracle" / "cubin"


@cache
def _digest(file: str, defines: Defines, arch: str) -> str:
    """SHA-256 over all that decides the cubin: the file, what it includes, defines, options, arch, compiler."""
    digest = hashlib.sha256(repr((file, defines, arch, OPTIONS, version())).encode())
    for name in included(file):
        digest.update(name.encode() + b"\0" + sources()[name].encode() + b"\0")
    return digest.hexdigest()


def included(file: str) -> list[str]:
    """`file` and every source that it includes, directly or not; sorted."""
    found, todo = set(), [file]
    while todo:
        name = todo.pop()
        if name in sources() and name not in found:
            found.add(name)
            todo += re.findall(r'^\s*#\s*include\s+"([^"]+)"', sources()[name], re.M)
    return sorted(found)


@cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ebm-cubin-")


def _is_cubin(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(ELF)) == ELF
    except OSError:
        return False


def _write(path: Path, cubin: bytes) -> Path:
    """The file at once or not at all: a reader in another process never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(cubin)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def _call(nvrtc: ModuleType, function: Any, *arguments: Any) -> Any:
    status, *result = function(*arguments)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"{function.__name__}: {status.name}")
    return result[0] if result else None


def _log(nvrtc: ModuleType, program: Any) -> str:
    log = bytes(_call(nvrtc, nvrtc.nvrtcGetProgramLogSize, program))
    _call(nvrtc, nvrtc.nvrtcGetProgramLog, program, log)
    return log.rstrip(b"\0 \n").decode(errors="replace")
