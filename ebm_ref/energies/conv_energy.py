"""Energy of a convolutional network.

    forward:   h_0 = x,  h_{i+1} = act(group_norm(conv2d(h_i))) [+ skip(h_i)],  E(x) = head(pool(h_L))
    backward:  the layers' backwards, last to first; a block's input gets the sum of its two cotangents

Source: Du & Mordatch 2019, Implicit Generation and Modeling with Energy-Based Models, appendix (convolutional
energies of images); Wu & He 2018 for the normalisation.
Level: provides 1, 2 and 3 (2 and 3 for smooth activations).
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Params
from ..layers import activation_backward, activation_forward, residual_backward, residual_forward
from ..specs import ConvSpec
from .base import Tape
from .network import Grads, NetworkEnergy
from .parts import (
    conv_norm_backward,
    conv_norm_forward,
    head_backward,
    head_forward,
    skip_backward,
    skip_forward,
)


@dataclass(frozen=True)
class ConvEnergy(ConvSpec, NetworkEnergy):
    """E(x) = head(pool(h_L)), h_{i+1} = act(group_norm(conv2d(h_i))) [+ skip(h_i)]; fields as in ConvSpec."""

    def features_forward(self, theta: Params, tape: Tape, x: Any) -> Any:
        h = x  # (N, H, W, C)
        for i, stride in enumerate(self.strides):
            y = conv_norm_forward(
                theta, f"conv{i}", f"norm{i}", tape, h, stride=stride, padding=self.padding, groups=self.groups(i)
            )  # (N, P, Q, O)
            tape.append(y)
            y = activation_forward(y, self.activation)
            if self.residual:
                y = residual_forward(y, skip_forward(theta, f"skip{i}", tape, h, stride=stride))
            h = y
        return head_forward(theta, tape, h, pool=self.pool, activation=self.activation)  # (N, C/2)

    def features_backward(self, theta: Params, tape: Tape, grads: Grads, dh: Any) -> Any:
        dh = head_backward(theta, tape, grads, dh, pool=self.pool, activation=self.activation)  # (N, P, Q, O)
        for i, stride in reversed(list(enumerate(self.strides))):
            dskip = None
            if self.residual:
                dh, dskip = residual_backward(dh)
                dskip = skip_backward(theta, f"skip{i}", tape, grads, dskip, stride=stride)  # (N, H, W, C)
            dh = activation_backward(tape.pop(), dh, self.activation)
            dh = conv_norm_backward(
                theta, f"conv{i}", f"norm{i}", tape, grads, dh,
                stride=stride, padding=self.padding, groups=self.groups(i),
            )  # fmt: skip  # (N, H, W, C)
            if dskip is not None:
                dh = dh + dskip
        return dh  # (N, H, W, C)
