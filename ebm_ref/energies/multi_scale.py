"""One energy for each scale of an image.

    forward:   x_0 = x,  x_{s+1} = halve(x_s),  E(x) = sum_s E_s(x_s)
    backward:  dx_s = (E_s's own) + halve'(dx_{s+1}),  last scale first
    halve:     the mean of the 3 x 3 pixels around every second pixel, over those inside the image: A x B' with
               A[p, h] = [|h - 2 p| <= 1] / (how many h of the image satisfy that), p = 0 .. ceil(H / 2) - 1
    halve':    A' dy B

The sum of energies is a product of experts, one of which sees details and others only what is left of them. A constant
image stays what it is under halve, at the edges too. (Code that averages the scales' losses instead of adding them
trains the energy E / scales.)

Source: Du, Li, Tenenbaum & Mordatch 2021, arXiv:2012.01316 (multi-scale energies of average-pooled images).
Level: provides 1, 2 and 3, where every scale does. Twins: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import DTypeError, Params, ShapeError, Shapes
from .base import EnergyBase, Tape


@dataclass(frozen=True)
class MultiScaleEnergy(EnergyBase):
    """E(x) = sum_s E_s(halve^s(x)). theta: each scale's names behind "0.", "1.", ...

    scales: energies of images (H, W, C), (ceil(H/2), ceil(W/2), C), ... Raises ShapeError, DTypeError.
    """

    scales: tuple[EnergyBase, ...]

    def __post_init__(self) -> None:
        if len(self.scales) == 0:
            raise ShapeError("scales: expected at least one energy, found none")
        for i, scale in enumerate(self.scales):
            if not isinstance(scale, EnergyBase):
                raise DTypeError(f"scales[{i}]: expected an energy, found {type(scale).__name__}")
            if len(scale.shape) != 3:
                raise ShapeError(f"scales[{i}]: expected an energy of images (H, W, C), found {scale.shape}")
            if i:
                H, W, C = self.scales[i - 1].shape
                wanted = (-(-H // 2), -(-W // 2), C)
                if scale.shape != wanted:
                    raise ShapeError(f"scales[{i}]: expected sample shape {wanted}, found {scale.shape}")

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.scales[0].shape

    def require_smooth(self, what: str) -> None:
        for scale in self.scales:
            scale.require_smooth(what)

    def theta_shapes(self) -> Shapes:
        return {f"{i}.{name}": size for i, s in enumerate(self.scales) for name, size in s.theta_shapes().items()}

    def forward(self, theta: Params, x: Any) -> tuple[Any, Tape]:
        y: Any = 0.0
        tape: Tape = []
        for i, scale in enumerate(self.scales):
            if i:
                x = _halve(x)  # (N, ceil(H/2), ceil(W/2), C)
            y_i, tape_i = scale.forward(self._part(theta, i), x)  # (N,)
            y = y + y_i
            tape.append(tape_i)
        return y, tape  # (N,)

    def backward(self, theta: Params, tape: Tape, dy: Any) -> tuple[Any, dict[str, Any]]:
        dx: Any = None
        grads: dict[str, Any] = {}
        for i, scale in reversed(list(enumerate(self.scales))):
            dx_i, grads_i = scale.backward(self._part(theta, i), tape.pop(), dy)
            dx = dx_i if dx is None else dx_i + _halve_back(dx, scale.shape)  # (N, *scale.shape)
            grads |= {f"{i}.{name}": g for name, g in grads_i.items()}
        return dx, grads  # (N, H, W, C)

    def _part(self, theta: Params, i: int) -> Params:
        """The parameters of scale i under their own names."""
        return {name: theta[f"{i}.{name}"] for name in self.scales[i].theta_shapes()}


def _halve(x: Any) -> Any:
    """A x B'. x: (N, H, W, C) -> (N, ceil(H/2), ceil(W/2), C)."""
    return _along_columns(_means(x.shape[2], x.dtype), _along_rows(_means(x.shape[1], x.dtype), x))


def _halve_back(dy: Any, shape: tuple[int, ...]) -> Any:
    """A' dy B. dy: (N, ceil(H/2), ceil(W/2), C), shape: (H, W, C) -> (N, H, W, C)."""
    return _along_columns(_means(shape[1], dy.dtype).T, _along_rows(_means(shape[0], dy.dtype).T, dy))


def _along_rows(A: Any, x: Any) -> Any:
    """y[n, p] = sum_h A[p, h] x[n, h]. x: (N, H, W, C) -> (N, P, W, C)."""
    N, H, W, C = x.shape
    return (A @ x.reshape((N, H, W * C))).reshape((N, A.shape[0], W, C))


def _along_columns(B: Any, x: Any) -> Any:
    """y[n, h, q] = sum_w B[q, w] x[n, h, w]. x: (N, H, W, C) -> (N, H, Q, C)."""
    return B @ x


def _means(size: int, dtype: Any) -> Any:
    """A[p, h] = [|h - 2 p| <= 1] / (how many h satisfy it), (ceil(size/2), size)."""
    p, h = np.arange(-(-size // 2))[:, None], np.arange(size)
    near = (np.abs(h - 2 * p) <= 1).astype(np.float64)  # (P, size)
    return (near / near.sum(axis=1, keepdims=True)).astype(dtype)
