"""Single functions on a card: both GPU backends, and PyTorch op by op where it has the same function.

Each is checked on SMALL samples against the float64 oracle and timed on many, whose bytes do not fit in L2; where the
function adds over the batch (dw, dgamma) the small batch is the check. PyTorch's normals are of its own generator and
its scatter takes any of equal places, so those two peers have no error. Bytes are counted as each array once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ebm_fast
import ebm_ref
from bench.table import relative_error
from ebm_ref.contracts import Stream

from .bench_rows import our_row, peer_row, right
from .calls import arrays_of, draw_many
from .context import SKIP, Context
from .nets import SEED
from .timing import CupyClock, TorchClock, measure, sets

SMALL = 64
D, M = 784, 8192
TWINS = ("cupy_raw", "numba_cuda")
Make = Callable[[Any, Any, int], Callable[[], Any]]


@dataclass(frozen=True)
class Function:
    """make(module, put, n) -> call, for a backend and for the oracle; torch(T, n) -> call; work(n) -> FLOP, bytes."""

    name: str
    size: str
    n: int
    make: Make
    torch: Callable[[Any, int], Callable[[], Any]]
    work: Callable[[int], tuple[float, float]]
    budget: float

    def case(self, n: int) -> str:
        return f"{self.size}-N{n}"


def noise(B: Any, put: Any, n: int) -> Callable[[], Any]:
    return lambda: B.noise_normal(SEED, Stream.CHAIN_NOISE, 3, np.arange(n), D, np.float32)


def step(B: Any, put: Any, n: int) -> Callable[[], Any]:
    x, g, xi = (put(draw_many((n, D), stream)) for stream in (Stream.DATA_NOISE, Stream.PROJECTION, Stream.CHAIN_NOISE))
    return lambda: B.langevin_step(x, g, xi, 0.1, 0.03, clip=0.5, box=(-1.0, 1.0))


def buffer_draw(B: Any, put: Any, n: int) -> Callable[[], Any]:
    slots, fresh = put(draw_many((M, D))), put(draw_many((n, D), Stream.BUFFER_FRESH))
    bits = put(ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0])
    u = put(ebm_ref.noise_uniform(SEED, Stream.BUFFER_MASK, 0, np.arange(n), 1)[:, 0])
    return lambda: B.buffer_draw(slots, M, bits, u, fresh, 0.05)[0]


def buffer_push(B: Any, put: Any, n: int) -> Callable[[], Any]:
    slots, x = put(draw_many((M, D))), put(draw_many((n, D), Stream.BUFFER_FRESH))
    idx = put(ebm_ref.noise_index(ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0], M))

    def call() -> Any:
        B.buffer_push(slots, M, 0, x, "in_place", idx=idx)
        return slots

    return call


def conv_forward(B: Any, put: Any, n: int) -> Callable[[], Any]:
    x, w, b = put(draw_many((n, 14, 14, 32))), put(draw_many((3, 3, 32, 64))), put(draw_many((64, 1))[:, 0].copy())
    return lambda: B.conv2d_forward(x, w, b, stride=2)


def conv_backward(B: Any, put: Any, n: int) -> Callable[[], Any]:
    x, w, dy = put(draw_many((n, 14, 14, 32))), put(draw_many((3, 3, 32, 64))), put(draw_many((n, 7, 7, 64)))
    return lambda: B.conv2d_backward(x, w, dy, stride=2)


def norm_forward(B: Any, put: Any, n: int) -> Callable[[], Any]:
    x, gamma = put(draw_many((n, 14, 14, 32))), put(draw_many((32, 1))[:, 0].copy())
    return lambda: B.group_norm_forward(x, gamma, gamma, 32)


def norm_backward(B: Any, put: Any, n: int) -> Callable[[], Any]:
    x, dy, gamma = (
        put(draw_many((n, 14, 14, 32))),
        put(draw_many((n, 14, 14, 32), Stream.PROJECTION)),
        put(draw_many((32, 1))[:, 0].copy()),
    )
    return lambda: B.group_norm_backward(x, gamma, dy, 32)


CONV = 2 * 49 * 9 * 32 * 64  # FLOP of one sample's convolution
MAP, OUT = 14 * 14 * 32, 7 * 7 * 64


def function_table(T: Any) -> tuple[Function, ...]:
    """The functions; T: bench.gpu.torch_functions, or None where PyTorch is absent."""
    peer = (lambda name: getattr(T, name)) if T is not None else (lambda name: None)
    return (
        Function("noise_normal", f"D{D}", 65536, noise, peer("noise"), lambda n: (0, 4 * n * D), 1e-5),
        Function("langevin_step", f"D{D}", 65536, step, peer("step"), lambda n: (0, 16 * n * D), 1e-6),
        Function("buffer_draw", f"M{M}-D{D}", 8192, buffer_draw, peer("buffer_draw"), lambda n: (0, 8 * n * D), 1e-7),
        Function("buffer_push", f"M{M}-D{D}", 8192, buffer_push, peer("buffer_push"), lambda n: (0, 8 * n * D), 1e-7),
        Function(
            "conv2d_forward", "14x14x32-O64-s2", 8192, conv_forward, peer("conv_forward"),
            lambda n: (CONV * n, 4 * n * (MAP + OUT)), 1e-5,
        ),
        Function(
            "conv2d_backward", "14x14x32-O64-s2", 8192, conv_backward, peer("conv_backward"),
            lambda n: (2 * CONV * n, 4 * n * (2 * MAP + OUT)), 1e-5,
        ),
        Function(
            "group_norm_forward", "14x14x32-G32", 8192, norm_forward, peer("norm_forward"),
            lambda n: (0, 8 * n * MAP), 1e-5,
        ),
        Function(
            "group_norm_backward", "14x14x32-G32", 8192, norm_backward, peer("norm_backward"),
            lambda n: (0, 12 * n * MAP), 1e-4,
        ),
    )  # fmt: skip


def functions(context: Context) -> None:
    context.need_card()
    cp = context.need("cupy")
    T = context.part("torch functions", context.need, "bench.gpu.torch_functions")
    for function in function_table(T):
        n = function.n // 64 if context.quick else function.n
        for twin in TWINS:
            context.part(f"{function.name} {twin}", ours, context, cp, function, n, twin)
        if T is not None:
            context.part(f"{function.name} torch", torch_peer, context, T, function, n)


def ours(context: Context, cp: Any, function: Function, n: int, twin: str) -> None:
    case = function.case(n)
    why = ebm_fast.why_not(twin) if twin in ebm_fast.BACKENDS else f"there is no backend {twin}"
    module = None if why else ebm_fast.backend(twin)
    why = why or (None if hasattr(module, function.name) else f"{twin} has no {function.name}")
    why = why or (None if context.left() > 4 else "no time left")
    if why:
        context.row("bench", SKIP, why, bench=function.name, case=case, twin=twin)
        return
    device = context.need(f"ebm_fast.{twin}.device").current()
    error = function_error(function, module, device)
    if not right(context, function.name, case, twin, error, function.budget):
        return
    work = function.work(n)
    made = [
        function.make(module, device.put, n)
        for _ in range(sets(int(work[1]), cp.cuda.Device().attributes["L2CacheSize"]))
    ]
    timed = measure(lambda i: made[i % len(made)](), CupyClock(cp))
    our_row(context, function.name, case, twin, timed, error, work)


def function_error(function: Function, module: Any, device: Any) -> float:
    """The float32 twin on SMALL samples against the oracle on the same numbers in float64."""
    exact = function.make(Exact(), lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, SMALL)()
    found = function.make(module, device.put, SMALL)()
    pairs = zip(arrays_of(found), arrays_of(exact), strict=True)
    return max(relative_error(device.get(a), b) for a, b in pairs)


class Exact:
    """The oracle, drawing in float64 whatever is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name == "noise_normal":
            return lambda *address: ebm_ref.noise_normal(*address[:-1], np.float64)
        return getattr(ebm_ref, name)


def torch_peer(context: Context, T: Any, function: Function, n: int) -> None:
    case = function.case(n)
    if context.left() < 4 or not T.torch.cuda.is_available():
        why = "no time left" if context.left() < 4 else "PyTorch has no card here"
        context.row("bench", SKIP, why, bench=function.name, case=case, peer="torch_eager")
        return
    error = None
    if function.name not in T.OWN:
        exact = function.make(Exact(), lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, SMALL)()
        found = [T.to_numpy(x) for x in arrays_of(function.torch(T, SMALL)())]
        error = max(relative_error(a, b) for a, b in zip(found, arrays_of(exact), strict=True))
        if not right(context, function.name, case, "torch_eager", error, max(function.budget, 1e-5)):
            return
    made = [function.torch(T, n) for _ in range(2)]
    timed = measure(lambda i: made[i % 2](), TorchClock(T.torch))
    peer_row(context, function.name, case, "torch_eager", timed, error, function.work(n))
