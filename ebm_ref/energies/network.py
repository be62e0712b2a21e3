"""What the neural energies share: a trunk that ends in features, and one linear layer `out` on top.

    outputs_forward:   y = h w_out + b_out,  h = features(x)          (N, F) -> (N, O)
    outputs_backward:  dx, grads of sum_{n,o} dy[n,o] y[n,o]
    forward, backward: the energy E(x) = y[:, 0] of a network with one output

A subclass writes the trunk, forward and backward. The energies have O = 1; a classifier (classifier_energy.py) puts
one output a class on the same trunk.

Source: LeCun et al. 2006, A Tutorial on Energy-Based Learning, section 1 (an energy is any scalar network).
Level: serves 1, 2 and 3. Twins: none of its own (inside the fast energies).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from ..contracts import Params
from ..layers import linear_backward, linear_forward
from .base import EnergyBase, Tape

Grads = dict[str, Any]


class NetworkEnergy(EnergyBase):
    """E(x) = h w_out + b_out, h = features(x); theta ends in `out.w` (F, 1), `out.b` (1,)."""

    @abstractmethod
    def features_forward(self, theta: Params, tape: Tape, x: Any) -> Any:
        """h, (N, F): what the last linear layer sees; appends to the tape."""

    @abstractmethod
    def features_backward(self, theta: Params, tape: Tape, grads: Grads, dh: Any) -> Any:
        """dx of sum dh h, like x; empties the tape from its end and adds the trunk's gradients to `grads`."""

    def outputs_forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        """y = features(x) w_out + b_out, (N, O), and the tape."""
        tape: Tape = []
        h = self.features_forward(theta, tape, x)  # (N, F)
        tape.append(h)
        return linear_forward(h, theta["out.w"], theta["out.b"]), tape  # (N, O)

    def outputs_backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, Grads]:
        """dx, like x, and the gradients in theta, of sum_{n,o} dy[n,o] y[n,o]. dy: (N, O)."""
        grads: Grads = {}
        dh, grads["out.w"], grads["out.b"] = linear_backward(tape.pop(), theta["out.w"], dy)  # (N, F)
        return self.features_backward(theta, tape, grads, dh), grads

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        y, tape = self.outputs_forward(theta, x)
        return y[:, 0], tape  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, Grads]:
        return self.outputs_backward(theta, tape, dy[:, None])
