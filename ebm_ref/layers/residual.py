"""Residual connection.

    residual_forward:   z = y + skip
    residual_backward:  dy = dz,  dskip = dz

Source: He et al. 2016, Deep Residual Learning for Image Recognition, eq. 1.
Works on arrays and, for the energies' levels 2 and 3, on Jets.
Twins: none of its own (inside the fast energies).
"""

from __future__ import annotations

from ..contracts import Array, check_array


def residual_forward(y: Array, skip: Array) -> Array:
    """z = y + skip. y, skip: one shape; returns z like y. Raises ShapeError, DTypeError."""
    check_array("y", y)
    check_array("skip", skip, shape=y.shape)
    return y + skip


def residual_backward(dy: Array) -> tuple[Array, Array]:
    """The cotangent of the sum is the cotangent of both terms. dy: any shape; returns dy, dskip. Raises DTypeError."""
    check_array("dy", dy)
    return dy, dy
