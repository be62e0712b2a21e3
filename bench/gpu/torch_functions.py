"""The single functions in PyTorch, on the same numbers as the oracle's: each makes a call that returns its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import ebm_ref
from ebm_ref.contracts import Stream

from .calls import draw_many
from .nets import SEED
from .torch_peer import torch_device, torch_precision, torch_samples

Call = Callable[[], Any]
OWN = ("noise_normal",)  # what draws its own numbers
D, M = 784, 8192

torch_precision(False)


def put(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch_device())


def images(x: np.ndarray) -> torch.Tensor:
    return torch_samples(x, "channels_last")


def last(x: torch.Tensor) -> torch.Tensor:
    """A view with the channels last, as the oracle has them."""
    return x.permute(0, 2, 3, 1)


def to_numpy(x: torch.Tensor) -> np.ndarray:
    return x.cpu().contiguous().numpy()


def filters(w: np.ndarray) -> torch.Tensor:
    return put(w).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def noise(_: Any, n: int) -> Call:
    return lambda: torch.randn(n, D, device=torch_device())


def step(_: Any, n: int) -> Call:
    x, g, xi = (put(draw_many((n, D), stream)) for stream in (Stream.DATA_NOISE, Stream.PROJECTION, Stream.CHAIN_NOISE))
    return lambda: torch.clamp(x - 0.1 * torch.clamp(g, -0.5, 0.5) + 0.03 * xi, -1.0, 1.0)


def buffer_draw(_: Any, n: int) -> Call:
    slots, fresh = put(draw_many((M, D))), put(draw_many((n, D), Stream.BUFFER_FRESH))
    bits = put(ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0].astype(np.int64))
    u = put(ebm_ref.noise_uniform(SEED, Stream.BUFFER_MASK, 0, np.arange(n), 1)[:, 0])
    return lambda: torch.where((u < 0.05)[:, None], fresh, slots[(bits * M) >> 32])


def buffer_push(_: Any, n: int) -> Call:
    slots, x = put(draw_many((M, D))), put(draw_many((n, D), Stream.BUFFER_FRESH))
    idx = put(ebm_ref.noise_index(ebm_ref.noise_bits(SEED, Stream.BUFFER_INDEX, 0, np.arange(n), 1)[:, 0], M))
    return lambda: slots.index_copy_(0, idx, x)


def conv_forward(_: Any, n: int) -> Call:
    x, w, b = (
        images(draw_many((n, 14, 14, 32))),
        filters(draw_many((3, 3, 32, 64))),
        put(draw_many((64, 1))[:, 0].copy()),
    )
    return lambda: last(F.conv2d(F.pad(x, (0, 1, 0, 1)), w, b, 2))


def conv_backward(_: Any, n: int) -> Call:
    x, w, dy = images(draw_many((n, 14, 14, 32))), filters(draw_many((3, 3, 32, 64))), images(draw_many((n, 7, 7, 64)))

    def call() -> Any:
        padded = F.pad(x, (0, 1, 0, 1))
        dx, dw, db = torch.ops.aten.convolution_backward(
            dy, padded, w, [64], [2, 2], [0, 0], [1, 1], False, [0, 0], 1, [True, True, True]
        )
        return last(dx[:, :, :14, :14]), dw.permute(2, 3, 1, 0), db

    return call


def norm_forward(_: Any, n: int) -> Call:
    x, gamma = images(draw_many((n, 14, 14, 32))), put(draw_many((32, 1))[:, 0].copy())
    return lambda: last(F.group_norm(x, 32, gamma, gamma, 1e-5))


def norm_backward(_: Any, n: int) -> Call:
    x, dy = images(draw_many((n, 14, 14, 32))), images(draw_many((n, 14, 14, 32), Stream.PROJECTION))
    gamma = put(draw_many((32, 1))[:, 0].copy())
    x, dy = x.contiguous(), dy.contiguous()
    _, mean, r = torch.native_group_norm(x, gamma, gamma, n, 32, 196, 32, 1e-5)

    def call() -> Any:
        dx, *sums = torch.ops.aten.native_group_norm_backward(dy, x, mean, r, gamma, n, 32, 196, 32, [True, True, True])
        return last(dx), *sums

    return call
