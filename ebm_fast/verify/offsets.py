"""No place in memory is computed in 32 bits: a check over the PTX of every kernel, compiled without a card.

    problems()        what makes 32 bits of a longer number on the way to an address, and does not say why it fits
    products(ptx)     all that does, in one listing

From the address of every access to global memory, and from every integer that goes through shared memory, all that it
is made of is walked back through the kernel, which is one function by then. No product (mul, mad, shl) of 32 bits on
that way may pass 2^31, and no number of 64 bits may be cut to its low half. Bounds that the instructions say are used:
a thread's index is below 1,024, a remainder below its divisor; sizes that a launcher passes count as 2^31 - 1. What
fits for a reason that no instruction says has that reason in the source, on its line or the one above:

    const int from = (tap * C + c) * O + r;  // int: packed parameters, below 2^30

Such lines are taken at their word, and so is a whole file that says so (the chain's, whose places lie in shared memory
and among its parameters); limits.py of the backend refuses the sizes for which they would not hold. Numbers count as 0
or more, and a sum of two sizes as an int, which limits.py sees to. Lines are those that the compiler names: where it
has moved an instruction to a line that gives a reason, the check is blind, so tests also run every kernel beyond 2^31.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from ebm_fast.cupy_raw import nvrtc, source
from ebm_fast.cupy_raw.nvrtc import Defines

ARCH = "compute_90a"  # PTX alone
REASON = "// int:"  # in the source, on the line of a product or above it: why it stays below 2^31
FILE_REASON = "// int, in all of this file:"  # the same for files whose every place is small
LIMIT = 2**31
UNKNOWN = 2**63  # the bound of 64 bits of which nothing is known
WORKERS = 2
SPECIAL = {"tid": 1023, "ntid": 1024, "laneid": 31, "warpid": 31, "ctaid.y": 65535, "ctaid.z": 65535}
SPECIAL |= {"nctaid.y": 65535, "nctaid.z": 65535}
REGISTER = re.compile(r"%(?:rd|rs|r)\d+")  # integers: what a place is made of, and not what decides about it
LINE = re.compile(r"(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s+(.*?);")


class Product(NamedTuple):
    """A product of 32 bits, or a cut to them, on the way to an address."""

    kernel: str
    file: str
    line: int
    instruction: str
    makers: tuple[tuple[str, int], ...] = ()  # the lines that made what it cuts


@dataclass
class Code:
    """One instruction: what it writes (first operand, or all of {...}) and reads."""

    op: str
    operands: list[str]
    file: str
    line: int
    text: str


@dataclass
class Body:
    """A kernel: its instructions, and which of them write a register."""

    name: str
    code: list[Code] = field(default_factory=list)
    writes: dict[str, list[Code]] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)

    def add(self, code: Code) -> None:
        self.code.append(code)
        if code.operands and not code.op.startswith(("st.", "cp.async", "red.")):
            for register in REGISTER.finditer(code.operands[0]):
                self.writes.setdefault(register[0], []).append(code)

    # ------------------------------------------------------------------------------------------- bounds

    def bound(self, operand: str) -> int:
        """No smaller than the operand's size, LIMIT where it is not known, as of a loop's own number."""
        if re.fullmatch(r"-?\d+", operand):
            return abs(int(operand))
        if not REGISTER.fullmatch(operand):
            name = operand.removeprefix("%")
            return SPECIAL.get(name, SPECIAL.get(name.partition(".")[0], LIMIT - 1))
        if operand not in self.bounds:
            most = UNKNOWN if operand.startswith("%rd") else LIMIT - 1
            self.bounds[operand] = most  # where it is made of itself
            self.bounds[operand] = min(most, max(map(self.result, self.writes.get(operand, ())), default=most))
        return self.bounds[operand]

    def result(self, code: Code) -> int:
        """The bound of what an instruction writes."""
        op, (a, b, c) = code.op.partition(".")[0], [*code.operands[1:4], "0", "0", "0"][:3]
        if op in ("mov", "cvt"):
            return self.bound(a)
        if op == "ld":
            return UNKNOWN if code.op.endswith("64") else LIMIT - 1
        if op in ("add", "sub"):
            return min(self.bound(a) + self.bound(b), self.left_over(a, b) if op == "sub" else UNKNOWN)
        if ".hi" in code.op:
            return min(self.bound(a), self.bound(b)) if op == "mul" else UNKNOWN
        if op == "mul":
            return self.bound(a) * self.bound(b)
        if op == "mad":
            return self.bound(a) * self.bound(b) + self.bound(c)
        if op == "shl":
            return self.bound(a) << min(self.bound(b), 64)
        if op == "shr" and b.isdigit():
            return self.bound(a) >> int(b)
        if op == "div":
            return self.bound(a) // max(int(b), 1) if b.isdigit() else self.bound(a)
        if op == "rem":
            return min(self.bound(a), self.bound(b))
        if op == "and":
            mask = b if b.startswith("-") else a  # -8 leaves a number as it is but for its last bits
            return self.bound(a) + self.bound(b) if mask.startswith("-") else min(self.bound(a), self.bound(b))
        if op in ("min", "max", "selp"):
            return max(self.bound(a), self.bound(b))
        if op == "bfi" and c.isdigit():  # the bits of a, from bit c of b on
            return (self.bound(a) << int(c)) + self.bound(b)
        return UNKNOWN

    def left_over(self, a: str, b: str) -> int:
        """The bound of a - b where b is a without its last bits, or (a / y) y; UNKNOWN elsewhere."""
        for code in self.writes.get(b, [])[:1]:
            if code.op.startswith("mul.lo") and self.gives_back(code):
                return min(map(self.bound, code.operands[1:3]))
            if not code.op.startswith("and.") or not re.fullmatch(r"-\d+", code.operands[2]):
                continue
            whole, size = code.operands[1], abs(int(code.operands[2]))
            sums = [made.operands for made in self.writes.get(whole, []) if made.op.startswith("add.")]
            if whole == a or any(of[1] == a and self.bound(of[2]) < size for of in sums):
                return size
        return UNKNOWN

    # -------------------------------------------------------------------------------------------- walks

    def sinks(self) -> Iterator[str]:
        """Registers that say where global memory is accessed, and integers on their way through shared memory."""
        for code in self.code:
            addresses = re.findall(r"\[(%rd\d+)", code.text)
            if code.op.startswith(("ld.", "st.", "cp.async", "atom.", "red.")) and not code.op.startswith(
                ("ld.shared", "st.shared", "ld.param")
            ):
                yield from addresses
            if code.op.startswith("st.shared"):
                yield from re.findall(r"%(?:r|rd)\d+", code.operands[-1])

    def gives_back(self, code: Code) -> bool:
        """Whether a product is (x / y) y, as in a remainder: no larger than x."""
        if len(code.operands) != 3:
            return False
        a, b = code.operands[1:]
        return self.quotient(a, b) or self.quotient(b, a)

    def quotient(self, a: str, b: str) -> bool:
        """Whether a is some x / b; where both fit, the compiler divides 64 bits in 32."""
        made = self.writes.get(a, [])
        halves = [of for code in made if code.op == "cvt.u64.u32" for of in self.writes.get(code.operands[1], ())]
        whole = [code for code in made if code.op != "cvt.u64.u32"]
        return (
            bool(whole)
            and all(code.op.startswith("div.") and code.operands[2] == b for code in whole)
            and all(code.op == "div.u32" for code in halves)
        )

    def loses(self, code: Code) -> bool:
        """Whether an instruction makes 32 bits of a number that may have more."""
        if code.op.startswith(("mul.lo.s32", "mul.lo.u32", "mad.lo.s32", "mad.lo.u32", "shl.b32", "cvt.u32.u64")):
            return self.result(code) >= LIMIT
        mask = code.operands[2] if code.op == "and.b64" else ""
        half = code.op in ("cvt.s64.s32", "cvt.u64.u32") or (mask.isdigit() and int(mask) >= LIMIT - 1)
        if half or code.op in ("shr.s64", "shr.u64"):  # of 64 bits: the low half at once, or by way of the high one
            return self.bound(code.operands[1]) >= LIMIT
        return False

    def halved(self) -> set[str]:
        """What the compiler cuts to 32 bits where it has seen that a division's 64-bit numbers fit: no place."""
        return {each for code in self.code if code.op in ("div.u32", "rem.u32") for each in code.operands[1:]}

    def makers(self, code: Code, deep: int = 3) -> set[tuple[str, int]]:
        """The lines of what makes an instruction's numbers: further up where the compiler names none."""
        found = set()
        for made in (of for operand in code.operands[1:] for of in self.writes.get(operand, ())):
            if made.line:
                found.add((made.file, made.line))
            elif deep:
                found |= self.makers(made, deep - 1)
        return found

    def products(self) -> set[Product]:
        """Products in 32 bits on the way to a sink that may pass LIMIT."""
        found, seen, todo, halved = set(), set(), list(self.sinks()), self.halved()
        while todo:
            register = todo.pop()
            if register in seen:
                continue
            seen.add(register)
            for code in self.writes.get(register, ()):
                if code.op.startswith(("ld.", "atom.")):
                    continue  # what lies there was a sink where it was written, or is an argument
                if code.op == "cvt.u32.u64" and register in halved:
                    continue
                if code.op == "and.b32" and code.operands[2].isdigit():
                    continue  # the last bits of a product are right, however long it is
                if self.loses(code) and not self.gives_back(code):
                    makers = () if code.op.startswith(("mul", "mad", "shl")) else tuple(sorted(self.makers(code)))
                    found.add(Product(self.name, code.file, code.line, code.text, makers))
                todo += [match[0] for operand in code.operands[1:] for match in REGISTER.finditer(operand)]
        return found


def bodies(ptx: str) -> list[Body]:
    """The kernels of a listing. Raises ValueError where one calls a function, into which no walk leads."""
    names = dict(re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]+)"', ptx, re.M))
    found: list[Body] = []
    file, line = "", 0
    for text in ptx.splitlines():
        text = text.strip()
        if entry := re.match(r"\.visible \.entry (\w+)", text):
            found.append(Body(entry[1]))
        elif place := re.match(r"\.loc\s+(\d+)\s+(\d+)", text):
            file, line = names.get(place[1], "?").rpartition("/")[2], int(place[2])
        elif found and (match := LINE.match(text)):
            if match[1].startswith("call"):
                raise ValueError(f"{found[-1].name} calls a function: {text}")
            operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", match[2])
            found[-1].add(Code(match[1], operands, file, line, text))
    return found


def products(ptx: str) -> list[Product]:
    """Products in 32 bits that reach an address and may pass 2^31, of every kernel of a listing."""
    return sorted(product for body in bodies(ptx) for product in body.products())


def unexplained(file: str, defines: Defines, sources: Mapping[str, str]) -> list[str]:
    """Those of one build whose line in the source gives no REASON."""
    lines = {name: text.splitlines() for name, text in sources.items()}
    said = set()
    for found in products(nvrtc.ptx(file, sources[file], sources, defines, ARCH)):
        text = lines.get(found.file, [])
        if any(FILE_REASON in line for line in text) or any(
            REASON in line for place in ((found.file, found.line), *found.makers) for line in beside(lines, *place)
        ):
            continue
        here = beside(lines, found.file, found.line)[-1].strip()
        said.add(f"{found.file}:{found.line}: {found.kernel} computes a place in 32 bits: {here}")
    return sorted(said)


def beside(lines: Mapping[str, list[str]], file: str, line: int) -> list[str]:
    """A line and the one above it."""
    return lines.get(file, [])[max(line - 2, 0) : line] or [""]


def problems(
    builds: Iterable[tuple[str, Defines]] | None = None, sources: Mapping[str, str] | None = None
) -> list[str]:
    """What is unexplained in any build. Raises BackendError without NVRTC."""
    texts = source.sources() if sources is None else sources
    jobs = list(source.builds() if builds is None else builds)
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(lambda job: unexplained(*job, texts), jobs)
        return sorted({problem for each in found for problem in each})
