"""Twin of `mlp_energy`: the multilayer perceptron energy and its gradients, levels 1 and 2 of the protocol.

What differs: a tile of samples goes through all layers and back in one compiled call (`machine`); a dense
layer is a convolution with one pixel and one tap, layer_norm is group_norm with one group.
Deterministic for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ebm_ref.specs import MLPSpec

from .links import DENSE, Value
from .network import Network
from .program import Program
from .tops import Scalar, Top

SCALAR = Scalar()


@dataclass(frozen=True)
class MLPEnergy(MLPSpec, Network):
    """E(x) = out(h_L), h_i = act([layer_norm] linear_i(h_{i-1})), h_0 = x flattened. Fields: `MLPSpec`."""

    image: ClassVar[bool] = False

    def emit(self, P: Program, x: Value, backward: str | None, top: Top | None = SCALAR) -> tuple[Value, Value]:
        """Emit E (and, backwards, what `backward` names) from the input rows x; return (E, dx): h, h without a top."""
        h, layers = x, []
        for i, O in enumerate(self.hidden):
            linear = P.linear(f"linear{i}.w", f"linear{i}.b", DENSE, h.C, O)
            h = P.apply(linear, h)
            norm = P.norm(f"norm{i}", h, 1) if self.layer_norm else None
            h = h if norm is None else norm.y
            layers.append((linear, norm, P.activate(h, self.activation), h))
        if top is None:
            return h, h
        out = P.linear("out.w", "out.b", DENSE, h.C, top.outputs)
        F = P.apply(out, h)
        E = top.energy(P, F)
        if backward is None:
            return E, E
        dy, above = top.cotangent(P, F, backward == "params"), out
        for linear, norm, slope, h in reversed(layers):
            P.apply_params(above, h, dy)
            dy, above = P.apply_back_under(above, dy, slope, h), linear
            if norm is not None:
                P.norm_back(norm, dy)
        P.apply_params(above, x, dy)
        dx = x
        if backward != "params":
            dx = P.value(x.pixels, x.C)
            P.apply_back(above, dy, dx)
        return E, dx
