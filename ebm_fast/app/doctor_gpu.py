"""What the GPU backends find on this machine: driver, cards, compilers, wheels; each problem with what mends it.

    findings()    {"driver", "cards", "nvrtc", "compiler", "wheels", "problems": [{"what", "mend"}, ...]}

Nothing here imports CuPy or Numba or asks nvidia-smi. On a machine with no NVIDIA card and none of the wheels, the
only problem there can be is a missing C++ compiler, with which `ebm verify` runs the CUDA kernels on the CPU.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ebm_fast.cupy_raw import nvrtc
from ebm_fast.driver import NO_CARD, Driver, find_driver
from ebm_ref.contracts import BackendError

PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # vendor; class of display controllers and 3D accelerators
COMPILERS = ("c++", "g++", "clang++")
OURS = ("ebm-oracle", "numba-cuda", "cuda-core", "cuda-python", "cuda-bindings", "cuda-toolkit")  # our own, and parts
Problems = list[dict[str, str]]


def findings() -> dict[str, Any]:
    """The section "gpu" of `ebm doctor`, as JSON holds it."""
    driver, wheels, needed = find_driver(), *installed()
    compiler, bindings = find_compiler(), wheels.get("cuda-bindings")
    version = None if bindings is None else find_nvrtc()
    problems = [
        *driver_problems(driver, pci_cards(), os.environ.get("CUDA_VISIBLE_DEVICES")),
        *wheel_problems(wheels, needed, driver),
        *nvrtc_problems(version, bindings, driver),
    ]
    if compiler is None:
        what = "no C++ compiler: `ebm verify` cannot run the CUDA kernels on the CPU"
        problems.append({"what": what, "mend": "sudo apt install g++    (or set CXX to a C++17 compiler)"})
    return {
        "driver": {"cuda": _dotted(driver.cuda), "why": driver.why},
        "cards": [{"name": card.name, "capability": _dotted(card.capability)} for card in driver.cards],
        "nvrtc": version,
        "compiler": compiler,
        "wheels": {name: wheels[name] for name in sorted(wheels) if cuda_major(name, wheels[name]) is not None},
        "problems": problems,
    }


def text(found: dict[str, Any]) -> list[str]:
    """The section for a reader, as lines."""
    cards = ", ".join(f"{card['name']} ({card['capability']})" for card in found["cards"])
    lines = [
        f"gpu driver     {found['driver']['why'] or 'CUDA ' + found['driver']['cuda']}",
        f"gpu cards      {cards or 'none'}",
        f"gpu nvrtc      {found['nvrtc'] or 'none'}",
        f"gpu host C++   {found['compiler'] or 'none'}",
    ]
    for problem in found["problems"]:
        lines += [f"problem: {problem['what']}", f"   mend: {problem['mend']}"]
    return lines


# ------------------------------------------------------------------------------------- what is here


def installed() -> tuple[dict[str, str], set[str]]:
    """Every installed distribution with its version, and the names that others than OURS require."""
    versions, needed = {}, set()
    for one in importlib.metadata.distributions():
        name = normal(one.metadata["Name"] or "")
        versions[name] = one.version
        if name not in OURS:
            needed |= {normal(match[0]) for line in one.requires or () if (match := re.match(r"[\w.-]+", line))}
    return versions, needed


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def cuda_major(name: str, version: str) -> int | None:
    """The CUDA version that a wheel is for: by its name (-cu12, cupy-cuda12x), else by NVIDIA's version number."""
    if match := re.search(r"-cu(?:da)?(\d\d)x?$", name):
        return int(match[1])
    if name == "cuda-bindings" or name.startswith("nvidia-cuda-nvrtc"):
        return int(version.partition(".")[0])
    return None


def pci_cards() -> int:
    """How many NVIDIA display or 3D controllers the system sees, with a driver or without."""
    found = 0
    for device in PCI.glob("*"):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        found += vendor == NVIDIA and kind.startswith(DISPLAY)
    return found


def find_compiler() -> str | None:
    """The host's C++ compiler: CXX where that is set, else the first of COMPILERS."""
    chosen = os.environ.get("CXX")
    return next((path for name in ([chosen] if chosen else COMPILERS) if (path := shutil.which(name))), None)


def find_nvrtc() -> str | None:
    """The version of the NVRTC that cuda-bindings finds; None where it finds none."""
    try:
        return nvrtc.version()
    except BackendError:
        return None


# ------------------------------------------------------------------------------- what is wrong with it


def driver_problems(driver: Driver, on_the_bus: int, visible: str | None) -> Problems:
    """A card without a driver, a driver without a card, cards that are too old."""
    if driver.why is not None:
        if driver.cuda is not None and visible is not None and not re.match(r"\d|GPU-|MIG-", visible):
            what = f"CUDA_VISIBLE_DEVICES={visible} hides every card"
            return [{"what": what, "mend": "unset CUDA_VISIBLE_DEVICES"}]
        if not on_the_bus and (driver.cuda is None or driver.why == NO_CARD):
            return []  # a machine without a card lacks nothing
        mend = "sudo ubuntu-drivers install    (elsewhere https://www.nvidia.com/drivers; a container needs --gpus all)"
        if driver.cuda is not None:
            mend = "sudo modprobe nvidia    (after an update of the driver: sudo reboot)"
        return [{"what": driver.why, "mend": mend}]
    old = [card for card in driver.cards if card.capability < nvrtc.OLDEST]
    return [
        {
            "what": f"{card.name} has compute capability {_dotted(card.capability)}; cupy_raw needs 8.0 or newer",
            "mend": "ebm train PRESET --backend numba_cpu",
        }
        for card in old
    ]


def wheel_problems(wheels: dict[str, str], needed: set[str], driver: Driver) -> Problems:
    """CuPy twice, two CUDA versions at once, a CUDA newer than the driver, and what is missing beside a card."""
    problems = []
    cupy = sorted(name for name in wheels if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")))
    majors: dict[int, list[str]] = {}
    for name, version in sorted(wheels.items()):
        major = cuda_major(name, version)
        if major is not None and name not in needed:  # what PyTorch or JAX brought is theirs
            majors.setdefault(major, []).append(name)
    extra = f"cuda{12 if driver.cuda is not None and driver.cuda[0] == 12 else 13}"
    install = f'pip install "ebm-oracle[{extra}]"'
    if len(cupy) > 1:
        what = f"{' and '.join(cupy)} overwrite each other's files"
        problems.append({"what": what, "mend": f"pip uninstall -y {' '.join(cupy)} && {install}"})
    elif len(majors) > 1:
        sides = "; ".join(f"CUDA {major}: {', '.join(names)}" for major, names in sorted(majors.items()))
        others = [name for major, names in majors.items() if f"cuda{major}" != extra for name in names]
        what = f"wheels of two CUDA versions at once: {sides}"
        problems.append({"what": what, "mend": f"pip uninstall -y {' '.join(others)} && {install}"})
    elif driver.cuda is not None and majors and max(majors) > driver.cuda[0]:
        what = f"{', '.join(majors[max(majors)])} need CUDA {max(majors)}, the driver runs {_dotted(driver.cuda)}"
        mend = f"pip uninstall -y {' '.join(majors[max(majors)])} && {install}"
        problems.append({"what": what, "mend": mend})
    if driver.cards or cupy:
        missing = [] if cupy else ["CuPy"]
        missing += [] if "cuda-bindings" in wheels else ["cuda-bindings"]
        missing += [] if "numba-cuda" in wheels else ["numba-cuda"]  # numba alone no longer has a CUDA target
        if missing:
            problems.append({"what": f"{', '.join(missing)}: not installed", "mend": install})
    return problems


def nvrtc_problems(version: str | None, bindings: str | None, driver: Driver) -> Problems:
    """NVRTC that cuda-bindings does not find, or that makes code which the driver cannot load."""
    if version is None:
        if bindings is None:
            return []
        wheel = "nvidia-cuda-nvrtc-cu12" if bindings.startswith("12.") else "nvidia-cuda-nvrtc"
        what = f"cuda-bindings {bindings} finds no NVRTC, which compiles the CUDA kernels"
        return [{"what": what, "mend": f"pip install {wheel}"}]
    if driver.cuda is None or int(version.partition(".")[0]) <= driver.cuda[0]:
        return []
    what = f"NVRTC {version} makes code that the driver, for CUDA {_dotted(driver.cuda)}, cannot load"
    return [{"what": what, "mend": f'pip install "ebm-oracle[cuda{driver.cuda[0]}]"'}]


def _dotted(version: tuple[int, int] | None) -> str | None:
    return None if version is None else f"{version[0]}.{version[1]}"
