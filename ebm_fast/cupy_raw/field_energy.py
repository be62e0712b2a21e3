"""Twin of `field_energy`: an explicit energy on top of a field and its gradients, levels 1 and 2 of the protocol.

    dot          E = x . f(x)     df = dE x     dx = J' df + dE f
    norm         E = f . f / 2    df = dE f     dx = J' df
    norm_below   -1 times that

What differs: the field's pass ends in the head and goes back through it; level 2 is the same pass on jets.
Deterministic. Not yet measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from ebm_ref.contracts import DTypeError, Params
from ebm_ref.field_specs import FieldEnergySpec

from .blocks import Batch, Pass
from .field import head_dots, head_scale
from .field_network import FieldNetwork
from .layers import jet_seed
from .network import Network, Workspace


@dataclass(frozen=True)
class HeadSpace(Workspace):
    """The arrays of one pass through a field and the head on it."""

    head: str
    f: Any  # (N, D') jets
    df: Any  # the same; f itself where nothing reads it again
    D: int  # D', numbers of an f

    def run(self, theta: Params, x: Any, E: Any, dx: Any = None, w: Any = None, grads: Params | None = None) -> None:
        """As in `Workspace`: E, dx and the parameters' gradients."""
        b, dot = self.batch, self.head == "dot"
        p, size, how = Pass(b, theta, grads), (b.N, self.D), (b.dtype, b.order)
        sign = -1.0 if self.head == "norm_below" else 1.0
        of, dE = x if dot else self.f, self.one if w is None else w
        self.stack.forward(p, x, self.f)
        head_dots(*size, of, self.f, E, sign if dot else sign / 2, *how)
        if dx is None and grads is None:
            return
        head_scale(*size, of, dE, self.df, sign, *how)
        self.stack.backward(p, x, self.df, dx)
        if dot and dx is not None:
            head_scale(*size, self.f, dE, dx, sign, *how, add=True)


@dataclass(frozen=True)
class FieldEnergy(FieldEnergySpec, Network):
    """E(x) = x . f(x), +f . f / 2 or -f . f / 2. field: this backend's MLPField or ConvField   head: by name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.field, FieldNetwork):
            raise DTypeError(f"field: expected a field of cupy_raw, found {type(self.field).__module__}'s")

    def workspace(self, N: int, dtype: Any, order: int = 0) -> HeadSpace:
        batch, D = Batch(N, dtype, order), prod(self.field.out_shape)
        f = batch.empty(D)
        df = batch.empty(D) if self.head == "dot" else f
        one, x = batch.empty(), batch.empty(prod(self.shape)) if order else None
        jet_seed(N, None, None, one, dtype, order)
        return HeadSpace(batch, self.field.stack(batch), one, x, batch.empty(), self.head, f, df, D)
