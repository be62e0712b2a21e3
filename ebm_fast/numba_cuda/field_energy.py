"""Twin of `field_energy`: an explicit energy on top of a field and its gradients, levels 1 and 2 of the protocol.

    dot          E = x . f(x)     df = dE x     dx = J' df + dE f
    norm         E = f . f / 2    df = dE f     dx = J' df
    norm_below   -1 times that

What differs: E by a thread a sample, its sum made of pieces of PIECE elements, which round less than one long sum; the
cotangents by a thread an element; level 2 on jets (`network`). Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebm_ref.contracts import DTypeError, flat_size
from ebm_ref.field_specs import FieldEnergySpec

from .build import ORDER, body
from .coupling import PIECE
from .device import current, launch
from .field_network import FieldNetwork
from .network import Network, Pass

# ---------------------------------------------------------------------------------- what a thread does


@body
def head_dot(n, a, b, scale, E):
    """E[n] = scale sum_d a[n, d] b[n, d], of jets. a, b: (N, D, ORDER + 1)."""
    D = a.shape[1]
    total, total_1 = 0.0, 0.0
    for start in range(0, D, PIECE):
        part, part_1 = 0.0, 0.0
        for d in range(start, min(D, start + PIECE)):
            part += a[n, d, 0] * b[n, d, 0]
            if ORDER == 1:
                part_1 += a[n, d, 0] * b[n, d, 1]
                part_1 += a[n, d, 1] * b[n, d, 0]
        total += part
        total_1 += part_1
    E[n, 0] = scale * total
    if ORDER == 1:
        E[n, 1] = scale * total_1


@body
def head_back(i, a, dE, sign, out):
    """out[n, d] = sign dE[n] a[n, d], of jets, thread (n, d). a, out: (N, D, ORDER + 1)."""
    D = a.shape[1]
    n, d = i // D, i % D
    out[n, d, 0] = sign * (dE[n, 0] * a[n, d, 0])
    if ORDER == 1:
        out[n, d, 1] = sign * (dE[n, 0] * a[n, d, 1] + dE[n, 1] * a[n, d, 0])


# --------------------------------------------------------------------------------------- public


@dataclass(frozen=True)
class FieldEnergy(FieldEnergySpec, Network):
    """E(x) = x . f(x), +f . f / 2 or -f . f / 2. field: this backend's MLPField or ConvField   head: by name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.field, FieldNetwork):
            raise DTypeError(f"field: expected a field of numba_cuda, found {type(self.field).__module__}'s")

    def input_shape(self) -> tuple[int, int, int]:
        return self.field.input_shape()

    def forward(self, P: Pass, x: Any) -> Any:
        F = self.field.forward(P, x)
        P.tape.append((x, F))
        N, J = x.shape[0], x.shape[-1]
        E = current().empty((N, 1, 1, 1, J), x.dtype)
        scale = {"dot": 1.0, "norm": 0.5, "norm_below": -0.5}[self.head]
        a, b = jets(x if self.head == "dot" else F), jets(F)
        launch(head_dot, x.dtype, N, a, b, scale, E.reshape(N, J), order=J - 1)
        return E

    def backward(self, P: Pass, dE: Any) -> Any:
        x, F = P.tape.pop()
        dE, dot = dE.reshape(x.shape[0], x.shape[-1]), self.head == "dot"
        dx = self.field.backward(P, scaled(x if dot else F, dE, -1.0 if self.head == "norm_below" else 1.0, F.shape))
        return P.add(scaled(F, dE, 1.0, x.shape), dx) if dot and dx is not None else dx


def jets(a: Any) -> Any:
    """(N, ..., J) as (N, D, J)."""
    return a.reshape(a.shape[0], flat_size(a.shape[1:-1]), a.shape[-1])


def scaled(a: Any, dE: Any, sign: float, shape: tuple[int, ...]) -> Any:
    """sign dE a, in `shape`."""
    out, order = current().empty(a.shape, a.dtype), a.shape[-1] - 1
    launch(head_back, a.dtype, a.size // (order + 1), jets(a), dE, sign, jets(out), order=order)
    return out.reshape(shape)
