"""The GPU section of `ebm doctor`, on machines made up of metadata: each problem is named with what mends it."""

import importlib.metadata
import json
from types import SimpleNamespace

import pytest
from app_runs import run

from ebm_fast.app import doctor_gpu
from ebm_fast.cupy_raw import nvrtc
from ebm_fast.driver import NO_CARD, Card, Driver
from ebm_ref.contracts import BackendError

NOTHING = Driver(None, (), "no NVIDIA driver: libcuda.so.1 is not on this machine")
H100 = Card("NVIDIA H100", (9, 0))
H13, H12 = Driver((13, 0), (H100,), None), Driver((12, 8), (H100,), None)
GOOD = ("cupy-cuda13x 14.2.0", "cuda-bindings 13.0.1", "nvidia-cuda-nvrtc 13.0.88", "numba-cuda 0.30.4", "numba 0.68.1")
GOOD12 = ("cupy-cuda12x 14.2.0", "cuda-bindings 12.9.4", "nvidia-cuda-nvrtc-cu12 12.9.86", "numba-cuda 0.30.4")
INSTALL13, INSTALL12 = (f'pip install "ebm-oracle[cuda{major}]"' for major in (13, 12))


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """The findings of a machine with that driver, those wheels (name, version, what it requires), cards on the bus."""

    def make(found=NOTHING, wheels=(), bus=0, nvrtc_version="13.0", cxx="c++", env=()):
        distributions = []
        for wheel in wheels:
            name, version, *requires = wheel.split(" ", 2)
            requires = requires[0].split(", ") if requires else None
            distributions.append(SimpleNamespace(metadata={"Name": name}, version=version, requires=requires))
        for number in range(bus):
            for slot, vendor, kind in ((number, "0x10de", "0x030200"), (number + 50, "0x8086", "0x030000")):
                folder = tmp_path / f"0000:{slot:02}"
                folder.mkdir()
                (folder / "vendor").write_text(vendor + "\n")
                (folder / "class").write_text(kind + "\n")

        def version():
            if nvrtc_version is None:
                raise BackendError("NVRTC is not there")
            return nvrtc_version

        monkeypatch.setattr(importlib.metadata, "distributions", lambda: distributions)
        monkeypatch.setattr(doctor_gpu, "find_driver", lambda: found)
        monkeypatch.setattr(doctor_gpu, "PCI", tmp_path)
        monkeypatch.setattr(nvrtc, "version", version)
        monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == cxx else None)
        for name in ("CXX", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env:
            monkeypatch.setenv(name, value)
        return doctor_gpu.findings()

    return make


def problems(found):
    return [(problem["what"], problem["mend"]) for problem in found["problems"]]


def test_doctor__finds_nothing_wrong_with_a_laptop(machine):
    found = machine(wheels=["numpy 2.4.0", "numba 0.68.1"])
    assert found["problems"] == [] and found["cards"] == [] and found["nvrtc"] is None and found["wheels"] == {}
    assert found["driver"] == {"cuda": None, "why": NOTHING.why} and found["compiler"] == "/usr/bin/c++"


@pytest.mark.parametrize(
    ("driver", "wheels", "version"), [(H13, GOOD, "13.0"), (H12, GOOD12, "12.9"), (H13, GOOD12, "12.9")]
)
def test_doctor__finds_nothing_wrong_with_a_good_card(machine, driver, wheels, version):
    found = machine(driver, wheels, 1, version)
    assert found["problems"] == []
    assert found["cards"] == [{"name": "NVIDIA H100", "capability": "9.0"}] and found["nvrtc"] == version
    assert found["driver"] == {"cuda": f"{driver.cuda[0]}.{driver.cuda[1]}", "why": None}
    assert set(found["wheels"]) == {wheel.split()[0] for wheel in wheels if not wheel.startswith("numba")}


def test_doctor__leaves_the_wheels_of_other_libraries_alone(machine):
    torch = "torch 2.11.0 nvidia-cuda-nvrtc-cu12==12.8.93; platform_system == 'Linux', nvidia_cublas_cu12==12.8.4.1"
    theirs = ("nvidia-cuda-nvrtc-cu12 12.8.93", "nvidia-cublas-cu12 12.8.4.1")
    assert machine(H13, (*GOOD, torch, *theirs))["problems"] == []
    (problem,) = machine(H13, (*GOOD, *theirs))["problems"]
    assert "two CUDA versions" in problem["what"]


@pytest.mark.parametrize(
    ("case", "what", "mend"),
    [
        (dict(bus=2), NOTHING.why, "sudo ubuntu-drivers install "),
        (dict(found=Driver((13, 0), (), NO_CARD), bus=1), NO_CARD, "sudo modprobe nvidia "),
        (
            dict(found=Driver((13, 0), (), "the NVIDIA driver does not start: cuInit gave 803")),
            "the NVIDIA driver does not start: cuInit gave 803",
            "sudo modprobe nvidia ",
        ),
        (
            dict(found=Driver((13, 0), (), NO_CARD), bus=1, env=[("CUDA_VISIBLE_DEVICES", "")]),
            "CUDA_VISIBLE_DEVICES= hides every card",
            "unset CUDA_VISIBLE_DEVICES",
        ),
        (
            dict(found=Driver((13, 0), (Card("Old", (7, 5)),), None), wheels=GOOD),
            "Old has compute capability 7.5; cupy_raw needs 8.0 or newer",
            "ebm train PRESET --backend numba_cpu",
        ),
        (
            dict(found=H13, wheels=(*GOOD, "cupy-cuda12x 13.6.0")),
            "cupy-cuda12x and cupy-cuda13x overwrite each other's files",
            f"pip uninstall -y cupy-cuda12x cupy-cuda13x && {INSTALL13}",
        ),
        (
            dict(found=H13, wheels=(*GOOD[:1], "cuda_bindings 12.9.4", *GOOD[2:])),
            "wheels of two CUDA versions at once: CUDA 12: cuda-bindings; CUDA 13: cupy-cuda13x, nvidia-cuda-nvrtc",
            f"pip uninstall -y cuda-bindings && {INSTALL13}",
        ),
        (
            dict(found=H12, wheels=(*GOOD12, "nvidia-cuda-nvrtc 13.0.88"), nvrtc_version="12.9"),
            "wheels of two CUDA versions at once: CUDA 12: cuda-bindings, cupy-cuda12x, nvidia-cuda-nvrtc-cu12; "
            "CUDA 13: nvidia-cuda-nvrtc",
            f"pip uninstall -y nvidia-cuda-nvrtc && {INSTALL12}",
        ),
        (
            dict(found=H12, wheels=GOOD, nvrtc_version="12.9"),
            "cuda-bindings, cupy-cuda13x, nvidia-cuda-nvrtc need CUDA 13, the driver runs 12.8",
            f"pip uninstall -y cuda-bindings cupy-cuda13x nvidia-cuda-nvrtc && {INSTALL12}",
        ),
        (
            dict(found=H12, wheels=GOOD12),
            "NVRTC 13.0 makes code that the driver, for CUDA 12.8, cannot load",
            INSTALL12,
        ),
        (
            dict(found=H13, wheels=(*GOOD[:2], *GOOD[3:]), nvrtc_version=None),
            "cuda-bindings 13.0.1 finds no NVRTC, which compiles the CUDA kernels",
            "pip install nvidia-cuda-nvrtc",
        ),
        (
            dict(found=H12, wheels=(*GOOD12[:2], *GOOD12[3:]), nvrtc_version=None),
            "cuda-bindings 12.9.4 finds no NVRTC, which compiles the CUDA kernels",
            "pip install nvidia-cuda-nvrtc-cu12",
        ),
        (dict(found=H13, wheels=GOOD[:3] + GOOD[4:]), "numba-cuda: not installed", INSTALL13),
        (dict(found=H13, wheels=GOOD[1:]), "CuPy: not installed", INSTALL13),
        (dict(found=H12), "CuPy, cuda-bindings, numba-cuda: not installed", INSTALL12),
        (dict(wheels=GOOD[:1]), "cuda-bindings, numba-cuda: not installed", INSTALL13),
        (
            dict(cxx=None),
            "no C++ compiler: `ebm verify` cannot run the CUDA kernels on the CPU",
            "sudo apt install g++ ",
        ),
        (dict(env=[("CXX", "g++-99")]), "no C++ compiler: `ebm verify` cannot", "sudo apt install g++ "),
    ],
)
def test_doctor__names_the_problem_and_what_mends_it(machine, case, what, mend):
    ((found_what, found_mend),) = problems(machine(**case))
    assert found_what.startswith(what) and found_mend.startswith(mend)
    assert found_what == what or what.endswith("cannot")
    assert found_mend == mend or mend.endswith(" ")


def test_doctor__a_driver_library_without_a_card_is_no_problem(machine):
    assert machine(Driver((13, 0), (), NO_CARD))["problems"] == []


def test_pci_cards__counts_nvidia_s_display_controllers(machine, tmp_path):
    machine(bus=2)  # and as many of another maker
    (tmp_path / "0000:99").mkdir()  # a device that says nothing
    assert doctor_gpu.pci_cards() == 2


def test_doctor__uses_cxx_where_it_is_set(machine):
    assert machine(cxx="clang++-19", env=[("CXX", "clang++-19")])["compiler"] == "/usr/bin/clang++-19"


def test_doctor__prints_the_section_and_gives_it_as_json(machine, capsys, monkeypatch):
    monkeypatch.setattr("ebm_fast.app.doctor.library_version", lambda name, module: "1.0")
    machine(H12, (*GOOD12, "cupy-cuda13x 14.2.0"), 1, "12.9")
    run("doctor", "--json")
    found = json.loads(capsys.readouterr().out)["gpu"]
    assert list(found) == ["driver", "cards", "nvrtc", "compiler", "wheels", "problems"]
    run("doctor")
    text = capsys.readouterr().out
    assert "gpu driver     CUDA 12.8\ngpu cards      NVIDIA H100 (9.0)\ngpu nvrtc      12.9\n" in text
    assert "problem: cupy-cuda12x and cupy-cuda13x overwrite each other's files\n   mend: pip uninstall -y cupy" in text


@pytest.mark.parametrize(
    ("name", "version", "major"),
    [
        ("cupy-cuda12x", "14.2.0", 12),
        ("nvidia-cublas-cu12", "12.8.4.1", 12),
        ("nvidia-cuda-nvrtc", "13.0.88", 13),
        ("cuda-bindings", "12.9.4", 12),
        ("numba-cuda", "0.30.4", None),
        ("cupy", "14.2.0", None),
        ("nvidia-nvjitlink", "13.5.37", None),
        ("numpy", "2.4.0", None),
    ],
)
def test_cuda_major__is_of_the_name_or_of_nvidia_s_number(name, version, major):
    assert doctor_gpu.cuda_major(name, version) == major
