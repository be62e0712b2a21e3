"""A classifier that first lets the model move its input towards the data, then looks.

    logits            F(x) = (1/S) sum_s F(x_s),   x_s = K Langevin steps from x with the noise of copy s
    logits_backward   (1/S) sum_s of the gradient at x_s: the chain is taken for the identity (straight through)

To a jointly trained energy this is its own defence, and it is what an attack on it must see. The noise of copy s is at
(seed, CHAIN_NOISE, s K + k), the same in every call: the attacked function is one function. The straight-through
gradient is not the gradient of these logits, so an attack along it is weaker than one through the chain.

Source: Grathwohl et al. 2020, arXiv:1912.03263, section 5.4, and its released attack (five copies, one to ten steps);
Athalye, Carlini & Wagner 2018, arXiv:1802.00420, section 4.1 (straight through).
Level: 1 and logits. Twins: none; it takes the module to sample with.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..contracts import Array, Params, check_count
from ..specs import Update


@dataclass(frozen=True)
class RefinedClassifier:
    """F(x) = (1/S) sum_s F(x_s). energy: an energy with logits, e.g. a ClassifierEnergy   update: ULA or SGLD.

    backend: module with langevin_run. Raises RangeError, DTypeError.
    """

    backend: ModuleType
    energy: Any
    update: Update
    K: int
    S: int
    seed: int

    def __post_init__(self) -> None:
        check_count("K", self.K, low=1)
        check_count("S", self.S, low=1)
        check_count("seed", self.seed, low=0, high=2**64 - 1)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.energy.shape
        return shape

    def logits(self, theta: Params, x: Array) -> Array:
        """(1/S) sum_s F(x_s), (N, C). x: (N, *shape)."""
        total: Any = 0.0
        for s in range(self.S):
            total = total + self.energy.logits(theta, self.refine(theta, x, s))  # (N, C)
        mean: Array = total / self.S
        return mean

    def logits_backward(self, theta: Params, x: Array, dy: Array) -> tuple[Array, Params]:
        """(1/S) sum_s of the gradients of sum_nc dy_nc F_c at x_s: like x, like theta. dy: (N, C)."""
        dx: Any = 0.0
        grads: Params = {}
        for s in range(self.S):
            dx_s, grads_s = self.energy.logits_backward(theta, self.refine(theta, x, s), dy)
            dx = dx + dx_s / self.S  # (N, *shape)
            grads = {name: g / self.S + grads.get(name, 0.0) for name, g in grads_s.items()}
        return dx, grads

    def refine(self, theta: Params, x: Array, s: int) -> Array:
        """x_s: K steps of `update` from x with the noise of copy s, like x."""
        moved: Array = self.backend.langevin_run(self.energy, theta, x, self.K, self.update, self.seed, s * self.K)[0]
        return moved
