"""What is timed on the CPU against peers, and its nominal arithmetic.

chain       K SGLD steps of n chains, box (-1, 1)
pcd         one training update: K steps of n persistent chains, the parameter gradient on data and chains, clip, Adam,
            moving average
noise       n x size float32 normals
buffer      n samples drawn from `size` slots, restarts and all, and n pushed
start       from the start of a process to the end of its first chain step, with empty caches (cold) and full ones
functions   the public functions one by one (bench/cases.py)

Nominal FLOP: 2 for a multiply-add of a dense or convolutional layer, with every filter whole, also where it hangs over
the edge of the image. One step of a chain is one forward pass and one backward pass in x, which is as long:
2 n K f, f the FLOP of E(x). The parameter gradient adds 3 f for each of the 2 n samples. Norms, activations, noise and
the optimiser count as nothing, so that a rate is comparable with that of a plain matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebm_ref.contracts import check_choice

from .. import cases as functions
from ..gpu.nets import Net, chain_work

BENCHES = ("chain", "pcd", "noise", "buffer", "start", "functions")


@dataclass(frozen=True)
class Case:
    """One line of the table.

    net: the energy, where there is one   n: chains, or samples   K: chain steps   threads: of each stack, None: all
    size: normals of a chain (noise), slots (buffer).
    """

    bench: str
    name: str
    net: Net | None = None
    n: int = 0
    K: int = 0
    size: int = 0
    threads: int | None = None

    @property
    def energy(self) -> Net:
        """The net of a case that has one."""
        assert self.net is not None
        return self.net


def case_flop(case: Case) -> float:
    """Nominal FLOP of one call, as above; 0 where it has no network."""
    if case.net is None or case.bench == "start":
        return 0.0
    chain = chain_work(case.net, case.n, case.K)[0]
    forward_and_back = chain_work(case.net, 2 * case.n, 1)[0]
    return float(chain + (forward_and_back * 3 // 2 if case.bench == "pcd" else 0))


def net(kind: str, *shape: int, **fields: object) -> Net:
    """An energy of default size, or with `fields`. Its name: kind and shape."""
    name = f"{kind}-{'x'.join(str(size) for size in shape)}"
    return Net(name, kind, (("shape", shape), *fields.items()), ())


def chain_case(energy: Net, n: int, K: int, bench: str = "chain") -> Case:
    return Case(bench, f"{energy.name}-N{n}-K{K}", energy, n, K)


def noise_case(n: int, size: int, threads: int | None) -> Case:
    number = "one thread" if threads == 1 else "all threads"
    return Case("noise", f"{n * size} normals, {number}", n=n, size=size, threads=threads)


def buffer_case(M: int, energy: Net, n: int) -> Case:
    shape = energy.name.split("-")[1]
    return Case("buffer", f"{n} of {M} slots {shape}", energy, n, size=M)


def function_cases() -> tuple[Case, ...]:
    return tuple(Case("functions", f"{case.bench} {case.case}") for case in functions.CASES)


def function_of(case: Case) -> functions.Case:
    """The function and its arguments that `case` names."""
    return next(made for made in functions.CASES if f"{made.bench} {made.case}" == case.name)


CNN28, CNN32 = net("ConvEnergy", 28, 28, 1), net("ConvEnergy", 32, 32, 3)
MLP, DEEP = net("MLPEnergy", 2, hidden=(128, 128)), net("DeepConvEnergy", 32, 32, 3)

CASES = (
    chain_case(CNN28, 128, 60),
    chain_case(CNN32, 128, 60),
    chain_case(MLP, 4096, 60),
    *(chain_case(CNN28, n, 20) for n in (1, 4, 16)),
    chain_case(DEEP, 16, 10),
    chain_case(CNN28, 128, 60, "pcd"),
    noise_case(1000, 10_000, 1),
    noise_case(1000, 10_000, None),
    buffer_case(65536, CNN28, 128),
    *(Case("start", f"{CNN28.name} {when}", CNN28, 128, 1) for when in ("cold", "warm")),
    *function_cases(),
)

CNN_SMALL, MLP_SMALL = net("ConvEnergy", 8, 7, 1, channels=(4, 8), strides=(2, 2)), net("MLPEnergy", 2, hidden=(8, 8))
DEEP_SMALL = net("DeepConvEnergy", 8, 7, 3, channels=(4, 8), blocks=(1, 1))
SMALL = (
    chain_case(CNN_SMALL, 20, 4),
    chain_case(MLP_SMALL, 70, 4),
    chain_case(CNN_SMALL, 1, 2),
    chain_case(DEEP_SMALL, 3, 2),
    chain_case(CNN_SMALL, 20, 4, "pcd"),
    noise_case(100, 1001, 1),
    noise_case(100, 1001, None),
    buffer_case(64, CNN_SMALL, 10),
    *(Case("start", f"{CNN_SMALL.name} {when}", CNN_SMALL, 20, 1) for when in ("cold", "warm")),
    *function_cases()[:2],
)


def cases_of(benches: tuple[str, ...], small: bool = False) -> tuple[Case, ...]:
    """The cases of `benches`, all where there are none, in order. Raises RangeError for an unknown bench."""
    for bench in benches:
        check_choice("NAME", bench, BENCHES)
    return tuple(case for case in (SMALL if small else CASES) if case.bench in (benches or BENCHES))
