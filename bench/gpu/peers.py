"""The peers' chains on a card: PyTorch op by op, PyTorch compiled and in one CUDA graph, JAX in one jitted scan.

Before it is timed, a peer's gradient is held to the float64 oracle: for PyTorch through the very step that is timed,
taken once without noise; for JAX through its gradient function. Float32 is float32 for all; TF32 is a peer of its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import ebm_ref

from .bench_rows import peer_row, right
from .context import SKIP, Context
from .nets import CHECKED, GRAD_BUDGET, UPDATE, Net, chain_work, fixture, nets, starts_of, step_of, theta
from .nets import relative_error as relative
from .timing import HostClock, TorchClock, measure

TF32_BUDGET = 3e-3
FIRST = ("CNN28", 128)  # both layouts are tried on this net; the others take the faster
ROTATED = 4


def torch_eager(context: Context) -> None:
    torch_chains(context, "torch_eager", graphs=False)


def torch_graphs(context: Context) -> None:
    torch_chains(context, "torch_graph", graphs=True)


def torch_graphs_tf32(context: Context) -> None:
    torch_chains(context, "torch_graph_tf32", graphs=True, tf32=True)


def torch_chains(context: Context, peer: str, graphs: bool, tf32: bool = False) -> None:
    """Every net, both memory layouts on the first of them and then the faster one."""
    context.need_card()
    context.need("torch")
    run = partial(torch_chain, context, context.need("bench.gpu.torch_peer"), peer, graphs, tf32)
    best = "channels_last"
    for net, n, k in nets(context.quick):
        if (net.name, n) == FIRST:
            times = {
                layout: context.part(f"{peer} {layout}", run, net, n, k, layout)
                for layout in ("channels_last", "contiguous")
            }
            measured = {layout: seconds for layout, seconds in times.items() if seconds is not None}
            best = min(measured, key=lambda layout: measured[layout], default=best)
        else:
            context.part(f"{peer} {net.name}", run, net, n, k, best)


def torch_chain(
    context: Context, T: Any, peer: str, graphs: bool, tf32: bool, net: Net, n: int, k: int, layout: str
) -> float | None:
    """Seconds of K steps on N chains; None where it was not timed."""
    case = f"{net.name}-N{n}-K{k}"
    if context.left() < (12 if graphs else 4):
        context.row("bench", SKIP, "no time left", bench="langevin_run", case=case, peer=peer)
        return None
    T.torch_precision(tf32)
    spec, params = net.energy(ebm_ref), T.torch_theta(theta(net), layout)
    step = (T.torch_compiled if graphs else T.torch_step)(spec, params, UPDATE.box)
    exact = fixture(net, context.files)
    x = starts_of(net, n)
    eta = step_of(exact)
    moved = T.torch_numpy(step(T.torch_samples(x, layout), T.torch_scalar(eta), T.torch_scalar(0.0)))
    error = relative((x[:CHECKED].astype(np.float64) - moved[:CHECKED]) / eta, exact["g"])
    if not right(context, "langevin_run", case, peer, error, TF32_BUDGET if tf32 else GRAD_BUDGET):
        return None
    starts = [T.torch_samples(np.roll(x, i, axis=0), layout) for i in range(ROTATED)]
    scalars = T.torch_scalar(UPDATE.eta), T.torch_scalar(UPDATE.sigma)
    if graphs:
        replay = T.torch_graph(step, starts[0], *scalars, k)
        timed = measure(lambda i: replay(starts[i % ROTATED]), TorchClock(T.torch))
    else:
        timed = measure(lambda i: T.torch_run(step, starts[i % ROTATED], *scalars, k), TorchClock(T.torch))
    peer_row(context, "langevin_run", case, peer, timed, error, chain_work(net, n, k), layout=layout)
    return timed.seconds


def jax_scan(context: Context) -> None:
    context.need_card()
    context.need("jax")
    J = context.need("bench.gpu.jax_peer")
    backend = J.jax.default_backend()
    if backend not in ("gpu", "cuda"):
        context.row("jax", SKIP, f"JAX has no card here: its backend is {backend}")
        return
    for net, n, k in nets(context.quick):
        context.part(f"jax {net.name}", jax_chain, context, J, net, n, k)


def jax_chain(context: Context, J: Any, net: Net, n: int, k: int) -> None:
    case = f"{net.name}-N{n}-K{k}"
    if context.left() < 10:
        context.row("bench", SKIP, "no time left", bench="langevin_run", case=case, peer="jax")
        return
    spec, params, exact = net.energy(ebm_ref), J.jax_theta(theta(net)), fixture(net, context.files)
    grad = J.jax.jit(lambda params, x: J.jax_grad(spec, params, x))
    error = relative(np.asarray(grad(params, exact["x"])), exact["g"])
    if not right(context, "langevin_run", case, "jax", error, GRAD_BUDGET):
        return
    run = J.jax_run(spec, params, UPDATE.box, k)
    x = starts_of(net, n)
    starts = [J.jnp.asarray(np.roll(x, i, axis=0)) for i in range(ROTATED)]
    last: list[Any] = []

    def call(i: int) -> None:
        last[:] = [run(starts[i % ROTATED], J.jax.random.key(i), UPDATE.eta, UPDATE.sigma)]

    timed = measure(call, HostClock(lambda: J.jax.block_until_ready(last)))
    peer_row(context, "langevin_run", case, "jax", timed, error, chain_work(net, n, k), clock="host")


def warm(context: Context) -> None:
    """Fill the compilers' caches: the compiled step of every net at its first size. Times nothing."""
    context.need_card()
    context.need("torch")
    T = context.need("bench.gpu.torch_peer")
    T.torch_precision(False)
    for net, n, _ in nets(context.quick):
        spec = net.energy(ebm_ref)
        step = T.torch_compiled(spec, T.torch_theta(theta(net), "channels_last"), UPDATE.box)
        step(T.torch_samples(starts_of(net, n), "channels_last"), T.torch_scalar(0.0), T.torch_scalar(0.0))
        context.row(f"torch.compile {net.name}-N{n}")


def warm_jax(context: Context) -> None:
    context.need_card()
    context.need("jax")
    J = context.need("bench.gpu.jax_peer")
    for net, n, k in nets(context.quick):
        spec = net.energy(ebm_ref)
        run = J.jax_run(spec, J.jax_theta(theta(net)), UPDATE.box, k)
        run(starts_of(net, n), J.jax.random.key(0), UPDATE.eta, UPDATE.sigma)
        context.row(f"jax.jit {net.name}-N{n}")
