"""Energy of a deep residual network: a stem and stages of residual blocks.

    forward:   h_0 = act(group_norm(conv2d(x)))
               h_{i+1} = act(group_norm(conv2d(act(group_norm(conv2d(h_i))))) + skip(h_i)),  E(x) = head(pool(h_L))
    backward:  the layers' backwards, last to first; a block's input gets the sum of its two cotangents

Source: He et al. 2016, Deep Residual Learning, figure 2 (group norm in place of batch norm, which would couple
the samples of a batch and make E(x_n) depend on its neighbours).
Level: provides 1, 2 and 3 (2 and 3 for smooth activations).
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Params
from ..layers import activation_backward, activation_forward, residual_backward, residual_forward
from ..specs import DeepConvSpec
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
class DeepConvEnergy(DeepConvSpec, NetworkEnergy):
    """E(x) = head(pool(h_L)), h_{i+1} = act(f_i(h_i) + skip(h_i)); fields as in DeepConvSpec."""

    def features_forward(self, theta: Params, tape: Tape, x: Any) -> Any:
        stem = {"stride": self.stem_stride, "size": self.channels[0]}
        h = self._conv_forward(theta, "stem", "stem", tape, x, **stem)  # (N, P, Q, channels[0])
        h = self._act_forward(tape, h)
        for i, (_, size, stride) in enumerate(self.block_sizes()):
            y = self._conv_forward(theta, f"block{i}.conv1", f"block{i}.norm1", tape, h, stride=stride, size=size)
            y = self._act_forward(tape, y)
            y = self._conv_forward(theta, f"block{i}.conv2", f"block{i}.norm2", tape, y, stride=1, size=size)
            y = residual_forward(y, skip_forward(theta, f"block{i}.skip", tape, h, stride=stride))  # (N, P, Q, O)
            h = self._act_forward(tape, y)
        return head_forward(theta, tape, h, pool=self.pool, activation=self.activation)  # (N, C/2)

    def features_backward(self, theta: Params, tape: Tape, grads: Grads, dh: Any) -> Any:
        dh = head_backward(theta, tape, grads, dh, pool=self.pool, activation=self.activation)  # (N, P, Q, O)
        for i, (_, size, stride) in reversed(list(enumerate(self.block_sizes()))):
            names1, names2 = ((f"block{i}.conv{k}", f"block{i}.norm{k}") for k in (1, 2))
            dh = activation_backward(tape.pop(), dh, self.activation)
            dh, dskip = residual_backward(dh)
            dskip = skip_backward(theta, f"block{i}.skip", tape, grads, dskip, stride=stride)  # (N, H, W, C)
            dh = self._conv_backward(theta, *names2, tape, grads, dh, stride=1, size=size)  # (N, P, Q, O)
            dh = activation_backward(tape.pop(), dh, self.activation)
            dh = self._conv_backward(theta, *names1, tape, grads, dh, stride=stride, size=size)  # (N, H, W, C)
            dh = dh + dskip
        dh = activation_backward(tape.pop(), dh, self.activation)
        stem = {"stride": self.stem_stride, "size": self.channels[0]}
        return self._conv_backward(theta, "stem", "stem", tape, grads, dh, **stem)  # (N, H, W, C)

    def _conv_forward(self, theta: Params, conv: str, norm: str, tape: Tape, x: Any, stride: int, size: int) -> Any:
        groups = min(self.max_groups, size)
        return conv_norm_forward(theta, conv, norm, tape, x, stride=stride, padding="SAME", groups=groups)

    def _conv_backward(
        self, theta: Params, conv: str, norm: str, tape: Tape, grads: Grads, dy: Any, stride: int, size: int
    ) -> Any:
        groups = min(self.max_groups, size)
        return conv_norm_backward(theta, conv, norm, tape, grads, dy, stride=stride, padding="SAME", groups=groups)

    def _act_forward(self, tape: Tape, x: Any) -> Any:
        tape.append(x)
        return activation_forward(x, self.activation)
