"""Twin of `mlp_field`: the multilayer perceptron as a field, its derivatives and those of its parameters.

What differs: a tile of samples goes through all layers and back in one compiled call (`machine`); a dense
layer is a convolution with one pixel and one tap. Deterministic for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ebm_ref.contracts import flat_size
from ebm_ref.field_specs import MLPFieldSpec

from .field_network import FieldNetwork, activate
from .links import DENSE, Value
from .program import Program


@dataclass(frozen=True)
class MLPField(MLPFieldSpec, FieldNetwork):
    """f(x) = out(h_L), h_i = act(linear_i(h_{i-1})), h_0 = x flattened. Fields: `MLPFieldSpec`."""

    image: ClassVar[bool] = False

    def emit(self, P: Program, x: Value, backward: bool) -> tuple[Value, Any]:
        """Emit f from the input rows x; return it, and the layers that `emit_back` takes."""
        h, layers = x, []
        for i, O in enumerate(self.hidden):
            linear = P.linear(f"linear{i}.w", f"linear{i}.b", DENSE, h.C, O)
            h = P.apply(linear, h)
            layers.append((linear, activate(P, h, self.activation, backward), h))
        out = P.linear("out.w", "out.b", DENSE, h.C, flat_size(self.out_shape))
        return P.apply(out, h), (layers, out)

    def emit_back(self, P: Program, x: Value, tape: Any, dF: Value, backward: str) -> Value:
        """Emit what `backward` names, "x" or "params", of the cotangent dF; return dx."""
        layers, above = tape
        for linear, slope, h in reversed(layers):
            P.apply_params(above, h, dF)
            dF, above = P.apply_back_under(above, dF, slope, h), linear
        P.apply_params(above, x, dF)
        if backward == "params":
            return x
        dx = P.value(x.pixels, x.C)
        P.apply_back(above, dF, dx)
        return dx
