"""Stage 2: what the card can do at most, measured: memory, L2, matrix rates, launches. Random data, medians.

copy      bytes read and written a second, device to device
l2_read   bytes a second of re-reading 32 MB, which L2 holds
fp32, tf32, bf16    FLOP a second of a large matrix product
launch, graph_node  seconds from one small kernel to the next, launched singly and inside a graph
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .context import Context
from .timing import CupyClock, TorchClock, measure

SOURCE = Path(__file__).with_name("ceilings.cu")
L2_MB, L2_TIMES = 32, 40
NODES = 1000


def ceilings(context: Context) -> None:
    context.need_card()
    for what, part in (("copy", copy), ("l2_read", l2_read), ("launch", launches), ("matrix", matrices)):
        context.part(what, part, context)


def numbers(n: int) -> np.ndarray:
    """Random float32 numbers: zeros are copied and multiplied faster than data."""
    return np.random.default_rng(0).random(n, dtype=np.float32)


def copy(context: Context) -> None:
    cp = context.need("cupy")
    x = cp.tile(cp.asarray(numbers(2**24)), 1 if context.quick else 16)  # 1 GiB
    y = cp.empty_like(x)
    timed = measure(lambda i: cp.copyto(y, x), CupyClock(cp))
    context.row("copy", rate=2 * x.nbytes / timed.seconds, **vars(timed))


def l2_read(context: Context) -> None:
    cp = context.need("cupy")
    module = cp.RawModule(code=SOURCE.read_text())
    processors = cp.cuda.Device().attributes["MultiProcessorCount"]
    x = cp.asarray(numbers(L2_MB * 2**20 // 4))
    out, kernel = cp.zeros(1, cp.float32), module.get_function("read_again")
    arguments = (x, cp.int64(x.size // 4), cp.int32(L2_TIMES), out)
    timed = measure(lambda i: kernel((8 * processors,), (256,), arguments), CupyClock(cp))
    context.row("l2_read", rate=L2_TIMES * x.nbytes / timed.seconds, megabytes=L2_MB, **vars(timed))


def launches(context: Context) -> None:
    cp = context.need("cupy")
    kernel = cp.RawModule(code=SOURCE.read_text()).get_function("touch")
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.zeros(32, cp.float32)

        def many(i: int) -> None:
            for _ in range(NODES):
                kernel((1,), (32,), (x,))

        timed = measure(many, CupyClock(cp), 5)
        context.row("launch", gap=timed.seconds / NODES, **vars(timed))
        stream.synchronize()
        stream.begin_capture()
        many(0)
        graph = stream.end_capture()
        timed = measure(lambda i: graph.launch(stream=stream), CupyClock(cp))
        context.row("graph_node", gap=timed.seconds / NODES, **vars(timed))


def matrices(context: Context) -> None:
    torch = context.need("torch")
    n = 2048 if context.quick else 8192
    for name, dtype, tf32 in (("fp32", "float32", False), ("tf32", "float32", True), ("bf16", "bfloat16", False)):
        context.part(name, matrix, context, torch, name, n, getattr(torch, dtype), tf32)


def matrix(context: Context, torch: Any, name: str, n: int, dtype: Any, tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.float32).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    timed = measure(lambda i: torch.matmul(a, b, out=out), TorchClock(torch))
    context.row(name, rate=2 * n**3 / timed.seconds, size=n, **vars(timed))
