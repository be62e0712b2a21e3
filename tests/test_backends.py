"""Which backends there are, and why one cannot run here, in words."""

import ctypes
import importlib.util
import os
import subprocess
import sys

import pytest

import ebm_fast
from ebm_fast import BACKENDS, MODULES, backend, checks, why_not
from ebm_fast import driver as driver_module
from ebm_fast.driver import Card, Driver, find_driver
from ebm_ref.contracts import BackendError, RangeError

NOTHING = Driver(None, (), "no NVIDIA driver: libcuda.so.1 is not on this machine")
H = Driver((13, 0), (Card("A card", (9, 0)),), None)


@pytest.fixture
def machine(monkeypatch):
    """A machine with these modules installed and that driver."""

    def make(modules, found=H, simulator=None):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in modules else absent(name))
        monkeypatch.setattr(ebm_fast, "find_driver", lambda: found)
        monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
        if simulator is not None:
            monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", simulator)

    return make


def absent(name):
    """What find_spec does for a module that is not there, and for one whose parent is not."""
    if "." in name:
        raise ModuleNotFoundError(f"No module named {name.partition('.')[0]!r}")


ALL = ("numba", "numba_cuda", "cupy", "cuda.bindings")


@pytest.mark.parametrize("name", BACKENDS)
def test_why_not__is_nothing_where_all_is_there(machine, name):
    machine(ALL)
    assert why_not(name) is None


@pytest.mark.parametrize(
    ("name", "without", "library", "extra"),
    [
        ("numba_cpu", "numba", "Numba", "cpu"),
        ("numba_cuda", "numba", "Numba", "cuda13"),
        ("numba_cuda", "numba_cuda", "numba-cuda", "cuda13"),
        ("numba_cuda", "cupy", "CuPy", "cuda13"),
        ("cupy_raw", "cupy", "CuPy", "cuda13"),
        ("cupy_raw", "cuda.bindings", "cuda-bindings", "cuda13"),
    ],
)
def test_why_not__names_the_library_and_the_extra(machine, name, without, library, extra):
    machine([module for module in ALL if module != without])
    assert why_not(name) == f'{name} needs {library}, which is not installed: pip install "ebm-oracle[{extra}]"'
    with pytest.raises(BackendError, match=f"{name} needs {library}"):
        backend(name)


@pytest.mark.parametrize("name", ["numba_cuda", "cupy_raw"])
def test_why_not__says_what_the_driver_lacks(machine, name):
    machine(("numba",), NOTHING)
    assert why_not(name) == f"{name} needs a CUDA card: no NVIDIA driver: libcuda.so.1 is not on this machine"
    assert why_not("numba_cpu") is None


@pytest.mark.parametrize(("simulator", "runs"), [("1", True), ("0", False), (None, False)])
def test_why_not__knows_numba_s_simulator(machine, simulator, runs):
    machine(("numba", "numba_cuda"), NOTHING, simulator)
    assert (why_not("numba_cuda") is None) is runs
    assert why_not("cupy_raw") is not None


def test_why_not__refuses_an_unknown_name():
    with pytest.raises(RangeError, match="backend: expected one of ebm_ref, numba_cpu, numba_cuda, cupy_raw"):
        why_not("cupy")


def test_backend__auto_stays_on_the_cpu(machine):
    machine(ALL)
    assert backend("auto").__name__ == backend().__name__ == "ebm_fast.numba_cpu"
    machine(())
    assert backend("auto").__name__ == "ebm_ref"


def test_backends__each_has_a_module_and_is_a_room():
    assert tuple(MODULES) == BACKENDS and tuple(MODULES.values()) == checks.ROOMS


def test_why_not__imports_nothing():
    code = "import sys, ebm_fast; [ebm_fast.why_not(name) for name in ebm_fast.BACKENDS]\n"
    code += (
        "print([name for name in ('numba', 'numba_cuda', 'cupy', 'llvmlite', 'cuda.bindings') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "[]\n"


# ------------------------------------------------------------------------------------------- driver


class FakeCuda:
    """libcuda's functions: a driver for `version`, with these cards."""

    def __init__(self, version=13000, status=0, cards=()):
        self.version, self.status, self.cards = version, status, cards

    def cuDriverGetVersion(self, number):
        number._obj.value = self.version
        return 0

    def cuInit(self, flags):
        return self.status

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.cards)
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal + 7  # a handle is not an ordinal
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = self.cards[device.value - 7][0].encode()
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.cards[device.value - 7][1][attribute - 75]
        return 0


CARDS = (("Card A", (9, 0)), ("Card B", (8, 6)))


@pytest.mark.parametrize(
    ("cuda", "found"),
    [
        (FakeCuda(cards=CARDS), Driver((13, 0), (Card("Card A", (9, 0)), Card("Card B", (8, 6))), None)),
        (FakeCuda(12080, 100), Driver((12, 8), (), "the NVIDIA driver finds no card")),
        (FakeCuda(12080, 0), Driver((12, 8), (), "the NVIDIA driver finds no card")),
        (FakeCuda(13000, 803), Driver((13, 0), (), "the NVIDIA driver does not start: cuInit gave 803")),
    ],
)
def test_find_driver__says_what_it_finds(monkeypatch, cuda, found):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: cuda)
    assert find_driver() == found


def test_find_driver__is_absent_where_its_library_is(monkeypatch):
    monkeypatch.setattr(driver_module, "LIBRARY", "libcuda-that-is-nowhere.so.1")
    assert find_driver() == Driver(None, (), "no NVIDIA driver: libcuda-that-is-nowhere.so.1 is not on this machine")
