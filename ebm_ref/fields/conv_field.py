"""Field of a convolutional network that goes down in size and up again.

    unit_k(x) = act(group_norm(conv2d(x)))                                    stride 1, but 2 on the way down

    forward:   h_0 = unit_stem(x),  h_i = unit_down{i}(h_{i-1})                        i = 1 .. L-1
               u_{L-1} = h_{L-1},  u_{i-1} = unit_up{i}(upsample(u_i)) + h_{i-1}       i = L-1 .. 1
               f = conv2d(u_0)
    backward:  the layers' backwards, last to first; h_{i-1} gets the cotangents of unit_down{i} and of its sum

Source: Ronneberger, Fischer & Brox 2015, U-Net, with sums in place of concatenations; Odena, Dumoulin & Olah 2016,
Deconvolution and Checkerboard Artifacts, for resizing before a convolution; Wu & He 2018 for the normalisation.
Level: every method of the protocol (field_grad_theta_along for smooth activations).
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Params
from ..field_specs import ConvFieldSpec
from ..layers import (
    activation_backward,
    activation_forward,
    conv2d_backward,
    conv2d_forward,
    group_norm_backward,
    group_norm_forward,
    residual_backward,
    residual_forward,
    upsample_backward,
    upsample_forward,
)
from .base import FieldBase, Tape

Grads = dict[str, Any]


@dataclass(frozen=True)
class ConvField(ConvFieldSpec, FieldBase):
    """f(x) = conv2d(u_0), from x down to u_{L-1} and up to u_0; fields and equations as in ConvFieldSpec."""

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        tape: Tape = []
        skips = [self._unit(theta, "stem", tape, x, 0)]  # h_0 (N, H, W, channels[0])
        for i in range(1, len(self.channels)):
            skips.append(self._unit(theta, f"down{i}", tape, skips[-1], i, stride=2))  # h_i (N, H/2^i, W/2^i, .)
        u = skips.pop()
        for i in reversed(range(1, len(self.channels))):
            y = self._unit(theta, f"up{i}", tape, upsample_forward(u), i - 1)  # (N, H/2^(i-1), W/2^(i-1), .)
            u = residual_forward(y, skips.pop())
        tape.append(u)
        return conv2d_forward(u, theta["out.w"], theta["out.b"]), tape  # (N, H, W, out_channels)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, Grads]:
        grads: Grads = {}
        du, grads["out.w"], grads["out.b"] = conv2d_backward(tape.pop(), theta["out.w"], dy)
        dskips = []
        for i in range(1, len(self.channels)):
            du, dskip = residual_backward(du)
            dskips.append(dskip)
            du = upsample_backward(self._unit_backward(theta, f"up{i}", tape, grads, du, i - 1))
        dh = du
        for i in reversed(range(1, len(self.channels))):
            dh = self._unit_backward(theta, f"down{i}", tape, grads, dh, i, stride=2) + dskips.pop()
        return self._unit_backward(theta, "stem", tape, grads, dh, 0), grads  # (N, H, W, C)

    def _unit(self, theta: Params, name: str, tape: Tape, x: Any, size: int, stride: int = 1) -> Any:
        """act(group_norm(conv2d(x))), with channels[size] channels."""
        tape.append(x)
        h = conv2d_forward(x, theta[f"{name}.w"], theta[f"{name}.b"], stride)  # (N, P, Q, O)
        tape.append(h)
        h = group_norm_forward(h, theta[f"{name}.gamma"], theta[f"{name}.beta"], self.groups(size))
        tape.append(h)
        return activation_forward(h, self.activation)

    def _unit_backward(
        self, theta: Params, name: str, tape: Tape, grads: Grads, dy: Any, size: int, stride: int = 1
    ) -> Any:
        """dx of the unit. dy: (N, P, Q, O)."""
        gamma, w = theta[f"{name}.gamma"], theta[f"{name}.w"]
        dh = activation_backward(tape.pop(), dy, self.activation)
        dh, grads[f"{name}.gamma"], grads[f"{name}.beta"] = group_norm_backward(
            tape.pop(), gamma, dh, self.groups(size)
        )
        dx, grads[f"{name}.w"], grads[f"{name}.b"] = conv2d_backward(tape.pop(), w, dh, stride)
        return dx  # (N, H, W, C)
