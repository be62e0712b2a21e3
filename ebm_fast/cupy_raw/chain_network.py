"""Energy and gradient of a network as the operations that the persistent chain (chain.cu) runs.

    plan(spec, noise_first) -> Plan      of a ConvSpec or an MLPSpec

The layers are the oracle's, forwards and then backwards from dE = 1. Where a block is residual its norm adds to the
skip (the block's input, or the output of the 1x1 convolution), in place wherever nobody reads the input again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ebm_ref.contracts import flat_size
from ebm_ref.specs import ConvSpec, MLPSpec

from .activation import activation_code
from .chain_plan import Plan, extent


@lru_cache(maxsize=64)
def plan(spec: Any, noise_first: bool) -> Plan:
    """The plan of a ConvSpec or an MLPSpec."""
    P = Plan()
    image = isinstance(spec, ConvSpec)
    C = spec.shape[2] if image else flat_size(spec.shape)
    P.x = P.value(flat_size(spec.shape) // C, C)
    P.at = P.value(P.x.pixels, C) if noise_first else P.x
    if image:
        conv_ops(P, spec)
    else:
        mlp_ops(P, spec)
    return P.freeze()


def conv_ops(P: Plan, spec: ConvSpec) -> None:
    """Energy and gradient of a convolutional energy."""
    code = activation_code(spec.activation)
    (H, W, C), h, blocks = spec.shape, P.at, []
    for i, (O, stride) in enumerate(zip(spec.channels, spec.strides, strict=True)):
        size, conv, below = (H, W), (spec.kernel, stride, spec.padding), h
        H, W = (extent(n, *conv)[0] for n in size)
        y = P.value(H * W, O)
        P.linear(f"conv{i}", size, conv, C, O, below, y)
        add = None
        if spec.has_skip_conv(i):
            h = add = P.value(H * W, O)
            P.linear(f"skip{i}", size, (1, stride, "SAME"), C, O, below, h)
        elif spec.residual and i > 0:
            h = add = below  # in place: nobody else reads the block's input again
        else:
            h, add = P.value(H * W, O), below if spec.residual else None
        blocks.append((size, conv, C, O, y, P.norm(f"norm{i}", y, spec.groups(i), code, h, add)))
        C = O
    half, divisor = max(1, C // 2), H * W if spec.pool == "mean" else 1
    pooled = P.value(1, C)
    P.op("POOL", src=h, src_pitch=h.pitch, dst=pooled, pixels=H * W, C=C, divisor=divisor)
    hidden = P.dense("head", C, half, pooled)
    bent = P.value(1, half)
    P.op("ACT", src=hidden, dst=bent, C=half, code=code)
    P.E = P.dense("out", half, 1, bent)

    slope = P.value(1, half)
    P.op("FILL", dst=slope, C=half, w=P.pack("out.w", 1, half, 1, True))
    P.op("ACT_BACK", src=hidden, dst=slope, C=half, code=code)
    dpooled = P.dense("head", C, half, hidden, back=True)
    dh = P.value(H * W, C)
    P.op("POOL_BACK", src=dpooled, dst=dh, dst_pitch=dh.pitch, pixels=H * W, C=C, divisor=divisor)
    for i, (size, conv, C, O, y, norm) in reversed(list(enumerate(blocks))):
        if spec.has_skip_conv(i):
            dx = P.value(size[0] * size[1], C)
            P.linear(f"skip{i}", size, (1, conv[1], "SAME"), C, O, dh, dx, back=True)
        elif spec.residual:
            dx = dh
        P.norm_back(norm, y, dh, keep=spec.residual and not spec.has_skip_conv(i))
        if not spec.residual:
            dx = P.value(size[0] * size[1], C)
        P.linear(f"conv{i}", size, conv, C, O, y, dx, back=True, add=spec.residual)
        dh = dx
    P.g = dh


def mlp_ops(P: Plan, spec: MLPSpec) -> None:
    """Energy and gradient of a multilayer perceptron."""
    code = activation_code(spec.activation)
    h, layers = P.at, []
    for i, O in enumerate(spec.hidden):
        C = h.C
        y = P.dense(f"linear{i}", C, O, h, thin=False)
        h = P.value(1, O)
        norm = None
        if spec.layer_norm:
            norm = P.norm(f"norm{i}", y, 1, code, h, None)
        else:
            P.op("ACT", src=y, dst=h, C=O, code=code)
        layers.append((C, O, y, norm))
    P.E = P.dense("out", h.C, 1, h)
    dh = P.value(1, h.C)
    P.op("FILL", dst=dh, C=h.C, w=P.pack("out.w", 1, h.C, 1, True))
    for i, (C, O, y, norm) in reversed(list(enumerate(layers))):
        if norm is not None:
            P.norm_back(norm, y, dh)
        else:
            P.op("ACT_BACK", src=y, dst=dh, C=O, code=code)
        dh = P.dense(f"linear{i}", C, O, y, back=True, thin=False)
    P.g = dh
