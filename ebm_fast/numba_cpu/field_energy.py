"""Twin of `field_energy`: an explicit energy on top of a field and its gradients, levels 1 and 2 of the protocol.

    dot          E = x . f(x)     df = dE x     dx = J' df + dE f
    norm         E = f . f / 2    df = dE f     dx = J' df
    norm_below   -1 times that

What differs: the field's program ends in the head and goes back through it, so a tile of samples makes one call, and
a chain all its K steps in one. Level 2 is the same program with a tangent. Deterministic for any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebm_ref.contracts import DTypeError, Params
from ebm_ref.field_specs import FieldEnergySpec

from . import field_head
from .field_network import FieldNetwork
from .links import Value
from .network import Network
from .program import Program


@dataclass(frozen=True)
class FieldEnergy(FieldEnergySpec, Network):
    """E(x) = x . f(x), +f . f / 2 or -f . f / 2. field: this backend's MLPField or ConvField   head: by name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.field, FieldNetwork):
            raise DTypeError(f"field: expected a field of numba_cpu, found {type(self.field).__module__}'s")

    @property
    def image(self) -> bool:
        return self.field.image

    def folded(self, theta: Params) -> Params:
        return self.field.folded(theta)

    def unfolded(self, grads: Params) -> Params:
        return self.field.unfolded(grads)

    def emit(self, P: Program, x: Value, backward: str | None) -> tuple[Value, Value]:
        """Emit E (and, backwards, what `backward` names) from the input rows x; return (E, dx)."""
        F, tape = self.field.emit(P, x, backward is not None)
        E, dot = P.value(1, 1), self.head == "dot"
        sign = -1 if self.head == "norm_below" else 1
        P.emit(field_head.row_dots, E.at, F.at, (x if dot else F).at, F.rows, 2 if dot else sign)
        if backward is None:
            return E, E
        dE, dF = P.value(1, 1), P.value(F.pixels, F.C) if dot else F
        P.seed(dE, backward == "params")  # without a tangent
        self._scaled(P, dF, x if dot else F, dE, sign, 0)
        dx = self.field.emit_back(P, x, tape, dF, backward)
        if dot and backward == "x":
            self._scaled(P, dx, F, dE, sign, 1)
        return E, dx

    def _scaled(self, P: Program, dst: Value, a: Value, dE: Value, sign: int, add: int) -> None:
        """dst = sign dE a, or dst += that; and the same on their tangents."""
        P.emit(field_head.row_scales, dst.at, a.at, dE.at, dst.rows, sign, add)
        if P.tangent:
            P.emit(field_head.row_scales, dst.at1, a.at1, dE.at, dst.rows, sign, add)
