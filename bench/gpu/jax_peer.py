"""The energies and the Langevin chain in JAX: one jitted scan over the K steps, computing the same function.

    jax_energy   E(x), from the same spec and the same theta as the oracle's
    jax_run      K steps x' = box(x - eta grad_x E(x) + sigma xi) in lax.scan, xi of JAX's own generator

Layouts are the oracle's (NHWC, filters HWIO); padding is explicit; matrix products are asked for in float32
("highest"), because the default rounds their operands to TF32 on a card.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ebm_ref.contracts import Params
from ebm_ref.layers.conv2d import conv2d_extent
from ebm_ref.specs import Box, ConvSpec, DeepConvSpec, MLPSpec

EPS = 1e-5
ACTS: dict[str, Callable[[Any], Any]] = {
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.2),
}


def jax_theta(theta: Params) -> dict[str, Any]:
    """theta on the default device."""
    return {name: jnp.asarray(value) for name, value in theta.items()}


def jax_energy(spec: Any, theta: dict[str, Any], x: Any) -> Any:
    """E(x), (N,). x: (N, *shape)."""
    if isinstance(spec, MLPSpec):
        return mlp(spec, theta, x)
    if isinstance(spec, ConvSpec):
        return conv(spec, theta, x)
    if isinstance(spec, DeepConvSpec):
        return deep_conv(spec, theta, x)
    raise TypeError(f"spec: expected MLPSpec, ConvSpec or DeepConvSpec, found {type(spec).__name__}")


def mlp(spec: MLPSpec, theta: dict[str, Any], x: Any) -> Any:
    h = x.reshape(x.shape[0], -1)
    for i in range(len(spec.hidden)):
        h = dense(theta, f"linear{i}", h)
        if spec.layer_norm:
            h = group_norm(h, theta[f"norm{i}.gamma"], theta[f"norm{i}.beta"], 1)
        h = ACTS[spec.activation](h)
    return dense(theta, "out", h)[:, 0]


def conv(spec: ConvSpec, theta: dict[str, Any], x: Any) -> Any:
    act, h = ACTS[spec.activation], x
    for i, stride in enumerate(spec.strides):
        y = act(conv_norm(theta, f"conv{i}", f"norm{i}", h, stride, spec.padding, spec.groups(i)))
        h = y + skip(theta, f"skip{i}", h, stride) if spec.residual else y
    return head(spec, theta, h)


def deep_conv(spec: DeepConvSpec, theta: dict[str, Any], x: Any) -> Any:
    act, first = ACTS[spec.activation], spec.channels[0]
    h = act(conv_norm(theta, "stem", "stem", x, spec.stem_stride, "SAME", min(spec.max_groups, first)))
    for i, (_, size, stride) in enumerate(spec.block_sizes()):
        groups = min(spec.max_groups, size)
        y = act(conv_norm(theta, f"block{i}.conv1", f"block{i}.norm1", h, stride, "SAME", groups))
        y = conv_norm(theta, f"block{i}.conv2", f"block{i}.norm2", y, 1, "SAME", groups)
        h = act(y + skip(theta, f"block{i}.skip", h, stride))
    return head(spec, theta, h)


def dense(theta: dict[str, Any], name: str, x: Any) -> Any:
    return jnp.matmul(x, theta[f"{name}.w"], precision="highest") + theta[f"{name}.b"]


def conv2d(x: Any, w: Any, b: Any, stride: int, padding: str) -> Any:
    """x: (N, H, W, C), w: (R, S, C, O); pads as the oracle does."""
    pads = [
        conv2d_extent(size, kernel, stride, padding)[1:] for size, kernel in zip(x.shape[1:3], w.shape, strict=False)
    ]
    layout = ("NHWC", "HWIO", "NHWC")
    return b + lax.conv_general_dilated(
        x, w, (stride, stride), pads, dimension_numbers=layout, precision=lax.Precision.HIGHEST
    )


def group_norm(x: Any, gamma: Any, beta: Any, groups: int) -> Any:
    grouped = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    var = (centred * centred).mean(axis=(1, 3), keepdims=True)
    return (centred * lax.rsqrt(var + EPS)).reshape(x.shape) * gamma + beta


def conv_norm(theta: dict[str, Any], conv: str, norm: str, x: Any, stride: int, padding: str, groups: int) -> Any:
    y = conv2d(x, theta[f"{conv}.w"], theta[f"{conv}.b"], stride, padding)
    return group_norm(y, theta[f"{norm}.gamma"], theta[f"{norm}.beta"], groups)


def skip(theta: dict[str, Any], name: str, x: Any, stride: int) -> Any:
    if f"{name}.w" not in theta:
        return x
    return conv2d(x, theta[f"{name}.w"], theta[f"{name}.b"], stride, "SAME")


def head(spec: ConvSpec | DeepConvSpec, theta: dict[str, Any], h: Any) -> Any:
    h = h.mean(axis=(1, 2)) if spec.pool == "mean" else h.sum(axis=(1, 2))
    return dense(theta, "out", ACTS[spec.activation](dense(theta, "head", h)))[:, 0]


def jax_grad(spec: Any, theta: dict[str, Any], x: Any) -> Any:
    """grad_x E(x), by reverse mode."""
    return jax.grad(lambda x: jax_energy(spec, theta, x).sum())(x)


def jax_run(spec: Any, theta: dict[str, Any], box: Box | None, K: int) -> Callable[..., Any]:
    """(x, key, eta, sigma) -> x after K steps: one jitted scan, to which theta is an argument and not a constant."""

    @jax.jit
    def run(theta: dict[str, Any], x: Any, key: Any, eta: Any, sigma: Any) -> Any:
        def step(x: Any, key: Any) -> tuple[Any, None]:
            xi = jax.random.normal(key, x.shape, x.dtype)
            x = x - eta * jax_grad(spec, theta, x) + sigma * xi
            return (x if box is None else jnp.clip(x, *box)), None

        return lax.scan(step, x, jax.random.split(key, K))[0]

    return partial(run, theta)
