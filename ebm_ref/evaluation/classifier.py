"""What evaluation asks of a classifier: its logits, a way back through them, or its probabilities."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..contracts import Array, Params, RangeError, ShapeError, check_array


class Classifier(Protocol):
    """F(x) in R^C, p(y | x) = softmax F(x); x is (N, *shape), theta a dict of named arrays."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def logits(self, theta: Params, x: Array) -> Array:
        """F(x_n), (N, C)."""

    def logits_backward(self, theta: Params, x: Array, dy: Array) -> tuple[Array, Params]:
        """grad_x, like x, and grad_theta, like theta, of sum_nc dy_nc F_c(x_n), dy constant. dy: (N, C)."""


def check_probabilities(name: str, p: Array) -> None:
    """Raise unless `p` is (N, C), N, C >= 1, non-negative, rows adding to 1 within 1e-4."""
    check_array(name, p, ndim=2, finite=True)
    if p.size == 0:
        raise ShapeError(f"{name}: expected at least one sample and one class, found shape {p.shape}")
    if float(p.min()) < 0 or float(np.abs(p.sum(axis=1, dtype=np.float64) - 1).max()) > 1e-4:
        raise RangeError(f"{name}: expected rows of non-negative numbers that add to 1; give a softmax, not logits")
