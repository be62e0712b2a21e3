"""What evaluation asks of a classifier: its logits, and a way back through them."""

from __future__ import annotations

from typing import Protocol

from ..contracts import Array, Params


class Classifier(Protocol):
    """F(x) in R^C, p(y | x) = softmax F(x); x is (N, *shape), theta a dict of named arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def logits(self, theta: Params, x: Array) -> Array:
        """F(x_n), (N, C)."""

    def logits_backward(self, theta: Params, x: Array, dy: Array) -> tuple[Array, Params]:
        """grad_x, like x, and grad_theta, like theta, of sum_nc dy_nc F_c(x_n), dy constant. dy: (N, C)."""
