"""Energy of a multilayer perceptron.

    forward:   h_0 = x,  h_i = act([layer_norm] (h_{i-1} w_i + b_i)),  E(x) = h_L w_out + b_out
    backward:  the layers' backwards, last to first

Source: LeCun et al. 2006, A Tutorial on Energy-Based Learning, section 1 (an energy is any scalar network).
Level: provides 1, 2 and 3 (2 and 3 for smooth activations).
Twins: numba_cpu, numba_cuda, cupy_raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..contracts import Params, flat_size
from ..layers import (
    activation_backward,
    activation_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
)
from ..specs import MLPSpec
from .base import Tape
from .network import Grads, NetworkEnergy


@dataclass(frozen=True)
class MLPEnergy(MLPSpec, NetworkEnergy):
    """E(x) = out(h_L), h_i = act([layer_norm] linear_i(h_{i-1})), h_0 = x flattened; fields as in MLPSpec."""

    def features_forward(self, theta: Params, tape: Tape, x: Any) -> Any:
        h = x.reshape((x.shape[0], flat_size(self.shape)))  # (N, D)
        for i in range(len(self.hidden)):
            tape.append(h)
            h = linear_forward(h, theta[f"linear{i}.w"], theta[f"linear{i}.b"])  # (N, hidden[i])
            if self.layer_norm:
                tape.append(h)
                h = layer_norm_forward(h, theta[f"norm{i}.gamma"], theta[f"norm{i}.beta"])
            tape.append(h)
            h = activation_forward(h, self.activation)
        return h  # (N, hidden[-1])

    def features_backward(self, theta: Params, tape: Tape, grads: Grads, dh: Any) -> Any:
        for i in reversed(range(len(self.hidden))):
            dh = activation_backward(tape.pop(), dh, self.activation)
            if self.layer_norm:
                gamma = theta[f"norm{i}.gamma"]
                dh, grads[f"norm{i}.gamma"], grads[f"norm{i}.beta"] = layer_norm_backward(tape.pop(), gamma, dh)
            w = theta[f"linear{i}.w"]
            dh, grads[f"linear{i}.w"], grads[f"linear{i}.b"] = linear_backward(tape.pop(), w, dh)  # (N, hidden[i-1])
        return dh.reshape((dh.shape[0], *self.shape))  # (N, *shape)
