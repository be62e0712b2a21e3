"""What the compiler made of a kernel, read from its cubin: registers, memory, and counts of instructions.

    figures(cubin)    {kernel: Figures}
    find_tool(name)   cuobjdump or nvdisasm: of a wheel, a toolkit or the PATH

The first tool prints what each kernel occupies, the second its instructions; neither needs a driver.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ebm_fast.extras import require
from ebm_ref.contracts import BackendError

FP64 = re.compile(r"D(ADD|FMA|MUL|MNMX|SETP|MMA)\b|.*\b(F64|RCP64H|RSQ64H)\b")  # arithmetic and conversions alike
ATOMIC = re.compile(r"(ATOM|ATOMG|ATOMS|RED|REDG|REDS|CAS)\b")  # REDUX, a reduction of a warp, has a fixed order
MMA = re.compile(r"\w*MMA\b")
WIDE = re.compile(r"\b(128|256)\b")  # bits of one access; the instruction set calls 16 bytes 128
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
USAGE = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
RESERVED = 1024  # bytes of shared memory that the system keeps in every block, from sm_90 on


@dataclass(frozen=True)
class Figures:
    """One kernel in one cubin. Bytes, registers a thread, and counts of instructions."""

    registers: int
    stack: int
    local: int
    spills: int  # loads and stores of local memory
    shared: int  # static
    instructions: int
    fp64: int
    atomics: int
    mma: int
    loads: int  # of global memory
    wide_loads: int  # of 16 bytes or more
    stores: int
    wide_stores: int


def figures(cubin: bytes) -> dict[str, Figures]:
    """The figures of every kernel in `cubin`. Raises BackendError where a tool is missing or refuses the file."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = run("cuobjdump", "-res-usage", file.name)
        code = run("nvdisasm", "-c", file.name)
    return parse(usage, code)


def parse(usage: str, code: str) -> dict[str, Figures]:
    """Figures from what the tools print: `cuobjdump -res-usage` and `nvdisasm -c`."""
    sections = re.split(r"^\s*\.section\s+\.text\.(\w+),.*$", code, flags=re.M)
    opcodes = {name: INSTRUCTION.findall(text) for name, text in zip(sections[1::2], sections[2::2], strict=True)}
    reserved = 0 if re.search(r"\.target\s+sm_8", code) else RESERVED
    found = {}
    for name, *numbers in USAGE.findall(usage):
        registers, stack, shared, local = map(int, numbers)
        found[name] = _figures(opcodes[name], registers, stack, local, max(0, shared - reserved))
    return found


def _figures(opcodes: list[str], registers: int, stack: int, local: int, shared: int) -> Figures:
    def count(pattern: str | re.Pattern[str], wide: bool = False) -> int:
        found = [opcode for opcode in opcodes if re.match(pattern, opcode)]
        return sum(1 for opcode in found if not wide or WIDE.search(opcode))

    load, store = r"(LDG|LD|LDGSTS)\b", r"(STG|ST)\b"  # LD and ST: the compiler did not see that memory is global
    return Figures(
        registers=registers,
        stack=stack,
        local=local,
        spills=count(r"(LDL|STL)\b"),
        shared=shared,
        instructions=sum(1 for opcode in opcodes if opcode != "NOP"),
        fp64=count(FP64),
        atomics=count(ATOMIC),
        mma=count(MMA),
        loads=count(load),
        wide_loads=count(load, wide=True),
        stores=count(store),
        wide_stores=count(store, wide=True),
    )


def run(tool: str, *arguments: str) -> str:
    done = subprocess.run([find_tool(tool), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise BackendError(f"{tool}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@cache
def find_tool(name: str) -> str:
    """Where the tool lies. Raises MissingExtraError without cuda-bindings, BackendError without the tool."""
    path = require("cuda.pathfinder", "gate").find_nvidia_binary_utility(name)
    if path is None:
        raise BackendError(f'{name} is not installed: pip install "ebm-oracle[gate]"')
    return str(Path(path))
