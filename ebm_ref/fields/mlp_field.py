"""Field of a multilayer perceptron.

    forward:   h_0 = x,  h_i = act(h_{i-1} w_i + b_i),  f(x) = h_L w_out + b_out
    backward:  the layers' backwards, last to first

Source: Rumelhart, Hinton & Williams 1986, Learning representations by back-propagating errors.
Level: every method of the protocol (field_grad_theta_along for smooth activations).
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Params, flat_size
from ..field_specs import MLPFieldSpec
from ..layers import activation_backward, activation_forward, linear_backward, linear_forward
from .base import FieldBase, Tape


@dataclass(frozen=True)
class MLPField(MLPFieldSpec, FieldBase):
    """f(x) = out(h_L), h_i = act(linear_i(h_{i-1})), h_0 = x flattened; fields as in MLPFieldSpec."""

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        tape: Tape = []
        h = x.reshape((x.shape[0], flat_size(self.shape)))  # (N, D)
        for i in range(len(self.hidden)):
            tape.append(h)
            h = linear_forward(h, theta[f"linear{i}.w"], theta[f"linear{i}.b"])  # (N, hidden[i])
            tape.append(h)
            h = activation_forward(h, self.activation)
        tape.append(h)
        y = linear_forward(h, theta["out.w"], theta["out.b"])  # (N, D')
        return y.reshape((x.shape[0], *self.out_shape)), tape  # (N, *out_shape)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        grads: dict[str, Any] = {}
        dy = dy.reshape((dy.shape[0], flat_size(self.out_shape)))  # (N, D')
        dh, grads["out.w"], grads["out.b"] = linear_backward(tape.pop(), theta["out.w"], dy)  # (N, hidden[-1])
        for i in reversed(range(len(self.hidden))):
            dh = activation_backward(tape.pop(), dh, self.activation)
            w = theta[f"linear{i}.w"]
            dh, grads[f"linear{i}.w"], grads[f"linear{i}.b"] = linear_backward(tape.pop(), w, dh)  # (N, hidden[i-1])
        return dh.reshape((dh.shape[0], *self.shape)), grads  # (N, *shape)
