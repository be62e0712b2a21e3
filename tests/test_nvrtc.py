"""The compiler of the kernels: what it is given, what it says, and what it keeps on disk."""

import os
import re
import threading

import pytest

from ebm_fast.cupy_raw import nvrtc, source
from ebm_ref.contracts import BackendError, MissingExtraError

FLOAT = source.build_defines("float32", 0)
HAS_NVRTC = pytest.mark.skipif("nvrtc_missing()", reason="NVRTC is not installed: ebm-oracle[gate]")
KERNEL = '#include "cuda.cuh"\nextern "C" __global__ void one(real* y) {\n  y[0] = %s;\n}\n'


def nvrtc_missing():
    try:
        nvrtc.load()
    except BackendError:
        return True
    return False


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ebm-oracle" / "cubin"


@pytest.fixture
def counted(monkeypatch):
    """How often the compiler really runs; it answers with a cubin's first bytes."""
    made = []
    monkeypatch.setattr(nvrtc, "build", lambda *arguments: made.append(arguments) or nvrtc.ELF + b"code")
    monkeypatch.setattr(nvrtc, "version", lambda: "13.0")
    nvrtc._digest.cache_clear()
    yield made
    nvrtc._digest.cache_clear()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("capability", "arch"),
    [((8, 0), "sm_80"), ((8, 6), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90a"), ((10, 0), "sm_100")]
    + [((10, 3), "sm_100"), ((12, 0), "sm_120"), ((12, 1), "sm_121"), ((11, 0), "sm_110")],
)
def test_arch_of__is_the_build_that_the_card_runs(capability, arch):
    assert nvrtc.arch_of(capability) == arch


@pytest.mark.parametrize("capability", [(7, 5), (6, 1)])
def test_arch_of__refuses_a_card_that_is_too_old(capability):
    with pytest.raises(BackendError, match="card: expected compute capability 8.0 or newer, found "):
        nvrtc.arch_of(capability)


@HAS_NVRTC
@pytest.mark.parametrize("arch", nvrtc.ARCHS)
def test_compile__gives_a_cubin_that_holds_the_kernels(cache, arch):
    cubin = nvrtc.compile("noise.cu", FLOAT, arch)
    assert cubin.startswith(nvrtc.ELF) and b".text.noise_bits" in cubin
    assert nvrtc.cubin_path("noise.cu", FLOAT, arch).read_bytes() == cubin


@HAS_NVRTC
def test_build__finds_headers_by_name_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stray.cuh").write_text("")
    with pytest.raises(nvrtc.CompileError, match='could not open source file "stray.cuh"'):
        nvrtc.build("one.cu", '#include "stray.cuh"\n', source.sources(), FLOAT, "sm_80")


@HAS_NVRTC
def test_build__error_names_file_line_and_defines():
    with pytest.raises(nvrtc.CompileError) as error:
        nvrtc.build("one.cu", KERNEL % "b", source.sources(), FLOAT, "sm_90a")
    text = str(error.value)
    assert text.startswith("one.cu (EBM_ORDER=0 EBM_REAL=float) for sm_90a: NVRTC_ERROR_COMPILATION\n")
    assert 'ebm_fast/cupy_raw/one.cu(3): error: identifier "b" is undefined' in text and "\0" not in text


@HAS_NVRTC
def test_build__refuses_an_architecture_that_it_does_not_know():
    with pytest.raises(nvrtc.CompileError, match="sm_81: NVRTC_ERROR_INVALID_OPTION"):
        nvrtc.build("one.cu", KERNEL % "1", source.sources(), FLOAT, "sm_81")


def test_cubin_path__compiles_once_and_leaves_nothing_else(cache, counted):
    first = nvrtc.cubin_path("noise.cu", FLOAT, "sm_80")
    assert nvrtc.cubin_path("noise.cu", FLOAT, "sm_80") == first and len(counted) == 1
    assert names(cache) == [first.name] and re.fullmatch(r"[0-9a-f]{64}\.cubin", first.name)


def test_cubin_path__differs_by_all_that_decides_the_code(cache, counted, monkeypatch):
    def path(defines=FLOAT, arch="sm_80"):
        nvrtc._digest.cache_clear()
        return nvrtc.cubin_path("noise.cu", defines, arch)

    found = [path(), path(arch="sm_100"), path(source.build_defines("float64", 0))]
    monkeypatch.setattr(nvrtc, "version", lambda: "13.1")
    found.append(path())
    monkeypatch.setattr(nvrtc, "OPTIONS", (*nvrtc.OPTIONS, "--use_fast_math"))
    found.append(path())
    header = dict(source.sources())
    header["cuda.cuh"] += "// changed\n"  # included through philox.cuh
    monkeypatch.setattr(nvrtc, "sources", lambda: header)
    found.append(path())
    assert len({*found}) == 6 == len(counted)
    header["other.cuh"] = ""  # not included: the same code
    assert path() == found[-1]


def test_included__follows_headers(monkeypatch):
    text = {
        "a.cu": '#include "b.cuh"\n',
        "b.cuh": '#ifdef X\n # include "c.cuh"\n#include "host.h"',
        "c.cuh": "",
        "d.cuh": "",
    }
    monkeypatch.setattr(nvrtc, "sources", lambda: text)
    assert nvrtc.included("a.cu") == ["a.cu", "b.cuh", "c.cuh"]


def test_cubin_path__mends_a_file_that_is_no_cubin(cache, counted):
    path = nvrtc.cubin_path("noise.cu", FLOAT, "sm_80")
    path.write_bytes(b"")
    assert nvrtc.cubin_path("noise.cu", FLOAT, "sm_80").read_bytes() == nvrtc.ELF + b"code" and len(counted) == 2


def test_cubin_path__leaves_no_part_of_a_file_behind(cache, counted, monkeypatch):
    def refuse(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(KeyboardInterrupt):
        nvrtc.cubin_path("noise.cu", FLOAT, "sm_80")
    assert names(cache) == []


def test_cubin_path__in_a_home_that_cannot_be_written_is_the_process_s_own(tmp_path, counted, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = nvrtc.cubin_path("noise.cu", FLOAT, "sm_80")
    assert path.read_bytes() == nvrtc.ELF + b"code" and tmp_path not in path.parents


def test_cubin_path__from_many_threads_is_whole(cache, counted):
    found = []

    def read():
        found.append(nvrtc.compile("noise.cu", FLOAT, "sm_80"))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [nvrtc.ELF + b"code"] * 8 and len(names(cache)) == 1


@pytest.mark.parametrize("base", ["", "relative/place"])
def test_cache_folder__is_in_the_home_where_xdg_says_nothing_absolute(base, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert nvrtc.cache_folder() == tmp_path / ".cache" / "ebm-oracle" / "cubin"


def test_load__says_what_to_install(monkeypatch):
    def no_bindings(module, extra):
        raise MissingExtraError("cuda is not installed")

    class NoLibrary:
        @staticmethod
        def nvrtcVersion():
            raise RuntimeError("Failure finding libnvrtc.so")

    nvrtc.load.cache_clear()
    monkeypatch.setattr(nvrtc, "require", no_bindings)
    with pytest.raises(
        BackendError, match=r'cuda-bindings, which is not installed: pip install "ebm-oracle\[cuda13\]"'
    ):
        nvrtc.load()
    monkeypatch.setattr(nvrtc, "require", lambda module, extra: NoLibrary)
    with pytest.raises(BackendError, match="NVRTC, .* is not there: pip install nvidia-cuda-nvrtc"):
        nvrtc.load()
