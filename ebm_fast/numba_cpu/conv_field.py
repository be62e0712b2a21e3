"""Twin of `conv_field`: the convolutional field, down and up again, its derivatives and those of its parameters.

What differs: a tile of samples goes through all units and back in one compiled call (`machine`); an upsampling
and the convolution after it are one linear map, with weights that are added up beforehand (`upsampled`).
Deterministic for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ebm_ref.contracts import Params
from ebm_ref.field_specs import ConvFieldSpec

from . import tile
from .field_network import FieldNetwork, activate
from .links import Linear, Links, Norm, Value, conv_links
from .program import Program
from .upsampled import fold, unfold, upsampled_links


@dataclass(frozen=True)
class Unit:
    """act(group_norm(conv2d(below))) in a program; h is its result, to which a skip may have been added."""

    below: Value
    conv: Linear
    norm: Norm
    slope: Value
    h: Value


@dataclass(frozen=True)
class ConvField(ConvFieldSpec, FieldNetwork):
    """f(x): units down by stride 2, up by repeated pixels, skips; then a convolution. Fields: `ConvFieldSpec`."""

    image: ClassVar[bool] = True

    def emit(self, P: Program, x: Value, backward: bool) -> tuple[Value, Any]:
        """Emit f from the input rows x; return it, and the layers that `emit_back` takes."""
        (H, W, _), levels, R = self.shape, range(1, len(self.channels)), self.kernel
        maps = [(H >> i, W >> i) for i in range(len(self.channels))]
        units = [self._unit(P, "stem", x, conv_links(H, W, R, R, 1, "SAME")[2], 0, backward)]
        for i in levels:
            links = conv_links(*maps[i - 1], R, R, 2, "SAME")[2]
            units.append(self._unit(P, f"down{i}", units[-1].h, links, i, backward))
        u, ups = units[-1].h, []
        for i in reversed(levels):
            up = self._unit(P, f"up{i}", u, upsampled_links(*maps[i], R), i - 1, backward)
            u = up.h
            P.both(tile.add_rows, u, units[i - 1].h, u.rows)
            ups.append(up)
        out = P.linear("out.w", "out.b", conv_links(H, W, R, R, 1, "SAME")[2], u.C, self.out_shape[-1])
        return P.apply(out, u), (units, ups, out, u)

    def emit_back(self, P: Program, x: Value, tape: Any, dF: Value, backward: str) -> Value:
        """Emit what `backward` names, "x" or "params", of the cotangent dF; return dx."""
        units, ups, out, u = tape
        P.apply_params(out, u, dF)
        P.apply_back(out, dF, u)
        for up in reversed(ups):  # du stays in up.h, which the skip takes too
            self._unit_back(P, up, up.below)
        for i in range(len(units) - 1, 0, -1):
            unit, skipped = units[i], ups[len(ups) - i].h
            self._unit_back(P, unit, unit.below)
            P.both(tile.add_rows, unit.below, skipped, skipped.rows)
        dx = P.value(x.pixels, x.C) if backward == "x" else None
        self._unit_back(P, units[0], dx)
        return x if dx is None else dx

    def _unit(self, P: Program, name: str, below: Value, links: Links, i: int, backward: bool) -> Unit:
        """Emit one unit with channels[i] outputs."""
        conv = P.linear(f"{name}.w", f"{name}.b", links, below.C, self.channels[i])
        z = P.apply(conv, below)
        fused = backward or not P.tangent
        norm = P.norm(name, z, self.groups(i), self.activation if fused else None)
        slope = norm.slope if norm.slope is not None else activate(P, norm.y, self.activation, backward)
        return Unit(below, conv, norm, slope, norm.y)

    def _unit_back(self, P: Program, unit: Unit, dx: Value | None) -> None:
        """With dh in unit.h, which stays: the parameters' gradients, and dx where it is asked for."""
        dy = unit.slope
        P.norm_back(unit.norm, dy, unit.h)
        P.apply_params(unit.conv, unit.below, dy)
        if dx is not None:
            P.apply_back(unit.conv, dy, dx)

    def folded(self, theta: Params) -> Params:
        """theta with the weights of the ups added up."""
        return theta | {name: fold(theta[name]) for name in self._ups()}

    def unfolded(self, grads: Params) -> Params:
        """The gradient of theta from that of folded(theta)."""
        return grads | {name: unfold(grads[name], self.kernel) for name in self._ups()}

    def _ups(self) -> list[str]:
        return [f"up{i}.w" for i in range(1, len(self.channels))]
