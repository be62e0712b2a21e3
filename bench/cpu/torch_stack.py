"""PyTorch's ways to the same results: each variant a stack of its own.

    eager     op by op, x moved in place                        halves   two Python threads, one PyTorch thread each,
    manual    of an MLP: the backward by hand, inference_mode            half of the chains each; as eager or by hand
    compile   the step fused by torch.compile                   torchebm its LangevinDynamics on the same energy

Whether malloc keeps its memory is the environment's (stacks.py). The energies are bench.gpu's, whose padding, groups
and theta are the oracle's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from math import sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import ebm_ref

from ..gpu import torch_peer as peer
from ..gpu.nets import SEED, starts_of
from .backends import Prepared, moved_far
from .cases import Case
from .oracle import RECIPE, RHO, UPDATE, WALK, joined, moments, parameters, rows_of
from .stacks import processors

Tensor = torch.Tensor
Chain = Callable[[Tensor, float, float, int], Tensor]  # x, eta, sigma, K; x is left alone


def prepare(variant: str, case: Case) -> Prepared:
    """A case in a variant: some of eager, manual, compile, torchebm, halves, in words."""
    torch.manual_seed(SEED)
    words = variant.split()
    halves = "halves" in words
    torch.set_num_threads(1 if halves else case.threads or processors())
    if case.bench == "noise":
        return prepare_noise(words, case)
    spec, theta = case.energy.energy(ebm_ref), peer.torch_theta(parameters(case), "contiguous")
    x0 = peer.torch_samples(starts_of(case.energy, case.n), "contiguous")
    if case.bench == "pcd":
        return prepare_pcd(spec, theta, x0, case, halves)
    chain: Chain = next((CHAINS[word] for word in words if word in CHAINS), eager_chain)(spec, theta)
    gradient = manual_gradient(spec, theta) if "manual" in words else lambda x: peer.torch_grad(spec, theta, x)
    run = in_halves(chain, case) if halves else chain

    def answers(eta: float) -> dict[str, Any]:
        rows = rows_of(case)
        moved = peer.torch_numpy(run(x0, eta, 0.0, WALK) - x0)
        return {"grad": peer.torch_numpy(gradient(x0))[rows], "walk": moved[rows]}

    return Prepared(lambda: run(x0, UPDATE.eta, UPDATE.sigma, case.K), answers)


def in_halves(chain: Chain, case: Case) -> Chain:
    """Half of the chains in each of two Python threads."""
    pool = ThreadPoolExecutor(2)

    def run(x: Tensor, eta: float, sigma: float, K: int) -> Tensor:
        return torch.cat(list(pool.map(lambda part: chain(part, eta, sigma, K), torch.chunk(x, 2))))

    return run


# ------------------------------------------------------------------------------------------------- chains


def walked(gradient: Callable[[Tensor], Tensor], x: Tensor, eta: float, sigma: float, K: int) -> Tensor:
    """K times x <- box(x - eta g + sigma xi), in place."""
    x = x.clone()
    xi = torch.empty_like(x)
    for _ in range(K):
        g = gradient(x)
        x.add_(g, alpha=-eta).add_(xi.normal_(), alpha=sigma).clamp_(*UPDATE.box)
    return x


def eager_chain(spec: Any, theta: peer.Tensors) -> Chain:
    return lambda x, eta, sigma, K: walked(lambda y: peer.torch_grad(spec, theta, y), x, eta, sigma, K)


def manual_gradient(spec: Any, theta: peer.Tensors) -> Callable[[Tensor], Tensor]:
    """grad_x E of an MLP with silu: g <- silu'(h) (g w'), last layer to first."""
    layers = [(theta[f"linear{i}.w"], theta[f"linear{i}.b"]) for i in range(len(spec.hidden))]
    out = theta["out.w"].T

    def gradient(x: Tensor) -> Tensor:
        h, kept = x, []
        for w, b in layers:
            kept.append(torch.addmm(b, h, w))
            h = F.silu(kept[-1])
        g = out.expand(len(x), -1)
        for (w, _), h in zip(reversed(layers), reversed(kept), strict=True):
            g = torch.ops.aten.silu_backward(g, h) @ w.T
        return g

    return gradient


def manual_chain(spec: Any, theta: peer.Tensors) -> Chain:
    gradient = manual_gradient(spec, theta)

    def run(x: Tensor, eta: float, sigma: float, K: int) -> Tensor:
        with torch.inference_mode():
            return walked(gradient, x, eta, sigma, K)

    return run


def compiled_chain(spec: Any, theta: peer.Tensors) -> Chain:
    step = peer.torch_compiled(spec, theta, UPDATE.box)

    def run(x: Tensor, eta: float, sigma: float, K: int) -> Tensor:
        return peer.torch_run(step, x, peer.torch_scalar(eta), peer.torch_scalar(sigma), K)

    return run


def torchebm_chain(spec: Any, theta: peer.Tensors) -> Chain:
    """Its noise is sqrt(2 eta) noise_scale, and it refuses 0."""
    base: Any = import_module("torchebm.core").BaseModel
    sampler = import_module("torchebm.samplers").LangevinDynamics

    class Model(base):
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return peer.torch_energy(spec, theta, x)

    model = Model()

    def run(x: Tensor, eta: float, sigma: float, K: int) -> Tensor:
        scale = max(sigma / sqrt(2 * eta), 1e-30)
        made: Tensor = sampler(model, step_size=eta, noise_scale=scale, clamp=UPDATE.box).sample(x=x.clone(), n_steps=K)
        return made

    return run


CHAINS: dict[str, Callable[[Any, peer.Tensors], Chain]] = {
    "manual": manual_chain,
    "compile": compiled_chain,
    "torchebm": torchebm_chain,
}

# ------------------------------------------------------------------------------------------------- noise


def prepare_noise(words: list[str], case: Case) -> Prepared:
    size = (case.n, case.size)
    if "halves" in words:
        parts = [torch.empty(size[0] // 2, size[1]), torch.empty(size[0] - size[0] // 2, size[1])]
        draws = [torch.Generator().manual_seed(SEED + i) for i in range(2)]
        pool = ThreadPoolExecutor(2)

        def call() -> Any:
            return list(pool.map(lambda i: parts[i].normal_(generator=draws[i]), range(2)))

        return Prepared(call, lambda eta: {"moments": moments(torch.cat(call()).numpy())})
    held = torch.empty(size)
    draw = held.normal_ if "in_place" in words else lambda: torch.randn(size)
    return Prepared(draw, lambda eta: {"moments": moments(draw().numpy())})


# ------------------------------------------------------------------------------------------------- pcd


def contrastive(spec: Any, theta: peer.Tensors, x_pos: Tensor, x_neg: Tensor, n: int) -> list[Tensor]:
    """Gradients in theta of the contrastive loss of n data and n samples, or of a part of them."""
    e_pos, e_neg = peer.torch_energy(spec, theta, x_pos), peer.torch_energy(spec, theta, x_neg)
    loss = (e_pos.sum() - e_neg.sum() + RECIPE.alpha * (e_pos.square().sum() + e_neg.square().sum())) / n
    return list(torch.autograd.grad(loss, list(theta.values())))


def prepare_pcd(spec: Any, start: peer.Tensors, data: Tensor, case: Case, halves: bool) -> Prepared:
    """What ebm_ref.train_step does of method pcd, as users of PyTorch write it; halves: of chains and of gradients."""
    slots = torch.rand((RECIPE.M, *data.shape[1:])) * 2 - 1
    theta = {name: value.clone().requires_grad_(True) for name, value in start.items()}
    held = {name: value.detach() for name, value in theta.items()}  # the same memory, without gradients
    ema = {name: value.clone() for name, value in start.items()}
    adam = torch.optim.Adam(theta.values(), lr=RECIPE.lr, betas=(RECIPE.beta1, RECIPE.beta2))
    chain, pool = eager_chain(spec, held), ThreadPoolExecutor(2)

    def part(x_pos: Tensor, x0: Tensor) -> tuple[Tensor, list[Tensor]]:
        x_neg = chain(x0, UPDATE.eta, UPDATE.sigma, case.K)
        return x_neg, contrastive(spec, theta, x_pos, x_neg, case.n)

    def update() -> None:
        idx, fresh = torch.randint(RECIPE.M, (case.n,)), torch.rand(case.n) < RHO
        x0 = slots[idx]
        x0[fresh] = torch.rand_like(x0[fresh]) * 2 - 1
        x_pos = (data + RECIPE.sigma_data * torch.randn_like(data)).clamp_(*UPDATE.box)
        cut = 2 if halves else 1
        pieces = list(zip(torch.chunk(x_pos, cut), torch.chunk(x0, cut), strict=True))
        done = list(pool.map(part, *zip(*pieces, strict=True))) if halves else [part(*pieces[0])]
        slots[idx] = torch.cat([x_neg for x_neg, _ in done])
        for value, *grads in zip(theta.values(), *(grads for _, grads in done), strict=True):
            value.grad = sum(grads[1:], grads[0])
        torch.nn.utils.clip_grad_norm_(theta.values(), RECIPE.max_grad_norm)
        adam.step()
        torch._foreach_lerp_(list(ema.values()), list(held.values()), 1 - RECIPE.ema_decay)

    def answers(eta: float) -> dict[str, Any]:
        grads = dict(zip(theta, contrastive(spec, theta, data, -data, case.n), strict=True))
        update()
        moved = {name: np.abs((held[name] - start[name]).numpy()) for name in start}
        averaged = {name: np.abs((ema[name] - start[name]).numpy()) for name in start}
        return {"grad_theta": joined(like_oracle(grads)), "moved": moved_far(moved, averaged)}

    return Prepared(update, answers)


def like_oracle(theta: peer.Tensors) -> dict[str, Any]:
    """Filters (O, C, R, S) as (R, S, C, O) again."""
    return {
        name: (value.permute(2, 3, 1, 0) if value.ndim == 4 else value).contiguous().numpy()
        for name, value in theta.items()
    }
