"""The energies and the Langevin chain in PyTorch: the peer that a reader would write, computing the same function.

    torch_energy   E(x), from the same spec and the same theta as the oracle's
    torch_step     x' = box(x - eta grad_x E(x) + sigma xi), xi of PyTorch's own generator
    torch_compiled the same step, fused by torch.compile
    torch_graph    K steps in one CUDA graph

What differs from a first draft in PyTorch, and is needed for the same function: SAME padding is explicit (a stride of
2 pads (0, 1) on even sizes and (1, 1) on odd ones, which `padding=1` does not), and float32 means float32 (TF32 off,
except where a case asks for it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ebm_ref.contracts import Params
from ebm_ref.layers.conv2d import conv2d_extent
from ebm_ref.specs import Box, ConvSpec, DeepConvSpec, MLPSpec

Tensors = dict[str, torch.Tensor]
Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
EPS = 1e-5
ACTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
}
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def torch_device() -> str:
    """The card where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_scalar(value: float) -> torch.Tensor:
    """A float32 number on the device: a compiled step takes any value of it."""
    return torch.tensor(value, dtype=torch.float32, device=torch_device())


def torch_precision(tf32: bool) -> None:
    """Let matrix products and convolutions round their operands to TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def torch_theta(theta: Params, layout: str) -> Tensors:
    """theta on the device; filters (R, S, C, O) become (O, C, R, S) in `layout`."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)).to(torch_device()) for name, value in theta.items()}
    return {
        name: value.permute(3, 2, 0, 1).contiguous(memory_format=LAYOUTS[layout]) if value.ndim == 4 else value
        for name, value in tensors.items()
    }


def torch_samples(x: np.ndarray, layout: str) -> torch.Tensor:
    """x on the device; images (N, H, W, C) become (N, C, H, W) in `layout`."""
    put = torch.from_numpy(np.ascontiguousarray(x)).to(torch_device())
    return put.permute(0, 3, 1, 2).contiguous(memory_format=LAYOUTS[layout]) if put.ndim == 4 else put


def torch_numpy(x: torch.Tensor) -> np.ndarray:
    """Back on the host; images become (N, H, W, C) again."""
    x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    return x.detach().cpu().contiguous().numpy()


def torch_energy(spec: Any, theta: Tensors, x: torch.Tensor) -> torch.Tensor:
    """E(x), (N,). x: as torch_samples gives it."""
    if isinstance(spec, MLPSpec):
        return mlp(spec, theta, x)
    if isinstance(spec, ConvSpec):
        return conv(spec, theta, x)
    if isinstance(spec, DeepConvSpec):
        return deep_conv(spec, theta, x)
    raise TypeError(f"spec: expected MLPSpec, ConvSpec or DeepConvSpec, found {type(spec).__name__}")


def mlp(spec: MLPSpec, theta: Tensors, x: torch.Tensor) -> torch.Tensor:
    h = x.reshape(x.shape[0], -1)
    for i, size in enumerate(spec.hidden):
        h = h @ theta[f"linear{i}.w"] + theta[f"linear{i}.b"]
        if spec.layer_norm:
            h = F.layer_norm(h, (size,), theta[f"norm{i}.gamma"], theta[f"norm{i}.beta"], EPS)
        h = ACTS[spec.activation](h)
    return (h @ theta["out.w"] + theta["out.b"])[:, 0]


def conv(spec: ConvSpec, theta: Tensors, x: torch.Tensor) -> torch.Tensor:
    act, h = ACTS[spec.activation], x
    for i, stride in enumerate(spec.strides):
        y = act(conv_norm(theta, f"conv{i}", f"norm{i}", h, stride, spec.padding, spec.groups(i)))
        h = y + skip(theta, f"skip{i}", h, stride) if spec.residual else y
    return head(spec, theta, h)


def deep_conv(spec: DeepConvSpec, theta: Tensors, x: torch.Tensor) -> torch.Tensor:
    act, first = ACTS[spec.activation], spec.channels[0]
    h = act(conv_norm(theta, "stem", "stem", x, spec.stem_stride, "SAME", min(spec.max_groups, first)))
    for i, (_, size, stride) in enumerate(spec.block_sizes()):
        groups = min(spec.max_groups, size)
        y = act(conv_norm(theta, f"block{i}.conv1", f"block{i}.norm1", h, stride, "SAME", groups))
        y = conv_norm(theta, f"block{i}.conv2", f"block{i}.norm2", y, 1, "SAME", groups)
        h = act(y + skip(theta, f"block{i}.skip", h, stride))
    return head(spec, theta, h)


def conv2d(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, stride: int, padding: str) -> torch.Tensor:
    """x: (N, C, H, W), w: (O, C, R, S); pads as the oracle does."""
    _, top, bottom = conv2d_extent(x.shape[2], w.shape[2], stride, padding)
    _, left, right = conv2d_extent(x.shape[3], w.shape[3], stride, padding)
    if (top, left) == (bottom, right):
        return F.conv2d(x, w, b, stride, (top, left))
    return F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, stride)


def conv_norm(
    theta: Tensors, conv: str, norm: str, x: torch.Tensor, stride: int, padding: str, groups: int
) -> torch.Tensor:
    y = conv2d(x, theta[f"{conv}.w"], theta[f"{conv}.b"], stride, padding)
    return F.group_norm(y, groups, theta[f"{norm}.gamma"], theta[f"{norm}.beta"], EPS)


def skip(theta: Tensors, name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
    if f"{name}.w" not in theta:
        return x
    return conv2d(x, theta[f"{name}.w"], theta[f"{name}.b"], stride, "SAME")


def head(spec: ConvSpec | DeepConvSpec, theta: Tensors, h: torch.Tensor) -> torch.Tensor:
    h = h.mean(dim=(2, 3)) if spec.pool == "mean" else h.sum(dim=(2, 3))
    h = ACTS[spec.activation](h @ theta["head.w"] + theta["head.b"])
    return (h @ theta["out.w"] + theta["out.b"])[:, 0]


def torch_grad(spec: Any, theta: Tensors, x: torch.Tensor) -> torch.Tensor:
    """grad_x E(x), by reverse mode."""
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(torch_energy(spec, theta, x).sum(), x)[0]


def torch_step(spec: Any, theta: Tensors, box: Box | None) -> Step:
    """(x, eta, sigma) -> box(x - eta grad_x E(x) + sigma xi), op by op; eta and sigma lie on the device."""

    def step(x: torch.Tensor, eta: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return move(x, torch_grad(spec, theta, x), eta, sigma, box)

    return step


def torch_compiled(spec: Any, theta: Tensors, box: Box | None) -> Step:
    """The same step, fused by torch.compile; the gradient through torch.func, which the compiler can see into.

    The compiler starts anew for each case: it counts recompilations, and past its limit would run op by op, unsaid.
    """
    torch.compiler.reset()
    grad = torch.func.grad(lambda x: torch_energy(spec, theta, x).sum())
    return torch.compile(lambda x, eta, sigma: move(x, grad(x), eta, sigma, box), dynamic=False, fullgraph=True)


def move(x: torch.Tensor, g: torch.Tensor, eta: torch.Tensor, sigma: torch.Tensor, box: Box | None) -> torch.Tensor:
    x = x - eta * g + sigma * torch.randn_like(x)
    return x if box is None else torch.clamp(x, *box)


def torch_run(step: Step, x: torch.Tensor, eta: torch.Tensor, sigma: torch.Tensor, K: int) -> torch.Tensor:
    """K steps, launched one after another."""
    for _ in range(K):
        x = step(x, eta, sigma)
    return x


def torch_graph(
    step: Step, x: torch.Tensor, eta: torch.Tensor, sigma: torch.Tensor, K: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """K steps captured once in a CUDA graph; the call copies its samples in and replays it."""
    held = x.clone(memory_format=torch.preserve_format)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch_run(step, held, eta, sigma, 3)  # compiles and warms up outside the capture
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = torch_run(step, held, eta, sigma, K)

    def run(x: torch.Tensor) -> torch.Tensor:
        held.copy_(x)
        graph.replay()
        return out

    return run
